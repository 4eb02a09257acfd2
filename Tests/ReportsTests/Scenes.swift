import Attribution
import CKvmtax

/// Events of threads of known behaviour, and the evidence that the machine makes of them.
struct Scene {
  private var events: [kt_event] = []
  private var names: [UInt32: (name: String?, vmid: Int?)] = [:]

  /// One vCPU thread; times go on from where its last event was.
  struct Thread {
    var tid: UInt32
    var pid: UInt32
    var index: UInt16
    var isa: UInt8 = 1
    var time: UInt64 = 1_000_000_000
  }

  mutating func vm(pid: UInt32, name: String?, vmid: Int? = nil) { names[pid] = (name, vmid) }

  private mutating func add(
    _ thread: Thread, _ kind: kt_kind, at time: UInt64, reason: UInt32 = 0, argument: UInt64 = 0
  ) {
    var event = kt_event()
    event.time_ns = time
    event.arg = argument
    event.tid = thread.tid
    event.tgid = thread.pid
    event.reason = reason
    event.vcpu = thread.index
    event.kind = UInt8(kind.rawValue)
    event.isa = thread.isa
    events.append(event)
  }

  mutating func entry(_ thread: inout Thread) { add(thread, KT_ENTRY, at: thread.time) }

  mutating func exit(_ thread: inout Thread, reason: UInt32) { add(thread, KT_EXIT, at: thread.time, reason: reason) }

  /// `count` times: guest code, then an exit handled in the kernel and then, where `qemu` is not 0, in QEMU.
  mutating func exits(
    _ thread: inout Thread, _ count: Int, reason: UInt32, guest: UInt64, kernel: UInt64, qemu: UInt64 = 0
  ) {
    for _ in 0..<count {
      thread.time += guest
      // an IO_INSTRUCTION reads four bytes from port 0x608
      add(thread, KT_EXIT, at: thread.time, reason: reason, argument: reason == 30 ? 0x0608_000b : 0)
      thread.time += kernel
      if qemu > 0 {
        add(thread, KT_USERSPACE_EXIT, at: thread.time)
        thread.time += qemu
      }
      add(thread, KT_ENTRY, at: thread.time)
    }
  }

  /// A halt of so many ns; divided by a wake-up event into handling, polling and waiting where `divided`.
  mutating func halt(_ thread: inout Thread, guest: UInt64, wait: UInt64, divided: Bool = false, polled: Bool = false) {
    thread.time += guest
    add(thread, KT_EXIT, at: thread.time, reason: thread.isa == 1 ? 12 : 0x78)
    if divided {
      thread.time += 1000 + wait
      add(thread, KT_VCPU_WAKEUP, at: thread.time, reason: polled ? 0 : 1, argument: wait)
      thread.time += 500
    } else {
      thread.time += wait
    }
    add(thread, KT_ENTRY, at: thread.time)
  }

  func evidence(
    file: String = "kvmtax-20261121-092200.kvmtax", format: String = "kvmtax trace", rung: String = "accounts"
  ) -> Evidence {
    var features = UInt8(KT_HAS_USERSPACE_EXIT.rawValue)
    if events.contains(where: { $0.kind == UInt8(KT_VCPU_WAKEUP.rawValue) }) {
      features |= UInt8(KT_HAS_WAKEUP.rawValue)
    }
    var replay = Replay(features: features)
    // a stable order: threads are fed one after the other, which the machine cannot tell from any other interleaving
    replay.step(events.span)
    var ledger = replay.ledger()
    let timeline = replay.timeline(of: ledger)
    for index in ledger.vms.indices {
      guard let known = names[ledger.vms[index].pid] else { continue }
      ledger.vms[index].name = known.name
      ledger.vms[index].vmid = known.vmid
    }
    ledger.sort()
    var capture = Capture(file: file, format: format, rung: rung)
    capture.durationNanoseconds =
      replay.eventCount == 0 ? 0 : replay.lastNanoseconds - replay.firstNanoseconds
    for (reason, name) in vmxNames { capture.reasonNames.set(isa: 1, reason: reason, name: name) }
    return Evidence(capture: capture, ledger: ledger, timeline: timeline, trust: Trust())
  }
}

