/// How the numbers came about: where they were recorded, by what, and with which clock.
public struct Capture: Equatable, Sendable {
  /// The file as the user named it.
  public var file: String
  /// "kvmtax trace", "trace.dat v7", "perf.data".
  public var format: String
  /// Where the numbers entered: "accounts", "exits" or "events".
  public var rung: String
  /// Host name, where the trace says it; untrusted text.
  public var host: String?
  /// Kernel release, where the trace says it.
  public var kernel: String?
  /// The trace's clock: "monotonic", "local", "x86-tsc"…
  public var clock: String?
  /// Wall-clock time of the first moment, ns since 1970, where the trace says it.
  public var startRealtimeNanoseconds: UInt64?
  /// First to last moment of the trace, ns.
  public var durationNanoseconds: UInt64 = 0
  /// How the tracer was attached: "tp_btf", "tp"…; nil for imports.
  public var attach: String?
  /// How it was recorded, in the calibration's words; nil where no calibration covers it (imports, raw event records).
  public var mode: Calibration.Mode?
  /// What `kvmtax calibrate` had measured on the recording host; nil: the numbers are gross.
  public var calibration: Calibration?
  /// Why there is none, where the recorder found one that does not hold; a sentence.
  public var calibrationProblem: String?
  /// kvm_exit's reason names, from the trace's own format texts and the kernel's headers.
  public var reasonNames = ReasonNames()

  /// A capture of which nothing else is known yet.
  public init(file: String, format: String, rung: String) {
    self.file = file
    self.format = format
    self.rung = rung
  }
}

/// A damaged or unusable part of an input, with the place where it lies.
public struct Damage: Equatable, Sendable {
  /// Byte offset in the file.
  public var offset: UInt64
  /// Number of bytes that could not be used (0: not known).
  public var length: UInt64
  /// What is wrong there.
  public var found: String

  /// One damaged place.
  public init(offset: UInt64, length: UInt64 = 0, found: String) {
    self.offset = offset
    self.length = length
    self.found = found
  }
}

/// What the numbers can be trusted for.
public struct Trust: Equatable, Sendable {
  /// Event records that did not fit into their rings.
  public var lostRecords: UInt64 = 0
  /// Events that the recorder lost before they were counted (perf's and ftrace's own loss counts; our missing slots).
  public var lostEvents: UInt64 = 0
  /// Periods in which the programs were quiet or the host slept, ns.
  public var gapNanoseconds: UInt64 = 0
  /// Number of such periods.
  public var gaps: UInt64 = 0
  /// Damaged places of the file; what lies in them is missing from the numbers.
  public var damage: [Damage] = []
  /// False when the recording did not end in order (tracer killed, file cut).
  public var isComplete = true
  /// What else a reader must know, a sentence each.
  public var notes: [String] = []

  /// Nothing lost.
  public init() {}
}

/// The whole input of a report.
public struct Evidence: Equatable, Sendable {
  /// Where the numbers come from.
  public var capture: Capture
  /// The numbers.
  public var ledger: Ledger
  /// When it happened; empty where only sums are known.
  public var timeline: Timeline
  /// Their trust.
  public var trust: Trust

  /// Bundles the four.
  public init(capture: Capture, ledger: Ledger, timeline: Timeline = Timeline(), trust: Trust) {
    self.capture = capture
    self.ledger = ledger
    self.timeline = timeline
    self.trust = trust
  }
}
