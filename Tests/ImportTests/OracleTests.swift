import Foundation
import TestSupport
import Testing

/// The samples of this project.
enum Samples {
  static let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().appending(path: "Samples")

  /// The path of one sample.
  static func path(_ name: String) -> String { folder.appending(path: name).path }

  static func names(_ suffix: String) -> [String] {
    ((try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []).filter { $0.hasSuffix(suffix) }
      .sorted()
  }
}

/// The oracles themselves: two ways to the same number.
@Suite struct OracleTests {
  @Test(arguments: Samples.names(".dat")) func everyPrintedExitHasItsReason(name: String) throws {
    let events = try TraceCmdOracle.events(Samples.path(name))
    let reasons = try TraceCmdOracle.reasons(Samples.path(name))
    #expect(reasons.values.reduce(0) { $0 + $1.exits } == UInt64(events.count { $0.name == "kvm_exit" }))
    #expect(!reasons.isEmpty && !reasons.keys.contains { $0.isa == 0 })
  }

  @Test(arguments: Samples.names(".perf.data")) func perfsLinesAddUpToPerfsReport(name: String) throws {
    let names = try SampleTraces.perfNames(name)
    let report = try PerfOracle.report(Samples.path(name))
    let paired = try PerfOracle.pairedEvents(Samples.path(name), names, ignoringThreadsBeforeFirstEntry: true)
    let finished = paired.filter { $0.value.finished > 0 }.map { (names.name($0.key), $0.value.finished) }
    #expect(!report.rows.isEmpty)
    #expect(report.rows.mapValues(\.count) == Dictionary(finished, uniquingKeysWith: +))
    #expect(report.totalCount == paired.values.reduce(0) { $0 + $1.finished })
    let nanoseconds = paired.values.reduce(0) { $0 + $1.nanoseconds }
    #expect(abs(report.totalMicroseconds - Double(nanoseconds) / 1000) <= 0.006)
  }
}
