import Attribution
import CKvmtax
import TestSupport
import Testing

@testable import TraceFile

/// Event records through the machine give what the programs counted, to the nanosecond.
@Suite struct EventTests {
  private static let words = RecordedFeature.value(
    [.states] + RecordedFeature.words(machineFeatures: Replay.allFeatures) + [.keys, .raw])

  /// Splits events over rings of so many CPUs each and hands them over as a tracer that drains one ring after the other.
  private func drains(_ events: [kt_event], rings: Int, every: UInt64) -> [[kt_event]] {
    var drains: [UInt64: [[kt_event]]] = [:]
    for event in events.sorted(by: { $0.time_ns < $1.time_ns }) {
      drains[event.time_ns / every, default: [[kt_event]](repeating: [], count: rings)][Int(event.cpu) % rings]
        .append(event)
    }
    return drains.sorted { $0.key < $1.key }.map { $0.value.flatMap { $0 } }
  }

  /// A recording of three seconds with a quiet period in it, threads that rest and one that ends.
  private func record(_ file: ScratchFile, rings: Int = 3) throws -> FakeHost {
    let host = FakeHost(threads: 9, features: Replay.allFeatures)
    host.keepsEvents = true
    var writer = try TraceWriter(descriptor: file.descriptor, clocks: host.clocks)
    try writer.append([CaptureFact(key: CaptureFact.Key.features, value: EventTests.words)])
    try writer.append(
      host.slots.map { TracedThread(thread: $0.thread, tid: $0.tid, tgid: $0.tgid, comm: "CPU \($0.vcpu)/KVM") })
    var encoder = SnapshotEncoder()
    for second in 0..<3 {
      host.run(nanoseconds: 1_000_000_000, exits: 300) { $0 != 5 || second == 0 }
      if second == 1 {
        host.feed(7, KT_THREAD_END, host.now)
        host.slots[7].ended = 1
      }
      for drain in drains(host.events, rings: rings, every: 20_000_000) {
        try drain.withUnsafeBufferPointer { try writer.append($0) }
      }
      host.events = []
      host.snapshot(&encoder, second == 2 ? .complete : .changes)
      try encoder.write(to: &writer)
    }
    try writer.end(
      TraceEnd(
        clocks: host.clocks, reason: "duration", exits: 0, records: writer.recordsWritten, snapshots: 3, lostRecords: 0)
    )
    return host
  }

  @Test(arguments: [1, 3, 8])
  func theReplayGivesTheAccountsLedger(rings: Int) throws {
    let file = try ScratchFile()
    let host = try record(file, rings: rings)
    let accounts = try file.bytes.trace(.accounts).evidence
    let contents = try file.bytes.trace(.events)
    let events = contents.evidence
    #expect(events.capture.rung == "events" && contents.eventRecordCount > 10_000)
    #expect(events.trust == accounts.trust && events.trust.notes.isEmpty)
    #expect(events.capture.durationNanoseconds == accounts.capture.durationNanoseconds)
    try expectSame(events.ledger, accounts.ledger)
    #expect(events.ledger == accounts.ledger)
    #expect(events.ledger.vms.allSatisfy { $0.keys == host.keys(ofVM: $0.pid) })
    #expect(events.ledger.vcpus.contains { $0.states[.wakeLatency] > 0 && $0.states[.hostInterrupt] > 0 })
  }

  @Test func aQuietPeriodIsWhatItIsInTheAccounts() throws {
    let file = try ScratchFile()
    let host = FakeHost(threads: 3, features: Replay.allFeatures)
    host.keepsEvents = true
    var writer = try TraceWriter(descriptor: file.descriptor, clocks: host.clocks)
    try writer.append([CaptureFact(key: CaptureFact.Key.features, value: EventTests.words)])
    host.run(nanoseconds: 1_000_000_000, exits: 30)
    // an exit is open as the programs go quiet
    host.feed(0, KT_EXIT, host.now + 5, reason: 1)
    let (from, to) = (host.now + 100, host.now + 15_000_000_000)
    try writer.append(
      TraceGap(reason: .quiet, fromNanoseconds: from, toNanoseconds: to, lengthNanoseconds: Int64(to - from)))
    host.run(nanoseconds: 16_000_000_000, exits: 0)
    // the first two threads go on, as they do in the kernel; the third one rests
    for number in 0..<2 {
      var isa: UInt8 = 0
      var reason: UInt32 = 0
      let time = host.now + UInt64(number)
      if kt_gap(&host.slots[number], from, time, &isa, &reason) != 0 {
        let row = try #require(host.rows.firstIndex { $0.thread == host.slots[number].thread && $0.reason == reason })
        host.rows[row].unpaired += 1
      }
      host.feed(number, KT_ENTRY, time)
      host.feed(number, KT_EXIT, time + 500, reason: 48)
      host.feed(number, KT_ENTRY, time + 900)
    }
    host.run(nanoseconds: 1_000_000_000, exits: 0)
    let events = host.events.sorted { $0.time_ns < $1.time_ns }
    try events.withUnsafeBufferPointer { try writer.append($0) }
    var encoder = SnapshotEncoder()
    host.snapshot(&encoder, .complete)
    try encoder.write(to: &writer)
    try writer.end(
      TraceEnd(clocks: host.clocks, reason: "duration", exits: 0, records: 0, snapshots: 1, lostRecords: 0))
    try expectSame(try file.bytes.trace(.events).evidence.ledger, try file.bytes.trace(.accounts).evidence.ledger)
  }

