import Terminal

/// The tables and bars of a text report.
struct ReportTables {
  let style: Style
  let isVerbose: Bool

  /// Everything about one VM but its verdict.
  func machine(_ vm: Report.Machine, _ words: Sentences, on page: inout Page) {
    groups(vm.section, title: vm.pid == 0 && vm.vcpus.count > 1 ? ", all threads" : "", on: &page)
    page.gap()
    bars(vm, words, on: &page)
    page.gap()
    reasons(vm.section, title: "", on: &page)
    classes(vm.section, title: "", on: &page)
    guard isVerbose, vm.vcpus.count > 1 else { return }
    for vcpu in vm.vcpus {
      page.gap()
      section(vcpu.section, title: ", \(words.label(vcpu))", on: &page)
    }
  }

  /// Time by group and exits by reason.
  func section(_ section: Report.Section, title: String, on page: inout Page) {
    groups(section, title: title, on: &page)
    page.gap()
    reasons(section, title: title, on: &page)
    classes(section, title: title, on: &page)
  }

  // MARK: Classes

  /// Classes with what their exits were about, and the four shares.
  private func classes(_ section: Report.Section, title: String, on page: inout Page) {
    guard let tree = section.classes else { return }
    let unit = TimeUnit(fitting: section.wallNanoseconds)
    page.gap()
    var table = Table(["WHAT THE EXITS WERE\(title)", "exits", "exits/s", "mean", "max", unit.rawValue, "of running"])
    let blank = [String](repeating: "", count: 6)
    let shown = isVerbose ? tree.classes.count : min(tree.classes.count, 10)
    for one in tree.classes.prefix(shown) {
      table.add(["\(one.id)  \(one.label)"] + cells(one.time, unit))
      // a class's only line, of which there is no more to say than the class does, is none of its own
      for line in one.lines.prefix(isVerbose ? one.lines.count : one.shortCount)
      where isVerbose || one.lines.count > 1 || !line.about.isEmpty {
        table.add(["  \(style.name(line.reason)) \(line.about)"] + cells(line.time, unit))
      }
      if !isVerbose, one.shortCount < one.lines.count {
        table.add(["  and \(one.lines.count - one.shortCount) more; -v shows all"] + blank)
      }
    }
    if shown < tree.classes.count {
      table.add(["and \(tree.classes.count - shown) more classes; -v shows all"] + blank)
    }
    if tree.overflowExits > 0 {
      table.add([
        "in no class: too many keys", count(tree.overflowExits), "–", "–", "–",
        unit.cell(nanoseconds: tree.overflowNanoseconds), "–",
      ])
    }
    page.table(table.lines())
    let shares = tree.shares.filter { $0.id != "rest" || $0.handledNanoseconds > 0 }.map {
      "\($0.label) \($0.ofRunning.map(percentage) ?? duration(nanoseconds: $0.handledNanoseconds))"
    }
    page.text("Of running time: \(shares.joined(separator: ", ")).")
  }

  private func cells(_ time: Report.ClassTime, _ unit: TimeUnit) -> [String] {
    [
      count(time.exits), cell(time.perSecond, rate), cell(time.handledMeanNanoseconds) { duration(nanoseconds: $0) },
      duration(nanoseconds: time.maxNanoseconds), unit.cell(nanoseconds: time.handledNanoseconds),
      cell(time.ofRunning, percentage),
    ]
  }

  private func groups(_ section: Report.Section, title: String, on page: inout Page) {
    let unit = TimeUnit(fitting: section.wallNanoseconds)
    var table = Table(["WHERE THE TIME WENT\(title)", unit.rawValue, "of wall", "of running", ""])
    for group in section.groups {
      table.add([
        group.label, unit.cell(nanoseconds: group.nanoseconds), cell(group.ofWall, percentage),
        group.ofRunning.map(percentage) ?? "", group.note ?? "",
      ])
      guard group.id == "guest", let calibrated = section.calibrated else { continue }
      table.add([
        "  of it world switch", unit.cell(nanoseconds: calibrated.worldSwitchNanoseconds), "",
        calibrated.worldSwitchOfRunning.map(percentage) ?? "",
        "calibrated, \(unit.cell(nanoseconds: calibrated.worldSwitchLowNanoseconds)) to "
          + unit.cell(nanoseconds: calibrated.worldSwitchHighNanoseconds),
      ])
    }
    page.table(table.lines(notes: 1))
  }

  // MARK: Bars

