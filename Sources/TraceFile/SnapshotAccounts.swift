import Attribution
import CKvmtax

/// The last absolute totals of every thread and row, from the snapshots of a file; and which moments are not covered,
/// because a snapshot, or a part of one, is missing.
struct SnapshotAccounts: ~Copyable {
  /// A slot's `epoch` holds the number of holes before its last entry, its `sequence` is 1 once it was in a snapshot.
  private(set) var table = AccountTable()
  /// The VMs' keys, each VM under the serial of one of its threads.
  private(set) var keys = KeyTable()
  /// For each hole, the moment of the last whole snapshot before it; nil: there was none.
  private(set) var holes: [UInt64?] = []
  /// What each whole snapshot had more than the one before.
  private var timeline = TimelineBuilder()
  private var stopTracker = StopTracker()
  /// Times in which VMs were stopped, as inferred; after `finish`.
  var stops: [InferredStop] { stopTracker.stops }
  private(set) var firstClocks: Clocks?
  private(set) var lastClocks: Clocks?
  private(set) var count: UInt64 = 0
  private(set) var unreadable: UInt64 = 0
  private var lastWhole: UInt64?
  private var number: UInt64?
  private var nextPart: UInt64 = 0
  private var isOpen = false

  /// Takes one snapshot block; false when it has no head.
  mutating func take(_ payload: UnsafeRawBufferPointer) -> Bool {
    guard var cursor = SnapshotCursor(payload) else { return false }
    follow(cursor.head)
    while let entry = cursor.next() {
      switch entry {
      case .thread: takeThread(cursor.slot)
      case .row(let hasHistogram): table.take(cursor.row, hasHistogram: hasHistogram)
      case .key(isOverflow: false): keys.take(cursor.key)
      case .key(isOverflow: true):
        let key = cursor.key
        keys.takeOverflow(thread: key.thread, exits: key.finished, nanoseconds: key.total_ns)
      }
    }
    unreadable &+= UInt64(cursor.unreadable)
    if cursor.head.isLast {
      isOpen = false
      if hasAllParts {
        lastWhole = cursor.head.clocks.monotonicNanoseconds
        stopTracker.look(table.slots, count: table.slotCount, at: cursor.head.clocks.monotonicNanoseconds)
        timeline.close(
          at: cursor.head.clocks.monotonicNanoseconds, slots: table.slots, slotCount: table.slotCount,
          epoch: UInt32(truncatingIfNeeded: holes.count), rows: table.rows, rowNumbers: 0..<table.rowCount)
      }
    }
    return true
  }

  /// Call after the last block: a snapshot whose last part is missing leaves a hole.
  mutating func finish() {
    if isOpen { holes.append(lastWhole) }
    isOpen = false
    stopTracker.finish()
  }

  /// When everything in the snapshots happened; `ledger` is what was made of them.
  func timeline(of ledger: Ledger) -> Timeline {
    let builder = timeline
    return builder.finish(ledger, slots: table.slots, rows: table.rows, rowNumbers: 0..<table.rowCount)
  }

  private var hasAllParts = true

  private mutating func follow(_ head: SnapshotHead) {
    let isNext = number.map { head.number == $0 &+ 1 } ?? (head.number == 0)
    if head.number == number, isOpen, head.part == nextPart {
      nextPart &+= 1
    } else {
      let isStart = head.part == 0 && isNext && !isOpen
      if !isStart { holes.append(lastWhole) }
      if head.number != number { count &+= 1 }
      hasAllParts = head.part == 0
      number = head.number
      nextPart = head.part &+ 1
      isOpen = true
    }
    if firstClocks == nil { firstClocks = head.clocks }
    if head.clocks.monotonicNanoseconds >= lastClocks?.monotonicNanoseconds ?? 0 { lastClocks = head.clocks }
  }

  private mutating func takeThread(_ slot: kt_slot) {
    guard let number = table.slot(thread: slot.thread) else { return }
    let firstRow = table.slots[number].first_row
    table.slots[number] = slot
    table.slots[number].first_row = firstRow
    table.slots[number].epoch = UInt32(truncatingIfNeeded: holes.count)
    table.slots[number].sequence = 1
  }
}
