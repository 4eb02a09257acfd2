import Attribution
import CKvmtax
import Files
import Testing

@testable import TraceFile

@Suite struct RoundTripTests {
  @Test(arguments: [
    ("tp_btf", "states,userspace_exit,sched_switch,keys", "tp_btf+full+keys"),
    ("tp", "states,run_delay,exits", "tp+lite+records"), ("tp", "states,sched_switch,raw", nil), ("tp", "proxy", nil),
  ])
  func `A calibration is read back, and how it was recorded`(attach: String, features: String, mode: String?) throws {
    let file = try ScratchFile()
    var calibration = Calibration(date: "2026-11-03 09:22:00 UTC", host: ["kernel": "6.12"])
    var one = Calibration.Measurement(
      path: .kernel, kind: "cpuid", roundTrip: Bounded(low: 1, mid: 2, high: 3), worldSwitch: .zero)
    one.tracer[Calibration.Mode(attach: attach, tier: "full", keys: true, records: false)] = Calibration.TracerCost(
      total: .zero, inside: .zero, outside: .zero, roundTrip: .zero)
    calibration.measurements = [one]
    var writer = try TraceWriter(descriptor: file.descriptor)
    try writer.append([
      CaptureFact(key: CaptureFact.Key.attach, value: attach),
      CaptureFact(key: CaptureFact.Key.features, value: features),
      CaptureFact(key: CaptureFact.Key.calibrationProblem, value: "none"),
    ])
    try writer.append(calibration)
    // one that cannot be read takes nothing away
    let wrong = Array("kvmtax-calibration 9".utf8)
    try wrong.withUnsafeBytes {
      try writer.append(type: BlockType.calibration.rawValue, payload: $0, packing: false)
    }
    let capture = try readTrace(MappedFile(path: file.path), using: .accounts).evidence.capture
    #expect(capture.calibration == calibration)
    #expect(capture.calibrationProblem == "none")
    #expect(capture.mode?.name == mode)
  }

  @Test func everythingWrittenIsReadBack() throws {
    let file = try ScratchFile()
    let host = FakeHost(threads: 8)
    let start = host.clocks
    var writer = try TraceWriter(descriptor: file.descriptor, clocks: start)
    let facts = [CaptureFact(key: CaptureFact.Key.host, value: "pve2"), CaptureFact(key: "odd \u{1b}[m", value: "")]
    let formats = [FormatText(system: "kvm", name: "kvm_exit", text: String(repeating: "field:int a;\n", count: 300))]
    let processes = [
      TracedProcess(pid: 30_000, startNanoseconds: 5, name: "win-erp", vmid: 104, facts: facts),
      TracedProcess(pid: 30_001),
    ]
    let threads = host.slots.map { slot in
      TracedThread(
        thread: slot.thread, tid: slot.tid, tgid: slot.tgid, vcpu: UInt32(slot.vcpu), comm: "CPU \(slot.vcpu)/KVM")
    }
    let losses = [CPULosses(cpu: 3, ring: 0, counts: [7, 2, 1, 0])]
    let gap = TraceGap(reason: .suspend, fromNanoseconds: 5, toNanoseconds: 5, lengthNanoseconds: 9_000)
    let note = TraceNote(monotonicNanoseconds: 8, code: "shed-events", text: "no event records from here on")
    try writer.append(facts)
    try writer.append(formats)
    try writer.append(processes)
    try writer.append(threads)
    var encoder = SnapshotEncoder()
    for second in 0..<3 {
      host.run(nanoseconds: 1_000_000_000, exits: 100)
      try host.records.withUnsafeBufferPointer { try writer.append($0) }
      host.records = []
      host.snapshot(&encoder, second == 2 ? .complete : .changes)
      try encoder.write(to: &writer)
    }
    try writer.append(losses)
    try writer.append(gap)
    try writer.append(note)
    let end = TraceEnd(
      clocks: host.clocks, reason: "duration", exits: 2400, records: writer.recordsWritten, snapshots: 3, lostRecords: 7
    )
    try writer.end(end)

    let mapped = try MappedFile(path: file.path)
    #expect(UInt64(mapped.bytes.count) == writer.bytesWritten)
    for rung in [TraceRung.accounts, .exits] {
      let contents = try readTrace(mapped, using: rung)
      #expect(contents.facts == facts)
      #expect(contents.formatTexts == formats)
      #expect(contents.processes == processes)
      #expect(contents.threads == threads)
      #expect(contents.losses == losses)
      #expect(contents.gaps == [gap])
      #expect(contents.notes == [note])
      #expect(contents.end == end)
      #expect(contents.start == start)
      #expect(contents.lastSnapshot == host.clocks)
      #expect(contents.snapshotCount == 3)
      let trust = contents.evidence.trust
      #expect(trust.damage.isEmpty && trust.isComplete)
      #expect(trust.lostRecords == 7 && trust.lostEvents == 3)
      #expect(trust.gaps == 1 && trust.gapNanoseconds == 9_000)
      #expect(trust.notes == [note.text])
      #expect(contents.evidence.capture.host == "pve2")
      #expect(contents.evidence.capture.durationNanoseconds == host.now - start.monotonicNanoseconds)
      check(contents.evidence.ledger, against: host)
    }
  }

