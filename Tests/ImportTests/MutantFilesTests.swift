import Foundation
import Testing
import TestSupport

/// The mutants are only worth something if an unchanged one reads like its sample.
@Suite struct MutantFilesTests {
  @Test func thereAreSamplesOfBothPrograms() {
    #expect(!SampleTraces.traceDat.isEmpty)
    #expect(!SampleTraces.perfData.isEmpty)
  }

  @Test(.needsTool("trace-cmd"), arguments: SampleTraces.traceDat)
  func aTraceDatTakenApartAndWrittenAgainPrintsTheSame(_ sample: String) throws {
    let file = try SampleTraces.traceDat(sample)
    let scratch = try ScratchFolder()
    // the first records are enough, and several times faster
    let records = file.records(0..<10_000)
    let again = try scratch.write(file.encoded(records), to: "again.dat")
    let arguments = ["report", "-R", "-t", "-N", "-i"]
    let printed = try CountingTool.traceCmd.run(arguments + [again]).bytes
    let original = try CountingTool.traceCmd.run(arguments + [SampleTraces.path(sample)]).bytes
    #expect(printed.count { $0 == UInt8(ascii: "\n") } == records.count + 1)
    #expect(original.starts(with: printed))
  }

  @Test(.needsTool("perf"), arguments: SampleTraces.perfData)
  func aPerfDataTakenApartAndWrittenAgainReportsTheSame(_ sample: String) throws {
    let file = try SampleTraces.perfData(sample)
    let scratch = try ScratchFolder()
    let again = try scratch.write(file.encoded(file.records(0..<file.recordCount)), to: "again.data")
    let original = try PerfOracle.report(SampleTraces.path(sample))
    #expect(original.totalCount > 0)
    #expect(try PerfOracle.report(again) == original)
  }

  @Test(.needsTool("trace-cmd"), arguments: SampleTraces.traceDat + SampleTraces.perfData)
  func theMutantsOfASampleHaveEveryKindOfChange(_ sample: String) throws {
    let changes = try MutantTests.numbers.map { number in
      let mutant =
        try SampleTraces.perfData.contains(sample)
        ? MutantFile.mutant(ofPerfData: sample, number: number)
        : MutantFile.mutant(ofTraceDat: sample, number: number)
      #expect(mutant.records.count > 100)
      return mutant.changes.joined(separator: "; ")
    }
    for kind in [
      "of exits", "of entries", "of others", "bursts", "discarded", "CPUs swapped", "moved over", "scattered",
      "times +",
      "same time", "kvm_exit: ", "kvm_entry: ", "field added at", "field added before", "fields moved",
      "fields resized", "common field", "ids renumbered", "print fmt broken", "shuffled",
    ] {
      #expect(changes.contains { $0.contains(kind) }, "\(kind)")
    }
    // perf.data has records of losses, ring buffers have marks
    #expect(changes.contains { $0.contains("losses") } == SampleTraces.traceDat.contains(sample))
    #expect(Set(changes).count == changes.count)
  }
}
