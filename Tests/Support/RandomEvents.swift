import CKvmtax

/// Random numbers that are the same in every run (splitmix64).
public struct SeededNumbers: RandomNumberGenerator {
  private var state: UInt64

  /// Starts the sequence of a seed.
  public init(seed: UInt64) { state = seed }

  /// The next number.
  public mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var mixed = state
    mixed = (mixed ^ mixed >> 30) &* 0xbf58_476d_1ce4_e5b9
    mixed = (mixed ^ mixed >> 27) &* 0x94d0_49bb_1331_11eb
    return mixed ^ mixed >> 31
  }
}

/// Event streams as no kernel would send them: any order of kinds, equal times, times that go back, unknown ISAs and
/// kinds, reasons that share their low byte, durations from 0 ns to a minute, tids that change their process.
public struct RandomEvents {
  private var numbers: SeededNumbers
  private let threadCount: Int
  private let hasProcesses: Bool
  private var time: UInt64 = 1_000_000_000
  private var thread: UInt32 = 0

  /// The reasons, by ISA; several share their low byte, some halt in one ISA and not in the other.
  static let reasons: [(isa: UInt8, reason: UInt32)] = [
    (1, 12), (1, 1), (1, 48), (1, 0x0400_000c), (1, 0x8000_0021), (1, 0x78), (1, 268),
    (2, 0x78), (2, 0xa6), (2, 0x60), (2, 0x400), (2, 12), (2, 0xffff_ffff), (2, 0x178), (0, 12), (7, 0x78), (255, 0),
  ]

  /// A stream of its own for each seed, over so many threads.
  public init(seed: UInt64, threadCount: Int = 12) {
    numbers = SeededNumbers(seed: seed)
    self.threadCount = threadCount
    hasProcesses = seed % 2 == 0
  }

  /// The next event.
  public mutating func next() -> kt_event {
    var event = kt_event()
    advance()
    event.time_ns =
      Int.random(in: 0..<16, using: &numbers) == 0 ? time &- .random(in: 0..<50_000, using: &numbers) : time
    // mostly the same thread again, so that short exits occur
    if Int.random(in: 0..<4, using: &numbers) == 0 { thread = .random(in: 0..<UInt32(threadCount), using: &numbers) }
    event.tid = 4000 + thread * 700
    // every third thread's tid changes hands once in a while
    if hasProcesses { event.tgid = 100 + thread / 4 + (thread % 3 == 0 ? UInt32(time >> 37) * 10 : 0) }
    event.vcpu = Bool.random(using: &numbers) ? UInt16(thread) : UInt16(KT_NO_VCPU)
    event.kind = kind()
    let pick = RandomEvents.reasons.randomElement(using: &numbers) ?? (1, 12)
    event.isa = pick.isa
    event.reason = pick.reason
    if event.kind == UInt8(KT_VCPU_WAKEUP.rawValue) {
      event.reason = .random(in: 0...1, using: &numbers)
      event.arg = duration()
    }
    event.cpu = .random(in: 0..<8, using: &numbers)
    return event
  }

  /// The next events.
  public mutating func next(_ count: Int) -> [kt_event] { (0..<count).map { _ in next() } }

  /// The time of the last event that did not go back.
  public var now: UInt64 { time }

  private mutating func kind() -> UInt8 {
    switch Int.random(in: 0..<100, using: &numbers) {
    case ..<38: UInt8(KT_EXIT.rawValue)
    case ..<76: UInt8(KT_ENTRY.rawValue)
    case ..<86: UInt8(KT_USERSPACE_EXIT.rawValue)
    case ..<98: UInt8(KT_VCPU_WAKEUP.rawValue)
    default: .random(in: 4..<255, using: &numbers)  // 255 is the replay's own, a loss
    }
  }

  private mutating func advance() {
    if Int.random(in: 0..<8, using: &numbers) > 0 { time &+= duration() / 8 }
  }

  /// Spread evenly over the octaves up to 2^36 ns, so that every bucket is met, the outer ones too.
  private mutating func duration() -> UInt64 {
    UInt64.random(in: 0...UInt64.max, using: &numbers) >> UInt64.random(in: 28..<64, using: &numbers)
  }
}
