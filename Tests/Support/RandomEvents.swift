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

/// Which events a stream can hold: the sets that recordings and imports have, and some that none has.
public enum FeatureSets {
  /// The same as `enum kt_feature`, or-ed.
  public static let all: [UInt8] = {
    let (wakeup, userspace, fpu, delay) = (UInt8(1), UInt8(2), UInt8(4), UInt8(64))
    let (out, waking, irq) = (UInt8(8), UInt8(16), UInt8(32))
    let full = wakeup | userspace | fpu | out | waking | irq
    return [
      full, wakeup | userspace, full | delay, 0, full & ~wakeup, wakeup, full & ~fpu, userspace, full & ~waking,
      wakeup | userspace | delay, full & ~irq, wakeup | userspace | fpu, full & ~userspace, userspace | fpu | delay,
      wakeup | userspace | out | waking, wakeup | userspace | fpu | irq | delay, userspace | out, full & ~out | delay,
    ]
  }()

  /// One of them for each seed.
  public static func of(_ seed: UInt64) -> UInt8 { all[Int(seed % UInt64(all.count))] }

  /// Whether a stream with these features can hold that kind.
  static func allow(_ kind: UInt8, _ features: UInt8) -> Bool {
    let needed: [kt_kind: kt_feature] = [
      KT_VCPU_WAKEUP: KT_HAS_WAKEUP, KT_USERSPACE_EXIT: KT_HAS_USERSPACE_EXIT, KT_FPU_LOAD: KT_HAS_FPU,
      KT_SCHED_OUT: KT_HAS_SWITCH, KT_SCHED_IN: KT_HAS_SWITCH, KT_WAKING: KT_HAS_WAKING, KT_IRQ_ENTRY: KT_HAS_IRQ,
      KT_IRQ_EXIT: KT_HAS_IRQ,
    ]
    guard let feature = needed[kt_kind(UInt32(kind))] else { return true }
    return features & UInt8(feature.rawValue) != 0
  }
}

/// Event streams as no kernel would send them: any order of kinds, equal times, times that go back, unknown ISAs and
/// kinds, reasons that share their low byte, durations from 0 ns to a minute, tids that change their process.
public struct RandomEvents {
  private var numbers: SeededNumbers
  private let threadCount: Int
  private let hasProcesses: Bool
  private let allowed: [UInt8]
  private let readsDelay: Bool
  private var delays: [UInt64]
  private var time: UInt64 = 1_000_000_000
  private var thread: UInt32 = 0

  /// The reasons, by ISA; several share their low byte, some halt in one ISA and not in the other.
  static let reasons: [(isa: UInt8, reason: UInt32)] = {
    let vmx: [UInt32] = [
      12, 12, 12, 12, 1, 1, 48, 0x0400_000c, 0x0400_0001, 0x8000_0021, 0x78, 268, 0, 7, 8, 10, 18, 28, 29, 30, 31, 32,
      44, 45, 49, 52, 56, 84, 85, 0x8000_0030, 0x0400_0007, 0x0400_001e,
    ]
    let svm: [UInt32] = [
      0x78, 0x78, 0x78, 0xa6, 0x60, 0x60, 0x400, 0x400, 12, 0xffff_ffff, 0x178, 0x03, 0x14, 0x27, 0x36, 0x4e, 0x61,
      0x64, 0x65, 0x72, 0x7b, 0x7c, 0x81, 0x401, 0x402, 0x403,
    ]
    return vmx.map { (1, $0) } + svm.map { (2, $0) } + [(0, 12), (0, 0), (7, 0x78), (255, 0)]
  }()

  /// More likely than the others, most likely first.
  private static let kinds: [kt_kind] = [
    KT_EXIT, KT_EXIT, KT_EXIT, KT_EXIT, KT_EXIT, KT_EXIT, KT_ENTRY, KT_ENTRY, KT_ENTRY, KT_ENTRY, KT_ENTRY, KT_ENTRY,
    KT_USERSPACE_EXIT, KT_USERSPACE_EXIT, KT_VCPU_WAKEUP, KT_VCPU_WAKEUP, KT_VCPU_WAKEUP, KT_FPU_LOAD, KT_FPU_LOAD,
    KT_SCHED_OUT, KT_SCHED_OUT, KT_SCHED_OUT, KT_SCHED_IN, KT_SCHED_IN, KT_SCHED_IN, KT_WAKING, KT_WAKING,
    KT_IRQ_ENTRY, KT_IRQ_ENTRY, KT_IRQ_EXIT, KT_IRQ_EXIT, KT_MSR, KT_MMIO, KT_MMIO, KT_FAST_MMIO, KT_CPUID,
    KT_HYPERCALL, KT_INJECT, KT_INJECT, KT_ACCEPT_IRQ, KT_VMGEXIT, KT_NESTED_EXIT, KT_NESTED_INJECT, KT_TIMER_VECTOR,
    KT_IOEVENTFD, KT_DETAIL, KT_DETAIL,
  ]

