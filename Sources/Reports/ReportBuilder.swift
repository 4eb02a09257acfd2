import Attribution
import Diagnosis
import Glibc

/// Computes a report from evidence: the only place here that knows Attribution, and the only one that calculates.
public struct ReportBuilder {
  private let evidence: Evidence
  private let filter: String?
  private let ledger: Ledger

  /// Takes the evidence, or the part of it that belongs to one VM, given by name, VMID or pid.
  public init(_ evidence: Evidence, vm filter: String? = nil) throws(InputError) {
    self.evidence = evidence
    self.filter = filter
    guard let filter else {
      ledger = evidence.ledger
      return
    }
    var part = Ledger()
    part.vms = evidence.ledger.vms(named: filter)
    guard !part.vms.isEmpty else {
      throw InputError(
        file: evidence.capture.file, found: "has no VM '\(filter)'",
        expected: evidence.ledger.listing,
        remedy: "Choose one by name, VMID or pid, or leave --vm out.")
    }
    ledger = part
  }

  /// The report.
  public func report() -> Report {
    // merged once per VM, and the VMs' once more: there can be thousands of vCPUs
    let accounts = ledger.vms.map { merged($0.vcpus.flatMap(\.accounts)) }
    let machines = zip(ledger.vms, accounts).map(machine).sorted { first, second in
      first.section.headline.virtNanoseconds > second.section.headline.virtNanoseconds
    }
    var totals = section(ledger.vcpus, accounts: merged(accounts.flatMap(\.self)))
    if totals.headline.kind == .overhead {
      let only = machines.count == 1 ? machines.first?.section.headline.variation : nil
      totals.headline.variation = only ?? variation(ledger.vms, accounts.flatMap(\.self))
    }
    totals.classes = classes(ledger.vms, of: totals)
    return Report(capture: source(), filter: filter, trust: reliability(), totals: totals, vms: machines)
  }

  private func machine(_ vm: VirtualMachine, accounts: [ExitAccount]) -> Report.Machine {
    var section = section(vm.vcpus, accounts: accounts)
    if section.headline.kind == .overhead { section.headline.variation = variation([vm], accounts) }
    section.classes = classes([vm], of: section)
    return Report.Machine(
      pid: vm.pid, vmid: vm.vmid, name: vm.name, section: section, vcpus: vm.vcpus.map(thread))
  }

  /// Of the same overhead that the verdict names: calibrated, where that can be.
  private func variation(_ vms: [VirtualMachine], _ accounts: [ExitAccount]) -> Report.Variation {
    var blocks = Blocks(evidence.timeline, vcpus: vms.flatMap(\.vcpus), pids: Set(vms.map(\.pid)))
    if let mode = evidence.capture.mode, let calibration = evidence.capture.calibration {
      blocks.calibrate(calibration, mode, accounts: merged(accounts))
    }
    let variation = Variation(blocks)
    return Report.Variation(blocks: variation.blockCount, low: variation.low, high: variation.high)
  }

  private func classes(_ vms: [VirtualMachine], of section: Report.Section) -> Report.ClassTree? {
    let headline = section.headline
    var sums: [Key: KeyAccount] = [:]
    for account in vms.flatMap(\.keys) { sums[account.key, default: KeyAccount(account.key)].add(account) }
    return ClassTreeBuilder(
      names: evidence.capture.reasonNames, spanNanoseconds: section.spanNanoseconds,
      runningNanoseconds: headline.kind == .overhead ? headline.runningNanoseconds : 0,
      virtNanoseconds: headline.virtNanoseconds
    ).tree(
      Array(sums.values), overflowExits: vms.reduce(0) { $0 &+ $1.overflowKeys },
      overflowNanoseconds: vms.reduce(0) { $0 &+ $1.overflowKeyNanoseconds })
  }

  private func thread(_ vcpu: VCPU) -> Report.Thread {
    Report.Thread(
      thread: vcpu.thread, tid: vcpu.tid, index: vcpu.index, name: vcpu.name, ended: vcpu.ended,
      section: section([vcpu], accounts: merged(vcpu.accounts)), bar: bar(vcpu.states))
  }

