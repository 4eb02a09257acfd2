import Attribution
import CKvmtax
import Testing

@testable import TraceFile

/// A trace file together with what was written into each of its blocks, as the writing test knows it: what a reader must
/// report is computed from this, and not by the code under test.
struct WrittenTrace {
  enum Content {
    case facts([CaptureFact])
    case formats([FormatText])
    case processes([TracedProcess])
    case threads([TracedThread])
    case snapshot(time: UInt64, slots: [kt_slot], rows: [(row: kt_row, hasHistogram: Bool)], keys: [VMKeys])
    case schema
    case exits([kt_exit_record], keys: [UInt32: [Key: KeyAccount]])
    case looks([TracedLooks])
    case losses([CPULosses])
    case gap(TraceGap)
    case note(TraceNote)
    case end(TraceEnd)
  }

  /// All keys of a VM that a snapshot can speak of, and those that it must.
  struct VMKeys {
    var tgid: UInt32
    var changed: [KeyAccount]
  }

  struct Block {
    var start: Int
    /// The end of the payload; padding may follow.
    var end: Int
    var content: Content
  }

  var bytes: [UInt8] = []
  var blocks: [Block] = []

  /// Ten seconds of 6 vCPUs, of which some rest at times and one ends; with event records, a snapshot each second,
  /// histograms in some of them, everything in the last.
  init() throws {
    let file = try ScratchFile()
    let host = FakeHost(threads: 6, features: Replay.allFeatures)
    var writer = try TraceWriter(descriptor: file.descriptor, clocks: host.clocks)
    let formats = ["kvm_exit", "kvm_entry"].map {
      FormatText(system: "kvm", name: $0, text: "name: \($0)\n" + String(repeating: "\tfield:u32 f;\n", count: 40))
    }
    try add(.facts([CaptureFact(key: "kernel", value: "6.12"), CaptureFact(key: "host", value: "pve")]), &writer)
    try add(.formats([formats[0]]), &writer)
    try add(.formats([formats[1]]), &writer)
    try add(.processes([TracedProcess(pid: 30_000, name: "mail", vmid: 107)]), &writer)
    try add(.processes([TracedProcess(pid: 30_001, name: "dns", vmid: 112)]), &writer)
    try add(
      .threads(host.slots.map { TracedThread(thread: $0.thread, tid: $0.tid, tgid: $0.tgid, comm: "CPU/KVM") }), &writer
    )
    try add(.schema, &writer)
    var encoder = SnapshotEncoder()
    var before = FakeHost(threads: 0)
    var histogramsOf = [UInt64](repeating: 0, count: host.rows.count)
    var writtenKeys: [UInt32: [KeyAccount]] = [:]
    for second in 0..<10 {
      // vCPU 4 stops early, vCPU 5 rests every other second
      host.run(nanoseconds: 1_000_000_000, exits: 12) { $0 < 4 || ($0 == 4 ? second < 3 : second % 2 == 0) }
      if second == 6 { host.slots[3].ended = 1 }
      let half = host.records.count / 2
      for part in [Array(host.records[..<half]), Array(host.records[half...])] {
        try add(.exits(part, keys: Expected.keys(of: part)), &writer)
      }
      host.records = []
      let detail: SnapshotEncoder.Detail = second == 9 ? .complete : second % 4 == 3 ? .histograms : .changes
      let content = WrittenTrace.content(host, before, detail, &histogramsOf, &writtenKeys)
      host.snapshot(&encoder, detail)
      try add(content, &writer) { (writer) throws(TraceWriteError) in try encoder.write(to: &writer) }
      before = FakeHost(threads: 0)
      before.slots = host.slots
      before.rows = host.rows
      if second == 4 {
        try add(.losses([CPULosses(cpu: 1, ring: 0, counts: [5, 0, 0, 0])]), &writer)
        try add(
          .gap(TraceGap(reason: .clockStep, fromNanoseconds: host.now, toNanoseconds: host.now, lengthNanoseconds: -7)),
          &writer)
        try add(.note(TraceNote(monotonicNanoseconds: host.now, code: "shed-keys", text: "keys were shed")), &writer)
      }
    }
    try add(
      .losses([CPULosses(cpu: 1, ring: 0, counts: [9, 1, 0, 0]), CPULosses(cpu: 2, ring: 0, counts: [1, 0, 0, 0])]),
      &writer)
    try add(
      .looks(
        host.slots.map { slot in
          let none = ExitKindCounts(exits: 0, halts: 0, interrupts: 0, windows: 0, ports: 0)
          let own = ExitKindCounts(
            exits: slot.exits, halts: slot.halts, interrupts: slot.interrupts, windows: slot.windows, ports: slot.ports)
          var kvm = own
          kvm.exits += UInt64(slot.thread)
          return TracedLooks(thread: slot.thread, counts: KVMCounts(kvm: kvm, own: own, firstKVM: own, firstOwn: none))
        }), &writer)
    let exits = host.slots.reduce(0) { $0 + $1.exits }
    try add(
      .end(
        TraceEnd(
          clocks: host.clocks, reason: "duration", exits: exits, records: writer.recordsWritten, snapshots: 10,
          lostRecords: 10)),
      &writer)
    bytes = try file.bytes
    for index in blocks.indices {
      // the stored length stands in a block's header (docs/trace-format.md)
      let length = (0..<4).reduce(0) { $0 | Int(bytes[blocks[index].start + 8 + $1]) << (8 * $1) }
      blocks[index].end = blocks[index].start + 40 + length
    }
  }

