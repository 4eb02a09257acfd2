import Attribution
import CKvmtax
import TestSupport
import Testing

/// The machine in user space against the oracle.
@Suite struct MachineTests {
  @Test(arguments: UInt64(1)...40) func agreesWithTheOracle(seed: UInt64) throws {
    var random = RandomEvents(seed: seed)
    let events = random.next(2048)
    var replay = Replay()
    replay.step(events.span)
    let ledger = replay.ledger().withSortedAccounts()
    try expectSame(ledger, Oracle(events).ledger())
  }

  @Test(arguments: UInt64(1)...20) func agreesWithTheOracleAcrossGaps(seed: UInt64) throws {
    var random = RandomEvents(seed: seed, threadCount: 5)
    var replay = Replay()
    var oracle = Oracle()
    for round in 0..<40 {
      for event in random.next(30) {
        replay.step([event].span)
        oracle.take(event)
      }
      // a gap begins before, at or after the threads' last events, and may be empty
      let start = random.now &- UInt64(round % 3) &* 1000
      let end = random.now &+ UInt64(round % 4) &* 5000
      replay.gap(from: start, to: end)
      oracle.takeGap(from: start, to: end)
    }
    try expectSame(replay.ledger().withSortedAccounts(), oracle.ledger())
  }

  @Test(arguments: UInt64(1)...20) func agreesWithTheOracleAcrossLossesOfOneCpu(seed: UInt64) throws {
    var random = RandomEvents(seed: seed, threadCount: 5)
    var replay = Replay()
    var oracle = Oracle()
    for round in UInt64(0)..<20 {
      for event in random.next(30) {
        replay.step([event].span)
        oracle.take(event)
      }
      var loss = kt_event()
      loss.kind = Replay.lossKind
      loss.cpu = UInt32(round * 5 % 8)
      loss.arg = random.now &- round &* 1000
      loss.time_ns = random.now &+ round % 3 &* 1000
      replay.step([loss].span)
      oracle.takeLoss(cpu: loss.cpu, from: loss.arg, to: loss.time_ns)
    }
    try expectSame(replay.ledger().withSortedAccounts(), oracle.ledger())
  }

