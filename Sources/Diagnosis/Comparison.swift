import Attribution

/// What differs between two recordings of a VM.
public struct Comparison: Equatable, Sendable {
  /// What a row is about.
  public enum Quantity: Hashable, Sendable {
    /// virt / (virt + guest).
    case overhead
    /// A state's part of running time.
    case ofRunning(State)
    /// A state's part of wall time.
    case ofWall(State)
    /// A reason's handling time per time in guest mode.
    case handling(Blocks.ReasonKey)
    /// A reason's exits per second in guest mode.
    case exits(Blocks.ReasonKey)
  }

  /// What can be said of a row.
  public enum Outcome: String, Sendable {
    /// More than chance, and enough to matter.
    case different
    /// More than chance, too little to matter.
    case small
    /// No more than chance.
    case unchanged
    /// In neither recording large enough that any difference could matter; not tested, so that it does not make the
    /// others harder to see.
    case negligible
    /// Too few blocks to tell.
    case untested
  }

  /// One quantity in both recordings.
  public struct Row: Equatable, Sendable {
    /// What it is.
    public var quantity: Quantity
    /// Over the whole first recording: a fraction, or exits per guest-second.
    public var before: Double
    /// The same of the second one.
    public var after: Double
    /// after - before.
    public var effect: Double
    /// The 95 % interval of the effect by itself; nil when it was not tested.
    public var low: Double?
    /// Its upper end.
    public var high: Double?
    /// The chance of such an effect without a difference, by itself; nil when it was not tested.
    public var chance: Double?
    /// The same, corrected for all rows that were looked at (Holm).
    public var adjustedChance: Double?
    /// The effect's size in time: a part of running time, of wall time for `ofWall`; never negative.
    public var weight: Double
    /// What can be said of it.
    public var outcome: Outcome
  }

  /// Why rows are missing or not tested.
  public enum Limit: String, Sendable {
    /// Nothing is missing.
    case none
    /// There are not enough blocks on each side.
    case short
    /// The VM hardly ran in at least one recording (below 1 % of the time): no shares of running time.
    case idle
  }

  /// Two-sided chance of a row up to which it is a difference.
  public static let level = 0.05
  /// A different load by this much, relative, is worth a warning.
  public static let loadTolerance = 0.1
  /// A VM that ran less than this part of the time has no shares of running time.
  public static let leastRunning = 0.01
  /// Where 10 s are too long, blocks of this length, ns.
  public static let shortBlockNanoseconds = 1e9

  /// Length of the blocks at least, ns.
  public var blockNanoseconds: Double
  /// Blocks of the first recording.
  public var blocksBefore: Int
  /// Blocks of the second one.
  public var blocksAfter: Int
  /// What stands in the way.
  public var limit: Limit
  /// The least weight that matters.
  public var least: Double
  /// Guest time per second of the first recording, all vCPUs together.
  public var loadBefore: Double
  /// The same of the second one.
  public var loadAfter: Double
  /// The parts of wall time in which the VM ran: the first one's, then the second one's.
  public var ranBefore: Double
  /// The second one's.
  public var ranAfter: Double
  /// Largest weight first; quantities that neither recording has are left out.
  public var rows: [Row]

  /// Rows of one outcome.
  public func rows(_ outcome: Outcome) -> [Row] { rows.filter { $0.outcome == outcome } }
  /// Whether the load differed so much that rates per guest-second may differ by it alone.
  public var loadDiffers: Bool {
    loadBefore > 0 && loadAfter > 0
      ? abs(loadAfter / loadBefore - 1) > Comparison.loadTolerance : loadBefore != loadAfter
  }

  /// Compares VMs, the first recording's with the second one's; rows are corrected for all of them together (Holm). The
  /// headlines have half of the allowed error for themselves: they are what is asked first, and thirty rows of details must
  /// not hide them.
  public static func compare(
    _ pairs: [(before: Blocks, after: Blocks, comparesReasons: Bool)], least: Double
  ) -> [Comparison] {
    var comparisons = pairs.map { Comparison($0.before, $0.after, least: least, comparesReasons: $0.comparesReasons) }
    let places = comparisons.indices.flatMap { number in
      comparisons[number].rows.indices.filter { comparisons[number].rows[$0].chance != nil }.map { (number, $0) }
    }
    let rows = places.map { comparisons[$0.0].rows[$0.1] }
    let headlines = Double(rows.count { $0.quantity == .overhead })
    let others = Double(rows.count) - headlines
    let weights = rows.map { row in
      row.quantity == .overhead ? (others > 0 ? 0.5 : 1) / headlines : (headlines > 0 ? 0.5 : 1) / others
    }
    let adjusted = RatioDifference.holm(rows.map { $0.chance ?? 1 }, weights: weights)
    for (place, chance) in zip(places, adjusted) {
      comparisons[place.0].rows[place.1].adjustedChance = chance
      guard chance <= level else { continue }
      let matters = comparisons[place.0].rows[place.1].weight >= least
      comparisons[place.0].rows[place.1].outcome = matters ? .different : .small
    }
    return comparisons
  }