let vmxNames: [UInt32: String] = [
  1: "EXTERNAL_INTERRUPT", 10: "CPUID", 12: "HLT", 30: "IO_INSTRUCTION", 31: "MSR_READ", 32: "MSR_WRITE",
  48: "EPT_VIOLATION", 49: "EPT_MISCONFIG", 56: "APIC_WRITE",
]

enum Scenes {
  /// A Windows guest that reads a timer of QEMU's all day, 4 vCPUs.
  static func busy() -> Evidence {
    var scene = Scene()
    scene.vm(pid: 4242, name: "win-erp", vmid: 104)
    for index in 0..<4 {
      var thread = Scene.Thread(tid: 5000 + UInt32(index), pid: 4242, index: UInt16(index))
      let factor = 4 - index
      scene.entry(&thread)
      scene.exits(&thread, 200 * factor, reason: 30, guest: 30_000, kernel: 900, qemu: 3_600)
      scene.exits(&thread, 60 * factor, reason: 49, guest: 20_000, kernel: 1_400, qemu: 6_000)
      scene.exits(&thread, 90, reason: 32, guest: 40_000, kernel: 1_100)
      scene.exits(&thread, 30, reason: 1, guest: 50_000, kernel: 1_700)
      scene.exits(&thread, 5, reason: 10, guest: 9_000, kernel: 1_000)
      for _ in 0..<20 { scene.halt(&thread, guest: 30_000, wait: 1_500_000) }
      scene.exit(&thread, reason: 48)
    }
    var evidence = scene.evidence()
    evidence.capture.host = "pve2"
    evidence.capture.kernel = "6.8.12-9-pve"
    evidence.capture.clock = "monotonic"
    evidence.capture.attach = "tp_btf"
    evidence.capture.startRealtimeNanoseconds = 1_795_252_920_000_000_000
    return evidence
  }

  /// The same, on a host that was calibrated.
  static func calibrated() -> Evidence { calibrated(busy()) }

  /// The same of any scene.
  static func calibrated(_ evidence: Evidence) -> Evidence {
    var evidence = evidence
    let mode = Calibration.Mode(attach: "tp_btf", tier: "lite", keys: false, records: false)
    var calibration = Calibration(date: "2026-11-03 09:22:00 UTC", host: [:])
    for (path, kind, world) in [(Calibration.Path.kernel, "cpuid", 420.0), (.userspace, "out", 480)] {
      var one = Calibration.Measurement(
        path: path, kind: kind, roundTrip: Bounded(low: 1900, mid: 2000, high: 2300),
        worldSwitch: Bounded(low: world - 60, mid: world, high: world + 90))
      let part = Bounded(low: 150, mid: 200, high: 260)
      one.tracer[mode] = Calibration.TracerCost(
        total: Bounded(low: 350, mid: 400, high: 460), inside: part, outside: part,
        roundTrip: Bounded(low: 2300, mid: 2400, high: 2700))
      calibration.measurements.append(one)
    }
    evidence.capture.mode = mode
    evidence.capture.calibration = calibration
    return evidence
  }

  /// Three VMs: one busy, one divided halts with polling, one that hardly runs.
  static func several() -> Evidence {
    var scene = Scene()
    scene.vm(pid: 100, name: "mail", vmid: 107)
    scene.vm(pid: 200, name: "dns")
    scene.vm(pid: 300, name: "win-erp", vmid: 104)
    for index in 0..<2 {
      var thread = Scene.Thread(tid: 110 + UInt32(index), pid: 100, index: UInt16(index))
      scene.entry(&thread)
      scene.exits(&thread, 300, reason: 32, guest: 60_000, kernel: 1_300)
      for step in 0..<50 { scene.halt(&thread, guest: 10_000, wait: 400_000, divided: true, polled: step % 5 == 0) }
    }
    var idle = Scene.Thread(tid: 210, pid: 200, index: 0)
    scene.entry(&idle)
    for _ in 0..<4 { scene.halt(&idle, guest: 5_000, wait: 10_000_000) }
    scene.exits(&idle, 3, reason: 1, guest: 10_000, kernel: 2_000)
    var busy = Scene.Thread(tid: 310, pid: 300, index: 0)
    scene.entry(&busy)
    scene.exits(&busy, 800, reason: 30, guest: 40_000, kernel: 1_000, qemu: 5_000)
    return scene.evidence(file: "night.kvmtax")
  }

