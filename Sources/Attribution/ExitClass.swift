/// What kind of work an exit was. The raw value is its one name in reports, JSON and docs.
///
/// `EPT.refault` (a page that was mapped before) is no class of its own yet: no fact in a key tells it from
/// `EPT.populate`.
public enum ExitClass: String, CaseIterable, Sendable {
  case timerArm = "TIMER.arm"
  case timerExpire = "TIMER.expire"
  case timerHost = "TIMER.host"
  case timerInject = "TIMER.inject"
  case timerLegacy = "TIMER.legacy"
  case clockRead = "CLOCK.read"
  case clockPv = "CLOCK.pv"
  case eptPopulate = "EPT.populate"
  case eptWprot = "EPT.wprot"
  case eptExec = "EPT.exec"
  case eptSwapin = "EPT.swapin"
  case dirtyPml = "DIRTY.pml"
  case mmioFast = "MMIO.fast"
  case virtioKick = "VIRTIO.kick"
  case mmioEmul = "MMIO.emul"
  case pioEmul = "PIO.emul"
  case irqHost = "IRQ.host"
  case irqDeliver = "IRQ.deliver"
  case ipi = "IPI"
  case ipiHost = "IPI.host"
  case idle = "IDLE"
  case spin = "SPIN"
  case cpuId = "CPU.id"
  case cpuCr = "CPU.cr"
  case cpuDr = "CPU.dr"
  case cpuXcr = "CPU.xcr"
  case cpuSpec = "CPU.spec"
  case cpuPmu = "CPU.pmu"
  case msrOther = "MSR.other"
  case lock = "LOCK"
  case debug = "DEBUG"
  case exception = "EXC"
  case smm = "SMM"
  case initSignal = "INIT"
  case nested = "NESTED"
  case hypercall = "HYPERCALL"
  case notify = "NOTIFY"
  case confidential = "CONF"
  case fatal = "FATAL"
  case other = "OTHER"

  /// What it is, in words that fit beside the name into a column of 44.
  public var summary: String {
    switch self {
    case .timerArm: "the guest sets its timer"
    case .timerExpire: "the guest's timer has expired"
    case .timerHost: "the host's own timer"
    case .timerInject: "a timer waited for its window"
    case .timerLegacy: "PIT, RTC, ACPI PM timer, HPET"
    case .clockRead: "reading a clock that traps"
    case .clockPv: "setting up the pv clock"
    case .eptPopulate: "unmapped: populate or refault"
    case .eptWprot: "write-protected: log, KSM, COW"
    case .eptExec: "nx_huge_pages splits a page"
    case .eptSwapin: "page waited for, as from swap"
    case .dirtyPml: "log of dirty pages is full"
    case .mmioFast: "device memory, in the kernel"
    case .virtioKick: "notifying a virtio device"
    case .mmioEmul: "device memory, in QEMU"
    case .pioEmul: "I/O port of an emulated device"
    case .irqHost: "an interrupt for the host"
    case .irqDeliver: "windows, EOI, APIC registers"
    case .ipi: "a vCPU interrupts another"
    case .ipiHost: "a host CPU interrupts another"
    case .idle: "the guest has nothing to run"
    case .spin: "waiting for another vCPU's lock"
    case .cpuId: "CPUID instruction"
    case .cpuCr: "control registers, tables, TLB"
    case .cpuDr: "debug registers"
    case .cpuXcr: "extended state: XSETBV, XSAVES"
    case .cpuSpec: "controls of speculation"
    case .cpuPmu: "performance counters"
    case .msrOther: "other model-specific registers"
    case .lock: "split lock or bus lock"
    case .debug: "breakpoints and single steps"
    case .exception: "an exception in the guest"
    case .smm: "system management mode"
    case .initSignal: "INIT or start-up of a vCPU"
    case .nested: "the guest runs guests of its own"
    case .hypercall: "the guest calls the hypervisor"
    case .notify: "guest kept all events out too long"
    case .confidential: "request of a confidential guest"
    case .fatal: "the vCPU cannot go on"
    case .other: "none of these"
    }
  }

  /// Which of the four shares its time belongs to; each class to exactly one.
  public var share: Share {
    switch self {
    case .timerArm, .timerExpire, .timerHost, .timerInject, .timerLegacy: .timerTicks
    case .eptPopulate, .eptWprot, .eptExec, .eptSwapin, .dirtyPml: .nestedFaults
    case .virtioKick: .virtio
    case .clockRead, .clockPv, .mmioFast, .mmioEmul, .pioEmul, .irqHost, .irqDeliver, .ipi, .ipiHost, .idle, .spin,
      .cpuId, .cpuCr, .cpuDr, .cpuXcr, .cpuSpec, .cpuPmu, .msrOther, .lock, .debug, .exception, .smm, .initSignal,
      .nested, .hypercall, .notify, .confidential, .fatal, .other:
      .exitClasses
    }
  }
}

/// What users ask the overhead to be divided into. The raw value is the share's name in JSON.
public enum Share: String, CaseIterable, Sendable {
  /// All exits that are in none of the others.
  case exitClasses = "exit_classes"
  /// EPT and NPT faults on memory.
  case nestedFaults = "nested_faults"
  /// Notifying virtio devices.
  case virtio
  /// Arming, expiry and delivery of timers, and legacy timer devices.
  case timerTicks = "timer_ticks"

  /// What it is, in a few words.
  public var summary: String {
    switch self {
    case .exitClasses: "other exits"
    case .nestedFaults: "EPT/NPT faults"
    case .virtio: "virtio"
    case .timerTicks: "timer ticks"
    }
  }
}
