import Attribution
import CKvmtax
import TestSupport
import Testing

@Suite struct TimelineTests {
  private static let second: UInt64 = 1_000_000_000

  private static func event(
    _ kind: kt_kind, _ time: UInt64, tid: UInt32 = 7, reason: UInt32 = 30, argument: UInt64 = 0
  ) -> kt_event {
    var event = kt_event()
    event.time_ns = time
    event.arg = argument
    event.tid = tid
    event.tgid = 3
    event.reason = reason
    event.kind = UInt8(kind.rawValue)
    event.isa = 1
    return event
  }

  private static func evidence(_ events: [kt_event]) -> Evidence {
    var replay = Replay()
    replay.step(events.span)
    let ledger = replay.ledger()
    return Evidence(
      capture: Capture(file: "events", format: "events", rung: "events"), ledger: ledger,
      timeline: replay.timeline(of: ledger), trust: Trust())
  }

  @Test func anImportIsDividedIntoSeconds() throws {
    // in the second n, n + 1 exits of 1 ms each
    var events = [Self.event(KT_ENTRY, 5)]
    for number in 0..<5 {
      for exit in 0...number {
        let time = UInt64(number) * Self.second + UInt64(exit) * 100_000_000 + 10
        events += [Self.event(KT_EXIT, time), Self.event(KT_ENTRY, time + 1_000_000)]
      }
    }
    let evidence = Self.evidence(events)
    try expectTimelineSums(evidence)
    let thread = try #require(evidence.timeline.threads.first)
    #expect(thread.intervals.map(\.exits) == [1, 2, 3, 4, 5])
    #expect(thread.intervals.map { $0.states[.kernel] } == [1, 2, 3, 4, 5].map { $0 * 1_000_000 })
    #expect(evidence.timeline.reasons.first?.points.map(\.exits) == [1, 2, 3, 4, 5])
    #expect(evidence.timeline.ends.first == 5 + Self.second)
  }

  @Test func aStateThatTurnsOutWrongIsCorrectedWhereItWasBooked() throws {
    // 10 s in user space, then another exit: nothing is known of these 10 s
    let evidence = Self.evidence([
      Self.event(KT_ENTRY, 100), Self.event(KT_EXIT, Self.second / 2), Self.event(KT_USERSPACE_EXIT, Self.second),
      Self.event(KT_ENTRY, 1, tid: 8),
      Self.event(KT_EXIT, 5 * Self.second, tid: 8), Self.event(KT_ENTRY, 5 * Self.second + 1, tid: 8),
      Self.event(KT_EXIT, 11 * Self.second), Self.event(KT_ENTRY, 11 * Self.second + 1000),
    ])
    try expectTimelineSums(evidence)
    let thread = try #require(evidence.timeline.threads.first { $0.thread == 1 })
    #expect(thread.count == 12)
    #expect(thread.intervals.dropFirst().dropLast().allSatisfy { $0.states[.unknown] == Self.second })
    #expect(thread.intervals.allSatisfy { $0.states[.qemu] == 0 })
  }

