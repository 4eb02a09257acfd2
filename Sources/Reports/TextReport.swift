import Terminal

/// A report for a terminal or a mail: plain text of at most 100 columns, the answer first.
public struct TextReport: Renderer {
  private let style: Style
  private let isVerbose: Bool

  /// What the screen can show; `isVerbose`: every reason, every VM and every vCPU.
  public init(style: Style = Style(), isVerbose: Bool = false) {
    self.style = style
    self.isVerbose = isVerbose
  }

  /// The whole report.
  public func render(_ report: Report) -> String {
    var page = Page(style: style)
    let words = Sentences(name: style.name)
    page.items(header(report, words))
    page.gap()
    verdict(report, words, on: &page)
    page.gap()
    trust(report, on: &page)
    if report.vms.isEmpty {
      page.gap()
      page.text(
        report.trust.damage.isEmpty
          ? "Either no VM ran, or this kernel never fires kvm_exit; 'kvmtax doctor' on the host tells which."
          : "What was recorded lies in the damaged part. Copy the file again, or record again.")
      return page.result
    }
    if report.vms.count > 1 { several(report, words, on: &page) } else { sections(report.vms, words, on: &page) }
    closing(report, on: &page)
    return page.result
  }

  private func header(_ report: Report, _ words: Sentences) -> [String] {
    let capture = report.capture
    var host = [capture.host, capture.kernel.map { "kernel \($0)" }].compactMap(\.self)
    host = host.map { truncated(style.name($0), width: 40) } + capture.isas
    var items = [
      style.name(capture.file), host.joined(separator: ", "), timeSpan(nanoseconds: capture.durationNanoseconds),
    ]
    let vcpus = counted(UInt64(report.totals.vcpuCount), "vCPU")
    if report.vms.count == 1, let vm = report.vms.first {
      items.append(vm.pid == 0 && vm.name == nil ? vcpus : "\(words.label(vm)), \(vcpus)")
    } else if report.vms.count > 1 {
      items.append("\(counted(UInt64(report.vms.count), "VM")), \(vcpus)")
    }
    if let start = capture.start { items.append(start) }
    return items.filter { !$0.isEmpty }
  }

  private func verdict(_ report: Report, _ words: Sentences, on page: inout Page) {
    for failure in report.trust.failures { page.text("NOT TRUSTWORTHY: \(failure). Do not use these numbers.", .alarm) }
    page.text(words.verdict(report), .bold)
    for line in words.details(report.totals, isVerbose: isVerbose) { page.text(line) }
  }

  // MARK: Trust

  private func trust(_ report: Report, on page: inout Page) {
    let trust = report.trust
    var first = "\(counted(trust.exits, "exit")), \(count(trust.lost)) lost, \(count(trust.unmatched)) unmatched"
    if trust.openExits > 0 { first += ", \(count(trust.openExits)) open at the end" }
    first +=
      trust.residualNanoseconds == 0
      ? "; states sum to wall time"
      : "; states miss the wall time by \(duration(nanoseconds: trust.residualNanoseconds))"
    page.hanging(
      "TRUST",
      [first] + checks(trust) + calibration(report) + losses(trust, rung: report.capture.rung) + damage(trust))
    page.hanging("", trust.merged)
    page.hanging("", trust.notes.map(style.name))
  }

  /// What others counted; KVM's five counts in one line where all agree.
  private func checks(_ trust: Report.Reliability) -> [String] {
    let kvm = trust.checks.filter { $0.id.hasPrefix("kvm_") }
    var parts: [String] = []
    if !kvm.isEmpty, kvm.allSatisfy(\.holds) { parts.append("equal to KVM's own exit counts, kind by kind") }
    parts += trust.checks.filter { check in check.holds && !kvm.contains(check) && check.id != "key_exits" }.map(\.text)
    parts += trust.checks.filter { $0.holds && $0.id == "key_exits" && $0.ours != $0.theirs }.map(\.text)
    return parts.isEmpty ? [] : [parts.joined(separator: "; ")]
  }

  private func calibration(_ report: Report) -> [String] {
    guard report.trust.exits > 0 else { return [] }
    guard let date = report.trust.calibrated else {
      return [Sentences.gross] + (report.trust.calibrationProblem.map { [style.name($0)] } ?? [])
    }
    let tracer = report.totals.calibrated.map { "; tracer \(duration(nanoseconds: $0.tracerNanoseconds))" } ?? ""
    return ["calibrated \(style.name(date))\(tracer), in the table's times"]
  }

