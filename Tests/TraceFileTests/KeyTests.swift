import Attribution
import CKvmtax
import Testing

@testable import TraceFile

/// Keys per VM: absolute totals that never fall, whatever becomes of threads and of the recorder's rows.
@Suite struct KeyTests {
  /// A key row of a thread; the key is a port's.
  private func row(thread: UInt32, port: UInt64, finished: UInt64, nanoseconds: UInt64 = 1_000) -> kt_key_row {
    var row = kt_key_row()
    row.thread = thread
    row.key.subject = port
    row.key.reason = 30
    row.key.isa = 1
    row.key.kind = UInt8(KT_KEY_PORT.rawValue)
    row.finished = finished
    row.total_ns = finished * nanoseconds
    row.max_ns = nanoseconds
    withUnsafeMutablePointer(to: &row) {
      kt_key_row_mutable_state_ns($0)[Int(KT_KERNEL.rawValue)] = finished * nanoseconds
    }
    return row
  }

  private func slot(thread: UInt32, tgid: UInt32, exits: UInt64, ended: Bool = false) -> kt_slot {
    var slot = kt_slot()
    kt_start(&slot, 1_000, thread + 1_000, tgid, 3)
    slot.thread = thread
    slot.exits = exits
    slot.finished = exits
    slot.entries = exits
    slot.steps = 2 * exits
    slot.ended = ended ? 1 : 0
    return slot
  }

  private func begin(_ encoder: inout SnapshotEncoder, _ time: UInt64, _ detail: SnapshotEncoder.Detail) {
    encoder.begin(
      at: Clocks(monotonicNanoseconds: time, boottimeNanoseconds: time, realtimeNanoseconds: time, tsc: 0),
      detail: detail)
  }

  private func add(_ encoder: inout SnapshotEncoder, _ slot: kt_slot, at number: Int, _ rows: [(Int, kt_key_row)]) {
    var slot = slot
    guard encoder.add(&slot, number: number), encoder.wantsKeys || slot.ended != 0 else { return }
    for (number, row) in rows { withUnsafePointer(to: row) { encoder.add(key: $0, number: number) } }
  }

  @Test func sumsOutliveTheThreadsAndTheirRows() throws {
    let file = try ScratchFile()
    var writer = try TraceWriter(descriptor: file.descriptor)
    var encoder = SnapshotEncoder()
    begin(&encoder, 10_000, .histograms)
    add(&encoder, slot(thread: 1, tgid: 7, exits: 5), at: 0, [(1, row(thread: 1, port: 0x70, finished: 5))])
    add(&encoder, slot(thread: 2, tgid: 7, exits: 3), at: 1, [(2, row(thread: 2, port: 0x70, finished: 3))])
    let wantsKeys = encoder.wantsKeys
    #expect(wantsKeys)
    try encoder.write(to: &writer)
    #expect(encoder.keyCount == 1)
    // nothing changed
    begin(&encoder, 20_000, .histograms)
    add(&encoder, slot(thread: 2, tgid: 7, exits: 3), at: 1, [(2, row(thread: 2, port: 0x70, finished: 3))])
    try encoder.write(to: &writer)
    #expect(encoder.keyCount == 0)
    // the first thread ends with one more exit; its slot and row go to another thread of the same VM
    begin(&encoder, 30_000, .changes)
    add(
      &encoder, slot(thread: 1, tgid: 7, exits: 6, ended: true), at: 0, [(1, row(thread: 1, port: 0x70, finished: 6))])
    try encoder.write(to: &writer)
    #expect(encoder.keyCount == 0)
    begin(&encoder, 40_000, .complete)
    add(&encoder, slot(thread: 3, tgid: 7, exits: 2), at: 0, [(1, row(thread: 3, port: 0x70, finished: 2))])
    add(&encoder, slot(thread: 2, tgid: 7, exits: 3), at: 1, [(2, row(thread: 2, port: 0x70, finished: 3))])
    try encoder.write(to: &writer)
    #expect(encoder.keyCount == 1)
    let vms = try file.bytes.trace(.accounts).evidence.ledger.vms
    #expect(vms.map(\.pid) == [7])
    #expect(vms[0].keys.map(\.finished) == [11] && vms[0].keys[0].totalNanoseconds == 11_000)
    #expect(vms[0].keys[0].key.subject == 0x70 && vms[0].keys[0].states[.kernel] == 11_000)
  }

