import Attribution
import CKvmtax

/// The orders in which KVM and the scheduler were seen to send events, a case each.
extension Case {
  static let eventOrder = halts + devices + handled + interrupts + threads

  private static let halts: [Case] = [
    Case(
      name: "HLT, poll succeeds",
      steps: [entry(100), exit(150, hlt), polled(230, 70), accepted(231, 0xec), injected(232, 0xec), entry(240)],
      states: [.guest: 50, .kernel: 10 + 10, .haltPoll: 70], key: Key(isa: 1, reason: hlt)),
    Case(
      name: "HLT, poll succeeds, an interrupt in it",
      steps: [entry(100), svm(150, 0x78), irq(170), irqEnd(180), polled(230, 70), entry(240)],
      states: [.guest: 50, .kernel: 10 + 10, .hostInterrupt: 10, .haltPoll: 60], key: Key(isa: 2, reason: 0x78)),
    Case(
      name: "HLT, sleeps",
      steps: [
        entry(100), exit(150, hlt), out(180), woken(280), on(290), slept(300, 140), injected(305, 0xec), entry(310),
      ],
      states: [.guest: 50, .kernel: 10 + 10 + 10, .haltPoll: 20, .haltWait: 100, .wakeLatency: 10]),
    Case(
      name: "HLT, interrupt already pending", steps: [entry(100), exit(150, hlt), injected(155, 0xec), entry(160)],
      states: [.guest: 50, .kernel: 10]),
    Case(
      name: "HLT, wake race",
      steps: [entry(100), exit(150, hlt), woken(170), out(180), on(280), slept(290, 130), entry(300)],
      states: [.guest: 50, .kernel: 10 + 10 + 10, .haltPoll: 20, .wakeLatency: 100]),
    Case(
      name: "HLT, a bus lock on the way", steps: [exit(100, 0x0400_000c), polled(180, 80), entry(190)],
      states: [.haltPoll: 80, .kernel: 10], key: Key(isa: 1, reason: 0x0400_000c, traits: .busLock)),
  ]

  private static let devices: [Case] = [
    Case(
      name: "port OUT to user space",
      steps: [entry(100), exit(150, ioReason, 0x0080_0000), user(153), run(190), entry(195)],
      states: [.guest: 50, .kernel: 3 + 5, .qemu: 37],
      key: Key(isa: 1, reason: 30, kind: .port, subject: 0x80, traits: .write, size: 1, userspace: 2)),
    Case(
      name: "port IN from user space, which blocks",
      steps: [entry(100), svm(150, 0x7b, 0x0cfc_0041), user(153), out(160), woken(180), on(185), run(190), entry(195)],
      states: [.guest: 50, .kernel: 3 + 5, .qemu: 7 + 5, .qemuBlocked: 20, .wakeLatency: 5],
      key: Key(isa: 2, reason: 0x7b, kind: .port, subject: 0xcfc, size: 4, userspace: 2)),
    Case(
      name: "port handled in the kernel", steps: [entry(100), exit(150, ioReason, 0x0061_0008), entry(157)],
      states: [.guest: 50, .kernel: 7], key: Key(isa: 1, reason: 30, kind: .port, subject: 0x61, size: 1)),
    Case(
      name: "MMIO write, SVM",
      steps: [
        entry(100), svm(150, 0x400, 0x1_0000_000e, 0xfed0_00f4), said(KT_MMIO, 152, 0xfed0_00f4, 2, size: 4),
        user(154, 6), run(190), entry(195),
      ],
      states: [.guest: 50, .kernel: 4 + 5, .qemu: 36],
      key: Key(isa: 2, reason: 0x400, kind: .mmio, subject: 0xfed0_0000, traits: .write, size: 4, userspace: 6)),
    Case(
      name: "MMIO read, VMX",
      steps: [
        entry(100), exit(150, 49), said(KT_MMIO, 152, 0xfeb0_1010, 0, size: 2), user(154, 6), run(190),
        said(KT_MMIO, 192, 0xfeb0_1010, 1, size: 2), entry(195),
      ],
      states: [.guest: 50, .kernel: 4 + 5, .qemu: 36],
      key: Key(isa: 1, reason: 49, kind: .mmio, subject: 0xfeb0_1000, size: 2, userspace: 6)),
    Case(
      name: "ioeventfd kick, SVM",
      steps: [
        entry(100), svm(150, 0x400, 0x1_0000_0006, 0xfebf_7004), said(KT_MMIO, 152, 0xfebf_7004, 2, size: 2),
        said(KT_IOEVENTFD, 153), entry(160),
      ],
      states: [.guest: 50, .kernel: 10],
      key: Key(
        isa: 2, reason: 0x400, kind: .mmio, subject: 0xfebf_7000, traits: [.write, .inIoeventfd], size: 2)),
    Case(
      name: "ioeventfd kick, VMX",
      steps: [entry(100), exit(150, 49), said(KT_FAST_MMIO, 153, 0xfebf_7004), entry(160)],
      states: [.guest: 50, .kernel: 10],
      key: Key(isa: 1, reason: 49, kind: .mmio, subject: 0xfebf_7000, traits: [.write, .inIoeventfd])),
  ]