  /// A stream of its own for each seed, over so many threads; by default as a recording of everything would have it.
  public init(seed: UInt64, threadCount: Int = 12, features: UInt8 = 63) {
    numbers = SeededNumbers(seed: seed)
    self.threadCount = threadCount
    hasProcesses = seed % 2 == 0
    allowed = RandomEvents.kinds.map { UInt8($0.rawValue) }.filter { FeatureSets.allow($0, features) }
    readsDelay = features & UInt8(KT_HAS_RUN_DELAY.rawValue) != 0
    delays = Array(repeating: 0, count: threadCount)
  }

  /// The next event.
  public mutating func next() -> kt_event {
    var event = kt_event()
    advance()
    event.time_ns = chance(16) ? time &- .random(in: 0..<50_000, using: &numbers) : time
    // mostly the same thread again, so that short exits occur
    if chance(chance(2) ? 16 : 4) { thread = .random(in: 0..<UInt32(threadCount), using: &numbers) }
    event.tid = 4000 + thread * 700
    // every third thread's tid changes hands once in a while
    if hasProcesses { event.tgid = 100 + thread / 4 + (thread % 3 == 0 ? UInt32(time >> 37) * 10 : 0) }
    event.vcpu = chance(2) ? UInt16(thread) : UInt16(KT_NO_VCPU)
    event.kind = kind()
    event.cpu = .random(in: 0..<8, using: &numbers)
    let pick = RandomEvents.reasons.randomElement(using: &numbers) ?? (1, 12)
    event.isa = pick.isa
    event.reason = pick.reason
    fill(&event)
    if readsDelay, !chance(3) {
      delays[Int(thread)] &+= chance(3) ? duration() / 16 : 0
      event.run_delay_ns = chance(40) ? 1 : delays[Int(thread)] + 1
    }
    return event
  }

  /// The next events.
  public mutating func next(_ count: Int) -> [kt_event] { (0..<count).map { _ in next() } }

  /// The time of the last event that did not go back.
  public var now: UInt64 { time }

  /// Few values for each field, so that they meet.
  private mutating func fill(_ event: inout kt_event) {
    let addresses: [UInt64] = [0xfee0_0300, 0xfee0_00b0, 0xfebf_7000, 0xfebf_7004, 0xfed0_00f0, 0x1000]
    let vectors: [UInt32] = [0xec, 0xfd, 0x30, 0]
    switch kt_kind(UInt32(event.kind)) {
    case KT_EXIT, KT_DETAIL:
      let low = UInt64.random(in: 0..<64, using: &numbers) << UInt64.random(in: 0..<30, using: &numbers)
      event.arg = chance(4) ? 0x0080_0010 : low
      if chance(8) { event.arg |= 1 << 32 }
      event.arg2 = pick(addresses)
      event.extra = chance(3) ? 0 : 0x8000_0000 | pick(vectors)
    case KT_ENTRY: event.reason = chance(4) ? 1 : 0
    case KT_USERSPACE_EXIT:
      event.reason = pick([0, 2, 5, 5, 6, 10, 253, 254, 70_000])
      event.extra = UInt32(bitPattern: pick([0, 0, 0, -4, -11]))
    case KT_VCPU_WAKEUP:
      event.reason = .random(in: 0...1, using: &numbers)
      event.arg = duration()
    case KT_SCHED_OUT: event.reason = pick([0, 0x100, 1, 1, 1, 2, 4, 8, 0x20])
    case KT_IRQ_ENTRY:
      event.reason = .random(in: 0..<6, using: &numbers)
      event.arg = UInt64(pick(vectors))
    case KT_INJECT, KT_ACCEPT_IRQ, KT_TIMER_VECTOR:
      event.reason = pick(vectors)
      event.extra = .random(in: 0...2, using: &numbers)
    case KT_MMIO, KT_FAST_MMIO:
      event.arg = pick(addresses)
      event.reason = .random(in: 0...2, using: &numbers)
      event.extra = pick([1, 2, 4, 8, 300])
    default:
      event.arg = pick([0x6e0, 0x830, 0x10, 0x1_0000_0010, 5])
      event.reason = .random(in: 0...1, using: &numbers)
    }
  }

  private mutating func chance(_ oneIn: Int) -> Bool { Int.random(in: 0..<oneIn, using: &numbers) == 0 }

  private mutating func pick<Value>(_ values: [Value]) -> Value {
    values[Int.random(in: values.indices, using: &numbers)]
  }

  private mutating func kind() -> UInt8 {
    switch Int.random(in: 0..<200, using: &numbers) {
    case 0: .random(in: UInt8(KT_KINDS.rawValue)..<255, using: &numbers)  // 255 is the replay's own, a loss
    case 1: chance(20) ? UInt8(KT_THREAD_END.rawValue) : pick(allowed)
    default: pick(allowed)
    }
  }

  private mutating func advance() {
    if !chance(8) { time &+= duration() / 8 }
  }

  /// Spread evenly over the octaves up to 2^36 ns, so that every bucket is met, the outer ones too.
  private mutating func duration() -> UInt64 {
    UInt64.random(in: 0...UInt64.max, using: &numbers) >> UInt64.random(in: 28..<64, using: &numbers)
  }
}
