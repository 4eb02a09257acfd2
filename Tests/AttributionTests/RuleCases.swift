import Attribution
import CKvmtax

/// The rules of the state machine, and what the loss of one event may cost.
extension Case {
  static let rules = pairing + switches + handlers + wakeups + times

  private static let pairing: [Case] = [
    Case(
      name: "two exits: on-CPU time is unknown, time off CPU and in handlers is not",
      steps: [
        entry(10), exit(100), irq(110), irqEnd(115), user(120), out(130), woken(150), on(160), exit(180), entry(190),
      ],
      states: [
        .guest: 90, .unknown: 10 + 5 + 10 + 20, .hostInterrupt: 5, .qemuBlocked: 20, .wakeLatency: 10, .kernel: 10,
      ]),
    Case(
      name: "two exits, the first a HLT that slept",
      steps: [entry(10), exit(100, hlt), out(120), woken(150), on(160), exit(180), entry(190)],
      states: [.guest: 90, .unknown: 20 + 20, .haltWait: 30, .wakeLatency: 10, .kernel: 10]),
    Case(name: "two entries", steps: [entry(100), entry(180), exit(190)], states: [.unknown: 80, .guest: 10]),
    Case(
      name: "an interrupt in guest mode, its exit missed",
      steps: [entry(100), irq(150), irqEnd(155), entry(160), exit(170)],
      states: [.guest: 50 + 10, .hostInterrupt: 5, .unknown: 5]),
    Case(
      name: "user space straight from the guest", steps: [entry(100), user(180), entry(190)],
      states: [.unknown: 80, .qemu: 10]),
    Case(
      name: "user space after an interrupt in guest mode: a later exit is another",
      steps: [entry(100), irq(150), irqEnd(155), user(160), exit(300), entry(310)],
      states: [.guest: 50, .hostInterrupt: 5, .unknown: 5 + 140, .kernel: 10]),
    Case(
      name: "an exit straight from user space",
      steps: [entry(50), user(50), run(60), exit(180), entry(190)],
      states: [.qemu: 10, .unknown: 120, .kernel: 10]),
    Case(
      name: "immediate exit, its exit missed: no trait of the next",
      steps: [entry(100, immediate: 1), user(110), exit(120, 1, vector: 0xec), entry(130)],
      states: [.unknown: 10 + 10, .kernel: 10], key: Key(isa: 1, reason: 1, kind: .vector, subject: 0xec)),
    Case(
      name: "the key is taken at the entry, not on the way to user space",
      steps: [
        exit(100, 48, 1), user(110, 6), run(120), said(KT_MMIO, 125, 0xfec0_0010, 1, size: 4),
        user(126, 10, error: -4), run(127), entry(130),
      ],
      states: [.kernel: 10 + 6 + 3, .qemu: 10 + 1],
      key: Key(isa: 1, reason: 48, kind: .mmio, subject: 0xfec0_0000, size: 4, userspace: 10)),
  ]

