/// A calibration as text: what its file holds, and the block of a trace file (docs/calibration.md, "The file").
extension Calibration {
  private static let title = "kvmtax-calibration 1"

  /// Lines of words; times in ns.
  public var text: String {
    var lines = [Calibration.title, "date \(date)"]
    for (key, value) in host.sorted(by: { $0.key < $1.key }) { lines.append("host \(key) \(Calibration.line(value))") }
    for one in measurements {
      let start = "measured \(one.path.rawValue) \(one.kind)"
      lines.append("\(start) untraced round_trip \(Calibration.numbers(one.roundTrip))")
      lines.append("\(start) untraced world_switch \(Calibration.numbers(one.worldSwitch))")
      for (mode, cost) in one.tracer.sorted(by: { $0.key.name < $1.key.name }) {
        lines.append("\(start) \(mode.name) round_trip \(Calibration.numbers(cost.roundTrip))")
        lines.append("\(start) \(mode.name) adds \(Calibration.numbers(cost.total))")
        lines.append("\(start) \(mode.name) inside \(Calibration.numbers(cost.inside))")
        lines.append("\(start) \(mode.name) outside \(Calibration.numbers(cost.outside))")
      }
    }
    for (path, why) in absent.sorted(by: { $0.key.rawValue < $1.key.rawValue }) {
      lines.append("absent \(path.rawValue) \(Calibration.line(why))")
    }
    return lines.joined(separator: "\n") + "\n"
  }

  /// Far more than a calibration has; a longer text is none.
  public static let mostBytes = 1 << 16

  /// Reads such a text; nil when it is none, or has no measurement. Lines that this version does not know, or that make no
  /// sense, are passed over.
  public init?(parsing text: String) {
    let lines = text.utf8.count <= Calibration.mostBytes ? text.split(whereSeparator: \.isNewline) : []
    guard lines.first.map({ $0.split(separator: " ") }) == Calibration.title.split(separator: " ") else { return nil }
    self.init(date: "", host: [:])
    for line in lines.dropFirst() {
      let words = line.split(separator: " ", maxSplits: 2).map(String.init)
      switch words.first {
      case "date": date = words.dropFirst().joined(separator: " ")
      case "host" where words.count > 1: host[words[1]] = words.count > 2 ? words[2] : ""
      case "absent" where words.count > 2: if let path = Path(rawValue: words[1]) { absent[path] = words[2] }
      case "measured": take(line.split(separator: " ").dropFirst().map(String.init))
      default: continue
      }
    }
    measurements.removeAll { $0.roundTrip.high <= 0 }
    guard !measurements.isEmpty else { return nil }
  }

  /// PATH KIND MODE QUANTITY LOW MID HIGH
  private mutating func take(_ words: [String]) {
    guard words.count >= 7, let path = Path(rawValue: words[0]), let value = Calibration.bounded(words[4...6]) else {
      return
    }
    let place = measurements.firstIndex { $0.path == path && $0.kind == words[1] } ?? measurements.count
    if place == measurements.count {
      measurements.append(Measurement(path: path, kind: words[1], roundTrip: .zero, worldSwitch: .zero))
    }
    switch (words[2], words[3]) {
    case ("untraced", "round_trip"): measurements[place].roundTrip = value
    case ("untraced", "world_switch"): measurements[place].worldSwitch = value
    case ("untraced", _): return
    case (let name, let quantity):
      guard let mode = Mode(name: name) else { return }
      var cost = measurements[place].tracer[mode] ?? .zero
      switch quantity {
      case "round_trip": cost.roundTrip = value
      case "adds": cost.total = value
      case "inside": cost.inside = value
      case "outside": cost.outside = value
      default: return
      }
      measurements[place].tracer[mode] = cost
    }
  }

  private static func bounded(_ words: ArraySlice<String>) -> Bounded? {
    let numbers = words.compactMap(Double.init).filter { $0.isFinite && abs($0) <= 1e12 }
    guard numbers.count == 3 else { return nil }
    return Bounded(low: numbers[0], mid: numbers[1], high: numbers[2])
  }

  private static func numbers(_ value: Bounded) -> String {
    [value.low, value.mid, value.high].map { "\(($0 * 10).rounded() / 10)" }.joined(separator: " ")
  }

  /// Without line breaks.
  private static func line(_ text: String) -> String { String(text.map { $0.isNewline ? " " : $0 }) }
}

extension Calibration.TracerCost {
  fileprivate static let zero = Calibration.TracerCost(total: .zero, inside: .zero, outside: .zero, roundTrip: .zero)
}
