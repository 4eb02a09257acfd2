import CKvmtax
import Formats

/// Where the fields that the state machine needs lie in the records of one event, found by name.
struct KvmEventLayout: Equatable, Sendable {
  /// One field; without a mask there is none.
  struct Field: Equatable, Sendable {
    private(set) var offset = 0
    private(set) var mask: UInt64 = 0
    private var sign: UInt64 = 0

    /// Nowhere: reads as 0.
    init() {}

    init(_ place: FieldPlace) {
      offset = place.offset
      mask = UInt64.max >> UInt64(64 - 8 * place.size)
      if place.isSigned { sign = mask ^ mask >> 1 }
    }

    var end: Int { mask == 0 ? 0 : offset + mask.nonzeroBitCount / 8 }

    /// From a record that has at least 8 bytes from the field's offset on.
    @inline(__always) func loadFast(_ record: UnsafeRawBufferPointer) -> UInt64 {
      let value = record.loadUnaligned(fromByteOffset: offset, as: UInt64.self) & mask
      return (value ^ sign) &- sign
    }

    /// From a record that holds the field and may end with it.
    func load(_ record: UnsafeRawBufferPointer) -> UInt64 {
      var value: UInt64 = 0
      for byte in 0..<(end - (mask == 0 ? 0 : offset)) { value |= UInt64(record[offset + byte]) << UInt64(8 * byte) }
      return (value ^ sign) &- sign
    }
  }

  /// What becomes of a record.
  enum Rule: UInt8, Sendable {
    /// An event of the running thread.
    case plain
    /// An event of the thread that the record names, by whatever thread.
    case ofTarget
    /// The running thread goes out, another comes in: two events.
    case exchange
    /// kvm_fpu: an event where a state is loaded.
    case loading
    /// kvm_msr: an event, and another one where the guest's timer gets its vector.
    case modelSpecific
    /// kvm_apic: an event where the guest's timer gets its vector, and nothing else.
    case timerVector
  }

  /// What a record gives.
  enum Yield { case nothing, one, two, damaged }

  /// `enum kt_kind`.
  let kind: UInt8
  let rule: Rule
  /// The reason of all events of the kind, where no field says it.
  let constant: UInt32
  var reason = Field()
  var isa = Field()
  var vcpu = Field()
  var argument = Field()
  var argument2 = Field()
  var extra = Field()
  var rip = Field()
  /// The thread that the event is of, where it is not the running one.
  var thread = Field()
  /// The thread that comes in; kvm_msr's data; kvm_apic's direction.
  var other = Field()
  /// Shorter records are damaged.
  private(set) var minimumSize = 0
  /// Records of this size can be read in words.
  private var fastSize = 8

  private typealias Place = (
    WritableKeyPath<KvmEventLayout, Field> & Sendable, KeyPath<KvmEventSource, String> & Sendable
  )
  private static let fields: [Place] = [
    (\.reason, \.reason), (\.isa, \.isa), (\.vcpu, \.vcpu), (\.argument, \.argument), (\.argument2, \.argument2),
    (\.extra, \.extra), (\.rip, \.rip), (\.thread, \.thread), (\.other, \.other),
  ]

  /// Throws where a field that the event needs is missing.
  init(_ format: EventFormat, _ source: KvmEventSource) throws(FormatError) {
    kind = UInt8(source.kind.rawValue)
    rule = source.rule
    constant = source.constant
    for (field, names) in KvmEventLayout.fields where !source[keyPath: names].isEmpty {
      let isNeeded = source[keyPath: names].last != "?"
      let names = source[keyPath: names].split { "|?".contains($0) }
      guard let place = names.lazy.compactMap({ format.field(named: String($0))?.place }).first else {
        if !isNeeded { continue }
        throw FormatError(found: "the format of \(format.name) names no \(names[0])")
      }
      self[keyPath: field] = Field(place)
      minimumSize = max(minimumSize, self[keyPath: field].end)
      fastSize = max(fastSize, self[keyPath: field].offset + 8)
    }
  }

  /// Nil for an event that does not move the machine.
  init?(_ format: EventFormat) throws(FormatError) {
    guard let source = KvmEventSource.of(system: format.system, name: format.name) else { return nil }
    try self.init(format, source)
  }

  /// The kernel's PID_MAX_LIMIT: no thread has a higher number.
  private static let maximumTid: UInt32 = 1 << 22

  /// The events in a record: `first`, and of two the later one in `second`. Damaged is a record that is too short for its
  /// layout or names an impossible thread.
  @inline(__always) func read(
    _ record: UnsafeRawBufferPointer, nanoseconds: UInt64, tid: UInt32, tgid: UInt32, cpu: UInt32,
    into first: inout kt_event, and second: inout kt_event
  ) -> Yield {
    guard record.count >= minimumSize, tid <= KvmEventLayout.maximumTid else { return .damaged }
    let isFast = record.count >= fastSize
    @inline(__always) func load(_ field: Field) -> UInt64 { isFast ? field.loadFast(record) : field.load(record) }
    let isa = load(isa)
    let vcpu = vcpu.mask == 0 ? .max : load(vcpu)
    first = kt_event(
      time_ns: nanoseconds, arg: load(argument), arg2: load(argument2), rip: load(rip), run_delay_ns: 0, tid: tid,
      tgid: tgid, reason: UInt32(truncatingIfNeeded: load(reason)) | constant,
      extra: UInt32(truncatingIfNeeded: load(extra)), cpu: cpu, vcpu: UInt16(exactly: vcpu) ?? UInt16(KT_NO_VCPU),
      kind: kind, isa: UInt8(exactly: isa) ?? .max)
    return rule == .plain ? .one : readMore(load(thread), load(other), &first, &second)
  }

  @inline(never) private func readMore(
    _ thread: UInt64, _ other: UInt64, _ first: inout kt_event, _ second: inout kt_event
  ) -> Yield {
    switch rule {
    case .plain: return .one
    case .ofTarget:
      first.tid = UInt32(truncatingIfNeeded: thread)
      first.tgid = 0
      return first.tid <= KvmEventLayout.maximumTid ? .one : .damaged
    case .exchange:
      first.tid = UInt32(truncatingIfNeeded: thread)
      second = first
      second.kind = UInt8(KT_SCHED_IN.rawValue)
      second.tid = UInt32(truncatingIfNeeded: other)
      second.tgid = 0
      second.reason = 0
      return max(first.tid, second.tid) <= KvmEventLayout.maximumTid ? .two : .damaged
    case .loading:
      defer { first.reason = 0 }
      return first.reason != 0 ? .one : .nothing
    case .modelSpecific:
      guard first.arg == KvmEventLayout.x2apicTimer, first.reason != 0 else { return .one }
      second = first
      second.arg = 0
      second.setTimerVector(other)
      return .two
    case .timerVector:
      guard first.arg == KvmEventLayout.apicTimer, other != 0 else { return .nothing }
      let value = UInt64(first.extra)
      first.arg = 0
      first.setTimerVector(value)
      return .one
    }
  }

  /// IA32_X2APIC_LVT_TIMER, and the same register's offset in the local APIC's page.
  private static let x2apicTimer: UInt64 = 0x832
  private static let apicTimer: UInt64 = 0x320
}

extension kt_event {
  /// The low byte of the guest's LVTT is the vector of its timer.
  fileprivate mutating func setTimerVector(_ register: UInt64) {
    kind = UInt8(KT_TIMER_VECTOR.rawValue)
    reason = UInt32(truncatingIfNeeded: register & 0xff)
    extra = UInt32(KT_VECTOR_WRITTEN.rawValue)
  }
}
