import Diagnosis

/// A report as data: everything that any renderer shows, computed. Names in it are untrusted text as the trace has them;
/// a renderer makes them harmless. Shares are fractions of 1; nil where there is nothing to divide by.
public struct Report: Equatable, Sendable {
  /// Where the numbers come from.
  public var capture: Source
  /// The VM that was asked for, as the user wrote it; nil: all.
  public var filter: String?
  /// What the numbers can be trusted for.
  public var trust: Reliability
  /// All VMs together.
  public var totals: Section
  /// Each VM, most time lost first.
  public var vms: [Machine]
}

extension Report {
  /// File, host and clock.
  public struct Source: Equatable, Sendable {
    /// As the user named it.
    public var file: String
    /// "kvmtax trace", "trace.dat v7", "perf.data".
    public var format: String
    /// "accounts", "exits" or "events".
    public var rung: String
    /// Host name.
    public var host: String?
    /// Kernel release.
    public var kernel: String?
    /// The trace's clock.
    public var clock: String?
    /// How the tracer was attached.
    public var attach: String?
    /// "Intel VMX", "AMD SVM", or the ISA by number; as the exits say.
    public var isas: [String]
    /// ns since 1970.
    public var startRealtimeNanoseconds: UInt64?
    /// The same as a date: "2026-11-21 09:22:00 UTC".
    public var start: String?
    /// First to last moment, ns.
    public var durationNanoseconds: UInt64
  }

  /// One vCPU's, one VM's or everybody's time and exits.
  public struct Section: Equatable, Sendable {
    /// Number of vCPU threads.
    public var vcpuCount: Int
    /// From the first moment observed to the last, ns.
    public var spanNanoseconds: UInt64
    /// Summed over the vCPUs, ns.
    public var wallNanoseconds: UInt64
    /// The verdict's numbers.
    public var headline: Headline
    /// ns per state, all states in their order.
    public var states: [StateTime]
    /// States whose time can hold that of others.
    public var merged: [MergedState]
    /// The states grouped as a reader thinks of them; their times sum to all states' times.
    public var groups: [Group]
    /// kvm_exit events.
    public var exits: UInt64
    /// Per second of the span.
    public var exitsPerSecond: Double?
    /// By reason, most handling time first.
    public var reasons: [Reason]
    /// How many of the reasons a short table shows; the rest of them is `others`.
    public var shortCount: Int
    /// The reasons that a short table leaves out, together; nil: none.
    public var others: Others?
    /// Handling time that no reason above has.
    public var rest: Rest
    /// By class and key; nil where no keys were recorded, and for single vCPUs, whose keys are kept per VM.
    public var classes: ClassTree?
    /// What a calibration of the host says about it; nil: there is none that holds.
    public var calibrated: Calibrated?
  }

  /// What a calibration moves: the world switch out of the guest's time, the tracer's cost out of both.
  public struct Calibrated: Equatable, Sendable {
    /// World switch, ns; it lies in `guest` of the states and groups.
    public var worldSwitchNanoseconds: UInt64
    /// Not less than this, ns.
    public var worldSwitchLowNanoseconds: UInt64
    /// Not more than this, ns.
    public var worldSwitchHighNanoseconds: UInt64
    /// Of running time without the tracer's cost.
    public var worldSwitchOfRunning: Double?
    /// What the tracer added to the states, ns.
    public var tracerNanoseconds: UInt64
    /// The headline's share with the world switch and without the tracer's cost; nil where the headline has none.
    public var overhead: Double?
    /// The least that the calibration and unknown time leave possible.
    public var low: Double?
    /// The greatest.
    public var high: Double?
  }