  private static let switches: [Case] = [
    Case(
      name: "an event off CPU implies the missed switch",
      steps: [exit(100, hlt), out(110), woken(150), slept(180, 75), entry(190)],
      states: [.kernel: 5 + 10, .haltPoll: 5, .haltWait: 40, .wakeLatency: 30], missed: 1),
    Case(
      name: "an interrupt off CPU implies it, too",
      steps: [exit(100), out(110, 0), irq(150), irqEnd(155), entry(190)],
      states: [.kernel: 10 + 35, .preempted: 40, .hostInterrupt: 5], missed: 1),
    Case(
      name: "the end of an interrupt off CPU implies it, too",
      steps: [exit(100), out(110, 0), irqEnd(155), entry(190)], states: [.kernel: 10 + 35, .preempted: 45], missed: 1),
    Case(
      name: "the switch away missed: nobody knows when it was",
      steps: [entry(50), exit(100), user(110), on(150), run(170), entry(190)],
      states: [.guest: 50, .kernel: 10 + 20, .unknown: 40, .qemu: 20], missed: 1),
    Case(
      name: "the switch away missed in guest mode",
      steps: [entry(50), on(150), svm(160, 0x60), entry(190)], states: [.unknown: 100, .kernel: 10 + 30], missed: 1),
    Case(
      name: "the switch away missed in HLT: the wake-up tells",
      steps: [exit(100, hlt), on(150), slept(160, 50), entry(190)], states: [.kernel: 10 + 30, .haltWait: 50], missed: 1
    ),
    Case(
      name: "two switches away", steps: [exit(100), out(110, 0), out(120), woken(125), on(130), entry(190)],
      states: [.kernel: 10 + 60, .preempted: 10, .kernelBlocked: 5, .wakeLatency: 5], missed: 1),
    Case(
      name: "a wake-up before the last time on CPU is of an earlier sleep",
      steps: [exit(100), user(105), woken(110), on(120), out(130), on(150), entry(190)],
      states: [.kernel: 5, .unknown: 15, .qemu: 10 + 40, .qemuBlocked: 20], missed: 1),
    Case(
      name: "nobody was seen to wake it", steps: [exit(100), out(110), on(150), entry(190)],
      states: [.kernel: 10 + 40, .kernelBlocked: 40]),
    Case(
      name: "stopped", steps: [entry(50), exit(100, 1), user(110, 10, error: -4), out(120, 4), on(1120), entry(1130)],
      states: [.guest: 50, .kernel: 10, .qemu: 10 + 10, .stopped: 1000]),
    Case(
      name: "a waker writes when it woke, and nothing else",
      steps: [woken(10), entry(100), woken(120), woken(130), exit(150), entry(157)], states: [.guest: 50, .kernel: 7]),
  ]

  private static let handlers: [Case] = [
    Case(
      name: "a handler's end missed: the task's next event ends it",
      steps: [exit(100), irq(110), irq(120), irqEnd(130), user(150), entry(190)],
      states: [.kernel: 10, .hostInterrupt: 40, .qemu: 40]),
    Case(
      name: "a handler's end missed before a switch", steps: [exit(100), irq(110), out(150, 0), on(170), entry(190)],
      states: [.kernel: 10 + 20, .hostInterrupt: 40, .preempted: 20]),
    Case(
      name: "a handler's begin missed: guest mode has ended all the same",
      steps: [entry(100), irqEnd(150), svm(155, 0x60), entry(190)], states: [.guest: 50, .kernel: 5 + 35]),
    Case(
      name: "a handler's end missed, and the switch away",
      steps: [exit(100), irq(110), on(150), entry(190)],
      states: [.kernel: 10 + 40, .unknown: 40], missed: 1),
  ]

  private static let wakeups: [Case] = [
    Case(
      name: "a halt longer than the exit", steps: [exit(100, hlt), polled(180, 500), entry(190)],
      states: [.kernel: 10, .haltPoll: 80]),
    Case(
      name: "slept, and the sleep not seen", steps: [exit(100, hlt), slept(180, 60), entry(190)],
      states: [.kernel: 20 + 10, .haltWait: 60]),
    Case(
      name: "two wake-ups divide twice",
      steps: [
        exit(100, hlt), out(120), woken(150), on(160), slept(170, 65), out(200), woken(250), on(260), slept(265, 80),
        entry(280),
      ],
      states: [.kernel: 5 + 10 + 15 + 5 + 15, .haltPoll: 15 + 15, .haltWait: 30 + 50, .wakeLatency: 10 + 10]),
    Case(
      name: "a wake-up missed: nothing was polled", steps: [exit(100, hlt), out(120), woken(150), on(160), entry(190)],
      states: [.kernel: 20 + 30, .haltWait: 30, .wakeLatency: 10]),
    Case(
      name: "HLT, interrupted by a signal",
      steps: [exit(100, hlt), polled(130, 20), user(140, 10, error: -4), out(150), woken(160), on(160), entry(190)],
      states: [.kernel: 10 + 10, .haltPoll: 20, .qemu: 10 + 30, .qemuBlocked: 10]),
    Case(
      name: "HLT handed to user space, which sleeps in KVM's place",
      steps: [exit(100, hlt), user(120, 5), out(130), woken(170), on(175), run(180), entry(190)],
      states: [.kernel: 20 + 10, .qemu: 10 + 5, .haltWait: 40, .wakeLatency: 5]),
    Case(
      name: "a wake-up outside HLT tells nothing", steps: [exit(100), slept(180, 50), entry(190)],
      states: [.kernel: 90]),
    Case(
      name: "a wake-up in user space moves at most what was blocked",
      steps: [exit(100), user(110), out(120), on(150), slept(160, 500), entry(190)],
      states: [.kernel: 10, .qemu: 10 + 40, .haltWait: 30]),
    Case(
      name: "and at most its own length", steps: [exit(100), user(110), out(120), on(150), slept(160, 12), entry(190)],
      states: [.kernel: 10, .qemu: 10 + 40, .qemuBlocked: 18, .haltWait: 12]),
  ]