  private func source() -> Report.Source {
    let capture = evidence.capture
    var isas: [UInt8] = []
    for account in ledger.vcpus.flatMap(\.accounts) where !isas.contains(account.isa) { isas.append(account.isa) }
    return Report.Source(
      file: capture.file, format: capture.format, rung: capture.rung,
      // the kernel's word for a host without a name
      host: capture.host == "(none)" ? nil : capture.host, kernel: capture.kernel,
      clock: capture.clock, attach: capture.attach,
      isas: isas.sorted().map { $0 == 1 ? "Intel VMX" : $0 == 2 ? "AMD SVM" : "isa \($0)" },
      startRealtimeNanoseconds: capture.startRealtimeNanoseconds,
      start: capture.startRealtimeNanoseconds.flatMap(date), durationNanoseconds: capture.durationNanoseconds)
  }

  // MARK: Time

  private func section(_ vcpus: [VCPU], accounts: [ExitAccount]) -> Report.Section {
    var states = StateTimes()
    for vcpu in vcpus { states.add(vcpu.states) }
    let wall = vcpus.reduce(0) { $0 &+ length($1.firstNanoseconds, $1.lastNanoseconds) }
    let span = length(vcpus.map(\.firstNanoseconds).min() ?? 0, vcpus.map(\.lastNanoseconds).max() ?? 0)
    let headline = headline(states, wall: wall, span: span)
    // shares of next to no running time would look alarming and mean nothing
    let running = headline.kind == .overhead ? headline.runningNanoseconds : 0
    let reasons = accounts.map { reason($0, span: span, running: running) }.sorted(by: ranked)
    let exits = vcpus.reduce(0) { $0 &+ $1.exits }
    let named = reasons.reduce(0) { $0 &+ $1.handledNanoseconds }
    let rest = headline.virtNanoseconds > named ? headline.virtNanoseconds - named : 0
    let shortCount = reasons.count > ReportBuilder.shortest + 1 ? ReportBuilder.shortest : reasons.count
    return Report.Section(
      vcpuCount: vcpus.count, spanNanoseconds: span, wallNanoseconds: wall, headline: headline, states: times(states),
      merged: mergedStates(features(of: vcpus)),
      groups: groups(
        states, wall: wall, running: running, features: features(of: vcpus),
        hasHandledHalt: reasons.contains { $0.isHalt && $0.handledNanoseconds > 0 }),
      exits: exits, exitsPerSecond: perSecond(exits, span), reasons: reasons,
      shortCount: shortCount,
      others: others(reasons.dropFirst(shortCount), span: span, running: running),
      rest: Report.Rest(
        overflowExits: vcpus.reduce(0) { $0 &+ $1.overflowExits },
        overflowNanoseconds: vcpus.reduce(0) { $0 &+ $1.overflowNanoseconds }, handledNanoseconds: rest,
        ofRunning: share(rest, running)),
      calibrated: calibrated(states, accounts: accounts, isBusy: headline.kind == .overhead))
  }

  /// A short table's number of reasons.
  private static let shortest = 12

  private func others(_ reasons: ArraySlice<Report.Reason>, span: UInt64, running: UInt64) -> Report.Others? {
    if reasons.isEmpty { return nil }
    let exits = reasons.reduce(0) { $0 &+ $1.exits }
    let handled = reasons.reduce(0) { $0 &+ $1.handledNanoseconds }
    return Report.Others(
      count: reasons.count, exits: exits, perSecond: perSecond(exits, span), handledNanoseconds: handled,
      ofRunning: share(handled, running))
  }

