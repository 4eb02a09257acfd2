import Attribution
import Files
import Import
import TestSupport
import Testing

/// What an import counted, in the oracle's terms.
func counts(_ evidence: Evidence) -> [OracleReason: OracleCount] {
  var counts: [OracleReason: OracleCount] = [:]
  for account in evidence.ledger.vcpus.flatMap(\.accounts) {
    counts[OracleReason(isa: account.isa, reason: account.reason), default: OracleCount()].exits += account.exits
    counts[OracleReason(isa: account.isa, reason: account.reason), default: OracleCount()].finished += account.finished
    counts[OracleReason(isa: account.isa, reason: account.reason), default: OracleCount()].nanoseconds +=
      account.totalNanoseconds
  }
  return counts
}

@Suite struct TraceDatTests {
  @Test(arguments: Samples.names(".dat")) func countsAndTimesAreTraceCmds(name: String) throws {
    let path = Samples.path(name)
    let evidence = try importTrace(try MappedFile(path: path))
    let (ours, theirs) = (counts(evidence), try TraceCmdOracle.reasons(path))
    #expect(ours.mapValues { [$0.exits, $0.finished] } == theirs.mapValues { [$0.exits, $0.finished] })
    // with what interrupted the guest an exit begins before its kvm_exit
    let names = interruptions(evidence, try SampleTraces.traceDat(name).events)
    let times = try TraceCmdReport(of: path, interruptions: names).reasons.map {
      (OracleReason(isa: $0.key.isa, reason: $0.key.reason), $0.value.totalNanoseconds)
    }
    #expect(ours.mapValues(\.nanoseconds) == Dictionary(uniqueKeysWithValues: times))
    if !name.contains("interrupts") { #expect(ours == theirs) }
    #expect(evidence.trust.isComplete)
    #expect(evidence.trust.damage == [])
    #expect(evidence.capture.format == "trace.dat v7" && evidence.capture.rung == "events")
    for vcpu in evidence.ledger.vcpus { #expect(vcpu.states.total == vcpu.wallNanoseconds) }
  }
}