  private static let handled: [Case] = [
    Case(
      name: "MSR", steps: [entry(100), exit(150, 32), said(KT_MSR, 155, 0x6e0, 1), entry(160)],
      states: [.guest: 50, .kernel: 10], key: Key(isa: 1, reason: 32, kind: .msr, subject: 0x6e0, traits: .write)),
    Case(
      name: "CPUID", steps: [entry(100), svm(150, 0x72), said(KT_CPUID, 155, 0xd), entry(160)],
      states: [.guest: 50, .kernel: 10], key: Key(isa: 2, reason: 0x72, kind: .cpuid, subject: 0xd)),
    Case(
      name: "a fault on memory",
      steps: [entry(100), svm(150, 0x400, 0x1_0000_0014, 0x5000), irq(155), irqEnd(157), entry(160)],
      states: [.guest: 50, .kernel: 8, .hostInterrupt: 2], key: Key(isa: 2, reason: 0x400, kind: .fault, traits: .fetch)
    ),
    Case(
      name: "a fault that waits for its page",
      steps: [entry(100), exit(150, 48, 0x3a), out(160), woken(60_170), on(60_180), entry(60_190)],
      states: [.guest: 50, .kernel: 20, .kernelBlocked: 60_010, .wakeLatency: 10],
      key: Key(isa: 1, reason: 48, kind: .fault, traits: [.write, .present, .blocked])),
    Case(
      name: "preempted in the kernel",
      steps: [entry(100), exit(150), out(155, 0), on(185), injected(187, 0x30), entry(190)],
      states: [.guest: 50, .kernel: 10, .preempted: 30]),
    Case(
      name: "preempted between two events of an exit",
      steps: [entry(100), exit(150, 32), out(155, 0x100), on(185), said(KT_MSR, 187, 0x830, 1), entry(190)],
      states: [.guest: 50, .kernel: 10, .preempted: 30],
      key: Key(isa: 1, reason: 32, kind: .msr, subject: 0x830, traits: .write)),
  ]