  private func losses(_ trust: Report.Reliability, rung: String) -> [String] {
    var lines: [String] = []
    if trust.lost > 0 {
      lines.append(
        "lost: \(counted(trust.lostEvents, "event")) before counting, \(count(trust.missedEvents)) while another was counted"
      )
    }
    if trust.unmatched > 0 {
      lines.append(
        "unmatched: \(counted(trust.unpairedExits, "exit")) without an entry, "
          + "\(counted(trust.unpairedEntries, "entry", plural: "entries")) without an exit; their time is unknown")
    }
    if trust.lostRecords > 0 {
      lines.append(
        "\(counted(trust.lostRecords, "event record")) did not fit"
          + (rung == "accounts"
            ? "; the numbers below were counted in the kernel and have them" : " and are missing below"))
    }
    if trust.backwards > 0 {
      lines.append("\(counted(trust.backwards, "event")) out of order, taken as happening together with the one before")
    }
    if trust.missedInterrupts > 0 {
      lines.append(
        "\(counted(trust.missedInterrupts, "host interrupt")) while an event was counted: in the state that they interrupted"
      )
    }
    if trust.gaps > 0 {
      lines.append("\(counted(trust.gaps, "gap")), \(duration(nanoseconds: trust.gapNanoseconds)): unknown, not spread")
    }
    return lines
  }

  private func damage(_ trust: Report.Reliability) -> [String] {
    var lines = trust.damage.prefix(5).map { damage in
      let length = damage.length > 0 ? " (\(byteCount(damage.length)))" : ""
      return "damaged at byte \(count(damage.offset))\(length): \(style.name(damage.found)); what was there is missing."
    }
    if trust.damage.count > 5 { lines.append("and \(trust.damage.count - 5) more damaged places") }
    if !trust.isComplete {
      lines.append("incomplete: the recording did not end in order; the numbers cover what was written until then.")
    }
    return lines
  }

  // MARK: VMs

  private func several(_ report: Report, _ words: Sentences, on page: inout Page) {
    page.gap()
    let shown = isVerbose ? report.vms.count : min(report.vms.count, 20)
    var table = Table(["VMS BY TIME LOST", "vCPUs", "exits/s", "ran", "loses", "most time in"])
    for vm in report.vms.prefix(shown) {
      let headline = vm.section.headline
      table.add([
        words.label(vm), count(UInt64(vm.section.vcpuCount)), cell(vm.section.exitsPerSecond, rate),
        cell(headline.ofWall, percentage), loss(headline),
        vm.section.reasons.first.map { truncated(style.name($0.name), width: 24) } ?? "–",
      ])
    }
    page.table(table.lines(notes: 1))
    if shown < report.vms.count { page.text("  and \(report.vms.count - shown) more; -v shows all") }
    page.gap()
    ReportTables(style: style, isVerbose: isVerbose).section(report.totals, title: ", all VMs", on: &page)
    let detailed = isVerbose ? report.vms.count : min(report.vms.count, 5)
    sections(Array(report.vms.prefix(detailed)), words, on: &page, titled: true)
    if detailed < report.vms.count {
      page.gap()
      page.text("\(report.vms.count - detailed) more VMs: name one with --vm, or -v for all of them.")
    }
  }

  private func sections(_ vms: [Report.Machine], _ words: Sentences, on page: inout Page, titled: Bool = false) {
    let tables = ReportTables(style: style, isVerbose: isVerbose)
    for vm in vms {
      page.gap()
      if titled {
        page.text(words.verdict(vm), .bold)
        for line in words.details(vm.section) { page.text(line) }
        page.gap()
      }
      tables.machine(vm, words, on: &page)
    }
  }

  private func closing(_ report: Report, on page: inout Page) {
    page.gap()
    page.text(
      "exits/s: all vCPUs of a VM together. mean to max: kvm_exit to kvm_entry; p50, p99 within 12.5 %.", .dim)
    let file = shellWord(style.name(report.capture.file))
    var hints: [String] = []
    if report.vms.count > 1 { hints.append("kvmtax report --vm NAME \(file)") }
    let chosen = report.filter.map { "--vm \(shellWord(style.name($0))) " } ?? ""
    if !isVerbose { hints.append("kvmtax report -v \(chosen)\(file)") }
    if let next = hints.first { page.text("Next: \(next)") }
  }
}

/// A cell for what may not exist.
func cell(_ value: Double?, _ format: (Double) -> String) -> String { value.map(format) ?? "–" }

/// What a VM or vCPU loses, in a cell.
func loss(_ headline: Report.Headline) -> String {
  switch headline.kind {
  case .overhead: cell(headline.overhead, percentage)
  case .idle: cell(headline.virtMillisecondsPerSecond) { "\(rate($0)) ms/s" }
  case .nothing: "–"
  }
}