  /// What a snapshot has to hold: what differs from the one before.
  private static func content(
    _ host: FakeHost, _ before: FakeHost, _ detail: SnapshotEncoder.Detail, _ histogramsOf: inout [UInt64],
    _ writtenKeys: inout [UInt32: [KeyAccount]]
  ) -> Content {
    let slots = host.slots.enumerated().filter { number, slot in
      guard detail != .complete, number < before.slots.count else { return true }
      let old = before.slots[number]
      return old.exits != slot.exits || old.entries != slot.entries || old.ended != slot.ended
        || old.userspace_exits != slot.userspace_exits
    }.map(\.element)
    var rows: [(kt_row, Bool)] = []
    for (number, row) in host.rows.enumerated() where row.finished + row.unpaired > 0 {
      let old = number < before.rows.count ? before.rows[number] : kt_row()
      let hasEnded = slots.contains { $0.thread == row.thread && $0.ended != 0 }
      let wantsHistogram =
        detail == .complete || ((detail == .histograms || hasEnded) && histogramsOf[number] != row.finished)
      if wantsHistogram, row.finished > 0 { histogramsOf[number] = row.finished }
      if wantsHistogram || old.finished != row.finished || old.unpaired != row.unpaired {
        rows.append((row, wantsHistogram && row.finished > 0))
      }
    }
    var keys: [VMKeys] = []
    // no VM ends here: keys come with the histograms
    if detail != .changes {
      for tgid in Set(host.slots.map(\.tgid)) {
        let now = host.keys(ofVM: tgid)
        let old = detail == .complete ? [] : writtenKeys[tgid] ?? []
        keys.append(VMKeys(tgid: tgid, changed: now.filter { !old.contains($0) }))
        writtenKeys[tgid] = now
      }
    }
    return .snapshot(time: host.now, slots: slots, rows: rows, keys: keys)
  }

  private mutating func add(_ content: Content, _ writer: inout TraceWriter) throws {
    try add(content, &writer) { (writer) throws(TraceWriteError) in
      switch content {
      case .facts(let facts): try writer.append(facts)
      case .formats(let formats): try writer.append(formats)
      case .processes(let processes): try writer.append(processes)
      case .threads(let threads): try writer.append(threads)
      case .snapshot: break
      case .schema: try writer.append(RecordSchema.exit)
      case .exits(let records, _):
        try records.withUnsafeBufferPointer { (records) throws(TraceWriteError) in
          try writer.append(records)
        }
      case .losses(let losses): try writer.append(losses)
      case .looks(let looks): try writer.append(looks)
      case .gap(let gap): try writer.append(gap)
      case .note(let note): try writer.append(note)
      case .end(let end): try writer.end(end)
      }
    }
  }

  private mutating func add(
    _ content: Content, _ writer: inout TraceWriter, by write: (inout TraceWriter) throws(TraceWriteError) -> Void
  ) throws {
    let start = Int(writer.bytesWritten)
    try write(&writer)
    // the writer puts a schema block of its own in front of the first exits
    if case .exits = content, !blocks.contains(where: { if case .exits = $0.content { true } else { false } }) {
      let text = RecordSchema.exit.text.utf8.count
      blocks.append(Block(start: start, end: 0, content: .schema))
      blocks.append(Block(start: start + 40 + (text + 7) / 8 * 8, end: 0, content: content))
    } else {
      blocks.append(Block(start: start, end: 0, content: content))
    }
  }
}
