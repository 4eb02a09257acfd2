import Attribution
import CKvmtax

/// What a part of a snapshot says about itself.
public struct SnapshotHead: Equatable, Sendable {
  /// The snapshot's number in the recording; its parts share it.
  public var number: UInt64
  /// This block's place among the snapshot's blocks, from 0 on.
  public var part: UInt64
  /// Whether it is the last of them.
  public var isLast: Bool
  /// Whether the snapshot holds every thread and row, changed or not.
  public var isComplete: Bool
  /// The snapshot's moment.
  public var clocks: Clocks
}

/// Decodes the payload of one snapshot block, entry by entry, into `slot` and `row`. The payload must stay valid.
public struct SnapshotCursor: ~Copyable {
  /// What `next()` decoded.
  public enum Entry: Sendable {
    /// A thread, in `slot`.
    case thread
    /// A row, in `row`; its buckets are all 0 when it comes without its histogram.
    case row(hasHistogram: Bool)
    /// A key of a VM, in `key`, whose `thread` is any one of the VM's. `isOverflow`: of no key, but of all exits of the
    /// VM whose keys found no room.
    case key(isOverflow: Bool)
  }

  private var reader: ByteReader
  /// The block's head.
  public let head: SnapshotHead
  /// The thread decoded last; what a trace does not keep (sequence, first_row, comm) is 0.
  public private(set) var slot = kt_slot()
  /// The key decoded last.
  public private(set) var key = kt_key_row()
  private let rowStorage: UnsafeMutablePointer<kt_row>
  private var rowHasBuckets = false
  private var previousThread: UInt64 = 0
  /// Entries that could not be decoded.
  public private(set) var unreadable = 0

  /// Nil when the head is not there.
  public init?(_ payload: UnsafeRawBufferPointer) {
    var reader = ByteReader(payload)
    var entry = reader.entry()
    let number = entry.number()
    let part = entry.number()
    let flags = entry.number()
    let clocks = entry.clocks()
    guard !entry.isShort, !reader.isShort else { return nil }
    head = SnapshotHead(
      number: number, part: part, isLast: flags & SnapshotFormat.PartFlag.last != 0,
      isComplete: flags & SnapshotFormat.PartFlag.complete != 0, clocks: clocks)
    self.reader = reader
    rowStorage = .allocate(capacity: 1)
    rowStorage.initialize(to: kt_row())
  }

  deinit { rowStorage.deallocate() }

  /// The row decoded last.
  public var row: UnsafePointer<kt_row> { UnsafePointer(rowStorage) }

  /// The next thread, row or key; nil at the end. Entries of other kinds are passed over.
  public mutating func next() -> Entry? {
    while !reader.isAtEnd {
      var entry = reader.entry()
      let thread = entry.number(from: previousThread)
      let kind = entry.number()
      guard !entry.isShort, let serial = UInt32(exactly: thread) else {
        unreadable &+= 1
        continue
      }
      previousThread = thread
      if kind == SnapshotFormat.threadKind {
        if decodeThread(&entry, serial) { return .thread }
        unreadable &+= 1
      } else if kind == SnapshotFormat.rowKind {
        if let hasHistogram = decodeRow(&entry, serial) { return .row(hasHistogram: hasHistogram) }
        unreadable &+= 1
      } else if kind == SnapshotFormat.keyKind {
        if let isOverflow = decodeKey(&entry, serial) { return .key(isOverflow: isOverflow) }
        unreadable &+= 1
      }
    }
    return nil
  }

  private mutating func decodeThread(_ entry: inout ByteReader, _ thread: UInt32) -> Bool {
    typealias Field = SnapshotFormat.ThreadField
    let fields = entry.number()
    let mask = entry.number()
    var slot = kt_slot()
    slot.thread = thread
    slot.tid = entry.number32()
    slot.tgid = UInt32(truncatingIfNeeded: entry.number(from: UInt64(slot.tid)))
    let state = entry.number()
    slot.state = state < UInt64(KT_STATES.rawValue) ? UInt8(state) : UInt8(KT_UNKNOWN.rawValue)
    slot.since_ns = head.clocks.monotonicNanoseconds &- UInt64(bitPattern: entry.signed())
    slot.exits = entry.number()
    slot.vcpu = fields & Field.vcpu != 0 ? UInt16(truncatingIfNeeded: entry.number()) : UInt16(KT_NO_VCPU)
    if fields & Field.openExit != 0 {
      slot.in_exit = 1
      slot.isa = UInt8(truncatingIfNeeded: entry.number())
      slot.reason = entry.number32()
      slot.exit_ns = slot.since_ns &- UInt64(bitPattern: entry.signed())
    }
    slot.ended = fields & Field.ended != 0 ? 1 : 0
    let moreEntries = fields & Field.entries != 0 ? entry.signed() : 0
    let moreFinished = fields & Field.finished != 0 ? entry.signed() : 0
    if fields & Field.userspaceExits != 0 { slot.userspace_exits = entry.number() }
    if fields & Field.wakeups != 0 { slot.wakeups = entry.number() }
    if fields & Field.unpairedExits != 0 { slot.unpaired_exits = entry.number() }
    if fields & Field.unpairedEntries != 0 { slot.unpaired_entries = entry.number() }
    let laterFirst = fields & Field.first != 0 ? entry.signed() : 0
    let moreSteps = fields & Field.steps != 0 ? entry.signed() : 0
    if fields & Field.missed != 0 { slot.missed = entry.number() }
    if fields & Field.backwards != 0 { slot.backwards = entry.number() }
    if fields & Field.overflow != 0 {
      slot.overflow_exits = entry.number()
      slot.overflow_ns = entry.number()
    }
    if fields & Field.features != 0 { slot.features = UInt8(truncatingIfNeeded: entry.number()) }
    slot.finished = SnapshotFormat.finished(slot) &+ UInt64(bitPattern: moreFinished)
    slot.entries = slot.finished &+ UInt64(bitPattern: moreEntries)
    slot.steps = SnapshotFormat.steps(slot) &+ UInt64(bitPattern: moreSteps)
    let sum = withUnsafeMutablePointer(to: &slot) {
      SnapshotCursor.readStates(&entry, mask, into: kt_slot_mutable_state_ns($0))
    }
    slot.first_ns = slot.since_ns &- sum &+ UInt64(bitPattern: laterFirst)
    SnapshotCursor.readLater(&entry, fields, into: &slot)
    self.slot = slot
    return !entry.isShort
  }

