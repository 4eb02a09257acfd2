import CKvmtax

/// Event streams in the orders in which KVM and the scheduler send them, from which single events are dropped and into
/// which single events and whole cases are put: each transition must survive a missed event.
public struct PlausibleEvents {
  private var numbers: SeededNumbers
  private let features: UInt8
  private let damage: Int
  private let threadCount: UInt32
  private var thread: UInt32 = 0
  private var time: UInt64 = 5_000_000_000
  private var delays: [UInt64]
  private var waiting: [kt_event] = []
  private var place = 0

  /// A stream of its own for each seed; one event in `damage` is dropped, doubled or has another case before it (0: none).
  public init(seed: UInt64, threadCount: Int = 8, features: UInt8 = 63, damage: Int = 20) {
    numbers = SeededNumbers(seed: seed ^ 0x5eed)
    self.features = features
    self.damage = damage
    self.threadCount = UInt32(threadCount)
    delays = Array(repeating: 0, count: threadCount)
  }

  /// The next events.
  public mutating func next(_ count: Int) -> [kt_event] {
    while waiting.count - place < count {
      thread = .random(in: 0..<threadCount, using: &numbers)
      for _ in 0..<Int.random(in: 1...6, using: &numbers) { emit(plan(), depth: 0) }
    }
    defer {
      place += count
      if place > 1 << 16 {
        waiting.removeFirst(place)
        place = 0
      }
    }
    return Array(waiting[place..<place + count])
  }

  // MARK: The table of orders

  /// An event to come: kind, reason, arg, extra.
  struct Step {
    var kind: kt_kind
    var reason: UInt32
    var arg: UInt64
    var extra: UInt32
    init(_ kind: kt_kind, _ reason: UInt32 = 0, _ arg: UInt64 = 0, _ extra: UInt32 = 0) {
      (self.kind, self.reason, self.arg, self.extra) = (kind, reason, arg, extra)
    }
  }

  private static let sleeping: [Step] = [Step(KT_SCHED_OUT, 1), Step(KT_WAKING), Step(KT_SCHED_IN)]
  private static let race: [Step] = [Step(KT_WAKING), Step(KT_SCHED_OUT, 1), Step(KT_SCHED_IN)]
  private static let preempted: [Step] = [Step(KT_SCHED_OUT, 0x100), Step(KT_SCHED_IN)]
  private static let stopped: [Step] = [Step(KT_SCHED_OUT, 4), Step(KT_SCHED_IN)]
  private static let tick: [Step] = [
    Step(KT_IRQ_ENTRY, 1, 0xec), Step(KT_IRQ_EXIT), Step(KT_IRQ_ENTRY, 4, 1), Step(KT_IRQ_EXIT),
  ]
  private static let nested: [Step] = [
    Step(KT_IRQ_ENTRY, 3, 27), Step(KT_IRQ_ENTRY, 2, 0xfd), Step(KT_IRQ_EXIT), Step(KT_IRQ_EXIT),
  ]
  private static let inject: [Step] = [Step(KT_ACCEPT_IRQ, 0xec), Step(KT_INJECT, 0xec)]
  private static let inUserspace: [Step] = [
    Step(KT_USERSPACE_EXIT, 2), Step(KT_SCHED_OUT, 1), Step(KT_WAKING), Step(KT_SCHED_IN), Step(KT_FPU_LOAD),
  ]