  /// One vCPU that sleeps.
  static func idle() -> Evidence {
    var scene = Scene()
    scene.vm(pid: 7, name: "dns", vmid: 112)
    var thread = Scene.Thread(tid: 8, pid: 7, index: 0, isa: 2)
    scene.entry(&thread)
    for _ in 0..<10 { scene.halt(&thread, guest: 20_000, wait: 100_000_000) }
    scene.exits(&thread, 6, reason: 0x60, guest: 10_000, kernel: 3_000)
    return scene.evidence()
  }

  /// An import that does not say which process a thread belongs to, with everything that can go wrong.
  static func damaged() -> Evidence {
    var scene = Scene()
    for index in 0..<2 {
      var thread = Scene.Thread(tid: 900 + UInt32(index), pid: 0, index: UInt16(KT_NO_VCPU))
      scene.entry(&thread)
      scene.exits(&thread, 40, reason: 30, guest: 30_000, kernel: 900, qemu: 3_600)
      thread.time += 10_000
      scene.exit(&thread, reason: 48)
      thread.time += 300_000
      scene.exit(&thread, reason: 30)
      thread.time += 2_000
      scene.entry(&thread)
      thread.time += 70_000
      scene.entry(&thread)
      scene.exits(&thread, 3, reason: 0x2a, guest: 5_000, kernel: 2_000)
      scene.exits(&thread, 1, reason: 1 << 31 | 33, guest: 5_000, kernel: 2_000)
    }
    var evidence = scene.evidence(file: "guest.dat", format: "trace.dat v7", rung: "events")
    evidence.capture.clock = "local"
    evidence.trust.lostEvents = 1234
    evidence.trust.gaps = 2
    evidence.trust.gapNanoseconds = 3_200_000
    evidence.trust.isComplete = false
    evidence.trust.damage = [
      Damage(offset: 8_388_608, length: 4096, found: "a page header that promises 70,000 bytes"),
      Damage(offset: 12_345_678, found: "the file ends inside a page"),
    ]
    evidence.trust.notes = ["2 events have fields that this release does not know"]
    for index in evidence.ledger.vms[0].vcpus.indices {
      evidence.ledger.vms[0].vcpus[index].missed = 3
      evidence.ledger.vms[0].vcpus[index].backwards = 1
    }
    return evidence
  }

  /// Names made to deceive a terminal.
  static func hostile() -> Evidence {
    var evidence = busy()
    let name = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{202e}gnp.exe\nVM 1 loses 0.0 %" + String(repeating: "界", count: 80)
    evidence.capture.file = "/var/tmp/\u{1b}[31m" + String(repeating: "very-long-name/", count: 20) + "日本語.kvmtax"
    evidence.capture.host = name
    evidence.capture.kernel = "6.1\r\n" + String(repeating: "k", count: 300)
    evidence.capture.clock = "\u{9b}31m"
    evidence.trust.notes = [name]
    evidence.trust.damage = [Damage(offset: .max, length: .max, found: name)]
    evidence.capture.reasonNames.set(isa: 1, reason: 30, name: name)
    evidence.ledger.vms[0].name = name
    for index in evidence.ledger.vms[0].vcpus.indices { evidence.ledger.vms[0].vcpus[index].name = name }
    return evidence
  }

  /// One vCPU for two minutes, whose exits to QEMU take longer and shorter in turn; `factor`: all of them longer.
  static func steady(
    factor: Double = 1, seconds: Int = 120, file: String = "steady.kvmtax", name: String = "mail", vmid: Int? = 107,
    guest: UInt64 = 32_000_000
  ) -> Evidence {
    var scene = Scene()
    scene.vm(pid: 100, name: name, vmid: vmid)
    var thread = Scene.Thread(tid: 110, pid: 100, index: 0)
    scene.entry(&thread)
    for second in 0..<seconds {
      let end = thread.time + 1_000_000_000
      let qemu = UInt64(
        Double([3_600_000, 2_400_000, 5_200_000, 5_800_000, 2_800_000, 4_000_000, 4_200_000][second / 2 % 7]) * factor)
      scene.exits(&thread, 20, reason: 30, guest: guest, kernel: 400_000, qemu: qemu)
      scene.exits(&thread, 5, reason: 32, guest: guest, kernel: 800_000)
      scene.halt(&thread, guest: 1_000, wait: end - thread.time - 3_000, divided: true)
      thread.time = end
    }
    return scene.evidence(file: file)
  }

