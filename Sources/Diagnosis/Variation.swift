import Attribution

/// How far a VM's overhead varied over a recording: what another recording of the same load, as long as this one, can be
/// expected to show. It says nothing about errors of measurement.
public struct Variation: Equatable, Sendable {
  /// Fewer blocks say nothing about variation.
  public static let leastBlocks = 6
  /// Least length of a block, ns: what happens within one may depend on what happened before.
  public static let blockNanoseconds = 10e9
  private static let replicates = 2000

  /// Blocks of at least 10 s.
  public var blockCount: Int
  /// The 95 % interval of overhead, a fraction of running time; nil where there are too few blocks.
  public var low: Double?
  /// Its upper end.
  public var high: Double?

  /// Overhead over moving blocks of a VM's intervals.
  ///
  /// Moving-block bootstrap: as many blocks as fit into the recording are drawn from all that can be cut out of it, 2000
  /// times over; the 95 % of the middle are the interval. Of few blocks, and of blocks that resemble their neighbours, it
  /// comes out too narrow, so it is widened as an interval by Student's t would be. The random numbers begin with the same
  /// seed each time: a report says the same whenever it is made.
  public init(_ intervals: Blocks) {
    let blocks = intervals.blocks
    let joined = intervals.joined(nanoseconds: Variation.blockNanoseconds).blocks
    blockCount = joined.count
    guard blockCount >= Variation.leastBlocks else { return }
    // sums of the intervals before each one
    var virt = [0.0]
    var running = [0.0]
    for block in blocks {
      virt.append(virt[virt.count - 1] + block.virtualization)
      running.append(running[running.count - 1] + block.running)
    }
    let all = (virt: virt[blocks.count], running: running[blocks.count])
    guard all.running > 0 else { return }
    // every interval from which on there is a whole block
    var moving: [(virt: Double, running: Double)] = []
    var end = 0
    var length = 0.0
    for start in blocks.indices {
      while end < blocks.count, length < Variation.blockNanoseconds * Blocks.tolerance {
        length += blocks[end].nanoseconds
        end += 1
      }
      guard length >= Variation.blockNanoseconds * Blocks.tolerance else { break }
      moving.append((virt[end] - virt[start], running[end] - running[start]))
      length -= blocks[start].nanoseconds
    }
    var random = SeededRandom()
    var overheads: [Double] = []
    for _ in 0..<Variation.replicates {
      var sum = (virt: 0.0, running: 0.0)
      for _ in 0..<blockCount {
        let block = moving[random.next(below: moving.count)]
        sum.virt += block.virt
        sum.running += block.running
      }
      if sum.running > 0 { overheads.append(sum.virt / sum.running) }
    }
    guard !overheads.isEmpty else { return }
    overheads.sort()
    let overhead = all.virt / all.running
    let count = Double(blockCount)
    let series = RatioSeries(numerators: joined.map(\.virtualization), denominators: joined.map(\.running))
    // of few blocks it is a rough estimate, which must not make the interval meaningless
    let correlation = min(SelfCorrelation([series.residuals]).likely, blockCount < 20 ? 0.5 : 0.9)
    let inflation = SelfCorrelation.inflation(correlation, count)
    let freedom = max(1, count / inflation - 1)
    let wider =
      Student.quantile(0.05, freedom: freedom) / 1.959964
      * (inflation * count / max(count - inflation, 0.5)).squareRoot()
    let (lower, upper) = (overheads[overheads.count * 25 / 1000], overheads[overheads.count * 975 / 1000])
    low = max(0, min(overhead, overhead - (overhead - lower) * wider))
    high = min(1, max(overhead, overhead + (upper - overhead) * wider))
  }
}

/// Random numbers for resampling, the same in every run (splitmix64 from a fixed seed).
struct SeededRandom {
  /// "kvmtax" in ASCII.
  private var state: UInt64 = 0x6b_766d_7461_78

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var mixed = state
    mixed = (mixed ^ mixed >> 30) &* 0xbf58_476d_1ce4_e5b9
    mixed = (mixed ^ mixed >> 27) &* 0x94d0_49bb_1331_11eb
    return mixed ^ mixed >> 31
  }

  mutating func next(below limit: Int) -> Int {
    Int(truncatingIfNeeded: next().multipliedFullWidth(by: UInt64(limit)).high)
  }
}
