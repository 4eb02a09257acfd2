import Attribution
import Diagnosis
import Terminal

/// Computes a comparison from the evidence of two recordings.
public struct DiffBuilder {
  private let before: Evidence
  private let after: Evidence
  private let filter: String?
  private let least: Double
  private let pairing: Pairing

  /// Matches the VMs; `least` is the least effect that matters, a fraction of running time.
  public init(_ before: Evidence, _ after: Evidence, vm filter: String? = nil, least: Double = 0.01)
    throws(InputError)
  {
    self.before = before
    self.after = after
    self.filter = filter
    self.least = least
    pairing = try Pairing(before, after, vm: filter)
  }

  /// The comparison.
  public func report() throws(InputError) -> DiffReport {
    let reports = [try ReportBuilder(before, vm: filter).report(), try ReportBuilder(after, vm: filter).report()]
    let compared = Comparison.compare(
      pairing.pairs.map { pair in
        (blocks(pair.before, before), blocks(pair.after, after), !isas(pair.before).isDisjoint(with: isas(pair.after)))
      }, least: least)
    var machines = zip(pairing.pairs, compared).map(machine)
    machines.sort { weight($0) > weight($1) }
    return DiffReport(
      before: reports[0].capture, after: reports[1].capture, filter: filter, least: least,
      failures: zip(["before", "after"], reports).flatMap { name, report in
        report.trust.failures.map { "\(name): \($0)" }
      }, warnings: gross + zip(["before", "after"], reports).flatMap { warnings($0, $1.trust) },
      onlyBefore: pairing.onlyBefore.map(name), onlyAfter: pairing.onlyAfter.map(name), vms: machines)
  }

  private func blocks(_ vms: [VirtualMachine], _ evidence: Evidence) -> Blocks {
    // a pid that came twice is more than one VM: which of them an exit belongs to is not known
    let pids = vms.map(\.pid).filter { pid in evidence.ledger.vms.count { $0.pid == pid } == 1 }
    var blocks = Blocks(evidence.timeline, vcpus: vms.flatMap(\.vcpus), pids: Set(pids))
    // gross with gross, or net with net
    if isCalibrated(before), isCalibrated(after), let mode = evidence.capture.mode {
      var accounts: [Blocks.ReasonKey: ExitAccount] = [:]
      for account in vms.flatMap(\.vcpus).flatMap(\.accounts) {
        let key = Blocks.ReasonKey(isa: account.isa, reason: account.reason)
        accounts[key, default: ExitAccount(isa: account.isa, reason: account.reason)].add(account)
      }
      evidence.capture.calibration.map { _ = blocks.calibrate($0, mode, accounts: Array(accounts.values)) }
    }
    return blocks
  }

  private func isCalibrated(_ evidence: Evidence) -> Bool {
    guard let mode = evidence.capture.mode, let calibration = evidence.capture.calibration else { return false }
    return Calibration.Path.allCases.allSatisfy { calibration.tracer($0, mode) != nil }
  }

  private func isas(_ vms: [VirtualMachine]) -> Set<UInt8> { Set(vms.flatMap(\.vcpus).flatMap(\.accounts).map(\.isa)) }

  private func weight(_ machine: DiffReport.Machine) -> Double { machine.rows(.different).first?.weight ?? 0 }

  private func name(_ vm: VirtualMachine) -> String {
    let parts = [vm.vmid.map(String.init), vm.name].compactMap(\.self)
    return parts.isEmpty ? "pid \(vm.pid)" : parts.joined(separator: " ")
  }

  private func machine(_ pair: Pairing.Pair, _ comparison: Comparison) -> DiffReport.Machine {
    let (first, second) = (pair.before[0], pair.after[0])
    let isDifferent = !comparison.rows(.different).isEmpty
    let overhead = comparison.rows.first { $0.quantity == .overhead }
    return DiffReport.Machine(
      vmid: second.vmid ?? first.vmid, name: second.name ?? first.name, pid: second.pid,
      vcpuCounts: [pair.before, pair.after].map { $0.reduce(0) { $0 + $1.vcpus.count } },
      outcome: isDifferent ? .different : comparison.limit == .short ? .short : .unchanged,
      hasRun: min(comparison.ranBefore, comparison.ranAfter) >= Comparison.leastRunning,
      blockNanoseconds: UInt64(comparison.blockNanoseconds),
      blocks: [comparison.blocksBefore, comparison.blocksAfter],
      load: [comparison.loadBefore, comparison.loadAfter],
      notRuledOut: overhead.flatMap { row in
        row.low.flatMap { low in row.high.map { max(abs(low), abs($0)) } }
      }, warnings: warnings(pair, comparison),
      rows: comparison.rows.map(row))
  }

