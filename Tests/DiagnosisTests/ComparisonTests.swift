import Attribution
import Testing

@testable import Diagnosis

@Suite struct ComparisonTests {
  /// In how many of so many pairs of recordings something was found.
  private struct Found {
    var verdicts = 0
    var anything = 0
    var overhead = 0
    var intervalsWithTruth = 0
  }

  private static func repeated(_ times: Int, _ before: SimulatedLoad, _ after: SimulatedLoad) throws -> Found {
    var found = Found()
    for number in 0..<times {
      let pair = (
        before: before.recording(seed: UInt64(2 * number + 1)), after: after.recording(seed: UInt64(2 * number + 2)),
        comparesReasons: true
      )
      let comparison = try #require(Comparison.compare([pair], least: 0.01).first)
      let overhead = try #require(comparison.rows.first { $0.quantity == .overhead })
      if !comparison.rows(.different).isEmpty { found.verdicts += 1 }
      if !(comparison.rows(.different) + comparison.rows(.small)).isEmpty { found.anything += 1 }
      if overhead.outcome == .different, overhead.effect > 0 { found.overhead += 1 }
      let (low, high) = (try #require(overhead.low), try #require(overhead.high))
      if (low...high).contains(after.overhead - before.overhead) { found.intervalsWithTruth += 1 }
    }
    return found
  }

  /// Loads of a minute and more, whose rates deviate by 10 % from second to second and remember it: three seconds, nine,
  /// and for the last one, which is noisier than a minute can average out, twenty.
  @Test(arguments: [(20, 0.6), (60, 0.7), (120, 0.8), (60, 0.95)])
  func theSameLoadIsTheSameIn95Of100(seconds: Int, memory: Double) throws {
    let load = SimulatedLoad(memory: memory, seconds: seconds, spread: 0.1)
    let found = try Self.repeated(100, load, load)
    #expect(found.verdicts <= 5)
    #expect(found.intervalsWithTruth >= 90)
  }

  @Test(arguments: [(20, 0.6), (60, 0.7), (120, 0.8)])
  func threePointsMoreAreFoundIn90Of100(seconds: Int, memory: Double) throws {
    let before = SimulatedLoad(memory: memory, seconds: seconds, spread: 0.1)
    var after = before
    after.factor = 1.625
    #expect(abs(after.overhead - before.overhead - 0.03) < 0.0005)
    let found = try Self.repeated(100, before, after)
    #expect(found.overhead >= 90, "found in \(found.overhead)")
    #expect(found.intervalsWithTruth >= 90)
  }

  @Test func theRowsSayWhatMadeTheDifference() throws {
    let before = SimulatedLoad(seconds: 600)
    var after = before
    after.factor = 2
    let comparison = try #require(
      Comparison.compare([(before.recording(seed: 1), after.recording(seed: 2), true)], least: 0.01).first)
    #expect(comparison.limit == .none && comparison.blocksBefore == 60 && comparison.blocksAfter == 60)
    let different = comparison.rows(.different).map(\.quantity)
    #expect(different.contains(.overhead) && different.contains(.ofRunning(.qemu)))
    #expect(different.contains(.handling(.init(isa: 1, reason: 0))))
    #expect(!different.contains(.exits(.init(isa: 1, reason: 0))))
    #expect(!comparison.loadDiffers)
    // each row's interval excludes zero, and the rows are in order
    for row in comparison.rows(.different) { #expect((row.low ?? 0) > 0 || (row.high ?? 0) < 0) }
    #expect(comparison.rows.map(\.weight) == comparison.rows.map(\.weight).sorted(by: >))
    // a reason of 60 ns a second is no row that matters, whatever it does
    #expect(comparison.rows(.negligible).contains { $0.quantity == .exits(.init(isa: 1, reason: 11)) })
  }

  @Test func anotherLoadIsSaidToBeOne() throws {
    let before = SimulatedLoad(seconds: 120)
    var after = before
    after.busy = 0.3
    let comparison = try #require(
      Comparison.compare([(before.recording(seed: 1), after.recording(seed: 2), true)], least: 0.01).first)
    #expect(comparison.loadDiffers)
    #expect(comparison.rows.first { $0.quantity == .overhead }?.outcome != .different)
  }

