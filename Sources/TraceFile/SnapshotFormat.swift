import Attribution
import CKvmtax

/// How a snapshot's payload is laid out (docs/trace-format.md, "Snapshot"); encoder and decoder share it.
enum SnapshotFormat {
  static let threadKind: UInt64 = 1
  static let rowKind: UInt64 = 2
  static let keyKind: UInt64 = 3

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
    // a reader of the first version takes what follows the fields it knows for states: these stand behind them
    static let switches: UInt64 = 1 << 15
    static let missedSwitches: UInt64 = 1 << 16
    static let missedWakings: UInt64 = 1 << 17
    static let runDelay: UInt64 = 1 << 18
    static let timerVector: UInt64 = 1 << 19
    static let overflowKeys: UInt64 = 1 << 20
    static let missedInterrupts: UInt64 = 1 << 21
  }

  /// The same for a row.
  enum RowField {
    static let histogram: UInt64 = 1 << 0
    static let unpaired: UInt64 = 1 << 1
    static let total: UInt64 = 1 << 2
  }

  /// The same for a VM's key.
  enum KeyField {
    /// Of exits whose keys found no room: what is said of the key means nothing.
    static let overflow: UInt64 = 1 << 0
    static let subject: UInt64 = 1 << 1
    static let size: UInt64 = 1 << 2
    static let userspace: UInt64 = 1 << 3
    static let total: UInt64 = 1 << 4
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
  static func finished(_ slot: kt_slot) -> UInt64 { slot.exits &- (isOpen(slot) ? 1 : 0) &- slot.unpaired_exits }

  /// Whether an exit is open that kvm_exit has named.
  static func isOpen(_ slot: kt_slot) -> Bool { slot.in_exit != 0 && slot.pending == 0 }

  /// The fields of a slot that a reader would not guess.
  static func fields(_ slot: UnsafePointer<kt_slot>) -> UInt64 {
    typealias Field = ThreadField
    let value = slot.pointee
    var fields: UInt64 = 0
    if value.vcpu != UInt16(KT_NO_VCPU) { fields |= Field.vcpu }
    if isOpen(value) { fields |= Field.openExit }
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
    if value.switches != 0 { fields |= Field.switches }
    if value.missed_switches != 0 { fields |= Field.missedSwitches }
    if value.missed_wakings != 0 { fields |= Field.missedWakings }
    if value.run_delay_ns != 0 { fields |= Field.runDelay }
    if value.timer_source != 0 { fields |= Field.timerVector }
    if value.overflow_keys != 0 { fields |= Field.overflowKeys }
    if value.missed_interrupts != 0 { fields |= Field.missedInterrupts }
    return fields
  }
}
