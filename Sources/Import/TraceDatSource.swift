import Attribution
import CKvmtax

/// The events of one buffer of a trace.dat, all CPUs merged by time; of equal times the lowest CPU number comes first.
struct TraceDatSource: EventSource {
  private var streams: [CpuStream] = []
  /// A heap of indices into `streams`, the oldest head on top.
  private var heap: [Int] = []
  private let table: KvmEventTable
  private(set) var findings = CpuStream.Findings()

  /// All chunks in memory together take at most this much.
  private static let chunkMemory = 512 << 20

  /// `table` says which of the events are read.
  init(_ header: borrowing TraceDatHeader, _ buffer: TraceDatHeader.Buffer, _ table: KvmEventTable) {
    self.table = table
    let budget = min(16 << 20, TraceDatSource.chunkMemory / max(buffer.cpus.count, 1))
    for data in buffer.cpus.sorted(by: { $0.cpu < $1.cpu }) {
      var stream = CpuStream(header, buffer, data, chunkBudget: budget)
      if stream.advance(table, &findings) {
        heap.append(streams.count)
        streams.append(stream)
      }
    }
    for index in stride(from: heap.count / 2, through: 0, by: -1) where !heap.isEmpty { sink(index) }
  }

  /// CPUs that have events.
  var cpuCount: Int { streams.count }

  mutating func read(into batch: inout [kt_event]) {
    batch.removeAll(keepingCapacity: true)
    while batch.count < 4096, let oldest = heap.first {
      batch.append(streams[oldest].head)
      if !streams[oldest].advance(table, &findings) {
        let last = heap.removeLast()
        if heap.isEmpty { return }
        heap[0] = last
      }
      sink(0)
    }
  }

  @inline(__always) private func isBefore(_ left: Int, _ right: Int) -> Bool {
    let (first, second) = (streams[left].head.time_ns, streams[right].head.time_ns)
    return first < second || (first == second && left < right)
  }

  private mutating func sink(_ start: Int) {
    var index = start
    while true {
      var child = 2 * index + 1
      guard child < heap.count else { return }
      if child + 1 < heap.count, isBefore(heap[child + 1], heap[child]) { child += 1 }
      guard isBefore(heap[child], heap[index]) else { return }
      heap.swapAt(index, child)
      index = child
    }
  }
}