  @Test func damagedBlocksLeaveTheirTimeUnknown() throws {
    let file = try ScratchFile()
    _ = try record(file, rings: 2)
    let whole = try file.bytes
    let blocks = whole.withUnsafeBytes { Array(TraceBlocks($0)) }
    let accounts = try whole.trace(.accounts).evidence.ledger
    let events = blocks.filter { $0.knownType == .events }
    #expect(events.count > 20)
    for block in [events[10], events[events.count / 2], events[events.count - 1]] {
      var bytes = whole
      bytes[block.offset + 100] ^= 4
      let contents = try bytes.trace(.events)
      #expect(contents.evidence.trust.damage.map(\.offset) == [UInt64(block.offset)])
      #expect(contents.evidence.trust.notes.contains { $0.hasPrefix("blocks of event records are missing") })
      #expect(contents.evidence.trust.notes.contains { $0.hasPrefix("event records hold ") })
      for (vcpu, whole) in zip(contents.evidence.ledger.vcpus, accounts.vcpus) {
        #expect(vcpu.states.total == vcpu.wallNanoseconds)
        // no state but unknown has more than it had
        for state in State.allCases where state != .unknown { #expect(vcpu.states[state] <= whole.states[state]) }
      }
    }
  }

  @Test func aCutAnywhereIsSurvived() throws {
    let file = try ScratchFile()
    _ = try record(file)
    let whole = try file.bytes
    var random = Random(state: 12)
    for _ in 0..<60 {
      let contents = try Array(whole.prefix(Int.random(in: 64...whole.count, using: &random))).trace(.events)
      for vcpu in contents.evidence.ledger.vcpus { #expect(vcpu.states.total == vcpu.wallNanoseconds) }
    }
  }

  @Test func eventsComeInTheOrderOfTimeAndThoseOfOneTimeInTheirs() throws {
    var random = Random(state: 13)
    var events = (0..<20_000).map { index in
      var event = kt_event()
      event.time_ns = UInt64.random(in: 0..<5_000, using: &random)
      event.arg = UInt64(index)
      return event
    }
    let file = try ScratchFile()
    var writer = try TraceWriter(descriptor: file.descriptor)
    try events.withUnsafeBufferPointer { try writer.append($0) }
    let bytes = try file.bytes
    var read: [kt_event] = []
    let isWhole = bytes.withUnsafeBytes { bytes in
      var merge = EventMerge()
      var batches = RecordBatches<kt_event>()
      var scan = EventScan()
      let payloads = PayloadReader()
      for block in TraceBlocks(bytes) where block.knownType == .events {
        var first = UInt64.max
        let before = scan.count
        guard let payload = payloads.payload(of: block, in: bytes) else { continue }
        batches.lend(payload, schema: block.schema) { first = min(first, scan.take($0)) }
        merge.add(block, first: first, count: Int(scan.count - before))
      }
      return merge.forEach(in: bytes, payloads, &batches, progress: { _ in }) { span in
        for index in span.indices { read.append(span[index]) }
      }
    }
    events.sort { ($0.time_ns, $0.arg) < ($1.time_ns, $1.arg) }
    #expect(isWhole && read.map(\.arg) == events.map(\.arg))
  }

  @Test func theWordsOfTheFeaturesAreThoseOfTheMachine() {
    #expect(
      EventTests.words
        == "states,userspace_exit,vcpu_wakeup,fpu,sched_switch,sched_waking,irq,keys,raw")
    for bit in 0..<7 {
      let features = UInt8(1 << bit)
      #expect(RecordedFeature.machineFeatures(RecordedFeature.words(machineFeatures: features)) == features)
    }
    #expect(RecordedFeature.parse("states,later,raw") == [.states, .raw])
  }

  @Test func looksAreDifferencesAndFirstValues() {
    var looks = kt_looks()
    #expect(TracedLooks(looks) == nil)
    looks.thread = 3
    // no statistics could be read
    #expect(TracedLooks(looks) == nil)
    looks.first_stat = kt_counts(exits: 1_000, halts: 10, interrupts: 20, windows: 30, ports: 40)
    looks.first_own = kt_counts(exits: 1, halts: 0, interrupts: 1, windows: 0, ports: 0)
    looks.last_stat = kt_counts(exits: 1_100, halts: 11, interrupts: 22, windows: 33, ports: 44)
    looks.last_own = kt_counts(exits: 101, halts: 1, interrupts: 3, windows: 3, ports: 4)
    let counts = TracedLooks(looks)?.counts
    #expect(counts?.kvm == ExitKindCounts(exits: 100, halts: 1, interrupts: 2, windows: 3, ports: 4))
    #expect(counts?.own == counts?.kvm && counts?.firstKVM.exits == 1_000 && counts?.firstOwn.exits == 1)
  }
}