  private func headline(_ states: StateTimes, wall: UInt64, span: UInt64) -> Report.Headline {
    let virt = states.virtualization
    let guest = states[.guest]
    let running = virt &+ guest
    let ofWall = share(running, wall)
    let isBusy = (ofWall ?? 0) >= 0.01
    let unknown = states[.unknown]
    let all = running &+ unknown
    return Report.Headline(
      kind: isBusy ? .overhead : ofWall == nil ? .nothing : .idle, virtNanoseconds: virt, guestNanoseconds: guest,
      runningNanoseconds: running, overhead: isBusy ? share(virt, running) : nil,
      low: isBusy ? share(virt, all) : nil, high: isBusy ? share(virt &+ unknown, all) : nil, ofWall: ofWall,
      virtMillisecondsPerSecond: share(virt, span).map { $0 * 1000 })
  }

  /// The features that all of the vCPUs have.
  private func features(of vcpus: [VCPU]) -> StateFeatures {
    guard let first = vcpus.first else { return [] }
    return vcpus.reduce(first.features) { $0.intersection($1.features) }
  }

  private func mergedStates(_ features: StateFeatures) -> [Report.MergedState] {
    State.allCases.map { Report.MergedState(name: $0.name, others: features.merged(in: $0).map(\.name)) }
      .filter { !$0.others.isEmpty }
  }

  private func groups(
    _ states: StateTimes, wall: UInt64, running: UInt64, features: StateFeatures, hasHandledHalt: Bool
  ) -> [Report.Group] {
    func group(
      _ id: String, _ label: String, _ members: [State], isRunning: Bool = false, always: Bool = false,
      note: String? = nil
    ) -> Report.Group? {
      let time = members.reduce(0) { $0 &+ states[$1] }
      guard time > 0 || always else { return nil }
      return Report.Group(
        id: id, label: label, nanoseconds: time, ofWall: share(time, wall),
        ofRunning: isRunning ? share(time, running) : nil, note: note)
    }
    return [
      group("guest", "guest code", [.guest], isRunning: true, always: true, note: "world switch included"),
      group(
        "kernel", "exits: kernel", [.kernel], isRunning: true, always: true, note: kernelNote(states, features)),
      group(
        "qemu", "exits: QEMU", [.qemu], isRunning: true, always: true,
        note: features.merged(in: .qemu).contains(.qemuBlocked) && states[.qemu] > 0
          ? "on CPU and blocked together" : nil),
      group("blocked", "exits: blocked", [.qemuBlocked, .kernelBlocked], isRunning: true),
      group(
        "interference", "interference", [.preempted, .wakeLatency, .hostInterrupt],
        note: features.merged(in: .preempted).isEmpty ? nil : "run delay: preempted or woken"),
      group("poll", "halt: polling", [.haltPoll], note: "host cost, not overhead"),
      group(
        "idle", "halt (idle)", [.haltWait], always: true,
        note: states[.haltWait] == 0 ? nil : haltNote(features, hasHandledHalt: hasHandledHalt)),
      group("stopped", "stopped", [.stopped]),
      group("unknown", "unknown", [.unknown], always: true),
    ].compactMap(\.self)
  }

  /// "also off CPU, host interrupts": what else is in it.
  private func kernelNote(_ states: StateTimes, _ features: StateFeatures) -> String? {
    let merged = features.merged(in: .kernel)
    let words = [(State.qemu, "QEMU"), (.kernelBlocked, "off CPU"), (.hostInterrupt, "host interrupts")]
      .filter { merged.contains($0.0) }.map(\.1)
    return states[.kernel] == 0 || words.isEmpty ? nil : "also \(words.joined(separator: ", "))"
  }

  private func haltNote(_ features: StateFeatures, hasHandledHalt: Bool) -> String {
    guard features.contains(.wakeup) else { return hasHandledHalt ? "undivided" : "undivided: all of HLT" }
    return features.merged(in: .haltWait).contains(.wakeLatency) ? "waiting, wake latency too" : "waiting"
  }

