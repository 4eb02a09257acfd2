import CKvmtax

/// The event records of a file in the order of time, whatever rings and CPUs they came through.
///
/// Blocks hold what the rings held when they were drained, so that each overlaps a few of its neighbours in time. Each
/// is sorted as it is reached, and merged with those that are open: memory is what overlaps. Events of equal time stay
/// in the file's order, which is the order of their CPU.
struct EventMerge: ~Copyable {
  /// A block before it is opened.
  struct Pending {
    var block: TraceBlock
    var firstNanoseconds: UInt64
    /// The number of its records.
    var count: Int
  }

  private struct Open {
    var events: [kt_event]
    var next = 0
    /// The block's place in the file.
    var place: Int
  }

  /// Records that may be open at once: 64 bytes each.
  static let openLimit = 4 << 20

  private var pending: [Pending] = []
  private var open: [Open] = []
  /// A heap over `open`: the one with the oldest event is at the front.
  private var heap: [Int] = []
  private var unused: [Int] = []
  private var openRecords = 0
  /// Records of which the blocks could not be opened.
  private(set) var unreadable: UInt64 = 0

  /// Notes a block; `lend` gives its records.
  mutating func add(_ block: TraceBlock, first: UInt64, count: Int) {
    if count > 0 { pending.append(Pending(block: block, firstNanoseconds: first, count: count)) }
  }

  /// Hands over every event, in batches. False when too much of the file overlaps: not all were handed over.
  mutating func forEach(
    in file: UnsafeRawBufferPointer, _ payloads: PayloadReader, _ batches: inout RecordBatches<kt_event>,
    progress: (Double) -> Void, _ body: (Span<kt_event>) -> Void
  ) -> Bool {
    pending.sort { ($0.firstNanoseconds, $0.block.offset) < ($1.firstNanoseconds, $1.block.offset) }
    var batch: [kt_event] = []
    batch.reserveCapacity(4096)
    var nextPending = 0
    while nextPending < pending.count || !heap.isEmpty {
      // all that begins at or before the oldest open event has to be open
      while nextPending < pending.count,
        heap.isEmpty || pending[nextPending].firstNanoseconds <= oldest(heap[0]).time_ns
      {
        let block = pending[nextPending]
        nextPending += 1
        guard openRecords &+ block.count <= EventMerge.openLimit else { return false }
        openBlock(block, in: file, payloads, &batches)
        progress(Double(nextPending) / Double(pending.count))
      }
      guard let front = heap.first else { continue }
      batch.append(oldest(front))
      open[front].next += 1
      if open[front].next == open[front].events.count {
        openRecords -= open[front].events.count
        open[front].events = []
        unused.append(front)
        heap[0] = heap[heap.count - 1]
        heap.removeLast()
      }
      sink(0)
      if batch.count == 4096 {
        body(batch.span)
        batch.removeAll(keepingCapacity: true)
      }
    }
    body(batch.span)
    return true
  }

  private mutating func openBlock(
    _ pending: Pending, in file: UnsafeRawBufferPointer, _ payloads: PayloadReader,
    _ batches: inout RecordBatches<kt_event>
  ) {
    var events: [kt_event] = []
    events.reserveCapacity(pending.count)
    if let payload = payloads.payload(of: pending.block, in: file) {
      batches.lend(payload, schema: pending.block.schema) { span in
        for index in span.indices { events.append(span[index]) }
      }
    }
    guard !events.isEmpty else {
      unreadable &+= UInt64(pending.count)
      return
    }
    EventMerge.sort(&events)
    openRecords += events.count
    let number = unused.popLast() ?? open.count
    let entry = Open(events: events, place: pending.block.offset)
    if number == open.count { open.append(entry) } else { open[number] = entry }
    heap.append(number)
    rise(heap.count - 1)
  }

  /// By time; equal times stay in their order.
  static func sort(_ events: inout [kt_event]) {
    let isSorted = !events.indices.dropFirst().contains { events[$0].time_ns < events[$0 - 1].time_ns }
    if isSorted { return }
    let order = events.indices.sorted { (events[$0].time_ns, $0) < (events[$1].time_ns, $1) }
    events = order.map { events[$0] }
  }

  // MARK: The heap

  private func oldest(_ number: Int) -> kt_event { open[number].events[open[number].next] }

  private func isBefore(_ one: Int, _ other: Int) -> Bool {
    (oldest(one).time_ns, open[one].place) < (oldest(other).time_ns, open[other].place)
  }

  private mutating func rise(_ start: Int) {
    var child = start
    while child > 0, isBefore(heap[child], heap[(child - 1) / 2]) {
      heap.swapAt(child, (child - 1) / 2)
      child = (child - 1) / 2
    }
  }

  private mutating func sink(_ start: Int) {
    var parent = start
    while true {
      var least = parent
      let (left, right) = (2 * parent + 1, 2 * parent + 2)
      if left < heap.count, isBefore(heap[left], heap[least]) { least = left }
      if right < heap.count, isBefore(heap[right], heap[least]) { least = right }
      if least == parent { return }
      heap.swapAt(parent, least)
      parent = least
    }
  }
}
