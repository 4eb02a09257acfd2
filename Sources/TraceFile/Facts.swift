import Attribution
import CKvmtax

/// What a block is a list of. In the file each entry stands behind its length, so that a later version can add fields at
/// its end: a reader ignores what it does not know, and takes 0 and "" for what is not there.
protocol Entry {
  static var type: BlockType { get }
  func write(to bytes: inout ByteWriter)
  init(reading entry: inout ByteReader)
}

/// A fact about the recording.
public struct CaptureFact: Equatable, Sendable, Entry {
  /// One of `Key`'s, or any other.
  public var key: String
  /// Its value; untrusted text.
  public var value: String

  /// The keys that the reader puts into `Attribution.Capture`, and those that every recording is expected to hold.
  public enum Key {
    /// Host name.
    public static let host = "host"
    /// Kernel release, as `uname -r` gives it.
    public static let kernel = "kernel"
    /// The CPU's vendor, as /proc/cpuinfo gives it.
    public static let cpuVendor = "cpu_vendor"
    /// The CPU's model name.
    public static let cpuModel = "cpu_model"
    /// How the programs were attached: "tp_btf", "tp".
    public static let attach = "attach"
    /// What was recorded: the words of `RecordedFeature`.
    public static let features = "features"
    /// The interval between snapshots at the start, ns.
    public static let intervalNanoseconds = "interval_ns"
    /// Why the host's calibration could not be used, a sentence.
    public static let calibrationProblem = "calibration_problem"
    /// The tracer's version.
    public static let tool = "tool"
  }

  /// One fact.
  public init(key: String, value: String) {
    self.key = key
    self.value = value
  }

  static var type: BlockType { .capture }

  func write(to bytes: inout ByteWriter) {
    bytes.append(key)
    bytes.append(value)
  }

  init(reading entry: inout ByteReader) {
    key = entry.text()
    value = entry.text()
  }
}

/// One tracefs `format` file of the recording host.
public struct FormatText: Equatable, Sendable, Entry {
  /// "kvm".
  public var system: String
  /// "kvm_exit".
  public var name: String
  /// The file's content; untrusted.
  public var text: String

  /// One file.
  public init(system: String, name: String, text: String) {
    self.system = system
    self.name = name
    self.text = text
  }

  static var type: BlockType { .formatText }

  func write(to bytes: inout ByteWriter) {
    bytes.append(system)
    bytes.append(name)
    bytes.append(text)
  }

  init(reading entry: inout ByteReader) {
    system = entry.text()
    name = entry.text()
    text = entry.text()
  }
}

/// A traced process: a VM. A later entry of the same pid and start time replaces an earlier one.
public struct TracedProcess: Equatable, Sendable, Entry {
  /// Process id (a thread's tgid).
  public var pid: UInt32
  /// When it started, CLOCK_BOOTTIME ns as /proc/PID/stat gives it; 0: not known.
  public var startNanoseconds: UInt64 = 0
  /// QEMU's `-name` or `-id`, else the process's name; untrusted text.
  public var name: String?
  /// Proxmox's number of the VM.
  public var vmid: UInt32?
  /// Further facts that the allow-list lets through.
  public var facts: [CaptureFact] = []

  /// A reader takes no more facts than this.
  static let factLimit = 16

  /// A process of which nothing else is known.
  public init(
    pid: UInt32, startNanoseconds: UInt64 = 0, name: String? = nil, vmid: UInt32? = nil, facts: [CaptureFact] = []
  ) {
    self.pid = pid
    self.startNanoseconds = startNanoseconds
    self.name = name
    self.vmid = vmid
    self.facts = facts
  }

  static var type: BlockType { .processes }

  func write(to bytes: inout ByteWriter) {
    bytes.append(UInt64(pid))
    bytes.append(startNanoseconds)
    bytes.append(vmid.map { UInt64($0) + 1 } ?? 0)
    bytes.append(name ?? "")
    bytes.append(UInt64(facts.count))
    for fact in facts { fact.write(to: &bytes) }
  }

  init(reading entry: inout ByteReader) {
    pid = entry.number32()
    startNanoseconds = entry.number()
    let vmid = entry.number()
    self.vmid = vmid == 0 ? nil : UInt32(exactly: vmid - 1)
    let name = entry.text()
    self.name = name.isEmpty ? nil : name
    var rest = entry.number()
    while rest > 0, !entry.isAtEnd, facts.count < TracedProcess.factLimit {
      facts.append(CaptureFact(reading: &entry))
      rest -= 1
    }
  }
}

