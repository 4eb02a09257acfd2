import Attribution
import Bpf
import CKvmtax
import Glibc
import Terminal
import TraceFile

/// Runs `kvmtax record`: checks, says what will be recorded, records, says what was.
func record(_ options: RecordOptions) throws {
  // a file size limit is an error to report, not a signal to die of
  signal(SIGXFSZ, SIG_IGN)
  // before the checks: they start threads, which inherit the mask
  let interrupts = Interrupts()
  let preflight = Preflight(proxy: options.proxy, for: .recording(options.proxy ? .tp : options.attach))
  try refuse(preflight)
  guard let layouts = preflight.layouts else { return }
  if options.attach == .btf, !preflight.canUseTyped, !options.proxy {
    throw InputError(file: "--attach btf", found: "the typed programs do not fit this kernel", remedy: "Leave it out.")
  }
  let running = GuestProcess.running()
  let chosen = try choose(running, options)
  let attach = options.proxy ? .tp : options.attach ?? (preflight.canUseTyped ? .btf : .tp)
  let groups = RingGroups.ofThisHost()
  var capacity = Capacity.ofThisHost(
    vcpus: running.reduce(0) { $0 + $1.vcpuCount }, ringGroups: options.records == KT_NO_RECORDS ? 0 : groups.count)
  if let bytes = options.ringBytes, options.records != KT_NO_RECORDS { capacity.ringBytes = bytes }
  let tier = options.tier ?? ((hostSwitchesPerSecond() ?? 0) > Tier.mostSwitches ? .lite : .full)
  let plan = ProgramPlan(attach: attach, layouts: layouts, proxy: options.proxy, tier: tier, keys: options.keys)
  // the proxy pair's costs are others: only what was measured with it says anything, and that is asked for by name
  let calibration =
    options.proxy && options.calibration == CalibrationFile.defaultPath
    ? .none : CalibrationFile.find(options.calibration, host: CalibratedHost.facts())
  if calibration == .none, options.calibration != CalibrationFile.defaultPath {
    throw InputError(
      file: options.calibration, found: "there is no such file", remedy: "Make one: kvmtax calibrate -o FILE.")
  }
  let recorder = try Recorder(
    options: options, attach: attach, plan: plan, layouts: layouts, capacity: capacity, groups: groups, guests: running,
    processes: chosen.map(\.pid), interrupts: interrupts, calibration: calibration)
  // before anything is said: a file that cannot be made is all there is to say
  let file = options.dryRun ? nil : try TraceOutput(options: options)
  standardErrorNote(announcement(options, attach, plan, watched: chosen.isEmpty ? running : chosen))
  for check in preflight.checks where check.outcome == .limited && check.name != "fast path" {
    standardErrorNote("Note: \(check.name): \(sanitizedLines(check.found, indent: 2).joined(separator: "\n"))")
  }
  if let problem = calibration.problem {
    let lines = wrapped("Note: \(problem) Measure again: sudo kvmtax calibrate", width: maximumColumns - 2)
    standardErrorNote(lines.joined(separator: "\n  "))
  }
  guard let file else {
    let cost = ProgramCost(attach: attach, plan: plan, calibration: calibration.calibration)
    standardErrorNote(dryRunText(cost, capacity, plan.programs))
    return
  }
  try run(recorder, options, file)
}

/// Records, and leaves a whole file behind whatever ends the recording.
private func run(_ recorder: Recorder, _ options: RecordOptions, _ file: TraceOutput) throws {
  var child: ChildCommand?
  do {
    try recorder.begin(file)
    if !options.command.isEmpty { child = try ChildCommand(options.command) }
    try file.putInPlace()
  } catch {
    // nothing was recorded: no file is better than an empty one
    file.discard()
    throw reportable(error)
  }
  var ending: Ending
  var failure: (any Error)?
  do {
    ending = try recorder.loop(file, child: &child)
  } catch let error as TraceWriteError {
    ending = .diskFull(error)
  } catch {
    ending = .failure
    failure = error
  }
  let stopped = recorder.stop()
  var wasInterrupted = false
  if case .interrupted = ending { wasInterrupted = true }
  child?.end(wasInterrupted: wasInterrupted, isHurried: recorder.interrupts.arrived)
  let owner = file.ownerName
  var isInPlace = true
  do {
    try recorder.writeEnd(file, ending, at: stopped, note: child.map { note($0) })
    isInPlace = file.isInPlace
    try file.close()
  } catch let error as TraceWriteError {
    ending = .diskFull(error)
  } catch {
    failure = failure ?? error
  }
  let elapsed = stopped.monotonicNanoseconds &- recorder.tally.startNanoseconds
  for line in summary(recorder, file, ending, child, elapsed: elapsed, owner: owner, isInPlace: isInPlace) {
    standardErrorNote(line)
  }
  if let failure { throw reportable(failure) }
  if case .diskFull = ending { throw ExitStatus.environment }
  guard isInPlace else { throw ExitStatus.environment }
}

