/// When the next snapshot is due: every second for 10 minutes, then every 10 s, after an hour every 60 s, unless the
/// user says otherwise; wider still where the snapshots to come would not fit into their budget.
struct SnapshotInterval {
  /// The user's choice in ns; nil for the steps above.
  var fixedNanoseconds: UInt64?

  /// What snapshots may take in a day.
  static let bytesPerDay: UInt64 = 200 << 20
  private static let dayNanoseconds: UInt64 = 86_400_000_000_000
  /// No wider than this, whatever the budget: a trace without any resolution is of no use.
  private static let widestNanoseconds: UInt64 = 600_000_000_000

  /// The distance to the next snapshot after this much recording.
  func nanoseconds(afterNanoseconds elapsed: UInt64) -> UInt64 {
    if let fixedNanoseconds { return fixedNanoseconds }
    if elapsed < 600_000_000_000 { return 1_000_000_000 }
    if elapsed < 3_600_000_000_000 { return 10_000_000_000 }
    return 60_000_000_000
  }

  /// The same, so that what is still to come fits.
  /// - Parameters:
  ///   - elapsed: recorded so far, ns.
  ///   - duration: of the whole recording, ns; nil where it is open: it is taken to last as long again.
  ///   - snapshotBytes: all snapshots so far, and `count` of them.
  ///   - maxSizeBytes: the file's limit.
  func nanoseconds(
    afterNanoseconds elapsed: UInt64, of duration: UInt64?, snapshotBytes: UInt64, count: UInt64, maxSizeBytes: UInt64
  ) -> UInt64 {
    let usual = nanoseconds(afterNanoseconds: elapsed)
    guard fixedNanoseconds == nil, count > 0 else { return usual }
    let whole = max(duration ?? elapsed &* 2, elapsed)
    let days = Double(max(whole, SnapshotInterval.dayNanoseconds)) / Double(SnapshotInterval.dayNanoseconds)
    let budget = min(Double(SnapshotInterval.bytesPerDay) * days, Double(maxSizeBytes) * 0.9)
    let left = budget - Double(snapshotBytes)
    guard left > 0 else { return SnapshotInterval.widestNanoseconds }
    let needed = Double(snapshotBytes) / Double(count) * Double(whole - elapsed) / left
    return max(usual, UInt64(min(needed, Double(SnapshotInterval.widestNanoseconds))))
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
