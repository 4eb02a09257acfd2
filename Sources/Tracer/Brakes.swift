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

  enum Verdict: Equatable {
    case goOn
    /// Stop writing event records.
    case shedEvents
    /// All is shed and it is still too much.
    case stop
  }

  /// One second's judgement.
  /// - Parameters:
  ///   - programNanoseconds: estimated time in BPF programs.
  ///   - runningNanoseconds: the vCPUs' running time (guest, kernel and QEMU).
  ///   - eventsAreOn: whether there is something to shed.
  mutating func judge(programNanoseconds: UInt64, runningNanoseconds: UInt64, eventsAreOn: Bool) -> Verdict {
    guard maxOverhead > 0, runningNanoseconds > 0 else { return .goOn }
    guard Double(programNanoseconds) > maxOverhead * Double(runningNanoseconds) else {
      secondsAbove = 0
      return .goOn
    }
    secondsAbove += 1
    guard secondsAbove >= Brakes.patience else { return .goOn }
    secondsAbove = 0
    return eventsAreOn ? .shedEvents : .stop
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

  /// An exit that stays in the kernel takes two steps.
  init(attach: AttachPath, calibration: Calibration? = nil) {
    func total(records: Bool) -> Double? {
      calibration?.tracer(.kernel, Calibration.Mode(attach: attach.name, records: records))?.total.mid
    }
    stepNanoseconds = attach == .btf ? 205 : 350
    recordNanoseconds = 70
    isCalibrated = total(records: false) != nil
    // a text has no number above 10^12
    if let pair = total(records: false) { stepNanoseconds = UInt64(max(pair, 0) / 2) }
    if let plain = total(records: false), let written = total(records: true) {
      recordNanoseconds = UInt64(max(written - plain, 0))
    }
  }
}