  private func row(_ row: Comparison.Row) -> DiffReport.Row {
    var result = DiffReport.Row(
      kind: .overhead, label: "overhead", before: row.before, after: row.after, effect: row.effect, low: row.low,
      high: row.high, chance: row.chance, adjustedChance: row.adjustedChance, weight: row.weight,
      outcome: outcome(row.outcome))
    func reason(_ kind: DiffReport.Row.Kind, _ key: Blocks.ReasonKey) {
      result.kind = kind
      (result.isa, result.reason) = (key.isa, key.reason)
      result.label = names.name(isa: key.isa, reason: key.reason)
    }
    switch row.quantity {
    case .overhead: break
    case .ofRunning(let state): (result.kind, result.state, result.label) = (.ofRunning, state.name, label(state))
    case .ofWall(let state): (result.kind, result.state, result.label) = (.ofWall, state.name, label(state))
    case .handling(let key): reason(.handling, key)
    case .exits(let key): reason(.exits, key)
    }
    return result
  }

  private var names: ReasonNames { after.capture.reasonNames }

  private func outcome(_ outcome: Comparison.Outcome) -> DiffReport.Row.Outcome {
    switch outcome {
    case .different: .different
    case .small: .small
    case .unchanged: .unchanged
    case .negligible: .negligible
    case .untested: .untested
    }
  }

  private func label(_ state: State) -> String {
    switch state {
    case .unknown: "unknown"
    case .guest: "guest code"
    case .kernel: "exits: kernel"
    case .hostInterrupt: "host interrupts"
    case .qemu: "exits: QEMU"
    case .qemuBlocked: "exits: QEMU blocked"
    case .kernelBlocked: "exits: kernel blocked"
    case .haltPoll: "halt: polling"
    case .haltWait: "halt (idle)"
    case .wakeLatency: "wake latency"
    case .preempted: "preempted"
    case .stopped: "stopped"
    }
  }

  // MARK: Warnings

  /// What makes a recording's own numbers doubtful.
  private func warnings(_ name: String, _ trust: Report.Reliability) -> [String] {
    var warnings: [String] = []
    if trust.lost > 0 { warnings.append("\(name): \(grouped(trust.lost)) events lost; its rates are too low") }
    if trust.gaps > 0 { warnings.append("\(name): \(grouped(trust.gaps)) gaps, whose time is unknown") }
    if !trust.damage.isEmpty { warnings.append("\(name): damaged; what was there is missing") }
    if !trust.isComplete { warnings.append("\(name): the recording did not end in order") }
    return warnings
  }

  /// What the overhead contains.
  private var gross: [String] {
    let isFirst = isCalibrated(before)
    if isFirst == isCalibrated(after) { return [] }
    let side = isFirst ? "before" : "after"
    return ["only \(side) is calibrated: the world switch and the tracer's cost are taken out of neither"]
  }

  /// Differences of the load, and of what was recorded, that show as differences of the VM.
  private func warnings(_ pair: Pairing.Pair, _ comparison: Comparison) -> [String] {
    var warnings: [String] = []
    if comparison.loadDiffers {
      let (first, second) = (
        fixed(comparison.loadBefore, decimals: 2), fixed(comparison.loadAfter, decimals: 2)
      )
      warnings.append("the load differed: \(first) → \(second) s of guest time per second")
    }
    let sides = [pair.before, pair.after].map { $0.flatMap(\.vcpus) }
    if sides[0].count != sides[1].count { warnings.append("the number of vCPUs differs") }
    let (first, second) = (isas(pair.before), isas(pair.after))
    if !first.isEmpty, !second.isEmpty, first.isDisjoint(with: second) {
      warnings.append("the hosts' processors are of different vendors: exits by reason are not compared")
    }
    func isInOne(_ condition: ([VCPU]) -> Bool) -> Bool { condition(sides[0]) != condition(sides[1]) }
    func has(_ state: State) -> ([VCPU]) -> Bool { { $0.contains { $0.states[state] > 0 } } }
    if isInOne({ $0.contains { $0.features.contains(.wakeup) } }) {
      warnings.append("HLT is divided into handling and waiting in one recording only")
    }
    if isInOne(has(.qemu)) { warnings.append("time in QEMU was told from the kernel's in one recording only") }
    if isInOne({ has(.preempted)($0) || has(.wakeLatency)($0) }) {
      warnings.append("scheduler events were recorded in one recording only, or there were none to see in the other")
    }
    return warnings
  }
}
