import Attribution
import CKvmtax
import TestSupport
import Testing

/// The machine in user space against the oracle.
@Suite struct MachineTests {
  static let seeds = UInt64(1)...36

  /// Half of the streams as no kernel would send them, half in its own orders with single events dropped and doubled.
  static func stream(_ seed: UInt64, _ count: Int, features: UInt8) -> [kt_event] {
    if seed % 2 == 0 {
      var random = RandomEvents(seed: seed, features: features)
      return random.next(count)
    }
    // with more and less damage, and none
    var plausible = PlausibleEvents(seed: seed, features: features, damage: [0, 5, 20, 200][Int(seed / 2 % 4)])
    return plausible.next(count)
  }

  @Test(arguments: seeds) func agreesWithTheOracle(seed: UInt64) throws {
    let features = FeatureSets.of(seed / 2)
    let events = MachineTests.stream(seed, 8_000, features: features)
    var machine = ReferenceMachine(features: features)
    for event in events { machine.step(event) }
    let oracle = Oracle(events, features: features)
    try oracle.expectSame(machine)
    var replay = Replay(features: features)
    replay.step(events.span)
    try expectSame(replay.ledger().withSortedAccounts(), oracle.ledger())
  }

  @Test(arguments: seeds) func agreesWithTheOracleAcrossGaps(seed: UInt64) throws {
    let features = FeatureSets.of(seed / 2)
    var random = RandomEvents(seed: seed, threadCount: 5, features: features)
    var replay = Replay(features: features)
    var oracle = Oracle(features: features)
    for round in 0..<60 {
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

  @Test(arguments: seeds) func agreesWithTheOracleAcrossLossesOfOneCpu(seed: UInt64) throws {
    let features = FeatureSets.of(seed / 2)
    var random = RandomEvents(seed: seed, threadCount: 5, features: features)
    var replay = Replay(features: features)
    var oracle = Oracle(features: features)
    for round in UInt64(0)..<30 {
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

  /// Whatever comes, also events that the features exclude.
  @Test(arguments: seeds) func everyNanosecondIsInExactlyOneState(seed: UInt64) {
    var random = RandomEvents(seed: seed, threadCount: 3, features: 63 + 64 * UInt8(seed % 2))
    var machine = ReferenceMachine(features: FeatureSets.of(seed))
    for event in random.next(3000) {
      machine.step(event)
      for number in 0..<machine.slotCount {
        let slot = machine.slots + number
        let states = StateTimes(copying: kt_slot_state_ns(slot))
        let wall = slot.pointee.since_ns - slot.pointee.first_ns
        #expect(states.total == wall && states.nanoseconds.allSatisfy { $0 <= wall })
      }
    }
    for row in machine.rows.values {
      var row = row
      let account = ExitAccount(&row)
      #expect(account.states.total == account.totalNanoseconds)
      #expect(account.states.nanoseconds.allSatisfy { $0 <= account.totalNanoseconds })
    }
    for row in machine.keyRows.values {
      let sum = withUnsafeBytes(of: row.state_ns) { $0.bindMemory(to: UInt64.self).reduce(0, &+) }
      #expect(sum == row.total_ns)
    }
  }

  @Test func theStreamsMeetEveryCase() {
    // otherwise agreement says little
    var all = VCPU(thread: 1, tid: 1)
    var account = ExitAccount(isa: 1, reason: 1)
    var traits: UInt32 = 0
    var kinds: Set<UInt8> = []
    for seed in MachineTests.seeds {
      let features = FeatureSets.of(seed / 2)
      var replay = Replay(features: features)
      replay.step(MachineTests.stream(seed, 8_000, features: features).span)
      for thread in replay.threads() {
        all.states.add(thread.vcpu.states)
        all.backwards += thread.vcpu.backwards
        all.unpairedEntries += thread.vcpu.unpairedEntries
        for other in thread.vcpu.accounts { account.add(other) }
        for row in thread.keys {
          traits |= row.key.traits
          kinds.insert(row.key.kind)
        }
      }
    }
    for state in State.allCases { #expect(all.states[state] > 0 && account.states[state] > 0 || state == .guest) }
    #expect(all.backwards > 0 && all.unpairedEntries > 0 && account.unpaired > 0 && account.open > 0)
    for (bucket, count) in account.histogram.counts.enumerated() { #expect(count > 0, "bucket \(bucket)") }
    #expect(traits == KT_TIMER_KNOWN.rawValue * 2 - 1 && kinds.count == Int(KT_KEY_KINDS.rawValue))
  }

  @Test(arguments: Case.eventOrder + Case.rules + Case.features) func splitsTimeAsTheModelSays(_ example: Case) throws {
    let events = example.events
    var replay = Replay(features: example.features)
    replay.step(events.span)
    let thread = try #require(replay.threads().first)
    for state in State.allCases { #expect(thread.vcpu.states[state] == example.states[state] ?? 0, "\(state.name)") }
    if let key = example.key {
      #expect(thread.keys.map { Key($0.key) }.contains(key), "\(thread.keys.map { Key($0.key) })")
    }
    if let missed = example.missed { #expect(thread.vcpu.missedSwitches == missed) }
    var machine = ReferenceMachine(features: example.features)
    for event in events { machine.step(event) }
    try Oracle(events, features: example.features).expectSame(machine)
  }
}
