import Attribution
import Files
import Import
import TestSupport
import Testing

/// Slices of real traces with events dropped, CPUs swapped and fields added, moved and resized, read by us and by the
/// tools that the formats belong to. Nothing here says what must come out; the tools do, each time.
@Suite struct MutantTests {
  static let numbers = 0..<50
  static let traceCmdBlocker = CountingTool.traceCmd.blocker(needing: SampleTraces.traceDat)
  static let perfBlocker = CountingTool.perf.blocker(needing: SampleTraces.perfData)

  @Test(
    .enabled(if: traceCmdBlocker == nil, Comment(rawValue: traceCmdBlocker ?? "")),
    arguments: SampleTraces.traceDat, numbers)
  func aTraceDatGivesTraceCmdsCountsAndTimes(sample: String, number: Int) throws {
    let file = try MutantFile(ofTraceDat: sample, number: number)
    let evidence = try importTrace(try MappedFile(path: file.path))
    let report = try TraceCmdReport(of: file.path)
    let ours = accounts(of: evidence)
    // first of all: the file says what the mutant holds
    let written = try RecordPairing(file.mutant.records, events: file.mutant.events)
    #expect(report.threads == written.threads, "\(file.origin)")
    for thread in Set(ours.keys).union(report.threads.keys).sorted() {
      #expect(ours[thread] == report.threads[thread], "thread \(thread), \(file.origin)")
    }
    #expect(evidence.trust.damage == [], "\(file.origin)")
    #expect(evidence.trust.lostEvents == 0, "\(file.origin)")
    for vcpu in evidence.ledger.vcpus { #expect(vcpu.states.total == vcpu.wallNanoseconds, "\(file.origin)") }
  }

  @Test(
    .enabled(if: perfBlocker == nil, Comment(rawValue: perfBlocker ?? "")), arguments: SampleTraces.perfData, numbers)
  func aPerfDataGivesPerfsCountsAndTimes(sample: String, number: Int) throws {
    let file = try MutantFile(ofPerfData: sample, number: number)
    let evidence = try importTrace(try MappedFile(path: file.path))
    let written = try RecordPairing(file.mutant.records, events: file.mutant.events)
    let ours = accounts(of: evidence)
    #expect(ours == written.threads, "\(file.origin)")
    let names = try SampleTraces.perfNames(sample)
    try expect(ours, minus: written.beforeFirstEntry, toEqual: PerfReport(of: file.path), names, file.origin)
    // the same for one vCPU alone
    guard let vcpu = written.vcpus.values.randomElement() else { return }
    let its = ours.filter { written.vcpus[$0.key] == vcpu }
    let early = try RecordPairing(
      file.mutant.records.filter { written.vcpus[$0.thread] == vcpu }, events: file.mutant.events)
    try expect(
      its, minus: early.beforeFirstEntry, toEqual: PerfReport(of: file.path, vcpu: vcpu), names,
      "vCPU \(vcpu) of \(file.origin)")
  }

  /// What we count, by thread and reason, in the terms of the oracles.
  private func accounts(of evidence: Evidence) -> [UInt32: [ReasonKey: PairedExits]] {
    var threads: [UInt32: [ReasonKey: PairedExits]] = [:]
    for vcpu in evidence.ledger.vcpus {
      for account in vcpu.accounts {
        var exits = PairedExits()
        exits.exits = account.exits
        exits.finished = account.finished
        exits.totalNanoseconds = account.totalNanoseconds
        exits.minNanoseconds = account.minNanoseconds
        exits.maxNanoseconds = account.maxNanoseconds
        threads[vcpu.tid, default: [:]][ReasonKey(isa: account.isa, reason: account.reason), default: PairedExits()]
          .add(exits)
      }
    }
    return threads
  }

  /// perf prints times as µs with two decimals: off by up to 5 ns each, the mean too.
  private func expect(
    _ ours: [UInt32: [ReasonKey: PairedExits]], minus early: [ReasonKey: PairedExits], toEqual report: PerfReport,
    _ names: PerfReasonNames, _ origin: String
  ) {
    var counts: [String: (samples: UInt64, nanoseconds: UInt64)] = [:]
    for (key, exits) in ours.values.joined() where exits.finished > 0 {
      counts[names.name(key.reason), default: (0, 0)].samples += exits.finished
      counts[names.name(key.reason), default: (0, 0)].nanoseconds += exits.totalNanoseconds
    }
    // perf takes nothing from a thread before its first kvm_entry (docs/compared-with-perf.md)
    for (key, exits) in early where exits.finished > 0 {
      counts[names.name(key.reason), default: (0, 0)].samples -= exits.finished
      counts[names.name(key.reason), default: (0, 0)].nanoseconds -= exits.totalNanoseconds
    }
    counts = counts.filter { $0.value.samples > 0 }
    var printed: [String: (samples: UInt64, microseconds: Double)] = [:]
    for row in report.rows {
      printed[row.name, default: (0, 0)].samples += row.samples
      printed[row.name, default: (0, 0)].microseconds += row.meanMicroseconds * Double(row.samples)
    }
    #expect(Set(counts.keys) == Set(printed.keys), "\(origin)")
    for (name, row) in printed {
      guard let count = counts[name] else { continue }
      #expect(count.samples == row.samples, "\(name), \(origin)")
      let difference = abs(Double(count.nanoseconds) / 1000 - row.microseconds)
      #expect(difference <= 0.0051 * Double(row.samples), "\(name), \(origin)")
    }
    let samples = counts.values.reduce(0) { $0 + $1.samples }
    let microseconds = Double(counts.values.reduce(0) { $0 + $1.nanoseconds }) / 1000
    #expect(samples == report.totalSamples, "\(origin)")
    #expect(abs(microseconds - report.totalMicroseconds) <= 0.0051, "\(origin)")
  }
}
