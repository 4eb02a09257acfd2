import CKvmtax

/// What was said of an exit, in order.
struct OracleEvidence {
  /// Events between kvm_exit and kvm_entry, each with the guest's timer vector as known then.
  var said: [(event: kt_event, timerVector: UInt8)] = []
  /// The host's handlers: whose, and the number.
  var handlers: [(which: UInt32, number: UInt64)] = []
  /// The last return to user space.
  private(set) var userspace: (reason: UInt32, error: Int32)?
  /// How much had been said when a device's access was last handed to user space.
  private(set) var saidBefore = 0
  var isImmediate = false

  mutating func append(_ event: kt_event, _ timerVector: UInt8) { said.append((event, timerVector)) }

  mutating func goToUserspace(_ reason: UInt32, _ error: Int32) {
    userspace = (reason, error)
    // KVM_EXIT_MMIO
    if reason == 6, error != -4 { saidBefore = said.count }
  }

  func all(_ kind: kt_kind) -> [kt_event] { said.map(\.event).filter { $0.kind == UInt8(kind.rawValue) } }
}

/// Exit reasons by number: Intel SDM volume 3, appendix C; AMD APM volume 2, appendix C.
enum OracleReasons {
  /// VMX keeps the reason in 16 bits and flags above them.
  static func basic(_ event: kt_event) -> UInt32 { event.isa == 1 ? event.reason & 0xffff : event.reason }

  static func isHalt(_ event: kt_event) -> Bool {
    switch event.isa {
    case 1: basic(event) == 12
    case 2: event.reason == 0x78 || event.reason == 0xa6
    default: false
    }
  }

  /// External interrupts, interrupt and NMI windows, the preemption timer; INTR, NMI, VINTR.
  static func isAboutInterrupts(_ event: kt_event) -> Bool {
    switch event.isa {
    case 1: [1, 7, 8, 52].contains(basic(event))
    case 2: [0x60, 0x61, 0x64].contains(event.reason)
    default: false
    }
  }
}

/// What an exit was about, from all that was said of it.
public struct OracleKey: Hashable {
  /// `kt_key`'s fields.
  public var isa: UInt8
  /// kvm_exit's reason.
  public var reason: UInt32
  /// `enum kt_key_kind`.
  public var kind = KT_KEY_NONE.rawValue
  /// What it is about.
  public var subject = UInt64.max
  /// `enum kt_trait`.
  public var traits: UInt32 = 0
  /// Bytes accessed.
  public var size: UInt8 = 0
  /// KVM_EXIT_… plus 1.
  public var userspace: UInt8 = 0

  init(_ event: kt_event, _ evidence: OracleEvidence, blocked: UInt64, isTimerKnown: Bool) {
    isa = event.isa
    reason = event.reason
    switch isa {
    case 1: readVMX(event, evidence)
    case 2: readSVM(event, evidence)
    default: break
    }
    addEvents(evidence)
    if OracleReasons.isAboutInterrupts(event) { addInterrupts(event, evidence, isTimerKnown) }
    if kind == KT_KEY_FAULT.rawValue, blocked > 50_000 { add(KT_BLOCKED) }
    guard let (reason, error) = evidence.userspace else { return }
    // EINTR: a signal, whatever the reason says; KVM_EXIT_INTR is 10
    userspace = error == -4 ? 11 : UInt8(clamping: UInt64(reason) + 1)
  }

  private mutating func add(_ trait: kt_trait) { traits |= trait.rawValue }
  private mutating func add(_ trait: kt_trait, if holds: Bool) { if holds { add(trait) } }
  private mutating func name(_ kind: kt_key_kind, _ subject: UInt64 = .max) {
    self.kind = kind.rawValue
    self.subject = subject
  }

  // MARK: What the exit itself says

  /// The VMCS's fields as last told: by kvm_exit, or by what was read later.
  private func qualification(_ event: kt_event, _ evidence: OracleEvidence) -> (info: UInt64, interrupt: UInt32) {
    evidence.all(KT_DETAIL).last.map { ($0.arg, $0.extra) } ?? (event.arg, event.extra)
  }

