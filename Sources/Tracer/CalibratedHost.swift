import Attribution
import Glibc
import Host
import Terminal

/// What a calibration holds for: whatever changes what an exit or a program costs.
enum CalibratedHost {
  /// Parameters of KVM's modules that choose another path for an exit, or make the world switch dearer.
  private static let parameters: [(module: String, names: [String])] = [
    ("kvm", ["enable_pmu", "enable_vmware_backdoor", "mitigate_smt_rsb"]),
    (
      "kvm_intel",
      ["emulate_invalid_guest_state", "enable_apicv", "ept", "pml", "preemption_timer", "vmentry_l1d_flush", "vpid"]
    ),
    ("kvm_amd", ["avic", "npt", "nrips", "vgif", "vls", "vnmi"]),
  ]

  /// The facts of this host, by name.
  static func facts() -> [String: String] {
    let cpu = CpuInfo(text: readProcText("/proc/cpuinfo") ?? "")
    var facts = [
      "kernel": kernelRelease(), "tracer": kvmtaxVersion,
      // a release can be built again with other options
      "kernel_build": readProcText("/proc/sys/kernel/version", limit: 256) ?? "unknown",
    ]
    facts["cpu_model"] = cpu.model
    facts["cpu_signature"] = cpu.signature
    facts["microcode"] = cpu.microcode
    for name in ["bpf_jit_enable", "bpf_jit_harden"] {
      facts[name] = readProcText("/proc/sys/net/core/\(name)", limit: 64)
    }
    let folder = "/sys/devices/system/cpu/vulnerabilities"
    for name in directoryEntries(folder) { facts["mitigation_\(name)"] = readProcText("\(folder)/\(name)", limit: 256) }
    for (module, names) in parameters {
      for name in names {
        facts["\(module)_\(name)"] = readProcText("/sys/module/\(module)/parameters/\(name)", limit: 64)
      }
    }
    return facts.mapValues(sanitized)
  }
}

/// The host's calibration, where `record` looks for it.
enum CalibrationFile {
  /// Beside nothing that another program keeps; kept over reboots, which a calibration survives if nothing changed.
  static let defaultPath = "/var/lib/kvmtax/calibration"

  /// What `record` finds.
  enum Found: Equatable {
    case none
    case fits(Calibration)
    /// It was made on another host, or on this one before it changed; a sentence.
    case stale(String)
    /// It cannot be read; a sentence.
    case unusable(String)

    var calibration: Calibration? { if case .fits(let calibration) = self { calibration } else { nil } }

    /// Why the numbers will be gross, although there is a file.
    var problem: String? {
      switch self {
      case .none, .fits: nil
      case .stale(let sentence), .unusable(let sentence): sentence
      }
    }
  }

  /// Looks for it and compares it with this host.
  static func find(_ path: String, host: @autoclosure () -> [String: String]) -> Found {
    guard access(path, F_OK) == 0 else { return .none }
    let name = sanitized(path)
    guard let text = readProcText(path, limit: Calibration.mostBytes), let calibration = Calibration(parsing: text)
    else {
      return .unusable("\(name) is no calibration that this version can read: the numbers are gross.")
    }
    let differences = calibration.differences(from: host())
    guard differences.isEmpty else {
      let more = differences.count > 2 ? "; and \(differences.count - 2) more" : ""
      return .stale(
        "the calibration of \(sanitized(calibration.date)) does not hold: "
          + "\(sanitized(differences.prefix(2).joined(separator: "; ")))\(more). The numbers are gross.")
    }
    return .fits(calibration)
  }

  /// Writes it, in place of an older one; its folder is made if it is the default one's.
  static func write(_ calibration: Calibration, to path: String) throws {
    if path == defaultPath { mkdir("/var/lib/kvmtax", 0o755) }
    let file = try OutputFile(path, force: true)
    guard writeAll(calibration.text, to: file.descriptor) == 0 else {
      file.discard()
      throw InputError(
        file: path, found: "cannot be written", remedy: "Free some space, or write elsewhere with -o.")
    }
    // no secret: the times of this host's exits; other tools may read it
    fchmod(file.descriptor, 0o644)
    // what a recording believes is not the user's behind sudo to change
    if path == defaultPath { _ = fchown(file.descriptor, 0, 0) }
    try file.putInPlace()
    file.finish()
  }
}
