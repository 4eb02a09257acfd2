import Attribution
import Files
import Import
import TestSupport
import Testing

/// What an import counted, by the reasons' numbers.
func countsByReason(_ evidence: Evidence) -> [UInt32: OracleCount] {
  var counts: [UInt32: OracleCount] = [:]
  for account in evidence.ledger.vcpus.flatMap(\.accounts) {
    counts[account.reason, default: OracleCount()].exits += account.exits
    counts[account.reason, default: OracleCount()].finished += account.finished
    counts[account.reason, default: OracleCount()].nanoseconds += account.totalNanoseconds
  }
  return counts
}

@Suite struct PerfDataTests {
  @Test(arguments: Samples.names(".perf.data")) func countsAndTimesArePerfs(name: String) throws {
    let path = Samples.path(name)
    let evidence = try importTrace(try MappedFile(path: path))
    #expect(countsByReason(evidence) == (try PerfOracle.pairedEvents(path, SampleTraces.perfNames(name))))
    #expect(evidence.trust.isComplete)
    #expect(evidence.trust.damage == [])
    #expect(evidence.capture.format == "perf.data" && evidence.capture.kernel != nil)
    for vcpu in evidence.ledger.vcpus { #expect(vcpu.states.total == vcpu.wallNanoseconds) }
  }

  /// perf kvm leaves out what a thread does before its first entry: at most one finished exit a thread.
  @Test(arguments: Samples.names(".perf.data")) func perfsReportIsOursButForFirstExits(name: String) throws {
    let path = Samples.path(name)
    let evidence = try importTrace(try MappedFile(path: path))
    let ours = countsByReason(evidence)
    let names = try SampleTraces.perfNames(name)
    let report = try PerfOracle.report(path)
    let paired = try PerfOracle.pairedEvents(path, names, ignoringThreadsBeforeFirstEntry: true)
    // the formats in the samples and perf's tables have the same names for what occurs in them
    for account in evidence.ledger.vcpus.flatMap(\.accounts) {
      #expect(
        evidence.capture.reasonNames.name(isa: account.isa, reason: account.reason) == names.name(account.reason))
    }
    var leftOut: UInt64 = 0
    var nanoseconds: UInt64 = 0
    for (reason, count) in ours {
      let seen = paired[reason] ?? OracleCount()
      leftOut += count.finished - seen.finished
      nanoseconds += seen.nanoseconds
      #expect((report.rows[names.name(reason)]?.count ?? 0) == seen.finished, "\(names.name(reason))")
    }
    #expect(leftOut <= UInt64(evidence.ledger.vcpus.count))
    #expect(abs(report.totalMicroseconds - Double(nanoseconds) / 1000) < 1)
  }
}