  private mutating func readVMX(_ event: kt_event, _ evidence: OracleEvidence) {
    add(KT_ENTRY_FAILED, if: reason >> 31 & 1 == 1)
    add(KT_BUS_LOCK, if: reason >> 26 & 1 == 1)
    let (info, interrupt) = qualification(event, evidence)
    switch OracleReasons.basic(event) {
    case 0: if interrupt >> 31 == 1 { name(KT_KEY_VECTOR, UInt64(interrupt % 256)) }
    case 10: name(KT_KEY_CPUID)
    case 18: name(KT_KEY_HYPERCALL)
    case 28:
      name(KT_KEY_CR, info % 16)
      add(KT_WRITE, if: info / 16 % 4 != 1)
    case 29:
      name(KT_KEY_DR, info % 8)
      add(KT_WRITE, if: info / 16 % 2 == 0)
    case 30:
      name(KT_KEY_PORT, info / 65536 % 65536)
      size = UInt8(info % 8) + 1
      add(KT_WRITE, if: info / 8 % 2 == 0)
    case 31, 84: name(KT_KEY_MSR)
    case 32, 85:
      name(KT_KEY_MSR)
      add(KT_WRITE)
    case 44:
      name(KT_KEY_APIC, info % 4096)
      add(KT_WRITE, if: info / 4096 % 16 == 1)
      // what KVM emulates after the last word on it
      let known = evidence.said.lastIndex { $0.event.kind == UInt8(KT_DETAIL.rawValue) }.map { $0 + 1 } ?? 0
      addAccesses(evidence.said[known...].map(\.event))
      add(KT_IN_IOEVENTFD, if: !evidence.all(KT_FAST_MMIO).isEmpty)
    case 45: name(KT_KEY_VECTOR, info % 256)
    case 48: readFault(event, evidence)
    case 49:
      name(KT_KEY_MMIO)
      addAccesses(evidence.said.map(\.event))
    case 56:
      name(KT_KEY_APIC, info % 4096)
      add(KT_WRITE)
    default: break
    }
  }

  /// EPT_VIOLATION: bits 0 to 2 what was tried (read, write, fetch), 3 to 5 what the entry allows.
  private mutating func readFault(_ event: kt_event, _ evidence: OracleEvidence) {
    let isAccess = { (kind: UInt8) in kind == UInt8(KT_MMIO.rawValue) || kind == UInt8(KT_FAST_MMIO.rawValue) }
    let before = evidence.said.prefix { !isAccess($0.event.kind) }.map(\.event)
    let info = before.last { $0.kind == UInt8(KT_DETAIL.rawValue) }?.arg ?? event.arg
    name(KT_KEY_FAULT)
    add(KT_WRITE, if: info >> 1 & 1 == 1)
    add(KT_FETCH, if: info >> 2 & 1 == 1)
    add(KT_PRESENT, if: info >> 3 & 7 != 0)
    addAccesses(evidence.said.map(\.event))
  }

  private mutating func readSVM(_ event: kt_event, _ evidence: OracleEvidence) {
    let info = event.arg
    let number = UInt64(reason % 16)
    switch reason {
    case 0x00...0x0f: name(KT_KEY_CR, number)
    case 0x10...0x1f:
      name(KT_KEY_CR, number)
      add(KT_WRITE)
    case 0x20...0x2f: name(KT_KEY_DR, number)
    case 0x30...0x3f:
      name(KT_KEY_DR, number)
      add(KT_WRITE)
    case 0x40...0x5f: name(KT_KEY_VECTOR, UInt64(reason - 0x40))
    case 0x65:
      name(KT_KEY_CR, 0)
      add(KT_WRITE)
    case 0x72: name(KT_KEY_CPUID)
    case 0x7b:
      name(KT_KEY_PORT, info / 65536 % 65536)
      size = UInt8(info / 16 % 8)
      add(KT_WRITE, if: info % 2 == 0)
    case 0x7c:
      name(KT_KEY_MSR)
      add(KT_WRITE, if: info % 2 == 1)
    case 0x81: name(KT_KEY_HYPERCALL)
    case 0x400:
      // a page fault's error code: 0 present, 1 write, 3 reserved bit (KVM's mark for MMIO), 4 fetch
      add(KT_WRITE, if: info >> 1 & 1 == 1)
      if info >> 3 & 1 == 1 {
        nameAddress(event.arg2)
      } else {
        name(KT_KEY_FAULT)
        add(KT_PRESENT, if: info & 1 == 1)
        add(KT_FETCH, if: info >> 4 & 1 == 1)
      }
      addAccesses(evidence.said.map(\.event))
    case 0x402:
      name(KT_KEY_APIC, info % 4096 / 16 * 16)
      add(KT_WRITE, if: info >> 32 & 1 == 1)
      addAccesses(evidence.said.map(\.event))
    case 0x403:
      name(KT_KEY_VMGEXIT)
      add(KT_HIDDEN)
    default: break
    }
  }

  // MARK: What events say

  /// The local APIC's page is at 0xfee00000; of any other address, the page.
  private mutating func nameAddress(_ address: UInt64) {
    if address / 4096 == 0xfee00 {
      name(KT_KEY_APIC, address % 4096)
    } else {
      name(KT_KEY_MMIO, address / 4096 * 4096)
    }
  }

