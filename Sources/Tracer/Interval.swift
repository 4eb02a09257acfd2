/// When the next snapshot is due: every second for 10 minutes, then every 10 s, after an hour every 60 s, unless the
/// user says otherwise; less often where the snapshots are so large that a day of them would not fit its budget.
struct SnapshotInterval {
  /// The user's choice in ns; nil for the steps above.
  var fixedNanoseconds: UInt64?
  /// Running mean of the snapshots' sizes: every tenth holds histograms and is larger.
  private var typicalBytes = 0.0

  init(fixedNanoseconds: UInt64? = nil) { self.fixedNanoseconds = fixedNanoseconds }

  private struct Step {
    let untilNanoseconds: UInt64
    let interval: UInt64
    /// What the step may spend: together at most 200 MB in the first day.
    let bytesPerSecond: Double
  }
  private static let steps = [
    Step(untilNanoseconds: 600_000_000_000, interval: 1_000_000_000, bytesPerSecond: 180_000),
    Step(untilNanoseconds: 3_600_000_000_000, interval: 10_000_000_000, bytesPerSecond: 10_000),
    Step(untilNanoseconds: .max, interval: 60_000_000_000, bytesPerSecond: 600),
  ]

  /// Learns from a snapshot that was written.
  mutating func take(snapshotBytes: UInt64) {
    let bytes = Double(snapshotBytes)
    typicalBytes = typicalBytes == 0 ? bytes : typicalBytes * 0.9 + bytes * 0.1
  }

  /// Whether the budget makes snapshots rarer than they would be after this much recording.
  func isWidened(afterNanoseconds elapsed: UInt64) -> Bool {
    fixedNanoseconds == nil && nanoseconds(afterNanoseconds: elapsed) > step(elapsed).interval
  }

  /// The distance to the next snapshot after this much recording.
  func nanoseconds(afterNanoseconds elapsed: UInt64) -> UInt64 {
    if let fixedNanoseconds { return fixedNanoseconds }
    let step = step(elapsed)
    let affordable = typicalBytes / step.bytesPerSecond * 1e9
    return max(step.interval, affordable < 86_400e9 ? UInt64(affordable) : 86_400_000_000_000)
  }

  private func step(_ elapsed: UInt64) -> Step {
    SnapshotInterval.steps.first { elapsed < $0.untilNanoseconds } ?? SnapshotInterval.steps[2]
  }
}

/// "10", "10s", "500ms", "5m", "2h" in ns; nil for anything else, and for what does not fit.
func parseDuration(_ text: String) -> UInt64? {
  let units: [(suffix: String, nanoseconds: Double)] = [
    ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9), ("d", 86400e9), ("", 1e9),
  ]
  for unit in units where text.hasSuffix(unit.suffix) {
    guard let number = Double(text.dropLast(unit.suffix.count)), number > 0, number * unit.nanoseconds < 1e18 else {
      continue
    }
    return UInt64(number * unit.nanoseconds)
  }
  return nil
}

/// "100M", "1G", "64KiB", "4096" in bytes; nil for anything else.
func parseSize(_ text: String) -> UInt64? {
  var digits = Substring(text)
  for ending in ["iB", "B"] where digits.hasSuffix(ending) { digits = digits.dropLast(ending.count); break }
  var shift = 0.0
  for (index, letter) in ["K", "M", "G", "T"].enumerated()
  where digits.uppercased().hasSuffix(letter) {
    digits = digits.dropLast()
    shift = Double(index + 1) * 10
    break
  }
  guard let number = Double(digits), number > 0 else { return nil }
  let bytes = number * exp2Whole(shift)
  return bytes < 1e18 ? UInt64(bytes) : nil
}

private func exp2Whole(_ power: Double) -> Double { Double(UInt64(1) << UInt64(power)) }
