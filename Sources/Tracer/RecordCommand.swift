import ArgumentParser
import Attribution
import CKvmtax
import Terminal

/// `kvmtax record`.
struct RecordCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "record", abstract: "Counts and times the exits of this host's VMs into a trace file.",
    discussion: """
      EXAMPLES
        sudo kvmtax record                    all VMs, until Ctrl-C, at most 60 s
        sudo kvmtax record -d 10m --vm 104    ten minutes of the VM with VMID 104
        sudo kvmtax record --events -d 5      also a record of every single exit
        sudo kvmtax record -- CMD ARGS        while CMD runs
      """)

  @Option(
    name: [.short, .customLong("duration")], help: "How long: 10, 90s, 5m, 2h. (default: 60 s, or until CMD ends)")
  var duration: String?

  @Option(name: [.customShort("o"), .customLong("output")], help: "The trace file. (default: kvmtax-DATE-TIME.kvmtax)")
  var output: String?

  @Option(help: "Only this process.") var pid: UInt32?

  @Option(help: "Only this VM, by its name or Proxmox VMID; repeat for more.") var vm: [String] = []

  @Flag(help: "Also write one record per finished exit; --events=raw: one per event, the whole input of the accounts.")
  var events = false

  @Flag(name: .customLong("raw-events"), help: .hidden) var rawEvents = false

  @Option(
    help: "full: sees the scheduler and host interrupts; lite: costs other tasks nothing. (default: by the host's load)"
  )
  var tier: Tier?

  @Flag(inversion: .prefixedNo, help: "Keep an account per MSR, port, page, vector… besides those per reason.")
  var keys = true

  @Option(help: "Time between snapshots: 1s, 500ms. (default: 1 s, wider after 10 minutes)") var interval: String?

  @Option(name: .customLong("max-size"), help: "Stop when the file has this size.") var maxSize = "1GiB"

  @Option(
    name: .customLong("max-overhead"),
    help: "Do less, then stop, when tracing takes more than this share of the vCPUs' running time, in %; 0: never.")
  var maxOverhead = 2.0

  @Option(help: "What kvmtax calibrate wrote. (default: \(CalibrationFile.defaultPath), if it is there)")
  var calibration: String?

  @Flag(help: "Overwrite an existing file.") var force = false

  @Flag(name: .customLong("dry-run"), help: "Load and check everything, print what it would cost, record nothing.")
  var dryRun = false

  @Option(help: .hidden) var attach: AttachPath?

  @Option(name: .customLong("ring-size"), help: .hidden) var ringSize: String?

  @Flag(help: .hidden) var proxy = false

  @Argument(parsing: .postTerminator, help: "Record while this command runs.") var command: [String] = []

  func validate() throws {
    if let duration, parseDuration(duration) == nil {
      throw ValidationError("-d \(duration): not a duration (10, 90s, 5m, 2h)")
    }
    if let interval, (parseDuration(interval) ?? 0) < 10_000_000 {
      throw ValidationError("--interval \(interval): not a duration of at least 10ms")
    }
    if parseSize(maxSize) == nil { throw ValidationError("--max-size \(maxSize): not a size (100M, 1GiB)") }
    guard maxOverhead >= 0, maxOverhead <= 100 else {
      throw ValidationError("--max-overhead \(maxOverhead): not 0 to 100")
    }
    if let ringSize, ringBytes == nil { throw ValidationError("--ring-size \(ringSize): not a power of two of pages") }
    if pid != nil, !vm.isEmpty { throw ValidationError("--pid and --vm exclude each other") }
  }

  /// The kernel takes powers of two of at least a page.
  private var ringBytes: UInt32? {
    guard let ringSize, let bytes = parseSize(ringSize), bytes >= 4096, bytes <= 1 << 30, bytes & (bytes - 1) == 0
    else {
      return nil
    }
    return UInt32(bytes)
  }

  func run() throws {
    var options = RecordOptions()
    options.durationNanoseconds = duration.flatMap(parseDuration) ?? (command.isEmpty ? 60_000_000_000 : nil)
    options.output = output ?? OutputFile.defaultName()
    options.pid = pid
    options.vms = vm
    options.records = rawEvents ? KT_RAW_RECORDS : events ? KT_EXIT_RECORDS : KT_NO_RECORDS
    options.tier = tier
    options.keys = keys
    options.interval = SnapshotInterval(fixedNanoseconds: interval.flatMap(parseDuration))
    options.maxSizeBytes = parseSize(maxSize) ?? 1 << 30
    options.maxOverhead = maxOverhead / 100
    options.calibration = calibration ?? CalibrationFile.defaultPath
    options.force = force
    options.dryRun = dryRun
    options.attach = attach
    options.ringBytes = ringBytes
    options.proxy = proxy
    options.command = command
    try record(options)
  }
}

/// How the programs are attached.
enum AttachPath: String, ExpressibleByArgument {
  /// Classic tracepoint programs: fields by the kernel's format texts; work everywhere.
  case tp
  /// Typed programs: about half the cost, where the kernel's BTF allows them.
  case btf

  /// The word in reports and trace files.
  var name: String { self == .tp ? "tp" : "tp_btf" }
}

/// What a recording was asked to do.
struct RecordOptions {
  /// nil: until the command ends.
  var durationNanoseconds: UInt64?
  var output = ""
  var pid: UInt32?
  var vms: [String] = []
  /// What the rings are written with.
  var records = KT_NO_RECORDS
  /// nil: by the host's load.
  var tier: Tier?
  var keys = true
  var interval = SnapshotInterval()
  var maxSizeBytes: UInt64 = 1 << 30
  /// A fraction; 0: no limit.
  var maxOverhead = 0.02
  /// What a calibration wrote.
  var calibration = CalibrationFile.defaultPath
  var force = false
  var dryRun = false
  /// nil: the fast one where it works.
  var attach: AttachPath?
  /// Bytes per ring of event records; nil: by the number of rings.
  var ringBytes: UInt32?
  /// Record kvm_userspace_exit and kvm_fpu in place of kvm_exit and kvm_entry.
  var proxy = false
  var command: [String] = []
}
