import Terminal

/// A comparison for a terminal or a mail: plain text of at most 100 columns, the answer first.
public struct TextDiff {
  private let style: Style
  private let isVerbose: Bool

  /// What the screen can show; `isVerbose`: every row.
  public init(style: Style = Style(), isVerbose: Bool = false) {
    self.style = style
    self.isVerbose = isVerbose
  }

  /// The whole comparison.
  public func render(_ report: DiffReport) -> String {
    var page = Page(style: style)
    let words = DiffSentences(name: style.name)
    page.items(["before", "after"].enumerated().map { header($1, $0 == 0 ? report.before : report.after) })
    page.gap()
    for failure in report.failures { page.text("NOT TRUSTWORTHY: \(failure). Do not use these numbers.", .alarm) }
    page.text(words.verdict(report), .bold)
    page.gap()
    page.hanging("TRUST", report.warnings)
    for (side, names) in [("before", report.onlyBefore), ("after", report.onlyAfter)] where !names.isEmpty {
      let shown = names.prefix(10).map(style.name).joined(separator: ", ")
      page.hanging("", ["only \(side): \(shown)" + (names.count > 10 ? ", and \(names.count - 10) more" : "")])
    }
    for vm in report.vms {
      page.gap()
      if report.vms.count > 1 { page.text(words.verdict(vm, least: report.least), .bold) }
      machine(vm, report, words, on: &page)
    }
    closing(report, on: &page)
    return page.result
  }

  private func header(_ side: String, _ source: Report.Source) -> String {
    let host = [source.host, source.kernel.map { "kernel \($0)" }].compactMap(\.self)
      .map { truncated(style.name($0), width: 30) }
    let parts = [
      style.name(source.file), host.joined(separator: ", "), timeSpan(nanoseconds: source.durationNanoseconds),
    ]
    return "\(side): " + parts.filter { !$0.isEmpty }.joined(separator: ", ")
  }

  private func machine(
    _ vm: DiffReport.Machine, _ report: DiffReport, _ words: DiffSentences, on page: inout Page
  ) {
    page.hanging("CAUTION", vm.warnings)
    page.gap()
    let shown = rows(vm, report.least)
    if !shown.isEmpty {
      let title = vm.outcome == .short ? "WITHOUT VERDICT" : "WHAT DIFFERS"
      var table = Table([title, "before", "after", "effect", "95 % interval", "in time"])
      for row in shown {
        table.add([
          words.label(row), words.value(row, row.before), words.value(row, row.after), words.effect(row, row.effect),
          words.interval(row), percentage(row.weight),
        ])
      }
      page.table(table.lines())
    }
    counts(vm, report.least, on: &page)
  }

  private func rows(_ vm: DiffReport.Machine, _ least: Double) -> [DiffReport.Row] {
    if isVerbose { return vm.rows }
    return vm.rows.filter { $0.outcome == .different || ($0.outcome == .untested && $0.weight >= least) }
  }

  private func counts(_ vm: DiffReport.Machine, _ least: Double, on page: inout Page) {
    var parts: [String] = []
    func part(_ outcome: DiffReport.Row.Outcome, _ words: String) {
      let count = vm.rows(outcome).count
      if count > 0 { parts.append("\(words): \(counted(UInt64(count), "row"))") }
    }
    part(.unchanged, "unchanged")
    part(.small, "different, but by less than \(percentage(least))")
    part(.negligible, "below \(percentage(least)) in both")
    part(.untested, "untested")
    if !parts.isEmpty { page.text(parts.joined(separator: "; ")) }
    if !vm.hasRun {
      page.text("It ran less than 1 % of the time in at least one recording: shares of running time are not compared.")
    }
    if vm.outcome != .short {
      page.text(
        "\(vm.blocks[0]) and \(vm.blocks[1]) blocks of \(duration(nanoseconds: vm.blockNanoseconds, digits: 1)) or longer"
          + (vm.blockNanoseconds < Report.blockNanoseconds
            ? ": too few of 10 s. Short blocks depend on each other more; longer recordings are surer." : "."),
        .dim)
    }
  }

  private func closing(_ report: DiffReport, on page: inout Page) {
    page.gap()
    page.text(
      "Effects of shares are in points, those of exits per second in guest mode. in time: the effect as a part of "
        + "running time, or of wall time where the row says so.", .dim)
    let files = [report.before.file, report.after.file].map { shellWord(style.name($0)) }.joined(separator: " ")
    if report.isTooShort {
      page.text("Next: record both again for a minute or longer: sudo kvmtax record -d 60")
    } else if !isVerbose {
      let chosen = report.filter.map { "--vm \(shellWord(style.name($0))) " } ?? ""
      page.text("Next: kvmtax diff -v \(chosen)\(files)")
    }
  }
}