  @Test func aHaltIsIdleInEachOfItsSeconds() throws {
    let end = 10 * Self.second
    let evidence = Self.evidence([
      Self.event(KT_ENTRY, 0), Self.event(KT_EXIT, 1_000, reason: 12),
      Self.event(KT_VCPU_WAKEUP, end, reason: 1, argument: end - 4_000), Self.event(KT_ENTRY, end + 500),
    ])
    try expectTimelineSums(evidence)
    let thread = try #require(evidence.timeline.threads.first)
    #expect(thread.count >= 10)
    for interval in thread.intervals.prefix(10) { #expect(interval.states[.haltWait] >= Self.second - 10_000) }
  }

  @Test func aLongTraceGetsLongerIntervals() throws {
    var events = [Self.event(KT_ENTRY, 0)]
    for number in 1...20_000 as ClosedRange<UInt64> {
      events += [Self.event(KT_EXIT, number * Self.second), Self.event(KT_ENTRY, number * Self.second + 1_000)]
    }
    let evidence = Self.evidence(events)
    try expectTimelineSums(evidence)
    let ends = evidence.timeline.ends
    #expect(ends.count <= TimelineBuilder.intervalLimit && ends.count > TimelineBuilder.intervalLimit / 2)
    #expect(zip(ends, ends.dropFirst()).dropLast().allSatisfy { $1 - $0 == 8 * Self.second })
  }

  @Test func timesThatJumpCostNoTime() throws {
    var events = [Self.event(KT_ENTRY, 0)]
    var time: UInt64 = 1
    while time < 1 << 57 {
      events += [Self.event(KT_EXIT, time), Self.event(KT_ENTRY, time + 1)]
      time *= 3
    }
    try expectTimelineSums(Self.evidence(events))
    let beyond = Self.evidence(events + [Self.event(KT_EXIT, .max - 1), Self.event(KT_ENTRY, .max)])
    for interval in beyond.timeline.threads[0].intervals {
      #expect(interval.states.total == interval.endNanoseconds - interval.startNanoseconds)
    }
  }

  @Test func manyThreadsShareTheRoom() {
    // 100 threads and their rows in a room for 20 intervals of them
    var builder = TimelineBuilder(cellLimit: 20 * 100 * 15 + 1_000)
    var slots = [kt_slot](repeating: kt_slot(), count: 100)
    var rows = [kt_row](repeating: kt_row(), count: 100)
    var ledger = Ledger()
    for number in slots.indices {
      slots[number].thread = UInt32(number + 1)
      kt_start(&slots[number], Self.second, UInt32(number + 1), 3, 0)
      rows[number].slot = UInt32(number)
    }
    for second in 1...1000 as ClosedRange<UInt64> {
      for number in slots.indices {
        slots[number].exits += 1
        rows[number].finished += 1
        kt_move(&slots[number], second * Self.second + UInt64(number) + 1, UInt8(KT_GUEST.rawValue))
      }
      builder.close(at: second * Self.second, slots: slots, slotCount: 100, rows: rows, rowNumbers: 0..<100)
    }
    for number in slots.indices { ledger.add(VCPU(&slots[number], endNanoseconds: nil), pid: 3) }
    let timeline = builder.finish(ledger, slots: slots, rows: rows, rowNumbers: 0..<100)
    #expect(timeline.ends.count > 10 && timeline.ends.count <= 21)
    for (thread, vcpu) in zip(timeline.threads, ledger.vcpus) {
      #expect(thread.intervals.reduce(0) { $0 + $1.exits } == 1000)
      #expect(thread.intervals.reduce(0) { $0 + $1.states.total } == vcpu.wallNanoseconds)
    }
    #expect(timeline.reasons.flatMap(\.points).reduce(0) { $0 + $1.exits } == 100_000)
  }

  @Test(arguments: 0..<40 as Range<UInt64>) func whateverTheEventsSumsHold(seed: UInt64) throws {
    var random = SeededNumbers(seed: seed)
    var events: [kt_event] = []
    var time: UInt64 = 1_000
    for _ in 0..<400 {
      time += UInt64.random(in: 0...1_500_000_000, using: &random)
      // now and then an event is late
      let late = Int.random(in: 0..<10, using: &random) == 0 ? UInt64.random(in: 0...900, using: &random) : 0
      var event = Self.event(
        [KT_EXIT, KT_EXIT, KT_ENTRY, KT_ENTRY, KT_USERSPACE_EXIT, KT_VCPU_WAKEUP].randomElement(using: &random)!,
        time - late, tid: UInt32.random(in: 1...3, using: &random), reason: [12, 30, 48].randomElement(using: &random)!)
      if event.kind == UInt8(KT_VCPU_WAKEUP.rawValue) {
        event.arg = UInt64.random(in: 0...3_000_000_000, using: &random)
        event.reason = UInt32.random(in: 0...1, using: &random)
      }
      if Int.random(in: 0..<40, using: &random) == 0 {
        event.kind = Replay.lossKind
        event.arg = time - 500_000_000
      }
      events.append(event)
    }
    try expectTimelineSums(Self.evidence(events))
  }
}