  private func bars(_ vm: Report.Machine, _ words: Sentences, on page: inout Page) {
    let shown = isVerbose ? vm.vcpus.count : min(vm.vcpus.count, 16)
    let vcpus = vm.vcpus.prefix(shown)
    let width = vcpus.map { words.label($0).count }.max() ?? 0
    for vcpu in vcpus {
      let glyphs = vcpu.bar.map { String(repeating: glyph($0.kind), count: $0.count) }.joined()
      page.text(
        "  \(padded(words.label(vcpu), width: width))  \(padded(glyphs, width: Report.barWidth))  \(remark(vcpu))")
    }
    if shown < vm.vcpus.count { page.text("  and \(vm.vcpus.count - shown) more vCPUs; -v shows all") }
    let kinds = Report.Cells.Kind.allCases.filter { kind in
      vcpus.contains { $0.bar.contains { $0.kind == kind } }
    }
    if !kinds.isEmpty {
      page.text(
        String(repeating: " ", count: width + 4) + kinds.map { "\(glyph($0)) \(legend($0))" }.joined(separator: "   "),
        .dim)
    }
  }

  private func remark(_ vcpu: Report.Thread) -> String {
    let headline = vcpu.section.headline
    let exits = "\(cell(vcpu.section.exitsPerSecond, rate)) exits/s"
    switch headline.kind {
    case .overhead: return "loses \(padded(loss(headline), width: 7, .right)), \(exits)"
    case .idle: return "hardly ran, \(exits)"
    case .nothing: return "observed for no time"
    }
  }

  private func glyph(_ kind: Report.Cells.Kind) -> String {
    switch kind {
    case .guest: "█"
    case .overhead: "▓"
    case .interference: "×"
    case .poll: "░"
    case .idle: "·"
    case .unknown: "?"
    }
  }

  private func legend(_ kind: Report.Cells.Kind) -> String {
    switch kind {
    case .guest: "guest"
    case .overhead: "overhead"
    case .interference: "interference"
    case .poll: "polling"
    case .idle: "idle"
    case .unknown: "unknown"
    }
  }

  // MARK: Exits

  private func reasons(_ section: Report.Section, title: String, on page: inout Page) {
    let unit = TimeUnit(fitting: section.wallNanoseconds)
    var table = Table([
      "EXITS BY TIME\(title)", "exits", "exits/s", "mean", "p50", "p99", "max", unit.rawValue, "of running",
    ])
    let shown = section.reasons.prefix(isVerbose ? section.reasons.count : section.shortCount)
    for reason in shown where !reason.isHalt || reason.handledNanoseconds > 0 { table.add(handled(reason, unit)) }
    if !isVerbose, let others = section.others {
      table.add([
        "\(others.count) other reasons", count(others.exits), cell(others.perSecond, rate), "–", "–", "–", "–",
        unit.cell(nanoseconds: others.handledNanoseconds), cell(others.ofRunning, percentage),
      ])
    }
    rest(section, unit, to: &table)
    table.add([
      "all", count(section.exits), cell(section.exitsPerSecond, rate), "", "", "", "",
      unit.cell(nanoseconds: section.headline.virtNanoseconds),
      section.headline.kind == .overhead ? cell(section.headline.overhead, percentage) : "–",
    ])
    for reason in section.reasons where reason.isHalt { table.add(waiting(reason, unit)) }
    page.table(table.lines())
  }

  private func handled(_ reason: Report.Reason, _ unit: TimeUnit) -> [String] {
    let durations = reason.isHalt ? nil : reason.durations
    return [
      style.name(reason.name) + (reason.isHalt ? " (handling)" : ""), count(reason.exits), cell(reason.perSecond, rate),
      cell(reason.isHalt ? reason.handledMeanNanoseconds : durations?.mean) { duration(nanoseconds: $0) },
      durations.map { duration(nanoseconds: $0.p50, digits: 2) } ?? "–",
      durations.map { duration(nanoseconds: $0.p99, digits: 2) } ?? "–",
      durations.map { duration(nanoseconds: $0.max) } ?? "–", unit.cell(nanoseconds: reason.handledNanoseconds),
      cell(reason.ofRunning, percentage),
    ]
  }

  /// A halt's whole length, below the line: idle and no overhead.
  private func waiting(_ reason: Report.Reason, _ unit: TimeUnit) -> [String] {
    [
      "\(style.name(reason.name)) (idle)", count(reason.exits), cell(reason.perSecond, rate),
      cell(reason.durations?.mean) { duration(nanoseconds: $0) },
      reason.durations.map { duration(nanoseconds: $0.p50, digits: 2) } ?? "–",
      reason.durations.map { duration(nanoseconds: $0.p99, digits: 2) } ?? "–",
      reason.durations.map { duration(nanoseconds: $0.max) } ?? "–", unit.cell(nanoseconds: reason.totalNanoseconds),
      "–",
    ]
  }

  private func rest(_ section: Report.Section, _ unit: TimeUnit, to table: inout Table) {
    guard section.rest.handledNanoseconds > 0 || section.rest.overflowExits > 0 else { return }
    let overflow = section.rest.overflowExits
    table.add([
      overflow > 0 ? "other (table was full)" : "outside exits, open", overflow > 0 ? count(overflow) : "–", "–", "–",
      "–",
      "–", "–", unit.cell(nanoseconds: section.rest.handledNanoseconds), cell(section.rest.ofRunning, percentage),
    ])
  }
}
