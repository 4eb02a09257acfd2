import ArgumentParser
import Attribution
import CKvmtax
import Glibc
import Host
import Terminal
import TinyGuest

/// `kvmtax calibrate`.
struct CalibrateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "calibrate",
    abstract: "Measures the world switch and the tracer's own cost on this host, for recordings to take out.",
    discussion: """
      A tiny guest of its own clocks exits that go through KVM's fast path, the kernel, user space
      and a sleeping thread, in turn with and without the tracer's programs. What comes of it holds
      for this CPU, kernel, microcode and these mitigations; recordings on any other take nothing
      out and say so. Best done while the host has little to do: VMs that run pay for the programs
      meanwhile.

      EXAMPLES
        sudo kvmtax calibrate                 a minute or so; recordings use it from then on
        sudo kvmtax calibrate -o FILE         into another file: kvmtax record --calibration FILE
      """)

  @Option(
    name: [.customShort("o"), .customLong("output")], help: "Where it goes. (default: \(CalibrationFile.defaultPath))")
  var output: String?

  @Option(help: "Rounds in which every way of recording takes its turn, 3 to 1000.") var rounds = 15

  /// Delays each exit and entry by so many turns of a loop, and tells how long they seem.
  @Option(name: .customLong("inject-delay"), help: .hidden) var delaySteps: UInt32 = 0

  @Flag(help: .hidden) var proxy = false

  func validate() throws {
    guard (3...1000).contains(rounds) else { throw ValidationError("--rounds \(rounds): not 3 to 1000") }
    guard delaySteps <= UInt32(KT_DELAY_STEPS) else {
      throw ValidationError("--inject-delay \(delaySteps): at most \(KT_DELAY_STEPS)")
    }
    if proxy, output == nil { throw ValidationError("--proxy: what comes of it means nothing; name a file with -o") }
  }

  func run() throws {
    let preflight = Preflight(proxy: proxy, for: .doctor)
    try refuse(preflight)
    guard let layouts = preflight.layouts else { return }
    let (kinds, absent) = proxy ? (CalibratedKinds.proxy, [:]) : CalibratedKinds.ofThisHost()
    let isTyped = preflight.canUseTyped && !proxy
    let best: AttachPath = isTyped ? .btf : .tp
    var ways = [Calibrator.Way(attach: best, tier: .full, keys: true)]
    if !proxy { ways.append(Calibrator.Way(attach: best, tier: .lite, keys: true)) }
    if isTyped { ways.append(Calibrator.Way(attach: .tp, tier: .full, keys: true)) }
    let calibrator: Calibrator
    do {
      calibrator = try Calibrator(
        kinds: kinds, ways: ways, layouts: layouts, proxy: proxy, rounds: rounds, delaySteps: delaySteps)
      try calibrator.run()
    } catch let error as TinyGuestError {
      throw InputError(file: "calibrate", found: error.description)
    } catch {
      throw reportable(error)
    }
    var calibration = Calibration(date: utcDate(), host: CalibratedHost.facts())
    calibration.absent = absent
    for kind in kinds {
      let handling = kind.path == .switched ? calibration.measurements.first { $0.path == .userspace } : nil
      if let one = calibrator.samples.measurement(
        kind: kind.deed.name, path: kind.path, modes: calibrator.modes, handling: handling)
      {
        calibration.measurements.append(one)
      } else if !kinds.contains(where: { $0.path == kind.path && $0.deed != kind.deed }) {
        calibration.absent[kind.path] = "No exit of \(kind.deed.name) was seen with its entry."
      }
    }
    // a sleep varies by more than the delay
    let recovered = kinds.filter { $0.path != .switched }.compactMap { kind in
      calibrator.samples.recovered(kind: kind.deed.name, steps: delaySteps).map { (kind.deed.name, $0) }
    }
    try standardOutput(
      CalibrationTable.text(
        calibration, cpu: calibrator.cpu, rounds: rounds, recovered: delaySteps > 0 ? recovered : []))
    guard !calibration.measurements.isEmpty else {
      throw InputError(file: "calibrate", found: "nothing could be measured", remedy: "See `kvmtax doctor`.")
    }
    let path = output ?? CalibrationFile.defaultPath
    try CalibrationFile.write(calibration, to: path)
    standardErrorNote(
      output == nil
        ? "Wrote \(path). Recordings take it along as long as nothing of this host changes."
        : "Wrote \(sanitized(path)). To use it: kvmtax record --calibration \(shellWord(sanitized(path)))")
  }
}

/// "2026-11-03 09:22:00 UTC".
private func utcDate() -> String {
  var seconds = time(nil)
  var parts = tm()
  gmtime_r(&seconds, &parts)
  func two(_ number: Int32) -> String { (number < 10 ? "0" : "") + String(number) }
  return "\(parts.tm_year + 1900)-\(two(parts.tm_mon + 1))-\(two(parts.tm_mday))"
    + " \(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec)) UTC"
}

/// Which exits stand for which path, by what the host's CPU calls them.
enum CalibratedKinds {
  /// kvm_exit's reasons of what is clocked.
  private struct Reasons {
    var cpuid, readMSR, writeMSR, port: UInt32
    static let vmx = Reasons(cpuid: 10, readMSR: 31, writeMSR: 32, port: 30)
    static let svm = Reasons(cpuid: 0x72, readMSR: 0x7c, writeMSR: 0x7c, port: 0x7b)
  }

  static func ofThisHost() -> ([Calibrator.Kind], absent: [Calibration.Path: String]) {
    let isIntel = access("/sys/module/kvm_intel", F_OK) == 0
    let hasPreemptionTimer = readProcText("/sys/module/kvm_intel/parameters/preemption_timer", limit: 16) == "Y"
    return choose(isIntel: isIntel, hasPreemptionTimer: hasPreemptionTimer)
  }

  /// KVM takes a deadline on its fast path if a timer of the CPU's can keep it: VMX's preemption timer.
  static func choose(isIntel: Bool, hasPreemptionTimer: Bool) -> ([Calibrator.Kind], absent: [Calibration.Path: String])
  {
    let reasons = isIntel ? Reasons.vmx : .svm
    var kinds = [
      Calibrator.Kind(path: .kernel, deed: .cpuid, perLap: 64, laps: 8, reason: reasons.cpuid),
      Calibrator.Kind(path: .kernel, deed: .rdmsr, perLap: 64, laps: 8, reason: reasons.readMSR),
      Calibrator.Kind(path: .userspace, deed: .portOut, perLap: 64, laps: 8, reason: reasons.port),
      Calibrator.Kind(path: .switched, deed: .portInSleep, perLap: 16, laps: 6, reason: reasons.port),
    ]
    guard isIntel, hasPreemptionTimer else {
      return (kinds, [.fast: "KVM arms a deadline on its fast path only with VMX's preemption timer."])
    }
    // the timer's mode is set before, its end after
    kinds.insert(
      Calibrator.Kind(path: .fast, deed: .arm, perLap: 64, laps: 8, reason: reasons.writeMSR, extra: 1), at: 0)
    return (kinds, [:])
  }

  /// What the proxy pair sees: KVM_EXIT_IO.
  static let proxy = [
    Calibrator.Kind(path: .userspace, deed: .portOut, perLap: 64, laps: 8, reason: 2),
    Calibrator.Kind(path: .switched, deed: .portInSleep, perLap: 16, laps: 6, reason: 2),
  ]
}
