import Attribution
import CKvmtax
import Testing

@testable import TraceFile

@Suite struct SnapshotTests {
  @Test func aChangedRowCosts64BytesAtMost() throws {
    // 64 vCPUs, a day after the start, exits of five reasons with long tails; every tenth snapshot has histograms
    let file = try ScratchFile()
    let host = FakeHost(threads: 64)
    host.keepsRecords = false
    host.run(nanoseconds: 20_000_000_000, exits: 1_000)
    host.repeatHistory(times: 4_000)
    var writer = try TraceWriter(descriptor: file.descriptor)
    var encoder = SnapshotEncoder()
    host.snapshot(&encoder, .histograms)
    try encoder.write(to: &writer)
    let start = writer.bytesWritten
    var changedRows: UInt64 = 0
    for second in 1...10 {
      let before = host.rows.map { $0.finished + $0.unpaired }
      // a third of the vCPUs rests in each second
      host.run(nanoseconds: 1_000_000_000, exits: 100) { ($0 + second) % 3 != 0 }
      for (row, old) in zip(host.rows, before) where row.finished + row.unpaired != old { changedRows += 1 }
      host.snapshot(&encoder, second == 10 ? .histograms : .changes)
      try encoder.write(to: &writer)
    }
    let bytes = writer.bytesWritten - start
    // threads, block headers and all
    #expect(changedRows > 1_000)
    #expect(bytes <= changedRows * 64, "\(bytes) bytes for \(changedRows) rows")
  }

  @Test func whatDidNotChangeIsNotWritten() throws {
    let file = try ScratchFile()
    let host = FakeHost(threads: 10)
    var writer = try TraceWriter(descriptor: file.descriptor)
    var encoder = SnapshotEncoder()
    host.run(nanoseconds: 1_000_000_000, exits: 100)
    host.snapshot(&encoder, .changes)
    #expect(encoder.threadCount == 10)
    #expect(encoder.rowCount == host.rows.count { $0.finished + $0.unpaired > 0 })
    try encoder.write(to: &writer)
    host.run(nanoseconds: 1_000_000_000, exits: 0)
    host.snapshot(&encoder, .changes)
    #expect(encoder.threadCount == 0 && encoder.rowCount == 0)
    try encoder.write(to: &writer)
    let rested = try file.bytes.trace(.accounts)
    // the open intervals go on up to the snapshot all the same
    for vcpu in rested.evidence.ledger.vcpus {
      #expect(vcpu.lastNanoseconds == host.now && vcpu.states.total == vcpu.wallNanoseconds)
      #expect(vcpu.states[.guest] >= 1_000_000_000)
    }
    host.snapshot(&encoder, .histograms)
    #expect(encoder.threadCount == 0 && encoder.rowCount == host.rows.count { $0.finished > 0 })
    host.snapshot(&encoder, .histograms)
    #expect(encoder.rowCount == 0)
    host.snapshot(&encoder, .complete)
    #expect(encoder.threadCount == 10 && encoder.rowCount == host.rows.count { $0.finished + $0.unpaired > 0 })
  }

  @Test func aSlotGivenToAnotherThreadIsAnotherThread() throws {
    let file = try ScratchFile()
    var writer = try TraceWriter(descriptor: file.descriptor)
    var encoder = SnapshotEncoder()
    let first = FakeHost(threads: 2)
    first.run(nanoseconds: 1_000_000_000, exits: 50)
    for number in first.slots.indices { first.slots[number].ended = 1 }
    first.snapshot(&encoder, .changes)
    try encoder.write(to: &writer)
    // the same numbers, the same counts even, and other serials
    let second = FakeHost(threads: 2, now: first.now)
    second.run(nanoseconds: 1_000_000_000, exits: 50)
    for number in second.slots.indices { second.slots[number].thread += 2 }
    for number in second.rows.indices where second.rows[number].thread != 0 { second.rows[number].thread += 2 }
    second.snapshot(&encoder, .histograms)
    try encoder.write(to: &writer)
    let contents = try file.bytes.trace(.accounts)
    let vcpus = contents.evidence.ledger.vcpus.sorted { $0.thread < $1.thread }
    #expect(vcpus.map(\.thread) == [1, 2, 3, 4])
    #expect(vcpus.map(\.ended) == [true, true, false, false])
    #expect(vcpus[0].lastNanoseconds == first.slots[0].since_ns)
    for (host, part) in [(first, vcpus[..<2]), (second, vcpus[2...])] {
      let rows = host.rows.filter { $0.finished + $0.unpaired > 0 }.map(account)
      let accounts = part.flatMap(\.accounts).filter { $0.finished + $0.unpaired > 0 }
      #expect(accounts.count == rows.count)
      #expect(accounts.reduce(0) { $0 + $1.histogram.total } == rows.reduce(0) { $0 + $1.finished })
    }
  }

