import Attribution
import Files
import Import
import TestSupport
import Testing

/// What an import counted, by the names that the trace gives the reasons.
func countsByName(_ evidence: Evidence) -> [String: OracleCount] {
  var counts: [String: OracleCount] = [:]
  for account in evidence.ledger.vcpus.flatMap(\.accounts) {
    let name = evidence.capture.reasonNames.name(isa: account.isa, reason: account.reason)
    counts[name, default: OracleCount()].exits += account.exits
    counts[name, default: OracleCount()].finished += account.finished
    counts[name, default: OracleCount()].nanoseconds += account.totalNanoseconds
  }
  return counts
}

@Suite struct PerfDataTests {
  @Test(arguments: Samples.names(".perf.data")) func countsAndTimesArePerfs(name: String) throws {
    let path = Samples.path(name)
    let evidence = try importTrace(try MappedFile(path: path))
    #expect(countsByName(evidence) == (try PerfOracle.pairedEvents(path)))
    #expect(evidence.trust.isComplete)
    #expect(evidence.trust.damage == [])
    #expect(evidence.capture.format == "perf.data" && evidence.capture.kernel != nil)
    for vcpu in evidence.ledger.vcpus { #expect(vcpu.states.total == vcpu.wallNanoseconds) }
  }

  /// perf kvm leaves out what a thread does before its first entry: at most one finished exit a thread.
  @Test(arguments: Samples.names(".perf.data")) func perfsReportIsOursButForFirstExits(name: String) throws {
    let path = Samples.path(name)
    let evidence = try importTrace(try MappedFile(path: path))
    let ours = countsByName(evidence)
    let report = try PerfOracle.report(path)
    let paired = try PerfOracle.pairedEvents(path, ignoringThreadsBeforeFirstEntry: true)
    var leftOut: UInt64 = 0
    var nanoseconds: UInt64 = 0
    for (reason, count) in ours {
      let seen = paired[reason] ?? OracleCount()
      leftOut += count.finished - seen.finished
      nanoseconds += seen.nanoseconds
      #expect((report.rows[reason]?.count ?? 0) == seen.finished, "\(reason)")
    }
    #expect(leftOut <= UInt64(evidence.ledger.vcpus.count))
    #expect(abs(report.totalMicroseconds - Double(nanoseconds) / 1000) < 1)
  }
}