  @Test func recordsAreLentInPlaceAndSnapshotsGivenInOrder() throws {
    let file = try ScratchFile()
    let host = FakeHost(threads: 3)
    var writer = try TraceWriter(descriptor: file.descriptor)
    var encoder = SnapshotEncoder()
    var written: [kt_exit_record] = []
    for _ in 0..<4 {
      host.run(nanoseconds: 1_000_000_000, exits: 20)
      try host.records.withUnsafeBufferPointer { try writer.append($0) }
      written += host.records
      host.records = []
      host.snapshot(&encoder, .changes)
      try encoder.write(to: &writer)
    }
    let mapped = try MappedFile(path: file.path)
    let (start, length) = (UInt(bitPattern: mapped.bytes.baseAddress), UInt(mapped.bytes.count))
    var read: [kt_exit_record] = []
    forEachExitBatch(in: mapped) { span in
      span.withUnsafeBufferPointer {
        // inside the mapping: not a copy
        let address = UInt(bitPattern: $0.baseAddress)
        #expect(start < address && address < start + length)
        read += $0
      }
    }
    #expect(read.map(\.start_ns) == written.map(\.start_ns) && read.map(\.reason) == written.map(\.reason))
    var numbers: [UInt64] = []
    var exits: [UInt32: UInt64] = [:]
    forEachSnapshotBlock(in: mapped) { cursor in
      numbers.append(cursor.head.number)
      while let entry = cursor.next() {
        if case .thread = entry { exits[cursor.slot.thread] = cursor.slot.exits }
      }
    }
    #expect(numbers == [0, 1, 2, 3])
    for slot in host.slots { #expect(exits[slot.thread] == slot.exits) }
  }

  @Test func aPidThatComesAgainIsAnotherVM() throws {
    let file = try ScratchFile()
    let host = FakeHost(threads: 8)
    host.run(nanoseconds: 1_000_000_000, exits: 100)
    var writer = try TraceWriter(descriptor: file.descriptor, clocks: host.clocks)
    try writer.append([
      TracedProcess(pid: 30_000, startNanoseconds: 5, name: "first"),
      TracedProcess(pid: 30_000, startNanoseconds: 6, name: "second"),
    ])
    let first = host.slots.filter { $0.tgid == 30_000 }.map(\.thread)
    try writer.append(
      first.enumerated().map {
        TracedThread(thread: $1, tid: 1, tgid: 30_000, processStartNanoseconds: $0 == 0 ? 5 : 6)
      })
    var encoder = SnapshotEncoder()
    host.snapshot(&encoder, .complete)
    try encoder.write(to: &writer)
    let vms = try readTrace(try MappedFile(path: file.path), using: .accounts).evidence.ledger.vms
      .filter { $0.pid == 30_000 }
    #expect(Set(vms.map(\.name)) == ["first", "second"])
    #expect(vms.first { $0.name == "first" }?.vcpus.map(\.thread) == [first[0]])
    #expect(vms.first { $0.name == "second" }?.vcpus.count == first.count - 1)
  }

  /// Every thread and row of the host, exactly.
  private func check(_ ledger: Ledger, against host: FakeHost) {
    #expect(ledger.vcpus.count == host.threads)
    for vcpu in ledger.vcpus {
      let number = Int(vcpu.thread) - 1
      let slot = host.slots[number]
      var expected = states(slot)
      expected[State(rawValue: slot.state) ?? .unknown] += host.now - slot.since_ns
      #expect(vcpu.states == expected)
      #expect(vcpu.states.total == vcpu.wallNanoseconds)
      #expect(vcpu.lastNanoseconds == host.now && vcpu.firstNanoseconds == slot.first_ns)
      #expect(vcpu.exits == slot.exits && vcpu.entries == slot.entries)
      #expect(vcpu.tid == slot.tid && vcpu.index == number % 4 && vcpu.name == "CPU \(number % 4)/KVM")
      let rows = host.rows.filter { $0.thread == vcpu.thread }.map(account)
      #expect(vcpu.accounts.count == rows.count)
      for var account in vcpu.accounts {
        let isOpen = slot.in_exit != 0 && account.reason == slot.reason
        #expect(account.open == (isOpen ? 1 : 0))
        account.open = 0
        #expect(rows.contains(account))
      }
    }
    #expect(ledger.vms.first { $0.pid == 30_000 }?.name == "win-erp")
    #expect(ledger.vms.first { $0.pid == 30_000 }?.vmid == 104)
  }
}