  @Test func aLargeSnapshotIsSplitIntoPartsThatStandAlone() throws {
    let file = try ScratchFile()
    let host = FakeHost(threads: 4_500)
    host.keepsRecords = false
    var writer = try TraceWriter(descriptor: file.descriptor)
    var encoder = SnapshotEncoder(slotCapacity: 4_500, rowCapacity: host.rows.count)
    host.run(nanoseconds: 1_000_000_000, exits: 8)
    host.snapshot(&encoder, .complete)
    try encoder.write(to: &writer)
    let bytes = try file.bytes
    let blocks = bytes.withUnsafeBytes { Array(TraceBlocks($0)) }
    #expect(blocks.count >= 3)
    #expect(blocks.allSatisfy { $0.status == .intact && $0.rawLength <= 256 << 10 })
    #expect(try bytes.trace(.accounts).evidence.ledger.vcpus.count == 4_500)
    for lost in [0, 1, blocks.count - 1] {
      var damaged = bytes
      damaged[blocks[lost].offset + 100] ^= 1
      let contents = try damaged.trace(.accounts)
      let found = contents.evidence.ledger.vcpus
      #expect(found.count > 4_500 * (blocks.count - 2) / blocks.count && found.count <= 4_500)
      // the last one holds keys alone
      #expect(found.count < 4_500 || lost == blocks.count - 1)
      for vcpu in found {
        let slot = host.slots[Int(vcpu.thread) - 1]
        // a thread at the border may have rows in one part and its slot in the other
        if vcpu.exits == slot.exits { #expect(vcpu.states.total == host.now - slot.first_ns) }
        #expect(vcpu.states.total == vcpu.wallNanoseconds)
      }
    }
  }

  @Test func percentilesThatDoNotCoverAllExitsSaySo() throws {
    let file = try ScratchFile()
    let host = FakeHost(threads: 1, rowsPerThread: 1)
    var writer = try TraceWriter(descriptor: file.descriptor)
    var encoder = SnapshotEncoder()
    host.run(nanoseconds: 1_000_000_000, exits: 40)
    host.snapshot(&encoder, .histograms)
    let covered = host.rows[1].finished
    try encoder.write(to: &writer)
    host.run(nanoseconds: 1_000_000_000, exits: 40)
    host.snapshot(&encoder, .changes)
    try encoder.write(to: &writer)
    let contents = try file.bytes.trace(.accounts)
    let account = try #require(contents.evidence.ledger.vcpus.first?.accounts.first)
    #expect(account.finished == host.rows[1].finished && account.histogram.total == covered)
    #expect(
      contents.evidence.trust.notes == [
        "the percentiles of 1 reasons of vCPUs cover only \(covered) of their \(host.rows[1].finished) exits",
        "keys cover \(covered) of the \(host.rows[1].finished) finished exits of their VMs",
      ])
    #expect(!contents.evidence.trust.isComplete)
  }