/// A traced thread. A later entry of the same serial replaces an earlier one.
public struct TracedThread: Equatable, Sendable, Entry {
  /// `kt_slot.thread`.
  public var thread: UInt32
  /// Host thread id.
  public var tid: UInt32
  /// Its process.
  public var tgid: UInt32
  /// KVM's vcpu_id, where it is known.
  public var vcpu: UInt32?
  /// The thread's name; untrusted text.
  public var comm: String
  /// When its process started, as `TracedProcess.startNanoseconds`; 0: not known. A pid can come twice.
  public var processStartNanoseconds: UInt64

  /// One thread.
  public init(
    thread: UInt32, tid: UInt32, tgid: UInt32, vcpu: UInt32? = nil, comm: String = "",
    processStartNanoseconds: UInt64 = 0
  ) {
    self.thread = thread
    self.tid = tid
    self.tgid = tgid
    self.vcpu = vcpu
    self.comm = comm
    self.processStartNanoseconds = processStartNanoseconds
  }

  static var type: BlockType { .threads }

  func write(to bytes: inout ByteWriter) {
    bytes.append(UInt64(thread))
    bytes.append(UInt64(tid))
    bytes.append(UInt64(tgid))
    bytes.append(vcpu.map { UInt64($0) + 1 } ?? 0)
    bytes.append(comm)
    if processStartNanoseconds != 0 { bytes.append(processStartNanoseconds) }
  }

  init(reading entry: inout ByteReader) {
    thread = entry.number32()
    tid = entry.number32()
    tgid = entry.number32()
    let vcpu = entry.number()
    self.vcpu = vcpu == 0 ? nil : UInt32(exactly: vcpu - 1)
    comm = entry.text()
    processStartNanoseconds = entry.isAtEnd ? 0 : entry.number()
  }
}

/// What one CPU could not record since the start.
public struct CPULosses: Equatable, Sendable, Entry {
  /// The CPU's number.
  public var cpu: UInt32
  /// The ring that it writes event records to.
  public var ring: UInt32
  /// By `enum kt_loss` (BPF/include/control.h).
  public var counts: [UInt64]

  /// One CPU's counters.
  public init(cpu: UInt32, ring: UInt32, counts: [UInt64]) {
    self.cpu = cpu
    self.ring = ring
    self.counts = counts
  }

  static var type: BlockType { .losses }

  func write(to bytes: inout ByteWriter) {
    bytes.append(UInt64(cpu))
    bytes.append(UInt64(ring))
    for count in counts { bytes.append(count) }
  }

  init(reading entry: inout ByteReader) {
    cpu = entry.number32()
    ring = entry.number32()
    counts = []
    while !entry.isAtEnd, counts.count < 16 { counts.append(entry.number()) }
  }
}

/// A period that was not observed, or a step of a clock.
public struct TraceGap: Equatable, Sendable, Entry {
  /// Why.
  public enum Reason: Equatable, Sendable {
    /// The programs found the consumer's heartbeat too old and went quiet.
    case quiet
    /// The host was suspended: CLOCK_MONOTONIC stood still.
    case suspend
    /// CLOCK_REALTIME was set.
    case clockStep
    /// A reason of a later version.
    case other(UInt64)

    var number: UInt64 {
      switch self {
      case .quiet: 1
      case .suspend: 2
      case .clockStep: 3
      case .other(let number): number
      }
    }

    init(_ number: UInt64) {
      switch number {
      case 1: self = .quiet
      case 2: self = .suspend
      case 3: self = .clockStep
      default: self = .other(number)
      }
    }
  }

  /// Why.
  public var reason: Reason
  /// CLOCK_MONOTONIC ns.
  public var fromNanoseconds: UInt64
  /// CLOCK_MONOTONIC ns.
  public var toNanoseconds: UInt64
  /// How long it lasted: for a suspend the advance of CLOCK_BOOTTIME, for a clock step its signed size.
  public var lengthNanoseconds: Int64

  /// One gap.
  public init(reason: Reason, fromNanoseconds: UInt64, toNanoseconds: UInt64, lengthNanoseconds: Int64) {
    self.reason = reason
    self.fromNanoseconds = fromNanoseconds
    self.toNanoseconds = toNanoseconds
    self.lengthNanoseconds = lengthNanoseconds
  }

  static var type: BlockType { .gap }

  func write(to bytes: inout ByteWriter) {
    bytes.append(reason.number)
    bytes.append(fromNanoseconds)
    bytes.append(toNanoseconds)
    bytes.append(signed: lengthNanoseconds)
  }

  init(reading entry: inout ByteReader) {
    reason = Reason(entry.number())
    fromNanoseconds = entry.number()
    toNanoseconds = entry.number()
    lengthNanoseconds = entry.signed()
  }
}

