import Foundation
import Testing
import TestSupport

/// The mutants are only worth something if an unchanged one reads like its sample.
@Suite struct MutantFilesTests {
  static let traceCmdBlocker = CountingTool.traceCmd.blocker(needing: SampleTraces.traceDat)
  static let perfBlocker = CountingTool.perf.blocker(needing: SampleTraces.perfData)

  @Test(
    .enabled(if: traceCmdBlocker == nil, Comment(rawValue: traceCmdBlocker ?? "")), arguments: SampleTraces.traceDat)
  func aTraceDatTakenApartAndWrittenAgainPrintsTheSame(_ sample: String) throws {
    let file = try SampleTraces.traceDat(sample)
    let scratch = try ScratchFolder()
    let again = try scratch.write(file.encoded(file.records(0..<file.recordCount)), to: "again.dat")
    let arguments = ["report", "-R", "-t", "-N", "-i"]
    let original = try CountingTool.traceCmd.run(arguments + [SampleTraces.path(sample)])
    #expect(original.bytes.count > 10_000)
    #expect(try CountingTool.traceCmd.run(arguments + [again]).bytes == original.bytes)
  }

  @Test(.enabled(if: perfBlocker == nil, Comment(rawValue: perfBlocker ?? "")), arguments: SampleTraces.perfData)
  func aPerfDataTakenApartAndWrittenAgainReportsTheSame(_ sample: String) throws {
    let file = try SampleTraces.perfData(sample)
    let scratch = try ScratchFolder()
    let records = file.records(0..<file.recordCount)
    let again = try scratch.write(
      file.encoded(records, ids: [:], roundSize: 10_000, describesEvents: true), to: "again.data")
    let original = try PerfOracle.report(SampleTraces.path(sample))
    #expect(original.totalCount > 0)
    #expect(try PerfOracle.report(again) == original)
  }
}