  /// Numbers that no host can produce, as a forged file may hold them.
  static func huge() -> Evidence {
    var evidence = several()
    for vm in evidence.ledger.vms.indices {
      for vcpu in evidence.ledger.vms[vm].vcpus.indices {
        evidence.ledger.vms[vm].vcpus[vcpu].firstNanoseconds = 0
        evidence.ledger.vms[vm].vcpus[vcpu].lastNanoseconds = .max
        evidence.ledger.vms[vm].vcpus[vcpu].exits = .max
        evidence.ledger.vms[vm].vcpus[vcpu].index = .max
        evidence.ledger.vms[vm].vcpus[vcpu].overflowExits = .max
        evidence.ledger.vms[vm].vcpus[vcpu].overflowNanoseconds = .max
        for state in State.allCases { evidence.ledger.vms[vm].vcpus[vcpu].states[state] = .max / 12 }
        for account in evidence.ledger.vms[vm].vcpus[vcpu].accounts.indices {
          evidence.ledger.vms[vm].vcpus[vcpu].accounts[account].finished = .max
          evidence.ledger.vms[vm].vcpus[vcpu].accounts[account].unpaired = .max
          evidence.ledger.vms[vm].vcpus[vcpu].accounts[account].maxNanoseconds = .max
          evidence.ledger.vms[vm].vcpus[vcpu].accounts[account].minNanoseconds = .max
          evidence.ledger.vms[vm].vcpus[vcpu].accounts[account].totalNanoseconds = .max
        }
      }
    }
    evidence.capture.durationNanoseconds = .max
    evidence.capture.startRealtimeNanoseconds = .max
    evidence.trust.lostEvents = .max
    evidence.trust.lostRecords = .max
    evidence.trust.gapNanoseconds = .max
    return evidence
  }

  /// No event at all.
  static func nothing() -> Evidence { Scene().evidence() }

  /// One entry: a thread that was observed for no time.
  static func noTime() -> Evidence {
    var scene = Scene()
    scene.vm(pid: 7, name: "brief")
    var thread = Scene.Thread(tid: 8, pid: 7, index: 0)
    scene.entry(&thread)
    return scene.evidence()
  }

  /// A busy VM whose row table was full.
  static func overflow() -> Evidence {
    var evidence = busy()
    for index in evidence.ledger.vms[0].vcpus.indices {
      guard let place = evidence.ledger.vms[0].vcpus[index].accounts.firstIndex(where: { $0.reason == 49 }) else {
        continue
      }
      let account = evidence.ledger.vms[0].vcpus[index].accounts.remove(at: place)
      evidence.ledger.vms[0].vcpus[index].overflowExits = account.finished
      evidence.ledger.vms[0].vcpus[index].overflowNanoseconds = account.totalNanoseconds
    }
    return evidence
  }

  /// States that do not sum to the wall time.
  static func wrongSum() -> Evidence {
    var evidence = busy()
    evidence.ledger.vms[0].vcpus[0].states[.guest] &+= 1_000_000
    return evidence
  }

  /// A VM of many vCPUs and reasons.
  static func wide() -> Evidence {
    var scene = Scene()
    scene.vm(pid: 50, name: "build-farm-01", vmid: 9001)
    for index in 0..<40 {
      var thread = Scene.Thread(tid: 60 + UInt32(index), pid: 50, index: UInt16(index))
      scene.entry(&thread)
      for reason in 0..<30 {
        scene.exits(&thread, 2 + index % 3, reason: UInt32(reason), guest: 20_000, kernel: 500 + 20 * UInt64(reason))
      }
    }
    return scene.evidence()
  }

  static let all: [(name: String, evidence: Evidence)] = [
    ("busy", busy()), ("several", several()), ("idle", idle()), ("damaged", damaged()), ("hostile", hostile()),
    ("huge", huge()), ("nothing", nothing()), ("no-time", noTime()), ("overflow", overflow()),
    ("wrong-sum", wrongSum()), ("wide", wide()), ("calibrated", calibrated()), ("steady", steady()),
  ]
}