  private init(_ before: Blocks, _ after: Blocks, least: Double, comparesReasons: Bool) {
    var length = Variation.blockNanoseconds
    var sides = [before.joined(nanoseconds: length), after.joined(nanoseconds: length)]
    var isLong = sides.allSatisfy { $0.blocks.count >= Variation.leastBlocks }
    if !isLong {
      length = Comparison.shortBlockNanoseconds
      sides = [before.joined(nanoseconds: length), after.joined(nanoseconds: length)]
      isLong = sides.allSatisfy { $0.blocks.count >= Variation.leastBlocks }
    }
    (blocksBefore, blocksAfter) = (sides[0].blocks.count, sides[1].blocks.count)
    blockNanoseconds = length
    self.least = least
    // a recording that is shorter than a block has its sums all the same
    if !isLong { sides = [before, after] }
    let totals = sides.map { $0.blocks.reduce(into: Blocks.Block()) { $0.merge($1) } }
    func part(_ some: Double, _ all: Double) -> Double { all > 0 ? some / all : 0 }
    (loadBefore, loadAfter) = (
      part(totals[0].guest, totals[0].nanoseconds), part(totals[1].guest, totals[1].nanoseconds)
    )
    (ranBefore, ranAfter) = (part(totals[0].running, totals[0].wall), part(totals[1].running, totals[1].wall))
    let isIdle = min(ranBefore, ranAfter) < Comparison.leastRunning
    limit = !isLong ? .short : isIdle ? .idle : .none
    rows = []
    let guestOfRunning = part(totals[0].guest + totals[1].guest, totals[0].running + totals[1].running)
    var tested: [(row: Int, series: [RatioSeries])] = []
    for quantity in Comparison.quantities(totals, isIdle: isIdle, comparesReasons: comparesReasons) {
      let series = sides.map { side in
        RatioSeries(
          numerators: side.blocks.map { Comparison.numerator(quantity, $0) },
          denominators: side.blocks.map { Comparison.denominator(quantity, $0) })
      }
      let (first, second) = (series[0].ratio, series[1].ratio)
      var scale = 1.0
      switch quantity {
      case .overhead, .ofRunning, .ofWall: break
      case .handling: scale = guestOfRunning
      case .exits(let key):
        let exits = totals.compactMap { $0.reasons[key] }
        // as much time as so many exits took in the mean
        scale = part(exits.reduce(0) { $0 + $1.handledNanoseconds }, exits.reduce(0) { $0 + $1.count }) / 1e9
        scale *= guestOfRunning
      }
      let canMatter = max(first, second) * scale >= least
      if isLong, canMatter { tested.append((rows.count, series)) }
      rows.append(
        Row(
          quantity: quantity, before: first, after: second, effect: second - first, weight: abs(second - first) * scale,
          outcome: !canMatter ? .negligible : isLong ? .unchanged : .untested))
    }
    let correlations = tested.map { SelfCorrelation($0.series.map(\.residuals)) }
    let common = SelfCorrelation.common(correlations)
    for ((row, series), correlation) in zip(tested, correlations) {
      let difference = RatioDifference(series[0], series[1], correlation: (common + correlation.likely) / 2)
      (rows[row].low, rows[row].high, rows[row].chance) = (difference.low, difference.high, difference.chance)
    }
    rows.sort { $0.weight > $1.weight }
  }

  // MARK: Quantities

  private static func quantities(_ totals: [Blocks.Block], isIdle: Bool, comparesReasons: Bool) -> [Quantity] {
    var quantities: [Quantity] = []
    let running = StateTimes.virtualizationStates
    func isThere(_ state: State) -> Bool { totals.contains { $0.states[Int(state.rawValue)] > 0 } }
    if !isIdle {
      quantities.append(.overhead)
      quantities += running.filter(isThere).map { .ofRunning($0) }
    }
    // the guest's part of wall time is the load, and its part of running time is what overhead leaves
    quantities += State.allCases.filter { !running.contains($0) && $0 != .guest && isThere($0) }.map { .ofWall($0) }
    if !isIdle, comparesReasons {
      let keys = Set(totals.flatMap(\.reasons.keys)).sorted { ($0.isa, $0.reason) < ($1.isa, $1.reason) }
      for key in keys {
        if totals.contains(where: { ($0.reasons[key]?.handledNanoseconds ?? 0) > 0 }) {
          quantities.append(.handling(key))
        }
        quantities.append(.exits(key))
      }
    }
    return quantities
  }

  private static func numerator(_ quantity: Quantity, _ block: Blocks.Block) -> Double {
    switch quantity {
    case .overhead: block.virtualization
    case .ofRunning(let state), .ofWall(let state): block.states[Int(state.rawValue)]
    case .handling(let key): block.reasons[key]?.handledNanoseconds ?? 0
    case .exits(let key): block.reasons[key]?.count ?? 0
    }
  }

  private static func denominator(_ quantity: Quantity, _ block: Blocks.Block) -> Double {
    switch quantity {
    case .overhead, .ofRunning: block.running
    case .ofWall: block.wall
    case .handling: block.guest
    case .exits: block.guest / 1e9
    }
  }
}