  private static let times: [Case] = [
    Case(
      name: "a time that goes back", steps: [entry(100), exit(90), entry(110)], states: [.kernel: 10]),
    Case(
      name: "a switch that goes back is woken where it slept",
      steps: [entry(90), exit(100), out(120), woken(120), on(110), entry(130)],
      states: [.guest: 10, .kernel: 20 + 10]),
  ]

  /// Streams that cannot hold everything.
  static let features: [Case] = [
    Case(
      name: "no kvm_vcpu_wakeup: HLT is one", features: Replay.allFeatures & ~1,
      steps: [entry(50), exit(100, hlt), out(120), woken(150), on(160), entry(190)],
      states: [.guest: 50, .haltWait: 20 + 30 + 30, .wakeLatency: 10]),
    Case(
      name: "and unknown as one where its entry was missed", features: Replay.allFeatures & ~1,
      steps: [entry(50), exit(100, hlt), out(120), woken(150), on(160), exit(190), entry(200)],
      states: [.guest: 50, .unknown: 20 + 30 + 30, .wakeLatency: 10, .kernel: 10]),
    Case(
      name: "no sched events: HLT, no wake-up seen", features: 3, steps: [exit(100, hlt), entry(190)],
      states: [.haltWait: 90]),
    Case(
      name: "no sched events: HLT, slept", features: 3, steps: [exit(100, hlt), slept(180, 60), entry(190)],
      states: [.kernel: 20 + 10, .haltWait: 60]),
    Case(
      name: "no sched events: HLT, polled", features: 3, steps: [exit(100, hlt), polled(180, 60), entry(190)],
      states: [.kernel: 20 + 10, .haltPoll: 60]),
    Case(
      name: "no sched events: HLT handed to user space", features: 3,
      steps: [exit(100, hlt), user(120, 5), entry(190)], states: [.haltWait: 90]),
    Case(
      name: "no sched events: two exits", features: 3,
      steps: [entry(10), exit(100, hlt), exit(180), entry(190)], states: [.guest: 90, .unknown: 80, .kernel: 10]),
    Case(
      name: "no sched events: waiting for the start-up IPI", features: 3,
      steps: [entry(50), exit(80), user(100), slept(180, 50), entry(190)],
      states: [.guest: 30, .kernel: 20, .qemu: 30 + 10, .haltWait: 50]),
    Case(
      name: "no sched events: waiting for the start-up IPI, on the way to the guest", features: 7,
      steps: [entry(50), exit(80), user(100), run(110), polled(180, 50), entry(190)],
      states: [.guest: 30, .kernel: 20 + 20 + 10, .qemu: 10, .haltPoll: 50]),
    Case(
      name: "lite: what it waited to run is taken out of the interval", features: 3 | 64,
      steps: [
        Step(kind: KT_ENTRY, time: 100, delay: 1000), Step(kind: KT_EXIT, time: 200, reason: 30, delay: 1030),
        Step(kind: KT_ENTRY, time: 250, delay: 1040),
      ],
      states: [.guest: 70, .preempted: 30 + 10, .kernel: 40]),
    Case(
      name: "lite: at most its length, the rest from the next", features: 3 | 64,
      steps: [
        Step(kind: KT_ENTRY, time: 100, delay: 1000), Step(kind: KT_EXIT, time: 120, reason: 30, delay: 1030),
        Step(kind: KT_ENTRY, time: 150), Step(kind: KT_EXIT, time: 160, reason: 30),
      ],
      states: [.preempted: 20 + 10, .kernel: 20, .guest: 10]),
    Case(
      name: "run_delay beside sched events books nothing", features: Replay.allFeatures | 64,
      steps: [
        Step(kind: KT_ENTRY, time: 100, delay: 1000), Step(kind: KT_EXIT, time: 200, reason: 30, delay: 1030),
        entry(250),
      ],
      states: [.guest: 100, .kernel: 50]),
  ]
}
