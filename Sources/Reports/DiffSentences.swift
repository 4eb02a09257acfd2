import Terminal

/// A comparison in words, the same in every format. `name` makes a VM's name fit for where it is printed.
struct DiffSentences {
  let name: (String) -> String

  /// What a VM is called.
  func label(_ vm: DiffReport.Machine) -> String {
    Sentences(name: name).label(vmid: vm.vmid, name: vm.name, pid: vm.pid)
  }

  /// The verdict on everything.
  func verdict(_ report: DiffReport) -> String {
    if let vm = report.vms.first, report.vms.count == 1 { return verdict(vm, least: report.least) }
    let different = report.vms.count { $0.outcome == .different }
    let short = report.vms.count { $0.outcome == .short }
    var text = "\(different) of \(report.vms.count) VMs differ"
    if short > 0 { text += "; of \(short) the recordings are too short for a verdict" }
    if different > 0, let first = report.vms.first { text += ". First: \(verdict(first, least: report.least))" }
    return text.hasSuffix(".") ? text : text + "."
  }

  /// The verdict on one VM.
  func verdict(_ vm: DiffReport.Machine, least: Double) -> String {
    let subject = label(vm)
    let change = vm.overhead.map { "overhead \(value($0, $0.before)) → \(value($0, $0.after))" }
    switch vm.outcome {
    case .short:
      let blocks =
        "\(vm.blocks[0]) and \(vm.blocks[1]) blocks of \(duration(nanoseconds: vm.blockNanoseconds, digits: 1))"
      let text = "Too short for a verdict on \(subject): \(blocks), \(Report.leastBlocks) are needed on each side"
      return text + (change.map { "; \($0)." } ?? ".")
    case .different:
      if let overhead = vm.overhead, overhead.outcome == .different {
        let loses = overhead.effect > 0 ? "more" : "less"
        return
          "\(subject) loses \(points(overhead.effect.magnitude)) points \(loses) of its running time to virtualization: "
          + "\(value(overhead, overhead.before)) → \(value(overhead, overhead.after)) (\(interval(overhead)))."
      }
      let rows = vm.rows(.different)
      let measures = counted(UInt64(rows.count), "measure")
      return "\(subject) differs in \(measures), most in \(label(rows[0]))"
        + (change.map { "; \($0), unchanged." } ?? ".")
    case .unchanged:
      guard let overhead = vm.overhead, let change, let open = vm.notRuledOut else {
        return "\(subject): no difference was found."
      }
      let found = "; \(change) (\(interval(overhead)))."
      // a wide interval is no evidence that nothing changed
      return open < least
        ? "\(subject): no difference that matters (\(percentage(least)) of running time)" + found
        : "\(subject): no difference was found, but one of \(points(open)) points is not ruled out" + found
    }
  }

  /// A row's name.
  func label(_ row: DiffReport.Row) -> String {
    let text = name(row.label)
    switch row.kind {
    case .overhead, .ofRunning: return text
    case .ofWall: return text + ", of wall time"
    case .handling: return truncated(text, width: 28) + ", handling"
    case .exits: return truncated(text, width: 28) + ", exits"
    }
  }

  /// A value in the row's unit.
  func value(_ row: DiffReport.Row, _ value: Double) -> String {
    switch row.kind {
    case .overhead, .ofRunning, .ofWall: percentage(value)
    case .handling: "\(duration(nanoseconds: value * 1e9))/s"
    case .exits: "\(rate(value))/s"
    }
  }

  /// An effect in the row's unit, with its sign.
  func effect(_ row: DiffReport.Row, _ effect: Double) -> String {
    let size = effect.magnitude
    let text =
      switch row.kind {
      case .overhead, .ofRunning, .ofWall: points(size)
      case .handling: "\(duration(nanoseconds: size * 1e9))/s"
      case .exits: "\(rate(size))/s"
      }
    return (effect < 0 ? "-" : "+") + text
  }

  /// The 95 % interval of an effect.
  func interval(_ row: DiffReport.Row) -> String {
    guard let low = row.low, let high = row.high else { return "–" }
    return "\(effect(row, low)) to \(effect(row, high))"
  }

  /// Points of a share, without their sign.
  private func points(_ fraction: Double) -> String { fixed(fraction * 100, decimals: fraction < 0.00995 ? 2 : 1) }
}