  @Test func tooFewBlocksGiveEffectsAndNoVerdict() throws {
    let load = SimulatedLoad(seconds: 5)
    var more = load
    more.factor = 3
    let comparison = try #require(
      Comparison.compare([(load.recording(seed: 1), more.recording(seed: 2), true)], least: 0.01).first)
    #expect(comparison.limit == .short && comparison.blocksBefore == 5)
    #expect(comparison.rows.allSatisfy { $0.chance == nil && ($0.outcome == .untested || $0.outcome == .negligible) })
    #expect((comparison.rows.first { $0.quantity == .overhead }?.effect ?? 0) > 0.03)
  }

  @Test func anIdleVMHasNoSharesOfRunningTime() throws {
    let load = SimulatedLoad(seconds: 60, busy: 0.005)
    let comparison = try #require(
      Comparison.compare([(load.recording(seed: 1), load.recording(seed: 2), true)], least: 0.01).first)
    #expect(comparison.limit == .idle)
    #expect(comparison.rows.allSatisfy { if case .ofWall = $0.quantity { true } else { false } })
  }

  @Test func nothingComparedWithNothingIsNoDifference() throws {
    let nothing = Blocks(Timeline(), vcpus: [], pids: [])
    let comparison = try #require(Comparison.compare([(nothing, nothing, true)], least: 0.01).first)
    #expect(comparison.limit == .short && comparison.rows.allSatisfy { $0.effect == 0 } && !comparison.loadDiffers)
  }

  @Test func constantBlocksThatDifferAreDifferent() throws {
    func constant(_ virt: UInt64) -> Blocks {
      var thread = ThreadTimeline(thread: 1, startNanoseconds: 0)
      for place in 0..<8 as Range<UInt64> {
        var states = StateTimes()
        (states[.guest], states[.kernel]) = (10_000_000_000 - virt, virt)
        thread.append(until: (place + 1) * 10_000_000_000, place: Int(place), states: states, exits: 0)
      }
      let ends = (1...8 as ClosedRange<UInt64>).map { $0 * 10_000_000_000 }
      return Blocks(Timeline(ends: ends, threads: [thread]), vcpus: [VCPU(thread: 1, tid: 1)], pids: [])
    }
    let (a, b) = (constant(1_000_000_000), constant(1_500_000_000))
    let different = try #require(Comparison.compare([(a, b, true)], least: 0.01).first)
    #expect(different.rows(.different).map(\.quantity) == [.overhead, .ofRunning(.kernel)])
    let same = try #require(Comparison.compare([(a, a, true)], least: 0.01).first)
    #expect(same.rows(.unchanged).count == 2)
  }

  @Test func holmHoldsBackLessWhatHasMoreWeight() {
    let equal = RatioDifference.holm([0.01, 0.04, 0.03], weights: [1, 1, 1].map { $0 / 3 })
    for (found, expected) in zip(equal, [0.03, 0.06, 0.06]) { #expect(abs(found - expected) < 1e-12) }
    let weighted = RatioDifference.holm([0.02, 0.02, 0.02], weights: [0.5, 0.25, 0.25])
    for (found, expected) in zip(weighted, [0.04, 0.04, 0.04]) { #expect(abs(found - expected) < 1e-12) }
  }

  /// Values of tables of the t distribution.
  @Test(arguments: [(1.0, 12.706), (5, 2.571), (10, 2.228), (30, 2.042), (1000, 1.962)])
  func studentsQuantilesAreThoseOfTheTables(freedom: Double, quantile: Double) {
    #expect(abs(Student.quantile(0.05, freedom: freedom) - quantile) < 0.0006)
    #expect(abs(Student.twoSided(quantile, freedom: freedom) - 0.05) < 0.0001)
  }
}

@Suite struct VariationTests {
  @Test func aMinuteHasSixBlocks() throws {
    let load = SimulatedLoad(seconds: 60)
    let variation = Variation(load.recording(seed: 1))
    #expect(variation.blockCount == 6 && variation.low != nil)
    #expect(variation == Variation(load.recording(seed: 1)))
    let short = Variation(SimulatedLoad(seconds: 55).recording(seed: 1))
    #expect(short.blockCount == 5 && short.low == nil && short.high == nil)
    #expect(Variation(Blocks(Timeline(), vcpus: [], pids: [])).blockCount == 0)
  }

  /// Of 95 % intervals of independent seconds, nearly all; of seconds that remember longer than a block lasts, fewer.
  @Test(arguments: [(60, 0.3, 90), (300, 0.8, 85)])
  func theIntervalHasTheTruthInIt(seconds: Int, memory: Double, least: Int) throws {
    let load = SimulatedLoad(memory: memory, seconds: seconds)
    var inside = 0
    for seed in 0..<100 as Range<UInt64> {
      let variation = Variation(load.recording(seed: seed))
      let (low, high) = (try #require(variation.low), try #require(variation.high))
      if (low...high).contains(load.overhead) { inside += 1 }
    }
    #expect(inside >= least, "\(inside) of 100")
  }

  @Test func longRecordingsAreMoreCertain() throws {
    func width(_ seconds: Int) throws -> Double {
      let variation = Variation(SimulatedLoad(memory: 0.5, seconds: seconds).recording(seed: 3))
      return try #require(variation.high) - (try #require(variation.low))
    }
    #expect(try width(1000) < width(100) / 2)
  }
}