  /// The verdict's numbers.
  public struct Headline: Equatable, Sendable {
    /// What can be said.
    public enum Kind: String, Sendable {
      /// A share of running time.
      case overhead
      /// Hardly ran (below 1 % of wall time): time per second, no share.
      case idle
      /// Nothing was observed long enough to say anything.
      case nothing
    }
    /// What can be said.
    public var kind: Kind
    /// kernel handling + QEMU on CPU + QEMU blocked + kernel blocked, ns.
    public var virtNanoseconds: UInt64
    /// Guest mode, world switch included, ns.
    public var guestNanoseconds: UInt64
    /// virt + guest, ns.
    public var runningNanoseconds: UInt64
    /// virt / running; nil unless `kind` is overhead.
    public var overhead: Double?
    /// The share if all unknown time were guest time.
    public var low: Double?
    /// The share if all unknown time were virtualization.
    public var high: Double?
    /// running / wall.
    public var ofWall: Double?
    /// virt in ms per second of the span, over all vCPUs.
    public var virtMillisecondsPerSecond: Double?
    /// How the share varied over the recording; nil for single vCPUs, and unless `kind` is overhead.
    public var variation: Variation?
  }

  /// What another recording of the same load, as long as this one, can be expected to show.
  public struct Variation: Equatable, Sendable {
    /// Blocks of at least 10 s.
    public var blocks: Int
    /// The 95 % interval of the share; nil where there are too few blocks.
    public var low: Double?
    /// Its upper end.
    public var high: Double?
  }

  /// Time in one state.
  public struct StateTime: Equatable, Sendable {
    /// The state's one name.
    public var name: String
    /// ns.
    public var nanoseconds: UInt64
  }

  /// A state that the trace does not tell apart from others.
  public struct MergedState: Equatable, Sendable {
    /// The state's one name.
    public var name: String
    /// The others' names.
    public var others: [String]
  }

  /// Time of one kind.
  public struct Group: Equatable, Sendable {
    /// Its stable name: "guest", "kernel", "qemu", "blocked", "interference", "poll", "idle", "stopped", "unknown".
    public var id: String
    /// What a reader sees.
    public var label: String
    /// ns.
    public var nanoseconds: UInt64
    /// Of all vCPUs' wall time.
    public var ofWall: Double?
    /// Of running time; nil for what is no part of it.
    public var ofRunning: Double?
    /// What else must be said about it.
    public var note: String?
  }

  /// Exits of one reason.
  public struct Reason: Equatable, Sendable {
    /// kvm_exit's isa.
    public var isa: UInt8
    /// kvm_exit's exit_reason.
    public var number: UInt32
    /// Its name; by number where it has none.
    public var name: String
    /// Whether the vCPU asks to sleep: its waiting is idle, not overhead.
    public var isHalt: Bool
    /// kvm_exit events.
    public var exits: UInt64
    /// Followed by an entry.
    public var finished: UInt64
    /// Not followed by one.
    public var unpaired: UInt64
    /// Open as the trace ended.
    public var open: UInt64
    /// Per second of the section's span.
    public var perSecond: Double?
    /// kvm_exit to kvm_entry, summed, ns.
    public var totalNanoseconds: UInt64
    /// The part of it that is virtualization, ns.
    public var handledNanoseconds: UInt64
    /// The shortest, mean, quantiles and longest of the finished ones, ns; nil when none finished.
    public var durations: Durations?
    /// Mean of the handled part, ns.
    public var handledMeanNanoseconds: Double?
    /// handled / running.
    public var ofRunning: Double?
    /// The total's ns per state.
    public var states: [StateTime]
  }

  /// Reasons that take little time, together.
  public struct Others: Equatable, Sendable {
    /// How many reasons.
    public var count: Int
    /// kvm_exit events.
    public var exits: UInt64
    /// Per second of the section's span.
    public var perSecond: Double?
    /// The virtualization part of their time, ns.
    public var handledNanoseconds: UInt64
    /// handled / running.
    public var ofRunning: Double?
  }

  /// How long finished exits took, ns.
  public struct Durations: Equatable, Sendable {
    /// The shortest.
    public var min: UInt64
    /// Total by count.
    public var mean: Double
    /// Half are shorter.
    public var p50: UInt64
    /// 90 of 100 are shorter.
    public var p90: UInt64
    /// 99 of 100 are shorter.
    public var p99: UInt64
    /// The longest.
    public var max: UInt64
  }