  @Test func aVMThatEndsIsWrittenAtOnceAndForgotten() throws {
    let file = try ScratchFile()
    var writer = try TraceWriter(descriptor: file.descriptor)
    var encoder = SnapshotEncoder()
    begin(&encoder, 10_000, .changes)
    add(&encoder, slot(thread: 1, tgid: 7, exits: 5, ended: true), at: 0, [(1, row(thread: 1, port: 1, finished: 5))])
    try encoder.write(to: &writer)
    #expect(encoder.keyCount == 1)
    // the pid comes again, and so do the numbers
    begin(&encoder, 20_000, .complete)
    add(&encoder, slot(thread: 2, tgid: 7, exits: 4), at: 0, [(1, row(thread: 2, port: 1, finished: 4))])
    try encoder.write(to: &writer)
    #expect(encoder.keyCount == 1)
    try writer.append([
      TracedThread(thread: 1, tid: 1_001, tgid: 7, processStartNanoseconds: 1),
      TracedThread(thread: 2, tid: 1_002, tgid: 7, processStartNanoseconds: 2),
    ])
    let vms = try file.bytes.trace(.accounts).evidence.ledger.vms
    #expect(Set(vms.map { $0.keys.map(\.finished) }) == [[5], [4]])
    // the same process, whose threads all ended before new ones came
    try writer.append([TracedThread(thread: 2, tid: 1_002, tgid: 7, processStartNanoseconds: 1)])
    let merged = try file.bytes.trace(.accounts).evidence.ledger.vms
    #expect(merged.map { $0.keys.map(\.finished) } == [[9]])
  }

  @Test func whatFindsNoRoomIsSummedAndShown() throws {
    let file = try ScratchFile()
    var writer = try TraceWriter(descriptor: file.descriptor)
    var encoder = SnapshotEncoder()
    let count = KeyTotals.keyLimit + 10
    let rows = (1...count).map { ($0, row(thread: 1, port: UInt64($0), finished: 2)) }
    begin(&encoder, 10_000, .complete)
    var thread = slot(thread: 1, tgid: 7, exits: UInt64(2 * count + 3))
    // three more that the programs had no room for
    thread.overflow_keys = 3
    thread.overflow_keys_ns = 30
    add(&encoder, thread, at: 0, rows)
    try encoder.write(to: &writer)
    let vm = try #require(try file.bytes.trace(.accounts).evidence.ledger.vms.first)
    #expect(vm.keys.count == KeyTotals.keyLimit)
    #expect(vm.overflowKeys == 23 && vm.overflowKeyNanoseconds == 20_030)
    #expect(vm.vcpus[0].overflowKeys == 3 && vm.vcpus[0].overflowKeyNanoseconds == 30)
  }

  @Test func aSnapshotThatCouldNotBeWrittenLosesNoKey() throws {
    let file = try ScratchFile()
    var writer = try TraceWriter(descriptor: file.descriptor)
    var encoder = SnapshotEncoder()
    begin(&encoder, 10_000, .histograms)
    add(&encoder, slot(thread: 1, tgid: 7, exits: 5), at: 0, [(1, row(thread: 1, port: 1, finished: 5))])
    // as after a failed write
    encoder.forget()
    begin(&encoder, 20_000, .histograms)
    add(&encoder, slot(thread: 1, tgid: 7, exits: 5), at: 0, [(1, row(thread: 1, port: 1, finished: 5))])
    try encoder.write(to: &writer)
    #expect(encoder.keyCount == 1)
    #expect(try file.bytes.trace(.accounts).evidence.ledger.vms.first?.keys.first?.finished == 5)
  }

