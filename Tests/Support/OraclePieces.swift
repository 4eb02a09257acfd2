import Attribution
import CKvmtax

/// What the oracle keeps of a thread.
extension OracleThread {
  /// Where the thread's own work is, as the last event told.
  enum Place { case unseen, guest, unnamed, kernel, user, userHalt, resumed }

  /// What it did meanwhile.
  enum Nature { case running, handler, asleep, latency, preempted, stopped, delayed, doubtful, polled, waited }

  /// A stretch of time between two events that told something.
  struct Piece {
    var length: UInt64
    var place: Place
    var nature: Nature
    /// How many wake-ups of the open HLT came before it.
    var round = 0
  }

  /// A wake-up of a HLT in the kernel: which of the halt's rounds it ends.
  struct Wakeup {
    var roundStart: UInt64
    var time: UInt64
    var nanoseconds: UInt64
    var waited: Bool
  }

  /// A wake-up in user space or on the way from it, and how many pieces came before it.
  struct LateWakeup {
    var nanoseconds: UInt64
    var place: Place
    var pieceCount: Int
  }

  /// An exit that waits for its entry; without a name while only an interrupt or a switch told of it.
  struct Exit {
    var start: UInt64
    var event: kt_event?
    var roundStart: UInt64 = 0
    var pieces: [Piece] = []
    var wakeups: [Wakeup] = []
    var lateWakeups: [LateWakeup] = []
    var wasInUserspace = false
    var evidence = OracleEvidence()
    var isHalt: Bool { event.map(OracleReasons.isHalt) ?? false }
  }

  /// An exit's reason on its ISA.
  struct Reason: Hashable {
    var isa: UInt8
    var reason: UInt32
    init(_ event: kt_event) { (isa, reason) = (event.isa, event.reason) }
  }

  /// What the events add up to.
  struct Counts: Equatable {
    var steps: UInt64 = 0
    var exits: UInt64 = 0
    var entries: UInt64 = 0
    var finished: UInt64 = 0
    var unpairedExits: UInt64 = 0
    var unpairedEntries: UInt64 = 0
    var userspaceExits: UInt64 = 0
    var wakeups: UInt64 = 0
    var halts: UInt64 = 0
    var interrupts: UInt64 = 0
    var windows: UInt64 = 0
    var ports: UInt64 = 0
    var switches: UInt64 = 0
    var missedSwitches: UInt64 = 0
    var missedWakings: UInt64 = 0
    var backwards: UInt64 = 0
    var firstRunDelay: UInt64 = 0
    var runDelay: UInt64 = 0
  }
}

/// What finished exits of one key took.
public struct OracleKeyAccount: Equatable {
  /// How many.
  public var finished: UInt64 = 0
  /// kvm_exit to kvm_entry, ns.
  public var total: UInt64 = 0
  /// The longest, ns.
  public var longest: UInt64 = 0
  /// Their ns per state.
  public var states = StateTimes()

  mutating func add(_ nanoseconds: UInt64, _ times: StateTimes) {
    finished += 1
    total += nanoseconds
    longest = max(longest, nanoseconds)
    states.add(times)
  }
}

extension ExitAccount {
  mutating func add(_ nanoseconds: UInt64, _ times: StateTimes) {
    minNanoseconds = finished == 0 ? nanoseconds : min(minNanoseconds, nanoseconds)
    maxNanoseconds = max(maxNanoseconds, nanoseconds)
    finished += 1
    totalNanoseconds += nanoseconds
    states.add(times)
    let bucket = OracleBuckets.bucket(of: nanoseconds)
    histogram.set(bucket: bucket, count: histogram.counts[bucket] + 1)
  }
}