  /// Virtualization time in no reason's row: exits without a free row, the exit open at the end, user space before the
  /// first entry.
  public struct Rest: Equatable, Sendable {
    /// Finished exits for which no row was free.
    public var overflowExits: UInt64
    /// All of their time, waiting included, ns.
    public var overflowNanoseconds: UInt64
    /// Virtualization time of the section minus that of its reasons, ns.
    public var handledNanoseconds: UInt64
    /// handled / running.
    public var ofRunning: Double?
  }

  /// One VM.
  public struct Machine: Equatable, Sendable {
    /// QEMU's pid; 0 when the trace does not say.
    public var pid: UInt32
    /// Proxmox's number.
    public var vmid: Int?
    /// Untrusted.
    public var name: String?
    /// Its time and exits.
    public var section: Section
    /// Its threads.
    public var vcpus: [Thread]
  }

  /// One vCPU thread.
  public struct Thread: Equatable, Sendable {
    /// Serial number in the trace.
    public var thread: UInt32
    /// Host thread id.
    public var tid: UInt32
    /// KVM's vcpu_id.
    public var index: Int?
    /// Untrusted.
    public var name: String?
    /// Its end was seen.
    public var ended: Bool
    /// Its time and exits.
    public var section: Section
    /// Its time as a bar.
    public var bar: [Cells]
  }

  /// A run of equal cells of a bar.
  public struct Cells: Equatable, Sendable {
    /// What the time was.
    public enum Kind: CaseIterable, Sendable { case guest, overhead, interference, poll, idle, unknown }
    /// What the time was.
    public var kind: Kind
    /// How many; a bar's sum to `Report.barWidth`, or to 0 where no time was observed.
    public var count: Int
  }

  /// Fewer blocks give no variation.
  public static let leastBlocks = Diagnosis.Variation.leastBlocks
  /// Their least length, ns.
  static let blockNanoseconds = UInt64(Diagnosis.Variation.blockNanoseconds)

  /// Cells of a whole bar.
  public static let barWidth = 40

  /// What was lost, what failed, what is merged.
  public struct Reliability: Equatable, Sendable {
    /// kvm_exit events.
    public var exits: UInt64
    /// kvm_entry events.
    public var entries: UInt64
    /// Events lost before they were counted, and those that found their slot busy.
    public var lost: UInt64
    /// Exits without an entry and entries without an exit.
    public var unmatched: UInt64
    /// Lost before they were counted.
    public var lostEvents: UInt64
    /// Event records that did not fit.
    public var lostRecords: UInt64
    /// Events that found their slot busy.
    public var missedEvents: UInt64
    /// Exits without an entry.
    public var unpairedExits: UInt64
    /// Entries without an exit.
    public var unpairedEntries: UInt64
    /// Open as the trace ended.
    public var openExits: UInt64
    /// Events older than their predecessor.
    public var backwards: UInt64
    /// How far the states miss the wall time, summed over the vCPUs, ns.
    public var residualNanoseconds: UInt64
    /// The same, of wall time.
    public var residual: Double
    /// Number of gaps.
    public var gaps: UInt64
    /// Their time, ns.
    public var gapNanoseconds: UInt64
    /// Ended in order.
    public var isComplete: Bool
    /// Unusable parts of the file.
    public var damage: [Damaged]
    /// Ours beside what others counted.
    public var checks: [CrossCheck]
    /// Host interrupts that came while an event was counted: their time is in what they interrupted.
    public var missedInterrupts: UInt64
    /// When the host was calibrated; nil: numbers are gross.
    public var calibrated: String?
    /// Why a calibration could not be used, a sentence; untrusted text may be in it.
    public var calibrationProblem: String?
    /// Failed cross-checks, a sentence each: the report's numbers must not be used.
    public var failures: [String]
    /// States that the trace does not tell apart, a sentence each.
    public var merged: [String]
    /// What else a reader must know, a sentence each; untrusted text may be in it.
    public var notes: [String]
  }

  /// An unusable part of the file.
  public struct Damaged: Equatable, Sendable {
    /// Byte offset.
    public var offset: UInt64
    /// Bytes; 0: not known.
    public var length: UInt64
    /// What is wrong; untrusted text may be in it.
    public var found: String
  }
}
