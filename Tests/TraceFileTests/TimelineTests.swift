import Attribution
import CKvmtax
import TestSupport
import Testing

@testable import TraceFile

@Suite struct TimelineTests {
  /// A minute of 6 vCPUs, of which one rests from the 20th second on and one every other second.
  private static func minute() throws -> (bytes: [UInt8], snapshots: [Int]) {
    let file = try ScratchFile()
    let host = FakeHost(threads: 6)
    host.keepsRecords = false
    var writer = try TraceWriter(descriptor: file.descriptor, clocks: host.clocks)
    var encoder = SnapshotEncoder()
    for second in 0..<60 {
      host.run(nanoseconds: 1_000_000_000, exits: 30) { $0 < 4 || ($0 == 4 ? second < 20 : second % 2 == 0) }
      if second == 40 { host.slots[3].ended = 1 }
      host.snapshot(&encoder, second == 59 ? .complete : second % 10 == 9 ? .histograms : .changes)
      try encoder.write(to: &writer)
    }
    let bytes = try file.bytes
    return (bytes, bytes.withUnsafeBytes { TraceBlocks($0).filter { $0.knownType == .snapshot }.map(\.offset) })
  }

  @Test func eachSnapshotEndsAnInterval() throws {
    let evidence = try Self.minute().bytes.trace(.accounts).evidence
    try expectTimelineSums(evidence)
    #expect(evidence.timeline.ends.count == 60)
    let threads = evidence.timeline.threads.sorted { $0.thread < $1.thread }
    #expect(threads.map(\.count) == [60, 60, 60, 41, 60, 60])
    // the resting ones have time in each second, and exits in none
    for interval in threads[4].intervals.dropFirst(21) {
      #expect(interval.exits == 0 && interval.endNanoseconds - interval.startNanoseconds >= 900_000_000)
    }
  }

  @Test func aLostSnapshotMakesTheNextIntervalLongerAndCostsNothingElse() throws {
    let (bytes, snapshots) = try Self.minute()
    var damaged = bytes
    for lost in [7, 30, 31, 32, 50] { damaged[snapshots[lost] + 60] ^= 1 }
    let whole = try bytes.trace(.accounts).evidence
    let evidence = try damaged.trace(.accounts).evidence
    try expectTimelineSums(evidence)
    #expect(evidence.timeline.ends.count == 55)
    // but for what the ledger itself calls unknown there
    for (thread, other) in zip(evidence.timeline.threads, whole.timeline.threads) where thread.thread < 4 {
      #expect(thread.intervals.reduce(0) { $0 + $1.exits } == other.intervals.reduce(0) { $0 + $1.exits })
    }
    let lengths = evidence.timeline.threads[0].intervals.map { $0.endNanoseconds - $0.startNanoseconds }
    #expect(lengths.count { $0 > 1_500_000_000 } == 3 && lengths.count { $0 > 3_500_000_000 } == 1)
  }

  @Test func aLostPartIsALostSnapshot() throws {
    let file = try ScratchFile()
    let host = FakeHost(threads: 4_500)
    host.keepsRecords = false
    var writer = try TraceWriter(descriptor: file.descriptor)
    var encoder = SnapshotEncoder(slotCapacity: 4_500, rowCapacity: host.rows.count)
    for _ in 0..<4 {
      host.run(nanoseconds: 1_000_000_000, exits: 8)
      host.snapshot(&encoder, .complete)
      try encoder.write(to: &writer)
    }
    var bytes = try file.bytes
    let blocks = bytes.withUnsafeBytes { TraceBlocks($0).map(\.offset) }
    bytes[blocks[blocks.count / 2 - 1] + 100] ^= 1
    let evidence = try bytes.trace(.accounts).evidence
    try expectTimelineSums(evidence)
    #expect(evidence.timeline.ends.count == 3)
  }

