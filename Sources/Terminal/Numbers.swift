import Attribution

/// A whole number, grouped: "3,111,140"; from 10^15 on, where no measured number is, "1.84e19".
public func count(_ number: UInt64) -> String {
  number < largestGrouped ? grouped(number) : scientific(Double(number))
}

/// Longer numbers come from damaged or hostile inputs only and would break every table.
private let largestGrouped: UInt64 = 1_000_000_000_000_000

private func scientific(_ value: Double) -> String {
  var mantissa = value
  var exponent = 0
  while mantissa >= 9.995 {
    mantissa /= 10
    exponent += 1
  }
  return "\(fixed(mantissa, decimals: 2))e\(exponent)"
}

/// A number with a fixed count of decimals and grouped thousands: "1,234.50"; "–" for what is no number.
public func fixed(_ value: Double, decimals: Int) -> String {
  guard value.isFinite else { return "–" }
  let sign = value < 0 ? "-" : ""
  if abs(value) >= Double(largestGrouped) { return sign + scientific(abs(value)) }
  var scale = 1.0
  for _ in 0..<max(0, decimals) { scale *= 10 }
  guard decimals > 0, let scaled = UInt64(exactly: (abs(value) * scale).rounded()), let unit = UInt64(exactly: scale)
  else {
    return sign + grouped(UInt64(abs(value).rounded()))
  }
  let fraction = String(scaled % unit)
  return sign + grouped(scaled / unit) + "." + String(repeating: "0", count: decimals - fraction.count) + fraction
}

/// A duration with its unit: "812 ns", "4.55 µs", "31.0 ms", "1,234 s". Percentiles are read from buckets 12.5 % wide:
/// print them with 2 digits.
public func duration(nanoseconds: Double, digits: Int = 3) -> String {
  guard nanoseconds.isFinite, nanoseconds >= 0 else { return "–" }
  let units: [(scale: Double, name: String)] = [(1e3, "µs"), (1e6, "ms"), (1e9, "s")]
  if nanoseconds.rounded() < 1000 { return "\(fixed(nanoseconds, decimals: 0)) ns" }
  for unit in units {
    let value = rounded(nanoseconds / unit.scale, digits: digits)
    if value < 1000 || unit.name == "s" {
      return "\(fixed(value, decimals: decimals(value, digits: digits))) \(unit.name)"
    }
  }
  return "–"
}

/// A duration with its unit, from whole nanoseconds.
public func duration(nanoseconds: UInt64, digits: Int = 3) -> String {
  duration(nanoseconds: Double(nanoseconds), digits: digits)
}

/// How long a recording took: "0.25 s", "60.0 s", "12 min 5 s", "26 h 3 min".
public func timeSpan(nanoseconds: UInt64) -> String {
  let seconds = (nanoseconds / 500_000_000 &+ 1) / 2
  if nanoseconds < 100_000_000 { return duration(nanoseconds: nanoseconds) }
  if nanoseconds < 1_000_000_000 { return "\(fixed(Double(nanoseconds) / 1e9, decimals: 2)) s" }
  if seconds < 600 { return "\(fixed(Double(nanoseconds) / 1e9, decimals: 1)) s" }
  if seconds < 7200 { return "\(seconds / 60) min \(seconds % 60) s" }
  return "\(count(seconds / 3600)) h \(seconds % 3600 / 60) min"
}

/// The unit in which a column of times is readable.
public enum TimeUnit: String, Sendable {
  /// From 10 s on.
  case seconds
  /// From 10 ms on.
  case milliseconds = "ms"
  /// Below.
  case microseconds = "µs"

  /// The unit for a column whose largest or total time is this.
  public init(fitting nanoseconds: UInt64) {
    self = nanoseconds >= 10_000_000_000 ? .seconds : nanoseconds >= 10_000_000 ? .milliseconds : .microseconds
  }

  /// A cell of such a column, without the unit: two decimals.
  public func cell(nanoseconds: UInt64) -> String {
    switch self {
    case .seconds: fixed(Double(nanoseconds) / 1e9, decimals: nanoseconds < 1_000_000_000_000_000 ? 2 : 0)
    case .milliseconds: fixed(Double(nanoseconds) / 1e6, decimals: 2)
    case .microseconds: fixed(Double(nanoseconds) / 1e3, decimals: 2)
    }
  }
}

/// A part of a whole, given as a fraction: "13.1 %"; what is there but rounds to nothing is "<0.1 %".
public func percentage(_ fraction: Double) -> String {
  if fraction > 0, fraction < 0.0005 { return "<0.1 %" }
  return "\(fixed(fraction * 100, decimals: 1)) %"
}

/// Events per second without the unit: "31,000", "74", "8.3", "0.42", "<0.01".
public func rate(_ perSecond: Double) -> String {
  if perSecond > 0, perSecond < 0.005 { return "<0.01" }
  return fixed(perSecond, decimals: perSecond == 0 || perSecond >= 99.95 ? 0 : perSecond >= 0.995 ? 1 : 2)
}

/// A size: "64 bytes", "412 KiB", "1.5 GiB".
public func byteCount(_ bytes: UInt64) -> String {
  if bytes < 1024 { return bytes == 1 ? "1 byte" : "\(bytes) bytes" }
  var value = Double(bytes) / 1024
  var unit = 0
  let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]
  while value.rounded() >= 1024, unit + 1 < units.count {
    value /= 1024
    unit += 1
  }
  return "\(fixed(value, decimals: unit > 0 && value < 10 ? 1 : 0)) \(units[unit])"
}

/// "1 exit", "2 exits", "1,234 exits".
public func counted(_ number: UInt64, _ noun: String, plural: String? = nil) -> String {
  "\(count(number)) \(number == 1 ? noun : plural ?? noun + "s")"
}

/// Rounds to so many significant digits, but never whole units away.
private func rounded(_ value: Double, digits: Int) -> Double {
  var scale = 1.0
  while value * scale < power(digits - 1), value > 0 { scale *= 10 }
  return (value * scale).rounded() / scale
}

/// The decimals that show a value with so many significant digits.
private func decimals(_ value: Double, digits: Int) -> Int {
  var decimals = digits - 1
  var limit = 10.0
  // half a unit of the last place: 9.996 has two digits before the point once it is rounded
  while decimals > 0, value >= limit - 0.5 / power(decimals - 1) / 10 {
    decimals -= 1
    limit *= 10
  }
  return decimals
}

private func power(_ exponent: Int) -> Double {
  var value = 1.0
  for _ in 0..<max(0, exponent) { value *= 10 }
  return value
}
