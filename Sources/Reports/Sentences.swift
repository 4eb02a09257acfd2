import Terminal

/// The verdict in words, the same in every format. `name` makes a VM's name fit for where it is printed.
struct Sentences {
  let name: (String) -> String

  /// What a VM is called.
  func label(_ vm: Report.Machine) -> String { label(vmid: vm.vmid, name: vm.name, pid: vm.pid) }

  /// What the VM of a VMID, name and pid is called.
  func label(vmid: Int?, name: String?, pid: UInt32) -> String {
    if let vmid { return name.map { "VM \(vmid) \(short($0))" } ?? "VM \(vmid)" }
    if let name { return "VM \(short(name))" }
    return pid == 0 ? "vCPU threads" : "VM with pid \(pid)"
  }

  /// What a vCPU is called.
  func label(_ vcpu: Report.Thread) -> String { vcpu.index.map { "vCPU \($0)" } ?? "tid \(vcpu.tid)" }

  private func short(_ text: String) -> String { truncated(name(text), width: 40) }

  /// The verdict on one VM.
  func verdict(_ vm: Report.Machine) -> String {
    if vm.pid == 0, vm.name == nil, vm.vmid == nil {
      let many = vm.section.vcpuCount != 1
      return sentence(vm.section, many ? "\(vm.section.vcpuCount) vCPU threads" : "The vCPU thread", many: many)
    }
    return sentence(vm.section, label(vm), many: false)
  }

  /// The verdict on the whole report.
  func verdict(_ report: Report) -> String {
    guard let first = report.vms.first else {
      return "Nothing to judge: the trace has no VM exit and no VM entry."
    }
    if report.vms.count == 1 { return verdict(first) }
    let text = sentence(report.totals, "\(report.vms.count) VMs together", many: true)
    guard let most = first.section.calibrated?.overhead ?? first.section.headline.overhead,
      report.totals.headline.overhead != nil
    else { return text }
    return text + " The largest part is \(label(first))'s, which loses \(percentage(most))."
  }

  private func sentence(_ section: Report.Section, _ subject: String, many: Bool) -> String {
    let headline = section.headline
    switch headline.kind {
    case .overhead:
      let share = (section.calibrated?.overhead ?? headline.overhead).map(percentage) ?? "–"
      return
        "\(subject) \(many ? "lose" : "loses") \(share) of \(many ? "their" : "its") running time to virtualization."
    case .idle:
      let ran = headline.ofWall.map(percentage) ?? "–"
      let cost = headline.virtMillisecondsPerSecond.map { "\(rate($0)) ms per second" } ?? "–"
      return "\(subject) hardly ran (\(ran) of the time); virtualization took \(cost)."
    case .nothing:
      return "Too short to judge: \(subject) \(many ? "were" : "was") observed for no time at all."
    }
  }

  /// Where most of the lost time goes, how far unknown time could move the verdict, and how it varied.
  func details(_ section: Report.Section, isVerbose: Bool = false) -> [String] {
    guard section.headline.overhead != nil else { return [] }
    var lines: [String] = []
    let top = section.reasons.prefix(2).filter { ($0.ofRunning ?? 0) >= 0.0005 }
    if let first = top.first {
      var text = "Most of it goes to \(label(first)), \(share(first)) of running time"
      if top.count == 2 { text += "; then \(label(top[1])), \(share(top[1]))" }
      lines.append(text + ".")
    }
    if let calibrated = section.calibrated, let low = calibrated.low, let high = calibrated.high {
      let gross = section.headline.overhead.map(percentage) ?? "–"
      lines.append(
        "Systematic \(percentage(low)) to \(percentage(high)) (calibration, unknown time); as recorded, without the world "
          + "switch and with the tracer's cost, \(gross).")
    } else if let low = section.headline.low, let high = section.headline.high, percentage(low) != percentage(high) {
      lines.append("Time of unknown use leaves it between \(percentage(low)) and \(percentage(high)).")
    }
    if let variation = section.headline.variation {
      let blocks = "\(counted(UInt64(variation.blocks), "block")) of 10 s"
      if let low = variation.low, let high = variation.high {
        let (first, last) = (percentage(low), percentage(high))
        lines.append(
          first == last
            ? "It hardly varied over the recording (\(blocks))."
            : "Variation over the recording leaves it between \(first) and \(last) (95 %, \(blocks)).")
      } else if isVerbose {
        lines.append("Too short for variation: \(blocks), \(Report.leastBlocks) are needed.")
      }
    }
    return lines
  }

  private func label(_ reason: Report.Reason) -> String {
    truncated(name(reason.name), width: 32) + (reason.isHalt ? " handling" : "")
  }

  private func share(_ reason: Report.Reason) -> String { reason.ofRunning.map(percentage) ?? "–" }

  /// What the verdict's number still contains.
  static let gross = "uncalibrated: gross numbers; world switch and recorder's own cost are not taken out"
}
