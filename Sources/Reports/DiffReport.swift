/// A comparison of two recordings as data: everything that a renderer shows, computed. Names in it are untrusted text.
public struct DiffReport: Equatable, Sendable {
  /// The first recording.
  public var before: Report.Source
  /// The second one.
  public var after: Report.Source
  /// The VM that was asked for, as the user wrote it; nil: all.
  public var filter: String?
  /// The least effect that matters, a fraction of running time.
  public var least: Double
  /// Failed cross-checks, a sentence each: the numbers must not be used.
  public var failures: [String]
  /// What was lost or damaged in the recordings, a sentence each.
  public var warnings: [String]
  /// VMs of one recording only, by what they are called.
  public var onlyBefore: [String]
  /// The second one's.
  public var onlyAfter: [String]
  /// VMs in both, those that differ most first.
  public var vms: [Machine]

  /// Whether there is a difference that matters.
  public var isDifferent: Bool { vms.contains { $0.outcome == .different } }
  /// Whether nothing can be said of a VM.
  public var isTooShort: Bool { vms.contains { $0.outcome == .short } }
}

extension DiffReport {
  /// One VM in both recordings.
  public struct Machine: Equatable, Sendable {
    /// The VM as the second recording names it; the first one's names where it has none.
    public var vmid: Int?
    /// Untrusted.
    public var name: String?
    /// QEMU's pid in the second recording; 0 when the trace does not say.
    public var pid: UInt32
    /// vCPU threads of the first recording, then of the second one.
    public var vcpuCounts: [Int]
    /// What can be said.
    public var outcome: Outcome
    /// Whether it ran at least 1 % of the time in both: else there are no shares of running time.
    public var hasRun: Bool
    /// Least length of the blocks, ns.
    public var blockNanoseconds: UInt64
    /// Number of blocks in the first recording, then in the second one.
    public var blocks: [Int]
    /// Seconds of guest time per second, all vCPUs together: first recording, second one.
    public var load: [Double]
    /// The greatest effect on overhead that its 95 % interval has in it, either way, a fraction; nil when not tested.
    public var notRuledOut: Double?
    /// What makes the two hard to compare, a sentence each.
    public var warnings: [String]
    /// Largest effect in time first.
    public var rows: [Row]

    /// The headline's row.
    public var overhead: Row? { rows.first { $0.kind == .overhead } }
    /// Rows of one outcome.
    public func rows(_ outcome: Row.Outcome) -> [Row] { rows.filter { $0.outcome == outcome } }
  }

  /// What can be said of a VM.
  public enum Outcome: String, Sendable {
    /// At least one row differs, by enough to matter.
    case different
    /// None does.
    case unchanged
    /// Too few blocks for a verdict.
    case short
  }

  /// One quantity in both recordings.
  public struct Row: Equatable, Sendable {
    /// What is measured.
    public enum Kind: String, Sendable {
      /// virt / (virt + guest).
      case overhead
      /// A state's part of running time.
      case ofRunning = "of_running"
      /// A state's part of wall time.
      case ofWall = "of_wall"
      /// A reason's handling time per time in guest mode.
      case handling
      /// A reason's exits per second in guest mode.
      case exits
    }

    /// What can be said of it.
    public enum Outcome: String, Sendable {
      /// More than chance, and enough to matter.
      case different
      /// More than chance, too little to matter.
      case small
      /// No more than chance.
      case unchanged
      /// Too small on both sides for any difference to matter; not tested.
      case negligible
      /// Too few blocks to tell.
      case untested
    }

    /// What is measured.
    public var kind: Kind
    /// The state's one name, of shares.
    public var state: String?
    /// kvm_exit's isa, of a reason.
    public var isa: UInt8?
    /// kvm_exit's exit_reason.
    public var reason: UInt32?
    /// What a reader sees; untrusted text may be in it.
    public var label: String
    /// In the first recording: a fraction, or exits per guest-second.
    public var before: Double
    /// In the second one.
    public var after: Double
    /// after - before.
    public var effect: Double
    /// The 95 % interval of the effect; nil when it was not tested.
    public var low: Double?
    /// Its upper end.
    public var high: Double?
    /// The chance of such an effect without a difference.
    public var chance: Double?
    /// Corrected for all rows.
    public var adjustedChance: Double?
    /// The effect in time: a fraction of running time, of wall time for `ofWall`; never negative.
    public var weight: Double
    /// What can be said of it.
    public var outcome: Outcome
  }
}