  @Test func whatTheFileDoesNotKnowIsUnknownInItsOwnSeconds() throws {
    let file = try ScratchFile()
    let host = FakeHost(threads: 2)
    var writer = try TraceWriter(descriptor: file.descriptor)
    var encoder = SnapshotEncoder()
    for second in 0..<10 {
      host.run(nanoseconds: 1_000_000_000, exits: second < 3 ? 40 : 0)
      if second == 2 {
        try writer.append(
          TraceGap(
            reason: .quiet, fromNanoseconds: host.now, toNanoseconds: host.now + 5_000_000_000,
            lengthNanoseconds: 5_000_000_000))
      }
      host.snapshot(&encoder, second == 9 ? .complete : .changes)
      try encoder.write(to: &writer)
    }
    let evidence = try file.bytes.trace(.accounts).evidence
    try expectTimelineSums(evidence)
    for thread in evidence.timeline.threads {
      for interval in thread.intervals.dropFirst(3) { #expect(interval.states[.unknown] > 900_000_000) }
      for interval in thread.intervals.prefix(2) { #expect(interval.states[.unknown] < 100_000_000) }
    }
  }

  @Test func damagedFilesKeepTheirSums() throws {
    let (bytes, _) = try Self.minute()
    var random = Random(state: 9)
    for _ in 0..<60 {
      var damaged = bytes
      for _ in 0..<Int.random(in: 1...20, using: &random) {
        damaged[Int.random(in: 64..<damaged.count, using: &random)] ^= UInt8.random(in: 1...255, using: &random)
      }
      checkIntervals(try damaged.trace(.accounts).evidence.timeline)
    }
  }

  /// Snapshots of one thread with whatever numbers.
  @Test func numbersThatMakeNoSenseKeepTheirSums() throws {
    var random = Random(state: 11)
    func number() -> UInt64 {
      [0, 1, 1_000_000_000, 1 << 57, 1 << 59, 1 << 63, .max, random.next(), random.next() >> 30]
        .randomElement(using: &random)!
    }
    for _ in 0..<200 {
      var builder = TimelineBuilder()
      var slots = [kt_slot](repeating: kt_slot(), count: 3)
      var rows = [kt_row](repeating: kt_row(), count: 2)
      var ledger = Ledger()
      for _ in 0..<30 {
        for place in slots.indices {
          slots[place].thread = UInt32(place + 1)
          slots[place].first_ns = number()
          slots[place].since_ns = number()
          slots[place].exits = number()
          slots[place].state = UInt8.random(in: 0...255, using: &random)
          slots[place].ended = Bool.random(using: &random) ? 1 : 0
          withUnsafeMutablePointer(to: &slots[place]) {
            for state in 0..<12 { kt_slot_mutable_state_ns($0)[state] = number() }
          }
        }
        for place in rows.indices {
          rows[place].slot = UInt32(place)
          rows[place].finished = number()
          rows[place].unpaired = number()
          withUnsafeMutablePointer(to: &rows[place]) {
            for state in 0..<12 { kt_row_mutable_state_ns($0)[state] = number() }
          }
        }
        builder.close(at: number(), slots: slots, slotCount: 3, rows: rows, rowNumbers: 0..<2)
      }
      for place in slots.indices {
        var vcpu = VCPU(thread: UInt32(place + 1), tid: 1)
        vcpu.firstNanoseconds = number()
        vcpu.lastNanoseconds = number()
        for state in State.allCases { vcpu.states[state] = number() }
        vcpu.exits = number()
        ledger.add(vcpu, pid: 1)
      }
      checkIntervals(builder.finish(ledger, slots: slots, rows: rows, rowNumbers: 0..<2))
    }
  }

  private func checkIntervals(_ timeline: Timeline) {
    for thread in timeline.threads {
      for interval in thread.intervals {
        #expect(interval.states.total == interval.endNanoseconds - interval.startNanoseconds)
      }
    }
  }
}
