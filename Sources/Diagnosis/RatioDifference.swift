/// A quantity of one recording as a ratio of sums over its blocks: time per running time, exits per guest-second.
struct RatioSeries {
  /// What is counted, per block.
  var numerators: [Double]
  /// Per what, per block.
  var denominators: [Double]

  var ratio: Double {
    let whole = denominators.reduce(0, +)
    return whole > 0 ? numerators.reduce(0, +) / whole : 0
  }

  /// How far each block is from what the ratio lets expect, as a part of the ratio's own scale; they sum to 0.
  var residuals: [Double] {
    let ratio = self.ratio
    let mean = denominators.reduce(0, +) / Double(max(1, denominators.count))
    guard mean > 0 else { return numerators.map { _ in 0 } }
    return zip(numerators, denominators).map { ($0 - ratio * $1) / mean }
  }
}

/// How much a series resembles itself one block later. Loads come and go slower than blocks do, which makes a mean less
/// certain than its spread says.
struct SelfCorrelation {
  /// Sum over the series of the products of neighbours, and of squares.
  private var products = 0.0
  private var squares = 0.0
  private var counts: [Double] = []

  /// Of deviations from a mean that was estimated from them.
  init(_ series: [[Double]]) {
    for values in series {
      products += zip(values, values.dropFirst()).reduce(0) { $0 + $1.0 * $1.1 }
      squares += values.reduce(0) { $0 + $1 * $1 }
      counts.append(Double(values.count))
    }
  }

  /// As it comes out, which is too low in short series; nil for constant ones.
  var raw: Double? { squares > 0 ? products / squares : nil }
  /// Values per series.
  var count: Double { counts.reduce(0, +) / Double(max(1, counts.count)) }

  /// Made up for most of what is missing, without the noise of making up for all of it.
  var likely: Double { raw.map { SelfCorrelation.bounded($0 + (1 + 3 * $0) / count) } ?? 0 }

  /// What several quantities of the same recordings have in common: less noisy, so that all that is missing can be made
  /// up for.
  static func common(_ all: [SelfCorrelation]) -> Double {
    let known = all.compactMap(\.raw)
    guard let count = all.first?.count, count > 3, !known.isEmpty else { return 0 }
    return bounded((known.reduce(0, +) / Double(known.count) * count + 1) / (count - 3))
  }

  private static func bounded(_ value: Double) -> Double { min(max(value, 0), 0.9) }

  /// How many times the variance of a mean of so many values is that of independent ones, for a process that forgets
  /// exponentially.
  static func inflation(_ correlation: Double, _ count: Double) -> Double {
    var sum = 1.0
    var power = correlation
    var lag = 1.0
    while lag < count, power > 1e-6 {
      sum += 2 * (1 - lag / count) * power
      power *= correlation
      lag += 1
    }
    return sum
  }
}

/// The difference of a ratio between two recordings, by Welch's test on blocks: the variance of each mean grows with the
/// blocks' resemblance to their neighbours, and they count as fewer.
///
/// A permutation test would not do: of six and six blocks its least p is 0.002, which a correction for thirty rows
/// does not let pass.
struct RatioDifference {
  /// after - before.
  var effect: Double
  /// The 95 % interval of it.
  var low: Double
  /// Its upper end.
  var high: Double
  /// The chance of a difference as large when there is none.
  var chance: Double

  init(_ before: RatioSeries, _ after: RatioSeries, correlation: Double) {
    effect = after.ratio - before.ratio
    var variance = 0.0
    var weights = 0.0
    for series in [before.residuals, after.residuals] {
      let count = Double(series.count)
      let inflation = SelfCorrelation.inflation(correlation, count)
      let spread = series.reduce(0) { $0 + $1 * $1 } / (count - 1)
      // a correlated series also varies less about its own mean than about the true one
      let own = spread / count * inflation * (count - 1) / max(count - inflation, 0.5)
      variance += own
      weights += own * own / max(count / inflation - 1, 1)
    }
    guard variance > 0 else {
      (low, high, chance) = (effect, effect, effect == 0 ? 1 : 0)
      return
    }
    let freedom = max(1, variance * variance / weights)
    let half = Student.quantile(0.05, freedom: freedom) * variance.squareRoot()
    (low, high) = (effect - half, effect + half)
    chance = Student.twoSided(effect / variance.squareRoot(), freedom: freedom)
  }

  /// Holm's correction: each chance as it is when so many were looked at. Those of greater weight are held back less; the
  /// weights sum to 1.
  static func holm(_ chances: [Double], weights: [Double]) -> [Double] {
    var adjusted = chances
    var greatest = 0.0
    var rest = weights.reduce(0, +)
    for index in chances.indices.sorted(by: { chances[$0] * weights[$1] < chances[$1] * weights[$0] }) {
      greatest = max(greatest, min(1, chances[index] * rest / weights[index]))
      adjusted[index] = greatest
      rest -= weights[index]
    }
    return adjusted
  }
}