  /// The fields that stand behind the states.
  private static func readLater(_ entry: inout ByteReader, _ fields: UInt64, into slot: inout kt_slot) {
    typealias Field = SnapshotFormat.ThreadField
    if fields & Field.switches != 0 { slot.switches = entry.number() }
    if fields & Field.missedSwitches != 0 { slot.missed_switches = entry.number() }
    if fields & Field.missedWakings != 0 { slot.missed_wakings = entry.number() }
    if fields & Field.runDelay != 0 {
      slot.first_run_delay_ns = entry.number()
      slot.run_delay_ns = entry.number(from: slot.first_run_delay_ns)
    }
    if fields & Field.timerVector != 0 {
      slot.timer_vector = UInt8(truncatingIfNeeded: entry.number())
      slot.timer_source = UInt8(truncatingIfNeeded: entry.number())
    }
    if fields & Field.overflowKeys != 0 {
      slot.overflow_keys = entry.number()
      slot.overflow_keys_ns = entry.number()
    }
    if fields & Field.missedInterrupts != 0 { slot.missed_interrupts = entry.number() }
  }

  /// Whether it is the overflow; nil when the entry is too short.
  private mutating func decodeKey(_ entry: inout ByteReader, _ thread: UInt32) -> Bool? {
    typealias Field = SnapshotFormat.KeyField
    let fields = entry.number()
    let mask = entry.number()
    var row = kt_key_row()
    row.thread = thread
    row.key.isa = UInt8(truncatingIfNeeded: entry.number())
    row.key.reason = entry.number32()
    row.key.kind = UInt8(truncatingIfNeeded: entry.number())
    row.key.traits = entry.number32()
    row.finished = entry.number()
    row.max_ns = entry.number()
    row.key.subject = fields & Field.subject != 0 ? entry.number() : .max
    if fields & Field.size != 0 { row.key.size = UInt8(truncatingIfNeeded: entry.number()) }
    if fields & Field.userspace != 0 { row.key.userspace = UInt8(truncatingIfNeeded: entry.number()) }
    let total = fields & Field.total != 0 ? entry.number() : nil
    let sum = withUnsafeMutablePointer(to: &row) {
      SnapshotCursor.readStates(&entry, mask, into: kt_key_row_mutable_state_ns($0))
    }
    row.total_ns = total ?? sum
    key = row
    return entry.isShort ? nil : fields & Field.overflow != 0
  }

  /// Whether the row came with its histogram; nil when the entry is too short.
  private mutating func decodeRow(_ entry: inout ByteReader, _ thread: UInt32) -> Bool? {
    typealias Field = SnapshotFormat.RowField
    if rowHasBuckets {
      rowStorage.pointee = kt_row()
      rowHasBuckets = false
    }
    let fields = entry.number()
    let mask = entry.number()
    rowStorage.pointee.thread = thread
    rowStorage.pointee.isa = entry.number32()
    rowStorage.pointee.reason = entry.number32()
    rowStorage.pointee.finished = entry.number()
    rowStorage.pointee.min_ns = entry.number()
    rowStorage.pointee.max_ns = entry.number(from: rowStorage.pointee.min_ns)
    let hasHistogram = fields & Field.histogram != 0
    if hasHistogram, !decodeHistogram(&entry) { return nil }
    rowStorage.pointee.unpaired = fields & Field.unpaired != 0 ? entry.number() : 0
    let total = fields & Field.total != 0 ? entry.number() : nil
    let sum = SnapshotCursor.readStates(&entry, mask, into: kt_row_mutable_state_ns(rowStorage))
    rowStorage.pointee.total_ns = total ?? sum
    return entry.isShort ? nil : hasHistogram
  }

  /// False when a bucket does not exist.
  private mutating func decodeHistogram(_ entry: inout ByteReader) -> Bool {
    rowHasBuckets = true
    let buckets = kt_row_mutable_buckets(rowStorage)!
    var used = entry.number()
    var bucket: UInt64 = 0
    while used > 0, !entry.isShort {
      bucket &+= entry.number()
      let count = entry.number32()
      guard bucket < UInt64(Histogram.bucketCount) else { return false }
      buckets[Int(bucket)] = count
      bucket &+= 1
      used &-= 1
    }
    return true
  }

  /// Reads the states of the mask, sets all others to 0, and gives the sum. States that this version does not know are
  /// added to unknown, so that the sum holds.
  private static func readStates(
    _ entry: inout ByteReader, _ mask: UInt64, into states: UnsafeMutablePointer<UInt64>
  ) -> UInt64 {
    var sum: UInt64 = 0
    for state in 0..<SnapshotFormat.states { states[state] = 0 }
    for state in 0..<64 where mask & 1 << UInt64(state) != 0 {
      let value = entry.number()
      sum &+= value
      states[state < SnapshotFormat.states ? state : 0] &+= value
    }
    return sum
  }
}