  private func bar(_ states: StateTimes) -> [Report.Cells] {
    let parts: [(Report.Cells.Kind, UInt64)] = [
      (.guest, states[.guest]), (.overhead, states.virtualization),
      (.interference, states[.preempted] &+ states[.wakeLatency] &+ states[.hostInterrupt]),
      (.poll, states[.haltPoll]), (.idle, states[.haltWait] &+ states[.stopped]), (.unknown, states[.unknown]),
    ]
    let total = parts.reduce(0.0) { $0 + Double($1.1) }
    guard total > 0 else { return [] }
    // whole cells first, then the largest remainders, so that a bar is always as long as the others
    let exact = parts.map { Double($0.1) / total * Double(Report.barWidth) }
    var cells = exact.map { Int($0) }
    let order = exact.indices.sorted { exact[$0] - exact[$0].rounded(.down) > exact[$1] - exact[$1].rounded(.down) }
    for index in order.prefix(max(0, Report.barWidth - cells.reduce(0, +))) { cells[index] += 1 }
    return zip(parts, cells).filter { $1 > 0 }.map { Report.Cells(kind: $0.0, count: $1) }
  }

  // MARK: Exits

  /// One account per reason.
  private func merged(_ accounts: [ExitAccount]) -> [ExitAccount] {
    struct Key: Hashable {
      var isa: UInt8
      var reason: UInt32
    }
    var places: [Key: Int] = [:]
    var merged: [ExitAccount] = []
    for account in accounts {
      let key = Key(isa: account.isa, reason: account.reason)
      if let place = places[key] {
        merged[place].add(account)
      } else {
        places[key] = merged.count
        merged.append(account)
      }
    }
    return merged
  }

  private func reason(_ account: ExitAccount, span: UInt64, running: UInt64) -> Report.Reason {
    let handled = account.states.virtualization
    let finished = account.finished
    func quantile(_ fraction: Double) -> UInt64 {
      account.histogram.percentile(fraction, least: account.minNanoseconds, greatest: account.maxNanoseconds) ?? 0
    }
    let durations =
      finished == 0
      ? nil
      : Report.Durations(
        min: account.minNanoseconds, mean: Double(account.totalNanoseconds) / Double(finished), p50: quantile(0.5),
        p90: quantile(0.9), p99: quantile(0.99), max: account.maxNanoseconds)
    return Report.Reason(
      isa: account.isa, number: account.reason,
      name: evidence.capture.reasonNames.name(isa: account.isa, reason: account.reason), isHalt: account.isHalt,
      exits: account.exits, finished: finished, unpaired: account.unpaired, open: account.open,
      perSecond: perSecond(account.exits, span), totalNanoseconds: account.totalNanoseconds,
      handledNanoseconds: handled, durations: durations, handledMeanNanoseconds: share(handled, finished),
      ofRunning: share(handled, running), states: times(account.states).filter { $0.nanoseconds > 0 })
  }

  /// Most handling time first (none is seen of an undivided halt, whose waiting is listed apart), then by count.
  private func ranked(_ first: Report.Reason, _ second: Report.Reason) -> Bool {
    if first.handledNanoseconds != second.handledNanoseconds {
      return first.handledNanoseconds > second.handledNanoseconds
    }
    if first.exits != second.exits { return first.exits > second.exits }
    return (first.isa, first.number) < (second.isa, second.number)
  }

  // MARK: Trust

