import Attribution

/// Where a trace file's numbers are taken from.
public enum TraceRung: String, Equatable, Sendable {
  /// The accounts of the snapshots.
  case accounts
  /// The exit records; states, counts of events and unpaired exits still come from the snapshots.
  case exits
  /// The event records, through the machine; what they do not say still comes from the snapshots.
  case events
}

/// All that a trace file holds.
public struct TraceContents: Sendable {
  /// The numbers, ready for a report; the reasons' names are still to be taken from `formatTexts`.
  public internal(set) var evidence: Evidence
  /// The host's format files.
  public internal(set) var formatTexts: [FormatText] = []
  /// Facts about the recording, in the file's order.
  public internal(set) var facts: [CaptureFact] = []
  /// Processes, the last entry of each pid and start time.
  public internal(set) var processes: [TracedProcess] = []
  /// Threads, the last entry of each serial.
  public internal(set) var threads: [TracedThread] = []
  /// What CPUs lost, the greatest counts of each.
  public internal(set) var losses: [CPULosses] = []
  /// Gaps, in the file's order.
  public internal(set) var gaps: [TraceGap] = []
  /// The tracer's notes, in the file's order.
  public internal(set) var notes: [TraceNote] = []
  /// The start, from the file header; nil when that is damaged.
  public internal(set) var start: Clocks?
  /// The moment of the last snapshot.
  public internal(set) var lastSnapshot: Clocks?
  /// The orderly end, if there is one.
  public internal(set) var end: TraceEnd?
  /// Intact blocks.
  public internal(set) var blockCount = 0
  /// Intact blocks of types that this version does not know.
  public internal(set) var unknownBlockCount = 0
  /// Exit records in the intact blocks.
  public internal(set) var exitRecordCount: UInt64 = 0
  /// Event records in the intact blocks.
  public internal(set) var eventRecordCount: UInt64 = 0
  /// KVM's own counts, the last entry of each thread.
  public internal(set) var looks: [TracedLooks] = []
  /// Snapshots of which at least one block is intact.
  public internal(set) var snapshotCount: UInt64 = 0

  /// The value of a fact; the last one where it comes twice.
  public func fact(_ key: String) -> String? { facts.last { $0.key == key }?.value }
}
