import Attribution

/// What the laps of a calibration brought, and what follows from it (docs/calibration.md derives it). Pure.
struct CalibrationSamples {
  /// What was attached while a lap ran.
  enum Mode: Hashable {
    case untraced
    /// Two programs that do nothing but take the time.
    case stopwatch
    case traced(Calibration.Mode)
    /// Traced, and each of exit and entry delayed by so many turns of a loop.
    case delayed(steps: UInt32)
  }

  /// One round's laps of one kind of exit in one mode.
  struct Visit: Equatable {
    /// As the guest sees it, less what reading the TSC takes; ns.
    var roundTrips: [Double] = []
    /// Round trip less the span between kvm_exit and kvm_entry of the same exit, ns: what lies outside the two moments.
    var outside: [Double] = []
  }

  /// By kind's name, mode and round.
  private(set) var visits: [String: [Mode: [Visit]]] = [:]
  /// The delay's loop timed alone, ns, by round.
  var delayNanoseconds: [Double] = []

  mutating func add(_ visit: Visit, kind: String, mode: Mode) {
    visits[kind, default: [:]][mode, default: []].append(visit)
  }

  // MARK: What follows

  /// The 10th, 50th and 90th percentile.
  static func percentiles(_ values: [Double?]) -> Bounded? {
    let sorted = values.compactMap(\.self).sorted()
    guard !sorted.isEmpty else { return nil }
    func at(_ fraction: Double) -> Double {
      let place = fraction * Double(sorted.count - 1)
      let below = Int(place)
      let above = min(below + 1, sorted.count - 1)
      return sorted[below] + (sorted[above] - sorted[below]) * (place - Double(below))
    }
    return Bounded(low: at(0.1), mid: at(0.5), high: at(0.9))
  }

  static func median(_ values: [Double?]) -> Double? { percentiles(values)?.mid }

  /// The medians of each round.
  private func medians(_ kind: String, _ mode: Mode, _ values: (Visit) -> [Double]) -> [Double?] {
    (visits[kind]?[mode] ?? []).map { CalibrationSamples.median(values($0)) }
  }

  /// Differences between two modes, round by round: what drifts from round to round is in neither.
  private func differences(_ first: [Double?], _ second: [Double?]) -> [Double?] {
    zip(first, second).map { first, second in
      guard let first, let second else { return nil }
      return first - second
    }
  }

  private func pooled(_ kind: String, _ mode: Mode, _ values: (Visit) -> [Double]) -> Bounded? {
    CalibrationSamples.percentiles((visits[kind]?[mode] ?? []).flatMap(values))
  }

  /// What the stopwatch itself adds to a round trip; it is not known on which side of its two moments.
  private func stopwatchCost(_ kind: String) -> Bounded? {
    let trips = medians(kind, .stopwatch, \.roundTrips)
    guard let cost = CalibrationSamples.percentiles(differences(trips, medians(kind, .untraced, \.roundTrips))) else {
      return nil
    }
    return Bounded(low: max(cost.low, 0), mid: max(cost.mid, 0), high: max(cost.high, 0))
  }

  /// What was measured with a kind of exit; nil where too little came.
  /// - Parameters:
  ///   - handling: where the tracer's part in the handling is taken from, if not from this kind: what a sleep adds to a
  ///     round trip and takes from it again is more than any program costs.
  func measurement(
    kind: String, path: Calibration.Path, modes: [Calibration.Mode], handling: Calibration.Measurement? = nil
  ) -> Calibration.Measurement? {
    guard let roundTrip = pooled(kind, .untraced, \.roundTrips),
      let outside = pooled(kind, .stopwatch, \.outside)
    else { return nil }
    let own = (handling == nil ? stopwatchCost(kind) : stopwatchCost(handling?.kind ?? "")) ?? .zero
    // of the stopwatch's own cost nothing to all may be on the guest's side
    let worldSwitch = Bounded(
      low: max(outside.low - own.mid, 0), mid: max(outside.mid - own.mid / 2, 0), high: max(outside.high, 0))
    var measurement = Calibration.Measurement(path: path, kind: kind, roundTrip: roundTrip, worldSwitch: worldSwitch)
    for mode in modes {
      measurement.tracer[mode] = cost(kind, mode, stopwatch: own, handling: handling?.tracer[mode])
    }
    return measurement
  }