  @Test func exitRecordsGiveTheKeysThatTheAccountsHave() throws {
    let file = try ScratchFile()
    let host = FakeHost(threads: 8, features: Replay.allFeatures)
    var writer = try TraceWriter(descriptor: file.descriptor, clocks: host.clocks)
    var encoder = SnapshotEncoder()
    host.run(nanoseconds: 1_000_000_000, exits: 200)
    try host.records.withUnsafeBufferPointer { try writer.append($0) }
    host.snapshot(&encoder, .complete)
    try encoder.write(to: &writer)
    let accounts = try file.bytes.trace(.accounts).evidence
    let exits = try file.bytes.trace(.exits).evidence
    #expect(accounts.trust.notes.isEmpty && exits.trust.notes.isEmpty)
    for (one, other) in zip(accounts.ledger.vms, exits.ledger.vms) {
      #expect(one.keys == host.keys(ofVM: one.pid) && one.keys == other.keys)
      #expect(one.keys.count >= 8)
    }
    // where what refines keys was not recorded, the records' keys are not the exits'
    try writer.append([CaptureFact(key: CaptureFact.Key.features, value: "states,exits")])
    #expect(try file.bytes.trace(.exits).evidence.ledger.vms.allSatisfy { $0.keys.isEmpty })
  }

  @Test func fieldsOfLaterVersionsBehindTheStatesArePassedOver() throws {
    var slot = slot(thread: 4, tgid: 9, exits: 10)
    slot.switches = 3
    slot.missed_switches = 2
    slot.missed_wakings = 1
    slot.missed_interrupts = 8
    slot.run_delay_ns = 1_001
    slot.first_run_delay_ns = 401
    slot.timer_vector = 236
    slot.timer_source = UInt8(KT_VECTOR_WRITTEN.rawValue)
    let file = try ScratchFile()
    var writer = try TraceWriter(descriptor: file.descriptor)
    var encoder = SnapshotEncoder()
    begin(&encoder, 10_000, .complete)
    encoder.add(&slot, number: 0)
    try encoder.write(to: &writer)
    let vcpu = try #require(try file.bytes.trace(.accounts).evidence.ledger.vcpus.first)
    #expect(vcpu.switches == 3 && vcpu.missedSwitches == 2 && vcpu.missedWakings == 1 && vcpu.missedInterrupts == 8)
    #expect(vcpu.runDelayNanoseconds == 600)
    #expect(
      vcpu.timerVector == 236 && vcpu.timerVectorSource == .written && vcpu.features == [.wakeup, .userspaceExit])
    // the same entry with a bit that no version knows, and its field
    let block = try #require(file.bytes.withUnsafeBytes { Array(TraceBlocks($0)) }.first)
    let payload = TraceBlocks.only(try file.bytes, block.offset)
    var reading: [[UInt8]] = []
    var rest = payload[...]
    while !rest.isEmpty {
      let (size, used) = number(rest)
      reading.append(Array(rest.dropFirst(used).prefix(Int(size))))
      rest = rest.dropFirst(used + Int(size))
    }
    // thread and kind are a byte each, then the fields
    let (fields, length) = number(reading[1].dropFirst(2))
    var later = ByteWriter()
    later.append(fields | 1 << 40)
    reading[1].replaceSubrange(2..<2 + length, with: later.bytes)
    reading[1] += [1, 2, 3]
    var other = BuiltFile()
    var list: [UInt8] = []
    for entry in reading {
      var size = ByteWriter()
      size.append(UInt64(entry.count))
      list += size.bytes + entry
    }
    other.add(BlockType.snapshot.rawValue, list)
    #expect(try other.bytes.trace(.accounts).evidence.ledger.vcpus == [vcpu])
  }

  /// A number and the bytes that it takes.
  private func number(_ bytes: ArraySlice<UInt8>) -> (value: UInt64, length: Int) {
    bytes.withUnsafeBytes { bytes in
      var reader = ByteReader(bytes)
      return (reader.number(), reader.offset)
    }
  }
}