  private func reliability() -> Report.Reliability {
    let vcpus = ledger.vcpus
    let trust = evidence.trust
    let residual = vcpus.reduce(0 as UInt64) { sum, vcpu in
      let wall = length(vcpu.firstNanoseconds, vcpu.lastNanoseconds)
      let states = vcpu.states.total
      return sum &+ (states > wall ? states - wall : wall - states)
    }
    let wall = vcpus.reduce(0) { $0 &+ length($1.firstNanoseconds, $1.lastNanoseconds) }
    let fraction = share(residual, wall) ?? (residual > 0 ? 1 : 0)
    let accounts = vcpus.flatMap(\.accounts)
    let missed = vcpus.reduce(0) { $0 &+ $1.missed }
    let checks = CrossChecks(vms: ledger.vms).all()
    let unpairedExits = accounts.reduce(0) { $0 &+ $1.unpaired }
    let unpairedEntries = vcpus.reduce(0) { $0 &+ $1.unpairedEntries }
    return Report.Reliability(
      exits: vcpus.reduce(0) { $0 &+ $1.exits }, entries: vcpus.reduce(0) { $0 &+ $1.entries },
      lost: trust.lostEvents &+ missed, unmatched: unpairedExits &+ unpairedEntries, lostEvents: trust.lostEvents,
      lostRecords: trust.lostRecords, missedEvents: missed, unpairedExits: unpairedExits,
      unpairedEntries: unpairedEntries, openExits: accounts.reduce(0) { $0 &+ $1.open },
      backwards: vcpus.reduce(0) { $0 &+ $1.backwards }, residualNanoseconds: residual, residual: fraction,
      gaps: trust.gaps, gapNanoseconds: trust.gapNanoseconds, isComplete: trust.isComplete,
      damage: trust.damage.map { Report.Damaged(offset: $0.offset, length: $0.length, found: $0.found) },
      checks: checks, missedInterrupts: vcpus.reduce(0) { $0 &+ $1.missedInterrupts },
      calibrated: hasCalibration ? evidence.capture.calibration?.date : nil,
      calibrationProblem: calibrationProblem,
      failures: failures(residual: fraction) + checks.filter { !$0.holds }.map(\.text), merged: mergedStates(),
      notes: notes())
  }

  private func failures(residual: Double) -> [String] {
    var failures: [String] = []
    if residual > 0.0001 { failures.append("the states do not sum to the wall time") }
    for account in ledger.vcpus.flatMap(\.accounts) where account.states.total != account.totalNanoseconds {
      failures.append("an exit reason's states do not sum to its total")
      break
    }
    for vcpu in ledger.vcpus
    where vcpu.accounts.reduce(0, { $0 &+ $1.states.virtualization }) > vcpu.states.virtualization {
      failures.append("a vCPU's exits take more time than the vCPU has")
      break
    }
    return failures
  }

  private func mergedStates() -> [String] {
    let vcpus = ledger.vcpus.filter { $0.exits > 0 }
    guard !vcpus.isEmpty else { return [] }
    let features = features(of: vcpus)
    var merged: [String] = []
    if !features.contains(.userspaceExit) {
      merged.append("No kvm_userspace_exit: time in QEMU is in 'exits: kernel'.")
    }
    if features.contains(.switches) {
      if !features.contains(.wakings) {
        merged.append("No sched_waking: wake latency is in what was waited for.")
      }
    } else if features.contains(.runDelay) {
      merged.append("Run delay and no scheduler events: preemption and wake latency are one, \(blocked(features)).")
    } else {
      merged.append(
        "No scheduler events: \(blocked(features)), and what the host ran in between counts as what the vCPU was "
          + "doing then.")
    }
    if !features.contains(.interrupts) {
      merged.append("No interrupt events: the host's own interrupts count as what they interrupted.")
    }
    if let sentence = undividedHalts(vcpus) { merged.append(sentence) }
    return merged
  }

  private func blocked(_ features: StateFeatures) -> String {
    "time in \(features.contains(.userspaceExit) ? "QEMU" : "the kernel") is on CPU and blocked together"
  }

  private func undividedHalts(_ vcpus: [VCPU]) -> String? {
    let undivided = vcpus.filter { !$0.features.contains(.wakeup) && $0.accounts.contains(where: \.isHalt) }
    guard !undivided.isEmpty else { return nil }
    // a recording can have HLT's time in user space apart, and the table then shows it as handling
    let isHandled = undivided.contains { vcpu in
      vcpu.accounts.contains { $0.isHalt && $0.states.virtualization > 0 }
    }
    return "HLT undivided (no kvm_vcpu_wakeup): its handling, polling and waiting are all counted as idle, "
      + (isHandled ? "but for what 'handling' shows in the table." : "none as overhead.")
  }