  @Test(arguments: UInt64(1)...10) func everyNanosecondIsInExactlyOneState(seed: UInt64) {
    var random = RandomEvents(seed: seed, threadCount: 3)
    var replay = Replay()
    for count in 1...64 {
      // after each of the first 33 events, then after ever more
      replay.step(random.next(max(1, count - 32)).span)
      for vcpu in replay.ledger().vcpus {
        #expect(vcpu.states.total == vcpu.wallNanoseconds)
        for account in vcpu.accounts { #expect(account.states.total == account.totalNanoseconds) }
      }
    }
  }

  @Test func theStreamsMeetEveryCase() {
    // otherwise agreement says little
    var all = VCPU(thread: 1, tid: 1)
    var account = ExitAccount(isa: 1, reason: 1)
    for seed in UInt64(1)...40 {
      var random = RandomEvents(seed: seed)
      var replay = Replay()
      replay.step(random.next(2048).span)
      for vcpu in replay.ledger().vcpus {
        all.states.add(vcpu.states)
        all.backwards += vcpu.backwards
        all.unpairedEntries += vcpu.unpairedEntries
        for other in vcpu.accounts { account.add(other) }
      }
    }
    for state in [State.unknown, .guest, .kernel, .qemu, .haltPoll, .haltWait] { #expect(all.states[state] > 0) }
    #expect(all.backwards > 0 && all.unpairedEntries > 0 && account.unpaired > 0 && account.open > 0)
    for (bucket, count) in account.histogram.counts.enumerated() { #expect(count > 0, "bucket \(bucket)") }
  }

  /// Single sequences with their result worked out by hand: (kind, ns, reason or waited, the wake-up's ns).
  @Test(arguments: Case.all) func splitsTimeAsTheModelSays(_ example: Case) throws {
    var replay = Replay()
    let events = example.steps.map { step in
      kt_event(
        time_ns: step.time, arg: step.slept, arg2: 0, rip: 0, run_delay_ns: 0, tid: 7, tgid: 3, reason: step.reason,
        extra: 0, cpu: 0, vcpu: 0, kind: UInt8(step.kind.rawValue), isa: 1)
    }
    replay.step(events.span)
    let vcpu = try #require(replay.ledger().vcpus.first)
    for state in State.allCases { #expect(vcpu.states[state] == example.states[state] ?? 0, "\(state.name)") }
    let oracle = try #require(Oracle(events).ledger().vcpus.first)
    #expect(oracle.states == vcpu.states)
  }
}

/// A short sequence of VMX events on one thread and what it must give.
struct Case: CustomTestStringConvertible, Sendable {
  struct Step: Sendable {
    var kind: kt_kind
    var time: UInt64
    var reason: UInt32 = 0
    var slept: UInt64 = 0
  }
  var name: String
  var steps: [Step]
  var states: [State: UInt64]
  var testDescription: String { name }

  static func exit(_ time: UInt64, _ reason: UInt32 = 30) -> Step { Step(kind: KT_EXIT, time: time, reason: reason) }
  static func entry(_ time: UInt64) -> Step { Step(kind: KT_ENTRY, time: time) }
  static func user(_ time: UInt64) -> Step { Step(kind: KT_USERSPACE_EXIT, time: time) }
  static func polled(_ time: UInt64, _ slept: UInt64) -> Step { Step(kind: KT_VCPU_WAKEUP, time: time, slept: slept) }
  static func slept(_ time: UInt64, _ slept: UInt64) -> Step {
    Step(kind: KT_VCPU_WAKEUP, time: time, reason: 1, slept: slept)
  }

  static let all: [Case] = [
    Case(
      name: "handled in the kernel", steps: [entry(100), exit(150), entry(157)], states: [.guest: 50, .kernel: 7]),
    Case(
      name: "handled in user space", steps: [entry(100), exit(150), user(153), entry(190)],
      states: [.guest: 50, .kernel: 3, .qemu: 37]),
    Case(name: "HLT, no wake-up seen", steps: [exit(100, 12), entry(190)], states: [.haltWait: 90]),
    Case(
      name: "HLT handed to user space", steps: [exit(100, 12), user(120), entry(190)], states: [.haltWait: 90]),
    Case(
      name: "HLT, slept", steps: [exit(100, 12), slept(180, 60), entry(190)],
      states: [.kernel: 20 + 10, .haltWait: 60]),
    Case(
      name: "HLT, polled", steps: [exit(100, 12), polled(180, 60), entry(190)],
      states: [.kernel: 20 + 10, .haltPoll: 60]),
    Case(
      name: "a sleep longer than the exit", steps: [exit(100, 12), slept(180, 500), entry(190)],
      states: [.kernel: 10, .haltWait: 80]),
    Case(
      name: "a wake-up outside HLT tells nothing", steps: [exit(100), slept(180, 50), entry(190)],
      states: [.kernel: 90]),
    Case(
      name: "waiting for the start-up IPI", steps: [user(100), slept(180, 50), entry(190)],
      states: [.qemu: 30 + 10, .haltWait: 50]),
    Case(
      name: "two exits", steps: [entry(10), exit(100), user(120), exit(180), entry(190)],
      states: [.guest: 90, .unknown: 80, .kernel: 10]),
    Case(
      name: "two entries", steps: [entry(100), entry(180), exit(190)], states: [.unknown: 80, .guest: 10]),
    Case(
      name: "user space straight from the guest", steps: [entry(100), user(180), entry(190)],
      states: [.unknown: 80, .qemu: 10]),
    Case(
      name: "an exit straight from user space", steps: [user(100), exit(180), entry(190)],
      states: [.unknown: 80, .kernel: 10]),
    Case(
      name: "a time that goes back", steps: [entry(100), exit(90), entry(110)], states: [.kernel: 10]),
  ]
}
