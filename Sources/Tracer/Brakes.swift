import Attribution
import Glibc

/// What makes a recording stop, or do less, before it does harm.
struct Brakes {
  /// Largest trace file, bytes.
  var maxSizeBytes: UInt64
  /// Greatest share of the vCPUs' running time that the programs may take; 0: no limit.
  var maxOverhead: Double
  /// Seconds in a row above the limit before anything happens: one burst is no reason.
  static let patience = 3

  private var secondsAbove = 0

  init(maxSizeBytes: UInt64, maxOverhead: Double) {
    self.maxSizeBytes = maxSizeBytes
    self.maxOverhead = maxOverhead
  }

  /// One second's judgement: whether something has to be given up now.
  /// - Parameters:
  ///   - programNanoseconds: estimated time in BPF programs.
  ///   - runningNanoseconds: the vCPUs' running time (guest, kernel and QEMU).
  mutating func isExceeded(programNanoseconds: UInt64, runningNanoseconds: UInt64) -> Bool {
    guard maxOverhead > 0, runningNanoseconds > 0 else { return false }
    guard Double(programNanoseconds) > maxOverhead * Double(runningNanoseconds) else {
      secondsAbove = 0
      return false
    }
    secondsAbove += 1
    guard secondsAbove >= Brakes.patience else { return false }
    secondsAbove = 0
    return true
  }

  /// Free space below which a recording stops: 5 % of the file system, but at most 1 GiB, so that a large disk need not
  /// keep hundreds of GiB free and a small one can be recorded on at all.
  static func leastFreeBytes(total: UInt64) -> UInt64 { min(total / 20, 1 << 30) }

  /// Whether the file system of an open file is too full to go on; nil when that cannot be found out.
  static func diskIsLow(_ descriptor: Int32) -> Bool? {
    var status = statvfs()
    guard fstatvfs(descriptor, &status) == 0 else { return nil }
    let total = UInt64(status.f_blocks) &* UInt64(status.f_frsize)
    let free = UInt64(status.f_bavail) &* UInt64(status.f_frsize)
    return free < leastFreeBytes(total: total)
  }
}

/// What tracing costs, ns: by this host's calibration, else an estimate (docs/overhead.md).
struct ProgramCost: Equatable {
  /// One step of the machine.
  var stepNanoseconds: UInt64
  /// Writing an event record to its ring.
  var recordNanoseconds: UInt64
  /// Whether it was measured on this host.
  let isCalibrated: Bool

  /// What is known of this way of recording.
  init(attach: AttachPath, plan: ProgramPlan, calibration: Calibration? = nil) {
    func total(records: Bool) -> Double? {
      calibration?.tracer(.kernel, plan.mode(attach: attach, records: records))?.total.mid
    }
    // the exits that stand for the kernel's path have a key each
    let stepsPerExit = plan.keepsKeys ? 3.0 : 2.0
    stepNanoseconds = attach == .btf ? 205 : 350
    recordNanoseconds = 110
    isCalibrated = total(records: false) != nil
    // a text has no number above 10^12
    if let pair = total(records: false) { stepNanoseconds = UInt64(max(pair, 0) / stepsPerExit) }
    if let plain = total(records: false), let written = total(records: true) {
      recordNanoseconds = UInt64(max(written - plain, 0))
    }
  }
}

extension ProgramPlan {
  /// What a calibration calls this way of recording.
  func mode(attach: AttachPath, records: Bool) -> Calibration.Mode {
    Calibration.Mode(attach: attach.name, tier: tier.rawValue, keys: keepsKeys, records: records)
  }
}
