/// The trace file: appended typed blocks, readable after a cut at any byte and around any damage. The format is
/// described in docs/trace-format.md.
///
/// - Writing: `TraceWriter` appends blocks to an open file; `SnapshotEncoder` decides what a snapshot must hold and hands
///   it to the writer.
/// - Reading: `readTrace` gives a whole file as `TraceContents`; `forEachExitBatch` lends the exit records; `TraceBlocks`
///   walks over the blocks, the damaged ones included; `forEachSnapshotBlock` gives the snapshots one by one.
///
/// Nothing in a file is believed: lengths, counts and numbers are checked before they are used.
public enum TraceFormat {
  /// The file's first eight bytes: "kvmtax", then two that no text file and no text-mode copy keeps.
  static let magic: [UInt8] = [0x6b, 0x76, 0x6d, 0x74, 0x61, 0x78, 0x1a, 0x0a]
  /// The version of the container: the file header and the block headers.
  public static let version: UInt32 = 1
  /// Bytes before the first block.
  public static let headerLength = 64
  /// Bytes of a block's header.
  public static let blockHeaderLength = 40
  /// A block's first four bytes.
  static let blockMagic: [UInt8] = [0x4b, 0x54, 0x42, 0x6c]  // "KTBl"
  /// No payload is longer than this, neither as stored nor unpacked.
  public static let payloadLimit = 16 << 20
  /// A payload above `freeRawLength` unpacks to at most this many times its stored length.
  static let expansionLimit = 256
  /// Payloads up to this length may be packed as tightly as they like.
  static let freeRawLength = 64 << 10
  /// Payloads start at multiples of this, counted from the start of the file, so that records can be lent in place.
  static let alignment = 8
}

/// What a block holds. Numbers that this version does not know are skipped.
public enum BlockType: UInt16, CaseIterable, Sendable {
  /// Facts about the recording: keys and values.
  case capture = 1
  /// The text of one tracefs `format` file.
  case formatText = 2
  /// The fields of one kind of record.
  case schema = 3
  /// Processes (VMs).
  case processes = 4
  /// vCPU threads.
  case threads = 5
  /// Absolute totals of threads and rows at one moment.
  case snapshot = 6
  /// One record per finished exit.
  case exits = 7
  /// What could not be recorded, per CPU: absolute totals.
  case losses = 8
  /// A period that was not observed, or a step of a clock.
  case gap = 9
  /// A sentence of the tracer's: a feature shed, a limit reached.
  case note = 10
  /// The orderly end.
  case end = 11
  /// One record per event: the machine's whole input.
  case events = 12
  /// KVM's own counts of vCPUs beside ours.
  case looks = 13
  /// What the host's exits and the tracer's programs cost, as `kvmtax calibrate` measured them.
  case calibration = 14

  /// The block's name in messages and in the format's description.
  public var name: String {
    switch self {
    case .capture: "capture"
    case .formatText: "format text"
    case .schema: "schema"
    case .processes: "processes"
    case .threads: "threads"
    case .snapshot: "snapshot"
    case .exits: "exits"
    case .losses: "losses"
    case .gap: "gap"
    case .note: "note"
    case .end: "end"
    case .events: "events"
    case .looks: "looks"
    case .calibration: "calibration"
    }
  }
}