  private static let interrupts: [Case] = [
    Case(
      name: "host interrupt, SVM: before the exit",
      steps: [
        timer(90, 0xfd), entry(100), irq(150), irqEnd(156), irq(157, KT_HOST_IRQ_SOFT, 1), irqEnd(160), svm(162, 0x60),
        accepted(163, 0x30), injected(164, 0x30), entry(170),
      ],
      states: [.guest: 50, .hostInterrupt: 6 + 3, .kernel: 1 + 2 + 8],
      key: Key(isa: 2, reason: 0x60, kind: .vector, subject: 0xec, traits: [.hostTimer, .injected])),
    Case(
      name: "host interrupt, VMX: after the exit",
      steps: [entry(100), exit(150, 1, vector: 0xec), irq(152), irqEnd(156), entry(160)],
      states: [.guest: 50, .hostInterrupt: 4, .kernel: 6],
      key: Key(isa: 1, reason: 1, kind: .vector, subject: 0xec, traits: .hostTimer)),
    Case(
      name: "host interrupt of a device, nested",
      steps: [
        entry(100), irq(150, KT_HOST_IRQ_DEVICE, 27), irq(152, KT_HOST_IRQ_IPI, 0xfd), irqEnd(154), irqEnd(160),
        svm(161, 0x60), entry(170),
      ],
      states: [.guest: 50, .hostInterrupt: 10, .kernel: 1 + 9],
      key: Key(isa: 2, reason: 0x60, kind: .irq, subject: 27, traits: [.hostDevice, .hostIpi])),
    Case(
      name: "interrupt window: the first injection names it, no host interrupt does",
      steps: [
        entry(99), timer(100, 0x30), exit(150, 7), irq(151), irqEnd(152), injected(155, 0x30), injected(156, 0x40),
        entry(160),
      ],
      states: [.guest: 51, .kernel: 9, .hostInterrupt: 1],
      key: Key(
        isa: 1, reason: 7, kind: .vector, subject: 0x30,
        traits: [.injected, .injectedTimer, .timerKnown, .hostTimer])),
    Case(
      name: "preempted in guest mode, VMX: the exit first",
      steps: [entry(100), exit(150, 1, vector: 0xec), irq(152), irqEnd(154), out(155, 0), on(185), entry(190)],
      states: [.guest: 50, .kernel: 2 + 1 + 5, .hostInterrupt: 2, .preempted: 30]),
    Case(
      name: "preempted in guest mode, SVM, full preemption: the switch first",
      steps: [entry(100), irq(150), irqEnd(154), out(155, 0x100), on(185), svm(187, 0x60), entry(190)],
      states: [.guest: 50, .hostInterrupt: 4, .kernel: 1 + 2 + 3, .preempted: 30],
      key: Key(isa: 2, reason: 0x60, kind: .vector, subject: 0xec, traits: .hostTimer)),
    Case(
      name: "immediate exit",
      steps: [
        entry(100, immediate: 1), irq(101, KT_HOST_IRQ_IPI, 0xfd), irqEnd(103), svm(104, 0x60), entry(110),
        svm(120, 0x60), entry(125),
      ],
      states: [.guest: 1 + 10, .hostInterrupt: 2, .kernel: 1 + 6 + 5],
      key: Key(isa: 2, reason: 0x60, kind: .vector, subject: 0xfd, traits: [.hostIpi, .immediate])),
    Case(
      name: "preemption timer",
      steps: [entry(99), timer(100, 0xec), exit(150, 52), accepted(153, 0xec), injected(155, 0xec), entry(160)],
      states: [.guest: 51, .kernel: 10],
      key: Key(isa: 1, reason: 52, traits: [.injected, .injectedTimer, .timerKnown])),
  ]

  private static let threads: [Case] = [
    Case(
      name: "thread start: no slot before the first entry",
      steps: [on(10), user(20, 0, error: -4), run(30), entry(100), exit(150), entry(157)],
      states: [.guest: 50, .kernel: 7]),
    Case(
      name: "AP start: the wait for the start-up IPI is no blocking",
      steps: [
        entry(100), exit(150, 3), user(155), run(160), out(170), woken(400), on(410), slept(420, 255), entry(430),
      ],
      states: [.guest: 50, .kernel: 5 + 10 + 20, .qemu: 5, .haltWait: 230, .wakeLatency: 10]),
    Case(
      name: "thread exit",
      steps: [
        entry(100), exit(150, 1), user(155, 10, error: -4), Step(kind: KT_THREAD_END, time: 190), out(195, 0x20),
      ],
      states: [.guest: 50, .kernel: 5, .qemu: 35]),
  ]
}