  /// The tracer's cost in a mode, and its two sides. The sides are seen where each exit has a record; without records the
  /// handling's side is the same, since a record is written after the entry's moment.
  private func cost(
    _ kind: String, _ mode: Calibration.Mode, stopwatch: Bounded, handling: Calibration.TracerCost?
  ) -> Calibration.TracerCost? {
    guard let roundTrip = pooled(kind, .traced(mode), \.roundTrips) else { return nil }
    var withRecords = mode
    withRecords.records = true
    let untraced = medians(kind, .untraced, \.roundTrips)
    let added = differences(medians(kind, .traced(mode), \.roundTrips), untraced)
    let addedWithRecords = differences(medians(kind, .traced(withRecords), \.roundTrips), untraced)
    let switches = medians(kind, .stopwatch, \.outside).map { $0.map { $0 - stopwatch.mid / 2 } }
    let outsideWithRecords = differences(medians(kind, .traced(withRecords), \.outside), switches)
    let insides = differences(addedWithRecords, outsideWithRecords)
    if let handling {
      let seen = CalibrationSamples.percentiles(outsideWithRecords).map { CalibrationSamples.cost($0, give: stopwatch) }
      let outside = mode.records ? seen ?? handling.outside : handling.outside
      // what the scheduler's programs add lies between the two moments too, within what the sleep varies by
      var total = handling.inside + outside
      total.high = max(total.high, CalibrationSamples.percentiles(added)?.high ?? 0)
      return Calibration.TracerCost(
        total: total, inside: handling.inside, outside: outside, roundTrip: roundTrip)
    }
    guard let total = CalibrationSamples.percentiles(added) else { return nil }
    guard let inside = CalibrationSamples.percentiles(insides),
      let outside = CalibrationSamples.percentiles(mode.records ? outsideWithRecords : differences(added, insides))
    else {
      // no record paired: it may be on either side
      let either = Bounded(low: 0, mid: max(total.mid, 0) / 2, high: max(total.high, 0))
      return Calibration.TracerCost(total: total, inside: either, outside: either, roundTrip: roundTrip)
    }
    return Calibration.TracerCost(
      total: total, inside: CalibrationSamples.cost(inside, give: stopwatch),
      outside: CalibrationSamples.cost(outside, give: stopwatch), roundTrip: roundTrip)
  }

  /// A cost that is known but for half of the stopwatch's own, and never below nothing.
  private static func cost(_ value: Bounded, give stopwatch: Bounded) -> Bounded {
    let give = stopwatch.mid / 2
    return Bounded(low: max(value.low - give, 0), mid: max(value.mid, 0), high: max(value.high + give, 0))
  }

  // MARK: The known delay

  /// A delay of known length in the traced path, and what the calibration made of it; ns per exit.
  struct Recovered: Equatable {
    /// Both loops, timed alone.
    var injected: Bounded
    /// By what the round trip grew.
    var total: Bounded
    /// By what the handling and the guest's side grew.
    var inside: Bounded
    var outside: Bounded
    /// How far the total is from what was injected, of that.
    var error: Double { total.mid / injected.mid - 1 }
  }

  func recovered(kind: String, steps: UInt32) -> Recovered? {
    let total = differences(
      medians(kind, .delayed(steps: steps), \.roundTrips), medians(kind, .delayed(steps: 0), \.roundTrips))
    let outside = differences(
      medians(kind, .delayed(steps: steps), \.outside), medians(kind, .delayed(steps: 0), \.outside))
    guard let injected = CalibrationSamples.percentiles(delayNanoseconds.map { 2 * $0 }), injected.mid > 0,
      let all = CalibrationSamples.percentiles(total), let guest = CalibrationSamples.percentiles(outside),
      let handling = CalibrationSamples.percentiles(differences(total, outside))
    else { return nil }
    return Recovered(injected: injected, total: all, inside: handling, outside: guest)
  }
}
