import Attribution
import Terminal

/// What `kvmtax calibrate` prints: all times in ns.
enum CalibrationTable {
  private static let widths = [20, 21, 7, 7, 7, 7, 16, 8]

  static func text(
    _ calibration: Calibration, cpu: Int, rounds: Int, recovered: [(kind: String, CalibrationSamples.Recovered)]
  ) -> String {
    let model = calibration.host["cpu_model"] ?? "unknown CPU"
    var lines = wrapped(
      "\(sanitized(model)), kernel \(sanitized(calibration.host["kernel"] ?? "unknown")), on CPU \(cpu), "
        + "\(rounds) rounds. Times in ns.", width: maximumColumns)
    lines += [
      "", line(["EXIT", "RECORDING", "p10", "p50", "p90", "adds", "low to high", "in guest"]),
    ]
    for one in calibration.measurements { lines += rows(one) }
    for (path, why) in calibration.absent.sorted(by: { $0.key.rawValue < $1.key.rawValue }) {
      lines += wrapped("\(path.rawValue): not measured. \(why)", width: maximumColumns)
    }
    lines += ["", line(["WORLD SWITCH", "", "", "", "", "ns", "low to high"])]
    for path in Calibration.Path.allCases {
      guard calibration.absent[path] == nil, let cost = calibration.worldSwitch(path) else { continue }
      lines.append(line(["  \(path.rawValue)", "", "", "", "", number(cost.mid), interval(cost)]))
    }
    for (kind, one) in recovered { lines += self.recovered(kind, one) }
    return lines.joined(separator: "\n") + "\n"
  }

  private static func rows(_ one: Calibration.Measurement) -> [String] {
    func trip(_ value: Bounded) -> [String] { [number(value.low), number(value.mid), number(value.high)] }
    var lines = [line(["  \(one.path.rawValue): \(one.kind)", "untraced"] + trip(one.roundTrip))]
    for (mode, cost) in one.tracer.sorted(by: { $0.key.name < $1.key.name }) {
      lines.append(
        line(
          ["", "\(mode.attach) \(mode.tier)\(mode.records ? ", records" : "")"] + trip(cost.roundTrip)
            + [number(cost.total.mid), interval(cost.total), number(cost.outside.mid)]))
    }
    return lines
  }

  /// A delay that was put in, and what was seen of it.
  private static func recovered(_ kind: String, _ one: CalibrationSamples.Recovered) -> [String] {
    [
      "", "INJECTED DELAY, \(kind)",
      "  put in      \(number(one.injected.mid)) (\(interval(one.injected))), half at the exit and half at the entry",
      "  recovered   \(number(one.total.mid)) (\(interval(one.total))), off by "
        + "\(fixed(one.error * 100, decimals: 1)) %",
      "  of it       \(number(one.inside.mid)) in the handling, \(number(one.outside.mid)) in the guest's time",
    ]
  }

  private static func number(_ value: Double) -> String { fixed(value, decimals: 0) }
  private static func interval(_ value: Bounded) -> String { "\(number(value.low)) to \(number(value.high))" }

  private static func line(_ cells: [String]) -> String {
    var text = ""
    for (column, cell) in cells.enumerated() {
      text += padded(cell, width: widths[column], column > 1 ? .right : .left)
      if column + 1 < cells.count { text += " " }
    }
    while text.last == " " { text.removeLast() }
    return text
  }
}
