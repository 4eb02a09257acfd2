import Files
import Import
import TestSupport
import Testing

/// What docs/compared-with-perf.md says perf counts differently, shown on small made-up sequences of one thread.
@Suite(.needsTool("perf")) struct MutantDifferenceTests {
  @Test(arguments: SampleTraces.perfData) func perfLeavesOutWhatComesBeforeTheFirstEntry(sample: String) throws {
    let (report, ours) = try results(
      of: [
        .exit(10, afterNanoseconds: 10), .entry(vcpu: 0, afterNanoseconds: 1000), .exit(10, afterNanoseconds: 10),
        .entry(vcpu: 0, afterNanoseconds: 3000),
      ], like: sample)
    #expect(report.totalSamples == 1 && report.totalMicroseconds == 3)
    #expect(ours.finished == 2 && ours.totalNanoseconds == 4000)
  }

  @Test(arguments: SampleTraces.perfData) func perfLeavesOutExitsWithoutAnEntry(sample: String) throws {
    let (report, ours) = try results(
      of: [
        .entry(vcpu: 0, afterNanoseconds: 10), .exit(10, afterNanoseconds: 10), .exit(16, afterNanoseconds: 500),
        .entry(vcpu: 0, afterNanoseconds: 1000), .entry(vcpu: 0, afterNanoseconds: 700),
        .exit(10, afterNanoseconds: 10),
      ], like: sample)
    #expect(report.totalSamples == 1 && report.totalMicroseconds == 1)
    #expect(ours.exits == 3 && ours.finished == 1 && ours.totalNanoseconds == 1000)
  }

  @Test(arguments: SampleTraces.perfData) func perfPairsAcrossLosses(sample: String) throws {
    let (report, ours) = try results(
      of: [
        .entry(vcpu: 0, afterNanoseconds: 10), .exit(10, afterNanoseconds: 10), .lost(3),
        .entry(vcpu: 0, afterNanoseconds: 1000), .exit(10, afterNanoseconds: 10),
        .entry(vcpu: 0, afterNanoseconds: 500),
      ], like: sample)
    #expect(report.totalSamples == 2 && report.totalMicroseconds == 1.5)
    #expect(ours.exits == 2 && ours.finished == 1 && ours.totalNanoseconds == 500)
  }

  @Test(arguments: SampleTraces.perfData) func perfHasNoNamesForReasonsWithFlags(sample: String) throws {
    let (report, ours) = try results(
      of: [
        .entry(vcpu: 0, afterNanoseconds: 10), .exit(0x8000_0021, afterNanoseconds: 10),
        .entry(vcpu: 0, afterNanoseconds: 1000),
        .exit(0x0400_0001, afterNanoseconds: 10), .entry(vcpu: 0, afterNanoseconds: 2000),
      ], like: sample)
    // a row each, or, in newer versions of perf, one for both
    #expect(Set(report.rows.map(\.name)) == ["UNKNOWN"] && report.totalSamples == 2)
    #expect(ours.finished == report.totalSamples)
  }

  @Test(arguments: SampleTraces.perfData) func perfTakesTheVCPUFromTheFirstEntry(sample: String) throws {
    let steps: [Step] = [
      .entry(vcpu: 0, afterNanoseconds: 10), .exit(10, afterNanoseconds: 10), .entry(vcpu: 5, afterNanoseconds: 1000),
      .exit(10, afterNanoseconds: 10), .entry(vcpu: 5, afterNanoseconds: 1000),
    ]
    #expect(try results(of: steps, like: sample, vcpu: 0).report.totalSamples == 2)
    #expect(try results(of: steps, like: sample, vcpu: 5).report.totalSamples == 0)
  }

  @Test(arguments: SampleTraces.perfData) func perfRefusesAFileThatLacksTheFormatOfAnEvent(sample: String) throws {
    var file = try SampleTraces.perfData(sample)
    let path = try written(two, to: file)
    _ = try PerfReport(of: path.file)
    let complete = try importTrace(try MappedFile(path: path.file)).ledger
    file.events.removeAll { $0.name == "kvm_pio" }
    let lacking = try written(two, to: file)
    #expect(throws: SampleError.self) { try PerfReport(of: lacking.file) }
    #expect(try importTrace(try MappedFile(path: lacking.file)).ledger == complete)
  }

  private let two: [Step] = [
    .entry(vcpu: 0, afterNanoseconds: 10), .exit(10, afterNanoseconds: 10), .entry(vcpu: 0, afterNanoseconds: 1000),
  ]

  private func written(_ steps: [Step], to file: PerfDataFile) throws -> (file: String, folder: ScratchFolder) {
    var maker = try StepMaker(like: file)
    for step in steps { maker.add(step) }
    let folder = try ScratchFolder()
    return (try folder.write(file.encoded(maker.records), to: "perf.data"), folder)
  }

  /// What perf reports of such a sequence, and what we do.
  private func results(
    of steps: [Step], like sample: String, vcpu: Int? = nil
  ) throws -> (report: PerfReport, ours: PairedExits) {
    let path = try written(steps, to: SampleTraces.perfData(sample))
    var sum = PairedExits()
    for account in try importTrace(try MappedFile(path: path.file)).ledger.vcpus.flatMap(\.accounts) {
      sum.add(PairedExits(account))
    }
    return (try PerfReport(of: path.file, vcpu: vcpu), sum)
  }
}
