import Attribution
import Files
import Import
import TestSupport
import Testing

/// A trace.dat's records as perf record would have written them: the same states must come out.
@Suite struct PerfSchedulerTests {
  // TID | TIME | ID | CPU | RAW
  private static let sampleType: UInt64 = 1 << 1 | 1 << 2 | 1 << 6 | 1 << 7 | 1 << 10

  private func record(_ type: UInt32, _ body: [UInt8]) -> [UInt8] {
    little(type) + little(UInt16(0)) + little(UInt16(8 + body.count)) + body
  }

  private func attribute(_ event: EventText, period: UInt64) -> [UInt8] {
    var words = [UInt64](repeating: 0, count: 16)
    words[0] = 2 | 128 << 32
    words[1] = UInt64(event.id)
    words[2] = period
    words[3] = PerfSchedulerTests.sampleType
    words[5] = 1 << 18
    return words.flatMap { little($0) }
  }

  private func sample(_ record: TracepointRecord, tid: UInt32) -> [UInt8] {
    let size = (record.bytes.count + 4 + 7) & ~7 - 4
    var body = little(tid == .max ? tid : UInt32(500)) + little(tid) + little(record.nanoseconds)
    body += little(UInt64(record.id)) + little(UInt64(record.cpu)) + little(UInt32(size))
    body += record.bytes + [UInt8](repeating: 0, count: size - record.bytes.count)
    return self.record(9, body)
  }

  private func formats(_ events: [EventText]) -> [UInt8] {
    func sized(_ text: String) -> [UInt8] { little(UInt64(text.utf8.count)) + Array(text.utf8) }
    var out: [UInt8] = [0x17, 0x08, 0x44] + Array("tracing0.6\0".utf8) + [0, 8] + little(UInt32(4096))
    out += Array("header_page\0".utf8) + sized("") + Array("header_event\0".utf8) + sized("") + little(UInt32(0))
    let systems = Set(events.map(\.system)).sorted()
    out += little(UInt32(systems.count))
    for system in systems {
      let texts = events.filter { $0.system == system }.map(\.text)
      out += Array(system.utf8) + [0] + little(UInt32(texts.count))
      for text in texts { out += sized(text) }
    }
    return out
  }

  private func perfData(_ file: TraceDatFile, sampled: Set<String> = [], asPipe: Bool = false) -> [UInt8] {
    let records = file.records(0..<file.recordCount)
    let used = Set(records.map(\.id))
    let events = file.events.filter { used.contains($0.id) }
    let exchange = events.first { $0.name == "sched_switch" }?.id
    var data: [UInt8] = []
    // perf has no number for a thread that is about to end: here of all that go out
    for record in records { data += sample(record, tid: record.id == exchange ? .max : record.thread) }
    func period(_ event: EventText) -> UInt64 { sampled.contains(event.name) ? 100 : 1 }
    let tracing = formats(events)
    if asPipe {
      var out = Array("PERFILE2".utf8) + little(UInt64(16))
      for event in events { out += record(64, attribute(event, period: period(event)) + little(UInt64(event.id))) }
      out += record(66, little(UInt32(tracing.count))) + tracing
      return out + [UInt8](repeating: 0, count: (8 - tracing.count % 8) % 8) + data
    }
    let idsAt = 104 + events.count * 144
    let dataAt = idsAt + events.count * 8
    var out = Array("PERFILE2".utf8)
    for word in [104, 144, 104, events.count * 144, dataAt, data.count, 0, 0, 2, 0, 0, 0] {
      out += little(UInt64(word))
    }
    for (index, event) in events.enumerated() {
      out += attribute(event, period: period(event)) + little(UInt64(idsAt + index * 8)) + little(UInt64(8))
    }
    for event in events { out += little(UInt64(event.id)) }
    out += data
    return out + little(UInt64(out.count + 16)) + little(UInt64(tracing.count)) + tracing
  }

  private func expectSameThreads(_ evidence: Evidence, as other: Evidence) {
    let (ours, theirs) = (evidence.ledger.vcpus, other.ledger.vcpus)
    #expect(ours.map(\.tid) == theirs.map(\.tid))
    for (one, two) in zip(ours, theirs) {
      #expect(one.states == two.states && one.accounts == two.accounts && one.features == two.features)
      #expect(one.timerVector == two.timerVector)
    }
    #expect(evidence.ledger.vms.flatMap(\.keys) == other.ledger.vms.flatMap(\.keys))
    #expect(evidence.trust.damage == [])
  }

  @Test(.needsTool("trace-cmd"), arguments: [false, true]) func theSameRecordsGiveTheSameStates(asPipe: Bool) throws {
    let plain = try importTrace(try MappedFile(path: Samples.path("svm-interrupts.dat")))
    let bytes = perfData(try SampleTraces.traceDat("svm-interrupts.dat"), asPipe: asPipe)
    let evidence = try #require(try imported(bytes))
    expectSameThreads(evidence, as: plain)
    #expect(evidence.ledger.vms.map(\.pid) == [500])
    #expect(evidence.ledger.vcpus.allSatisfy { $0.states[.hostInterrupt] > 0 && $0.states[.haltWait] > 0 })
  }

  @Test(.needsTool("trace-cmd"), arguments: [false, true])
  func aChoiceOfTheSchedulersEventsIsNotUsed(asPipe: Bool) throws {
    let bytes = perfData(try SampleTraces.traceDat("svm-interrupts.dat"), sampled: ["sched_switch"], asPipe: asPipe)
    let vcpus = try #require(try imported(bytes)).ledger.vcpus
    #expect(vcpus.count == 2)
    for vcpu in vcpus {
      #expect(vcpu.features == [.wakeup, .fpu, .userspaceExit, .interrupts])
      #expect(vcpu.states[.preempted] == 0 && vcpu.states[.qemuBlocked] == 0 && vcpu.states[.hostInterrupt] > 0)
      #expect(vcpu.states.total == vcpu.wallNanoseconds)
    }
  }

  @Test(.needsTool("trace-cmd")) func aChoiceOfExitsIsRefused() throws {
    let bytes = perfData(try SampleTraces.traceDat("svm-interrupts.dat"), sampled: ["kvm_exit"])
    #expect(try imported(bytes) == nil)
  }
}
