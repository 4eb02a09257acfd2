import Attribution
import Files
import Import
import TestSupport
import Testing

/// The events that begin an exit before its kvm_exit, by what an import used.
func interruptions(_ evidence: Evidence, _ events: [EventText]) -> Set<String> {
  let features = evidence.ledger.vcpus.first?.features ?? []
  let names = Set(events.filter { $0.system == "irq_vectors" }.map(\.name))
  let handlers = names.filter { $0.hasSuffix("_entry") && names.contains("\($0.dropLast(6))_exit") }
    .flatMap { [$0, "\($0.dropLast(6))_exit"] }
  return Set(features.contains(.interrupts) ? handlers : []).union(features.contains(.switches) ? ["sched_switch"] : [])
}

/// Slices of real traces with events dropped, CPUs swapped and fields added, moved and resized, read by us and by the
/// tools that the formats belong to. Nothing here says what must come out; the tools do, each time.
@Suite struct MutantTests {
  static let numbers = 0..<50

  @Test(.needsTool("trace-cmd"), arguments: SampleTraces.traceDat, numbers)
  func aTraceDatGivesTraceCmdsCountsAndTimes(sample: String, number: Int) throws {
    let file = try MutantFile(ofTraceDat: sample, number: number)
    let evidence = try importTrace(try MappedFile(path: file.path))
    let names = interruptions(evidence, file.mutant.events)
    let report = try TraceCmdReport(of: file.path, interruptions: names)
    let ours = accounts(of: evidence)
    // first of all: the file says what the mutant holds
    let written = try RecordPairing(file.mutant.records, events: file.mutant.events, interruptions: names)
    if report.droppedCount == 0 {
      #expect(report.threads == written.threads, "\(file.origin)")
    } else {
      // what the records say without regard to losses
      #expect(exits(report.threads) == exits(written.threads), "\(file.origin)")
    }
    #expect(!report.threads.isEmpty, "\(file.origin)")
    for thread in Set(ours.keys).union(report.threads.keys).sorted() {
      #expect(ours[thread] == report.threads[thread], "thread \(thread), \(file.origin)")
    }
    #expect(evidence.trust.damage == [], "\(file.origin)")
    #expect(evidence.trust.lostEvents == report.droppedCount, "\(file.origin)")
    for vcpu in evidence.ledger.vcpus { #expect(vcpu.states.total == vcpu.wallNanoseconds, "\(file.origin)") }
  }

  @Test(.needsTool("perf"), arguments: SampleTraces.perfData, numbers)
  func aPerfDataGivesPerfsCountsAndTimes(sample: String, number: Int) throws {
    let file = try MutantFile(ofPerfData: sample, number: number)
    let evidence = try importTrace(try MappedFile(path: file.path))
    let written = try RecordPairing(file.mutant.records, events: file.mutant.events)
    let ours = accounts(of: evidence)
    #expect(ours == written.threads, "\(file.origin)")
    let names = try SampleTraces.perfNames(sample)
    try expect(ours, minus: written.beforeFirstEntry, toEqual: PerfReport(of: file.path), names, file.origin)
    // the same for one vCPU alone
    let vcpus = Set(written.vcpus.values).sorted()
    guard !vcpus.isEmpty else { return }
    let vcpu = vcpus[number % vcpus.count]
    let its = ours.filter { written.vcpus[$0.key] == vcpu }
    let early = try RecordPairing(
      file.mutant.records.filter { written.vcpus[$0.thread] == vcpu }, events: file.mutant.events)
    try expect(
      its, minus: early.beforeFirstEntry, toEqual: PerfReport(of: file.path, vcpu: vcpu), names,
      "vCPU \(vcpu) of \(file.origin)", oneVCPU: true)
  }

  private func exits(_ threads: [UInt32: [ReasonKey: PairedExits]]) -> [UInt32: [ReasonKey: UInt64]] {
    threads.mapValues { $0.mapValues(\.exits) }
  }

  /// What we count, by thread and reason, in the terms of the oracles.
  private func accounts(of evidence: Evidence) -> [UInt32: [ReasonKey: PairedExits]] {
    var threads: [UInt32: [ReasonKey: PairedExits]] = [:]
    for vcpu in evidence.ledger.vcpus {
      for account in vcpu.accounts {
        threads[vcpu.tid, default: [:]][ReasonKey(isa: account.isa, reason: account.reason), default: PairedExits()]
          .add(PairedExits(account))
      }
    }
    return threads
  }

  /// perf prints times as µs with two decimals: off by up to 5 ns each, the mean too.
  private func expect(
    _ ours: [UInt32: [ReasonKey: PairedExits]], minus early: [ReasonKey: PairedExits], toEqual report: PerfReport,
    _ names: PerfReasonNames, _ origin: String, oneVCPU: Bool = false
  ) {
    var counts: [String: PairedExits] = [:]
    for (key, exits) in ours.values.joined() { counts[names.name(key.reason), default: PairedExits()].add(exits) }
    // perf takes nothing from a thread before its first kvm_entry (docs/compared-with-perf.md)
    var withoutEarly = counts
    for (key, exits) in early {
      withoutEarly[names.name(key.reason)]?.finished -= exits.finished
      withoutEarly[names.name(key.reason)]?.totalNanoseconds -= exits.totalNanoseconds
    }
    withoutEarly = withoutEarly.filter { $0.value.finished > 0 }
    #expect(Set(withoutEarly.keys) == Set(report.rows.map(\.name)), "\(origin)")
    // perf prints several rows of one name for numbers that it does not know
    for (name, rows) in Dictionary(grouping: report.rows, by: \.name) {
      guard let count = withoutEarly[name] else { continue }
      let samples = rows.reduce(0) { $0 + $1.samples }
      let microseconds = rows.reduce(0) { $0 + $1.meanMicroseconds * Double($1.samples) }
      #expect(count.finished == samples, "\(name), \(origin)")
      #expect(near(count.totalNanoseconds, microseconds, times: samples), "\(name), \(origin)")
      guard count.finished == counts[name]?.finished else { continue }
      #expect(near(count.maxNanoseconds, rows.map(\.maxMicroseconds).max() ?? 0), "\(name), \(origin)")
      // with --vcpu, perf 6.1 prints 0.00us for the least
      if !oneVCPU {
        #expect(near(count.minNanoseconds, rows.map(\.minMicroseconds).min() ?? 0), "\(name), \(origin)")
      }
    }
    #expect(withoutEarly.values.reduce(0) { $0 + $1.finished } == report.totalSamples, "\(origin)")
    let total = withoutEarly.values.reduce(0) { $0 + $1.totalNanoseconds }
    #expect(near(total, report.totalMicroseconds), "\(origin)")
  }

  /// Equal but for perf's rounding to 0.01 µs of each of so many numbers.
  private func near(_ nanoseconds: UInt64, _ microseconds: Double, times count: UInt64 = 1) -> Bool {
    abs(Double(nanoseconds) / 1000 - microseconds) <= 0.0051 * Double(count)
  }
}

extension PairedExits {
  /// What we counted, in the terms of the oracles.
  init(_ account: ExitAccount) {
    self.init()
    exits = account.exits
    finished = account.finished
    totalNanoseconds = account.totalNanoseconds
    minNanoseconds = account.minNanoseconds
    maxNanoseconds = account.maxNanoseconds
  }
}
