import Attribution
import CKvmtax

/// How a snapshot's payload is laid out (docs/trace-format.md, "Snapshot"); encoder and decoder share it.
enum SnapshotFormat {
  static let threadKind: UInt64 = 1
  static let rowKind: UInt64 = 2

  /// Which optional fields of a thread follow; they come in the order of their bits.
  enum ThreadField {
    static let vcpu: UInt64 = 1 << 0
    static let openExit: UInt64 = 1 << 1
    static let ended: UInt64 = 1 << 2
    static let entries: UInt64 = 1 << 3
    static let finished: UInt64 = 1 << 4
    static let userspaceExits: UInt64 = 1 << 5
    static let wakeups: UInt64 = 1 << 6
    static let unpairedExits: UInt64 = 1 << 7
    static let unpairedEntries: UInt64 = 1 << 8
    static let first: UInt64 = 1 << 9
    static let steps: UInt64 = 1 << 10
    static let missed: UInt64 = 1 << 11
    static let backwards: UInt64 = 1 << 12
    static let overflow: UInt64 = 1 << 13
    static let features: UInt64 = 1 << 14
  }

  /// The same for a row.
  enum RowField {
    static let histogram: UInt64 = 1 << 0
    static let unpaired: UInt64 = 1 << 1
    static let total: UInt64 = 1 << 2
  }

  /// What a part says about itself.
  enum PartFlag {
    static let last: UInt64 = 1 << 0
    static let complete: UInt64 = 1 << 1
  }

  static let states = Int(KT_STATES.rawValue)

  /// Which of the states are not 0.
  static func mask(_ states: UnsafePointer<UInt64>) -> UInt64 {
    var mask: UInt64 = 0
    for state in 0..<SnapshotFormat.states where states[state] != 0 { mask |= 1 << UInt64(state) }
    return mask
  }

  static func sum(_ states: UnsafePointer<UInt64>) -> UInt64 {
    var sum: UInt64 = 0
    for state in 0..<SnapshotFormat.states { sum &+= states[state] }
    return sum
  }

  /// `steps` of a slot whose events are all of the kinds that this version counts.
  static func steps(_ slot: kt_slot) -> UInt64 {
    slot.exits &+ slot.entries &+ slot.userspace_exits &+ slot.wakeups
  }

  /// `finished` of a slot as its other counters give it.
  static func finished(_ slot: kt_slot) -> UInt64 { slot.exits &- UInt64(slot.in_exit) &- slot.unpaired_exits }

  /// The fields of a slot that a reader would not guess.
  static func fields(_ slot: UnsafePointer<kt_slot>) -> UInt64 {
    typealias Field = ThreadField
    let value = slot.pointee
    var fields: UInt64 = 0
    if value.vcpu != UInt16(KT_NO_VCPU) { fields |= Field.vcpu }
    if value.in_exit != 0 { fields |= Field.openExit }
    if value.ended != 0 { fields |= Field.ended }
    if value.entries != value.finished { fields |= Field.entries }
    if value.finished != finished(value) { fields |= Field.finished }
    if value.userspace_exits != 0 { fields |= Field.userspaceExits }
    if value.wakeups != 0 { fields |= Field.wakeups }
    if value.unpaired_exits != 0 { fields |= Field.unpairedExits }
    if value.unpaired_entries != 0 { fields |= Field.unpairedEntries }
    if value.first_ns != value.since_ns &- sum(kt_slot_state_ns(slot)) { fields |= Field.first }
    if value.steps != steps(value) { fields |= Field.steps }
    if value.missed != 0 { fields |= Field.missed }
    if value.backwards != 0 { fields |= Field.backwards }
    if value.overflow_exits != 0 { fields |= Field.overflow }
    if value.features != 0 { fields |= Field.features }
    return fields
  }
}