/// The one kind of error that is printed.
func reportable(_ error: any Error) -> any Error {
  switch error {
  case let error as BpfError: InputError(Obstacle(bpf: error))
  case let error as TraceWriteError: InputError(file: "trace file", found: error.description)
  default: error
  }
}

private func note(_ child: ChildCommand) -> TraceNote {
  TraceNote(monotonicNanoseconds: monotonicNanoseconds(), code: "command", text: "The command \(child.outcome).")
}

/// Ends with what cannot work, a line each with its remedy, before anything is written.
func refuse(_ preflight: Preflight) throws(ExitStatus) {
  guard preflight.isBlocked else { return }
  for check in preflight.checks where check.outcome == .blocked {
    let remedy = "\(check.remedy.prefix(1).uppercased())\(check.remedy.dropFirst())."
    let lines = sanitizedLines(check.found, indent: 2) + wrapped(remedy, width: maximumColumns, indent: 2)
    standardError("\(check.name): \(lines.joined(separator: "\n"))")
  }
  standardErrorNote("  Nothing was written. `kvmtax doctor` shows what works here.")
  throw .environment
}

/// A text made harmless line by line (the verifier's lines stay lines), those after the first indented and not too long.
func sanitizedLines(_ text: String, indent: Int) -> [String] {
  let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map { sanitized($0) }
  return Array(lines.prefix(1)) + lines.dropFirst().flatMap { wrapped($0, width: maximumColumns, indent: indent) }
}

/// The processes that `--pid` or `--vm` name; empty for all.
private func choose(_ running: [GuestProcess], _ options: RecordOptions) throws(InputError) -> [GuestProcess] {
  if let pid = options.pid {
    guard let guest = running.first(where: { $0.pid == pid }) ?? GuestProcess(pid: pid) else {
      throw InputError(file: "--pid \(pid)", found: "there is no such process", remedy: runningText(running))
    }
    return [guest]
  }
  var chosen: [GuestProcess] = []
  for name in options.vms {
    let found = running.filter { $0.name == name || $0.vmid.map(String.init) == name }
    guard !found.isEmpty else {
      throw InputError(file: "--vm \(name)", found: "no running VM has this name or VMID", remedy: runningText(running))
    }
    // one VM may be named twice
    chosen += found.filter { !chosen.contains($0) }
  }
  return chosen
}

private func runningText(_ running: [GuestProcess]) -> String {
  if running.isEmpty { return "No VM is running on this host." }
  return "Running now: " + running.prefix(20).map { sanitized($0.label) }.joined(separator: ", ")
}

/// "Recording 3 VMs, 14 vCPUs: exits and states (tp_btf, counted in the kernel)".
private func announcement(
  _ options: RecordOptions, _ attach: AttachPath, _ plan: ProgramPlan, watched: [GuestProcess]
) -> String {
  let vcpus = watched.reduce(0) { $0 + $1.vcpuCount }
  var parts = ["exits", plan.tier == .full ? "states" : "states (lite: run delay)"]
  if plan.keepsKeys { parts.append("keys") }
  if options.records == KT_EXIT_RECORDS { parts.append("each exit") }
  if options.records == KT_RAW_RECORDS { parts.append("each event") }
  let what = parts.joined(separator: ", ")
  let how = "(\(attach.name), counted in the kernel)"
  if options.proxy { return "Recording the proxy pair kvm_userspace_exit, kvm_fpu \(how)" }
  guard !watched.isEmpty else {
    return "Recording \(what) \(how); no VM is running yet, those that start are recorded"
  }
  return "Recording \(counted(UInt64(watched.count), "VM")), \(counted(UInt64(vcpus), "vCPU")): \(what) \(how)"
}

private func dryRunText(_ cost: ProgramCost, _ capacity: Capacity, _ programs: [String]) -> String {
  return """
    Programs: \(programs.joined(separator: ", "))
    Memory: \(byteCount(capacity.kernelBytes)) in the kernel, for \(grouped(UInt64(capacity.slots))) vCPU threads \
    and \(grouped(UInt64(capacity.rows))) accounts
    Expected cost: about \(duration(nanoseconds: cost.stepNanoseconds * 2)) per exit, at kvm_exit and at kvm_entry \
    (\(cost.isCalibrated ? "calibrated" : "an estimate: sudo kvmtax calibrate measures it"))
    Nothing was recorded.
    """
}

/// SIGINT, SIGTERM and SIGHUP (unless it is ignored) as something to ask for, so that a recording ends in order.
struct Interrupts {
  private var signals = sigset_t()

  /// Blocks the signals in this thread and those that it will start.
  init() {
    sigemptyset(&signals)
    for signal in [SIGINT, SIGTERM] { sigaddset(&signals, signal) }
    // under nohup it is ignored, but while it is blocked it would come all the same
    if (statusMask("SigIgn:") >> UInt64(SIGHUP - 1)) & 1 == 0 { sigaddset(&signals, SIGHUP) }
    pthread_sigmask(SIG_BLOCK, &signals, nil)
  }

  /// Whether one came since the last question.
  func arrived() -> Bool {
    var set = signals
    var now = timespec()
    return sigtimedwait(&set, nil, &now) > 0
  }
}