  /// The steps between two entries; those of SVM and VMX have the reason 0, which `emit` fills in from the case.
  private static let cases: [(svm: UInt32, vmx: UInt32, before: [Step], after: [Step])] = [
    // HLT: polled, slept, already pending, the race, preempted and interrupted while polling, woken twice
    (0x78, 12, [], [Step(KT_VCPU_WAKEUP, 0, 1)] + inject),
    (0x78, 12, [], sleeping + [Step(KT_VCPU_WAKEUP, 1, 1)] + inject),
    (0x78, 12, [], inject), (0x78, 12, [], race + [Step(KT_VCPU_WAKEUP, 1, 1)]),
    (0xa6, 12, [], tick + [Step(KT_VCPU_WAKEUP, 0, 1)] + inject),
    (0x78, 12, [], preempted + sleeping + [Step(KT_VCPU_WAKEUP, 1, 1)]),
    (0x78, 12, [], sleeping + [Step(KT_VCPU_WAKEUP, 1, 1)] + sleeping + [Step(KT_VCPU_WAKEUP, 1, 2)]),
    // handed to user space, and interrupted by a signal
    (0x78, 12, [], [Step(KT_USERSPACE_EXIT, 5)] + sleeping + [Step(KT_FPU_LOAD)]),
    (0x78, 12, [], sleeping + [Step(KT_VCPU_WAKEUP, 1, 1), Step(KT_USERSPACE_EXIT, 10, 0, UInt32(bitPattern: -4))]),
    // ports and devices
    (0x7b, 30, [], inUserspace), (0x7b, 30, [], []),
    (0x400, 48, [], [Step(KT_MMIO, 2, 0xfed0_00f0, 4)] + inUserspace),
    (0x400, 49, [], [Step(KT_MMIO, 0, 0xfeb0_0010, 2)] + inUserspace + [Step(KT_MMIO, 1, 0xfeb0_0010, 2)]),
    (0x400, 49, [], [Step(KT_MMIO, 2, 0xfebf_7000, 2), Step(KT_IOEVENTFD)]),
    (0x400, 49, [], [Step(KT_MMIO, 2, 0xfebf_7000, 4), Step(KT_IOEVENTFD), Step(KT_USERSPACE_EXIT, 6)]),
    (0x400, 49, [], [Step(KT_FAST_MMIO, 0, 0xfebf_7004)]),
    // registers and memory
    (0x7c, 32, [], [Step(KT_MSR, 1, 0x6e0)]), (0x7c, 32, [], preempted + [Step(KT_MSR, 1, 0x830)]),
    (0x72, 10, [], [Step(KT_CPUID, 0, 0xd)]), (0x400, 48, [], tick + sleeping), (0x400, 48, [], []),
    (0x81, 18, [], [Step(KT_HYPERCALL, 0, 10)]),
    // the host's interrupts, before the exit and after it
    (0x60, 1, tick, inject), (0x60, 1, [], tick + inject), (0x60, 1, nested, []), (0x64, 7, [], inject),
    (0x60, 1, tick, preempted), (0x60, 1, preempted, inject), (0x60, 1, [], stopped), (0, 52, [], inject),
    // the wait for the start-up IPI
    (0x60, 1, [], inUserspace + sleeping + [Step(KT_VCPU_WAKEUP, 1, 1)]),
  ]

  private mutating func plan() -> [Step] {
    let isVMX = thread % 2 == 0
    var plan = [Step(KT_ENTRY, chance(12) ? 1 : 0)]
    let pick = PlausibleEvents.cases[Int.random(in: PlausibleEvents.cases.indices, using: &numbers)]
    plan += pick.before
    plan.append(Step(KT_EXIT, isVMX ? pick.vmx : pick.svm, isVMX ? 0x0cfc_000b : 0x0cfc_0011))
    if chance(30) { plan.append(Step(KT_TIMER_VECTOR, 0xec, 0, 2)) }
    return plan + pick.after
  }

  private mutating func emit(_ steps: [Step], depth: Int) {
    let start = time
    for step in steps {
      if damage > 0, depth < 3, chance(damage) {
        switch Int.random(in: 0..<3, using: &numbers) {
        case 0: continue
        case 1: emit(step, since: start)
        default: emit(plan(), depth: depth + 1)
        }
      }
      emit(step, since: start)
    }
  }

  private mutating func emit(_ step: Step, since start: UInt64) {
    time += chance(10) ? .random(in: 0..<3_000_000, using: &numbers) : .random(in: 0..<5000, using: &numbers)
    guard FeatureSets.allow(UInt8(step.kind.rawValue), features) else { return }
    var event = kt_event()
    event.time_ns = time
    event.tid = 900 + thread
    event.tgid = 800 + thread / 4
    event.vcpu = UInt16(thread)
    event.cpu = thread % 4
    event.kind = UInt8(step.kind.rawValue)
    event.isa = thread % 2 == 0 ? 1 : 2
    event.reason = step.reason
    event.arg = step.arg
    event.extra = step.extra
    if step.kind == KT_VCPU_WAKEUP {
      // as long as it can have been, now and then more
      event.arg = .random(in: 0...(time - start + (chance(20) ? 1_000_000 : 0)), using: &numbers)
    }
    if features & UInt8(KT_HAS_RUN_DELAY.rawValue) != 0, step.kind == KT_ENTRY || step.kind == KT_EXIT {
      delays[Int(thread)] += chance(4) ? .random(in: 0..<2000, using: &numbers) : 0
      event.run_delay_ns = delays[Int(thread)] + 1
    }
    waiting.append(event)
  }

  private mutating func chance(_ oneIn: Int) -> Bool { Int.random(in: 0..<oneIn, using: &numbers) == 0 }
}
