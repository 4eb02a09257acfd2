import CKvmtax
import Formats

/// Where the fields that the state machine needs lie in the records of one kvm event, found by name.
struct KvmEventLayout: Equatable, Sendable {
  /// `enum kt_kind`.
  let kind: UInt8
  /// kvm_exit: exit_reason, on arm64 esr_ec; kvm_vcpu_wakeup: waited.
  var reason = KvmEventLayout.absent
  /// kvm_exit: isa; arm64 has none.
  var isa = KvmEventLayout.absent
  /// vcpu_id, where the event has one (kvm_exit since 5.3).
  var vcpu = KvmEventLayout.absent
  /// kvm_vcpu_wakeup: ns.
  var argument = KvmEventLayout.absent
  /// Shorter records are damaged.
  var minimumSize = 0

  private static let absent = FieldPlace(offset: 0, size: 0)

  /// The events that move the machine.
  static let names: [(name: String, kind: kt_kind)] = [
    ("kvm_exit", KT_EXIT), ("kvm_entry", KT_ENTRY), ("kvm_userspace_exit", KT_USERSPACE_EXIT),
    ("kvm_vcpu_wakeup", KT_VCPU_WAKEUP),
  ]

  /// Nil for an event that does not move the machine; throws where a field that it needs is missing.
  init?(_ format: EventFormat) throws(FormatError) {
    guard format.system == "kvm", let kind = KvmEventLayout.names.first(where: { $0.name == format.name })?.kind else {
      return nil
    }
    self.kind = UInt8(kind.rawValue)
    vcpu = format.field(named: "vcpu_id")?.place ?? KvmEventLayout.absent
    switch kind {
    case KT_EXIT:
      guard let reason = (format.field(named: "exit_reason") ?? format.field(named: "esr_ec"))?.place else {
        throw FormatError(found: "the format of kvm_exit names no exit_reason")
      }
      self.reason = reason
      isa = format.field(named: "isa")?.place ?? KvmEventLayout.absent
    case KT_VCPU_WAKEUP:
      guard let ns = format.field(named: "ns")?.place, let waited = format.field(named: "waited")?.place else {
        throw FormatError(found: "the format of kvm_vcpu_wakeup names no ns and waited")
      }
      argument = ns
      reason = waited
    default: break
    }
    minimumSize = [reason, isa, vcpu, argument].reduce(0) { max($0, $1.offset + $1.size) }
  }

  /// The kernel's PID_MAX_LIMIT: no thread has a higher number.
  private static let maximumTid: UInt32 = 1 << 22

  /// The event in a record; nil where the record is too short for its layout or names an impossible thread.
  @inline(__always) func event(
    in record: UnsafeRawBufferPointer, nanoseconds: UInt64, tid: UInt32, tgid: UInt32, cpu: UInt32
  ) -> kt_event? {
    guard record.count >= minimumSize, tid <= KvmEventLayout.maximumTid else { return nil }
    var event = kt_event()
    event.time_ns = nanoseconds
    event.tid = tid
    event.tgid = tgid
    event.cpu = cpu
    event.kind = kind
    event.reason = UInt32(truncatingIfNeeded: reason.load(from: record) ?? 0)
    event.isa = isa.load(from: record).map { UInt8(exactly: $0) ?? .max } ?? UInt8(KT_ISA_NONE.rawValue)
    event.vcpu = vcpu.load(from: record).flatMap { UInt16(exactly: $0) } ?? UInt16(KT_NO_VCPU)
    event.arg = argument.load(from: record) ?? 0
    return event
  }
}

/// The layouts of one file's kvm events by the number in `common_type`.
struct KvmEventTable: Sendable {
  private var layouts: [KvmEventLayout] = []
  /// Layouts by common_type, plus one; 0 for an event that does not matter. 64 KiB: one load per record.
  private(set) var slotOfType = [UInt8](repeating: 0, count: 1 << 16)
  /// What could not be used, a sentence each.
  private(set) var notes: [String] = []
  /// kvm_exit's format, for its names.
  private(set) var exitFormat: EventFormat?

  /// Whether exits can be read at all.
  var hasExits: Bool { layouts.contains { $0.kind == UInt8(KT_EXIT.rawValue) } }

  /// Takes an event's format text: events that do not matter are ignored, one that cannot be used is noted.
  mutating func add(text: UnsafeRawBufferPointer, system: String) {
    guard system == "kvm", layouts.count < 64 else { return }
    // most texts are of no interest, and of no consequence if they are broken
    let head = UnsafeRawBufferPointer(rebasing: text.prefix(64)).text
    guard KvmEventLayout.names.contains(where: { head.hasPrefix("name: \($0.name)\n") }) else { return }
    do throws(FormatError) {
      let format = try EventFormat(text: text, system: system)
      guard let layout = try KvmEventLayout(format) else { return }
      guard format.id < slotOfType.count, slotOfType[format.id] == 0 else { return }
      layouts.append(layout)
      slotOfType[format.id] = UInt8(layouts.count)
      if format.name == "kvm_exit" { exitFormat = format }
    } catch {
      notes.append(error.found)
    }
  }

  /// The layout behind a value of `slotOfType` other than 0.
  @inline(__always) func layout(slot: UInt8) -> KvmEventLayout { layouts[Int(slot) - 1] }

  /// The layout of the event with that number.
  func slot(id: UInt64) -> UInt8 { id < UInt64(slotOfType.count) ? slotOfType[Int(id)] : 0 }
}