/// Something that the tracer did or met and that a reader of the numbers must know.
public struct TraceNote: Equatable, Sendable, Entry {
  /// When, CLOCK_MONOTONIC ns.
  public var monotonicNanoseconds: UInt64
  /// A word for programs: "shed-events", "interval-widened".
  public var code: String
  /// A sentence for people.
  public var text: String

  /// One note.
  public init(monotonicNanoseconds: UInt64, code: String, text: String) {
    self.monotonicNanoseconds = monotonicNanoseconds
    self.code = code
    self.text = text
  }

  static var type: BlockType { .note }

  func write(to bytes: inout ByteWriter) {
    bytes.append(monotonicNanoseconds)
    bytes.append(code)
    bytes.append(text)
  }

  init(reading entry: inout ByteReader) {
    monotonicNanoseconds = entry.number()
    code = entry.text()
    text = entry.text()
  }
}

/// What KVM itself had counted for a vCPU, at the first look at it and at the last, with what we had counted at the same
/// moments. A later entry of the same thread replaces an earlier one.
public struct TracedLooks: Equatable, Sendable, Entry {
  /// `kt_slot.thread`.
  public var thread: UInt32
  /// First values and differences.
  public var counts: KVMCounts

  /// One thread's.
  public init(thread: UInt32, counts: KVMCounts) {
    self.thread = thread
    self.counts = counts
  }

  /// What the programs saw; nil where they did not look, or where KVM's statistics cannot be read.
  public init?(_ looks: kt_looks) {
    guard looks.thread != 0, looks.last_own.exits != 0 || looks.last_stat.exits != 0 else { return nil }
    thread = looks.thread
    counts = KVMCounts(
      kvm: ExitKindCounts(looks.last_stat, since: looks.first_stat),
      own: ExitKindCounts(looks.last_own, since: looks.first_own), firstKVM: ExitKindCounts(looks.first_stat),
      firstOwn: ExitKindCounts(looks.first_own))
  }

  static var type: BlockType { .looks }

  private static let kinds: [WritableKeyPath<ExitKindCounts, UInt64> & Sendable] = [
    \.exits, \.halts, \.interrupts, \.windows, \.ports,
  ]

  func write(to bytes: inout ByteWriter) {
    bytes.append(UInt64(thread))
    for kind in TracedLooks.kinds {
      bytes.append(counts.firstKVM[keyPath: kind])
      bytes.append(counts.firstOwn[keyPath: kind])
      bytes.append(counts.kvm[keyPath: kind])
      bytes.append(counts.own[keyPath: kind])
    }
  }

  init(reading entry: inout ByteReader) {
    thread = entry.number32()
    let none = ExitKindCounts(exits: 0, halts: 0, interrupts: 0, windows: 0, ports: 0)
    counts = KVMCounts(kvm: none, own: none, firstKVM: none, firstOwn: none)
    for kind in TracedLooks.kinds {
      counts.firstKVM[keyPath: kind] = entry.number()
      counts.firstOwn[keyPath: kind] = entry.number()
      counts.kvm[keyPath: kind] = entry.number()
      counts.own[keyPath: kind] = entry.number()
    }
  }
}

extension ExitKindCounts {
  fileprivate init(_ counts: kt_counts, since first: kt_counts = kt_counts()) {
    self.init(
      exits: counts.exits &- first.exits, halts: counts.halts &- first.halts,
      interrupts: counts.interrupts &- first.interrupts, windows: counts.windows &- first.windows,
      ports: counts.ports &- first.ports)
  }
}

/// The orderly end of a recording.
public struct TraceEnd: Equatable, Sendable, Entry {
  /// When.
  public var clocks: Clocks
  /// Why, a word: "duration", "interrupted", "command", "size", "disk-full", "overhead".
  public var reason: String
  /// kvm_exit events that were counted.
  public var exits: UInt64
  /// Exit or event records that were written.
  public var records: UInt64
  /// Snapshots that were written.
  public var snapshots: UInt64
  /// Exit or event records that were lost.
  public var lostRecords: UInt64

  /// The totals at the end.
  public init(
    clocks: Clocks, reason: String, exits: UInt64, records: UInt64, snapshots: UInt64, lostRecords: UInt64
  ) {
    self.clocks = clocks
    self.reason = reason
    self.exits = exits
    self.records = records
    self.snapshots = snapshots
    self.lostRecords = lostRecords
  }

  static var type: BlockType { .end }

  func write(to bytes: inout ByteWriter) {
    bytes.append(clocks)
    bytes.append(reason)
    bytes.append(exits)
    bytes.append(records)
    bytes.append(snapshots)
    bytes.append(lostRecords)
  }

  init(reading entry: inout ByteReader) {
    clocks = entry.clocks()
    reason = entry.text()
    exits = entry.number()
    records = entry.number()
    snapshots = entry.number()
    lostRecords = entry.number()
  }
}