  @Test func whileTheProgramsWereQuietNothingIsKnown() throws {
    let file = try ScratchFile()
    let host = FakeHost(threads: 2)
    var writer = try TraceWriter(descriptor: file.descriptor)
    var encoder = SnapshotEncoder()
    host.run(nanoseconds: 1_000_000_000, exits: 40)
    let from = host.now
    host.run(nanoseconds: 15_000_000_000, exits: 0)
    try writer.append(
      TraceGap(reason: .quiet, fromNanoseconds: from, toNanoseconds: host.now, lengthNanoseconds: 15_000_000_000))
    host.run(nanoseconds: 1_000_000_000, exits: 0)
    host.snapshot(&encoder, .complete)
    try encoder.write(to: &writer)
    let contents = try file.bytes.trace(.accounts)
    #expect(contents.evidence.trust.gapNanoseconds == 15_000_000_000)
    for vcpu in contents.evidence.ledger.vcpus {
      let slot = host.slots[Int(vcpu.thread) - 1]
      // no event since: neither in the gap nor in the second behind it is the state known
      #expect(vcpu.states[.unknown] == states(slot)[.unknown] + 16_000_000_000)
      #expect(vcpu.states.total == vcpu.wallNanoseconds)
    }
  }

  @Test func statesThatDoNotSumToTheWallTimeAreReported() throws {
    for shift in [-5_000_000, 5_000_000] {
      let file = try ScratchFile()
      let host = FakeHost(threads: 2)
      var writer = try TraceWriter(descriptor: file.descriptor)
      var encoder = SnapshotEncoder()
      host.run(nanoseconds: 1_000_000_000, exits: 10)
      host.slots[1].first_ns = UInt64(Int(host.slots[1].first_ns) + shift)
      host.snapshot(&encoder, .complete)
      try encoder.write(to: &writer)
      let contents = try file.bytes.trace(.accounts)
      for vcpu in contents.evidence.ledger.vcpus { #expect(vcpu.states.total == vcpu.wallNanoseconds) }
      let missing = shift < 0 ? UInt64(-shift) : 0
      let vcpu = try #require(contents.evidence.ledger.vcpus.first { $0.thread == 2 })
      #expect(vcpu.states[.unknown] == states(host.slots[1])[.unknown] + missing)
      #expect(contents.evidence.trust.notes.contains { $0.hasPrefix("the states of 1 vCPUs did not sum") })
    }
  }

  /// 100 VMs of 8 busy vCPUs, each with seven reasons, and 47 keys a VM, of which all change all the time: what a day
  /// takes at the default intervals. The tracer takes fewer snapshots where that is more than its budget.
  @Test func keysOfAHundredVMsAddATenthToADay() throws {
    let host = FakeHost(threads: 160, rowsPerThread: 7, features: Replay.allFeatures, threadsPerVM: 8)
    host.keepsRecords = false
    host.ports = 40
    host.run(nanoseconds: 1_000_000_000, exits: 200)
    host.repeatHistory(times: 100_000)
    let (file, other) = (try ScratchFile(), try ScratchFile())
    var encoder = SnapshotEncoder()
    var keyless = SnapshotEncoder()
    var writer = try TraceWriter(descriptor: file.descriptor)
    var keylessWriter = try TraceWriter(descriptor: other.descriptor)
    var sizes: [(with: UInt64, without: UInt64)] = []
    for detail in [SnapshotEncoder.Detail.complete, .changes, .changes, .histograms] {
      host.run(nanoseconds: 1_000_000_000, exits: 40)
      let before = (writer.bytesWritten, keylessWriter.bytesWritten)
      host.snapshot(&encoder, detail)
      try encoder.write(to: &writer)
      host.snapshot(&keyless, detail, withKeys: false)
      try keyless.write(to: &keylessWriter)
      sizes.append((writer.bytesWritten - before.0, keylessWriter.bytesWritten - before.1))
    }
    let keyCount = encoder.keyCount
    #expect(keyCount > 20 * 45)
    #expect(sizes[1].with == sizes[1].without)
    // a fifth of the VMs is measured;
    // every second for 10 minutes, every 10 s up to an hour, every 60 s from then on; each tenth with histograms and keys
    let snapshots: UInt64 = 5 * (600 + 300 + 1380)
    let without = snapshots * 9 / 10 * sizes[2].without + snapshots / 10 * sizes[3].without
    let keys = snapshots / 10 * (sizes[3].with - sizes[3].without)
    #expect(keys * 8 < without && keys < 60 << 20, "\(keys) bytes of keys, \(without) of the rest")

  }
}