  /// kvm_mmio and kvm_fast_mmio: the first tells where, all tell how.
  private mutating func addAccesses(_ events: [kt_event]) {
    let accesses = events.filter {
      $0.kind == UInt8(KT_MMIO.rawValue) || $0.kind == UInt8(KT_FAST_MMIO.rawValue)
    }
    guard let first = accesses.first else { return }
    if subject == .max { nameAddress(first.arg) }
    // what is emulated is no fault
    traits &= ~(KT_PRESENT.rawValue | KT_FETCH.rawValue)
    for access in accesses {
      let isFast = access.kind == UInt8(KT_FAST_MMIO.rawValue)
      add(KT_WRITE, if: isFast || access.reason == 2)
      add(KT_IN_IOEVENTFD, if: isFast)
      if !isFast, kind == KT_KEY_MMIO.rawValue { size = UInt8(truncatingIfNeeded: access.extra) }
    }
  }

  private mutating func addEvents(_ evidence: OracleEvidence) {
    switch kt_key_kind(kind) {
    case KT_KEY_MSR:
      guard let access = evidence.all(KT_MSR).first else { break }
      subject = access.arg
      add(KT_WRITE, if: access.reason != 0)
    case KT_KEY_CPUID: if let last = evidence.all(KT_CPUID).last { subject = last.arg & 0xffff_ffff }
    case KT_KEY_HYPERCALL:
      guard let call = evidence.all(KT_HYPERCALL).first else { break }
      name(call.reason != 0 ? KT_KEY_HV_HYPERCALL : KT_KEY_HYPERCALL, call.arg)
    case KT_KEY_VMGEXIT: if let last = evidence.all(KT_VMGEXIT).last { subject = last.arg }
    case KT_KEY_APIC where isa == 1 && reason & 0xffff == 56: addAccesses(evidence.said.map(\.event))
    default: break
    }
    add(KT_IN_IOEVENTFD, if: !evidence.all(KT_IOEVENTFD).isEmpty)
    // what user space had to serve, no ioeventfd took
    let later = Set(evidence.said.dropFirst(evidence.saidBefore).map { UInt32($0.event.kind) })
    let isAccess = [KT_KEY_FAULT, KT_KEY_MMIO, KT_KEY_APIC].contains { $0.rawValue == kind }
    let isTaken = later.contains(KT_IOEVENTFD.rawValue) || (isAccess && later.contains(KT_FAST_MMIO.rawValue))
    if !isTaken { traits &= ~KT_IN_IOEVENTFD.rawValue }
    add(KT_FROM_L2, if: !evidence.all(KT_NESTED_EXIT).isEmpty)
    add(KT_REFLECTED, if: !evidence.all(KT_NESTED_INJECT).isEmpty)
  }

  private mutating func addInterrupts(_ event: kt_event, _ evidence: OracleEvidence, _ isTimerKnown: Bool) {
    let basic = OracleReasons.basic(event)
    let hard = evidence.handlers.first { $0.which != KT_HOST_IRQ_SOFT.rawValue }
    switch (isa, basic) {
    case (1, 1), (2, 0x60):
      // the CPU's own word, the last that is valid; else the first handler that ran
      let words = [event.extra] + evidence.all(KT_DETAIL).map(\.extra)
      if isa == 1, let word = words.last(where: { $0 >> 31 == 1 }) {
        name(KT_KEY_VECTOR, UInt64(word % 256))
      } else if let hard {
        name(hard.which == KT_HOST_IRQ_DEVICE.rawValue ? KT_KEY_IRQ : KT_KEY_VECTOR, hard.number)
      }
    case (1, 7), (2, 0x64):
      if let injection = evidence.all(KT_INJECT).first { name(KT_KEY_VECTOR, UInt64(injection.reason)) }
    default: break
    }
    add(KT_HOST_TIMER, if: evidence.handlers.contains { $0.which == KT_HOST_IRQ_TIMER.rawValue })
    add(KT_HOST_IPI, if: evidence.handlers.contains { $0.which == KT_HOST_IRQ_IPI.rawValue })
    add(KT_HOST_DEVICE, if: evidence.handlers.contains { $0.which == KT_HOST_IRQ_DEVICE.rawValue })
    add(KT_INJECTED, if: !evidence.all(KT_INJECT).isEmpty)
    let isTimers = evidence.said.contains { said in
      let isVector = [KT_INJECT, KT_ACCEPT_IRQ].contains { said.event.kind == UInt8($0.rawValue) }
      return isVector && said.timerVector != 0 && said.event.reason == UInt32(said.timerVector)
    }
    add(KT_INJECTED_TIMER, if: isTimers)
    add(KT_TIMER_KNOWN, if: isTimerKnown)
    add(KT_IMMEDIATE, if: evidence.isImmediate)
  }
}