  private func notes() -> [String] {
    var notes = evidence.trust.notes
    for vcpu in ledger.vcpus {
      let named = vcpu.accounts.reduce(0) { $0 &+ $1.exits } &+ vcpu.overflowExits
      guard named != vcpu.exits else { continue }
      notes.append("The reasons' exits do not add up to all kvm_exit events of each vCPU.")
      break
    }
    if ledger.vms.contains(where: { $0.pid == 0 }) {
      let format = evidence.capture.format.prefix { $0 != " " }
      notes.append("\(format) does not say which VM a thread belongs to: all such vCPU threads are one group.")
    }
    return notes
  }

  // MARK: Calibration

  private var hasCalibration: Bool {
    guard let mode = evidence.capture.mode, let calibration = evidence.capture.calibration else { return false }
    return calibration.tracer(.kernel, mode) != nil
  }

  private var calibrationProblem: String? {
    if let problem = evidence.capture.calibrationProblem { return problem }
    guard evidence.capture.calibration != nil, !hasCalibration else { return nil }
    let mode = evidence.capture.mode.map { "recordings by \($0.name)" } ?? "recordings of this kind"
    return "the host's calibration does not cover \(mode)"
  }

  private func calibrated(_ states: StateTimes, accounts: [ExitAccount], isBusy: Bool) -> Report.Calibrated? {
    guard let mode = evidence.capture.mode, let calibration = evidence.capture.calibration else { return nil }
    let exits = Calibration.exits(of: accounts)
    guard let low = calibration.adjusted(states, exits: exits, mode: mode, at: .low),
      let mid = calibration.adjusted(states, exits: exits, mode: mode),
      let high = calibration.adjusted(states, exits: exits, mode: mode, at: .high)
    else { return nil }
    func virt(_ adjusted: Calibration.Adjusted) -> UInt64 {
      adjusted.states.virtualization &+ adjusted.worldSwitchNanoseconds
    }
    func running(_ adjusted: Calibration.Adjusted) -> UInt64 { virt(adjusted) &+ adjusted.states[.guest] }
    let unknown = states[.unknown]
    return Report.Calibrated(
      worldSwitchNanoseconds: mid.worldSwitchNanoseconds, worldSwitchLowNanoseconds: low.worldSwitchNanoseconds,
      worldSwitchHighNanoseconds: high.worldSwitchNanoseconds,
      worldSwitchOfRunning: isBusy ? share(mid.worldSwitchNanoseconds, running(mid)) : nil,
      tracerNanoseconds: mid.tracerNanoseconds, overhead: isBusy ? share(virt(mid), running(mid)) : nil,
      low: isBusy ? share(virt(low), running(low) &+ unknown) : nil,
      high: isBusy ? share(virt(high) &+ unknown, running(high) &+ unknown) : nil)
  }

  // MARK: Arithmetic

  private func times(_ states: StateTimes) -> [Report.StateTime] {
    State.allCases.map { Report.StateTime(name: $0.name, nanoseconds: states[$0]) }
  }

  private func length(_ first: UInt64, _ last: UInt64) -> UInt64 { last > first ? last - first : 0 }

  private func date(_ nanoseconds: UInt64) -> String? {
    var seconds = time_t(nanoseconds / 1_000_000_000)
    var parts = tm()
    guard gmtime_r(&seconds, &parts) != nil else { return nil }
    func two(_ number: Int32) -> String { (number < 10 ? "0" : "") + String(number) }
    let day = "\(parts.tm_year + 1900)-\(two(parts.tm_mon + 1))-\(two(parts.tm_mday))"
    return "\(day) \(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec)) UTC"
  }
}

/// A part of a whole; nil where there is nothing to divide by.
func share(_ part: UInt64, _ whole: UInt64) -> Double? { whole == 0 ? nil : Double(part) / Double(whole) }

/// A count over so many ns; nil where there are none.
func perSecond(_ count: UInt64, _ nanoseconds: UInt64) -> Double? {
  nanoseconds == 0 ? nil : Double(count) / Double(nanoseconds) * 1e9
}
