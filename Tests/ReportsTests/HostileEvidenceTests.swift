import Attribution
import Foundation
import Reports
import Terminal
import Testing

/// What a forged file can make of an Evidence: any number in any place.
@Suite struct HostileEvidenceTests {
  private static func number() -> UInt64 {
    switch Int.random(in: 0..<8) {
    case 0: 0
    case 1: 1
    case 2: .max
    case 3: .max - UInt64.random(in: 0...4096)
    case 4: 1 << UInt64.random(in: 0..<64)
    case 5: (1 << UInt64.random(in: 0..<64)) &- 1
    case 6: UInt64.random(in: 0...1_000_000)
    default: UInt64.random(in: 0 ... .max)
    }
  }

  private static func states() -> StateTimes {
    var states = StateTimes()
    for state in State.allCases where Bool.random() { states[state] = number() }
    return states
  }

  private static func account() -> ExitAccount {
    var account = ExitAccount(isa: UInt8.random(in: 0...3), reason: UInt32(truncatingIfNeeded: number()))
    account.finished = number()
    account.unpaired = number()
    account.open = number()
    account.totalNanoseconds = number()
    account.minNanoseconds = number()
    account.maxNanoseconds = number()
    account.states = states()
    for _ in 0..<Int.random(in: 0...4) {
      account.histogram.set(bucket: Int.random(in: 0..<Histogram.bucketCount), count: number())
    }
    if Bool.random() { account.histogram.set(bucket: Histogram.bucketCount - 1, count: number()) }
    return account
  }

  private static func evidence() -> Evidence {
    var ledger = Ledger()
    for _ in 0..<Int.random(in: 0...4) {
      var vcpu = VCPU(thread: UInt32(truncatingIfNeeded: number()), tid: UInt32(truncatingIfNeeded: number()))
      vcpu.index = Bool.random() ? nil : Int(number() >> 1)
      vcpu.firstNanoseconds = number()
      vcpu.lastNanoseconds = number()
      vcpu.states = states()
      vcpu.exits = number()
      vcpu.entries = number()
      vcpu.unpairedEntries = number()
      vcpu.missed = number()
      vcpu.backwards = number()
      vcpu.overflowExits = number()
      vcpu.overflowNanoseconds = number()
      vcpu.features = StateFeatures(rawValue: .random(in: 0...255))
      for _ in 0..<Int.random(in: 0...5) { vcpu.accounts.append(account()) }
      ledger.add(vcpu, pid: UInt32.random(in: 0...2))
    }
    ledger.sort()
    var capture = Capture(file: "f", format: "kvmtax trace", rung: "accounts")
    capture.durationNanoseconds = number()
    capture.startRealtimeNanoseconds = number()
    var trust = Trust()
    trust.lostEvents = number()
    trust.lostRecords = number()
    trust.gaps = number()
    trust.gapNanoseconds = number()
    trust.damage = [Damage(offset: number(), length: number(), found: "x")]
    return Evidence(capture: capture, ledger: ledger, trust: trust)
  }

  @Test func theLargestDurationsHavePercentiles() throws {
    var evidence = Evidence(
      capture: Capture(file: "f", format: "kvmtax trace", rung: "accounts"), ledger: Ledger(), trust: Trust())
    var vcpu = VCPU(thread: 1, tid: 1)
    var account = ExitAccount(isa: 1, reason: 1)
    account.finished = .max
    account.maxNanoseconds = .max - 1
    account.histogram.set(bucket: Histogram.bucketCount - 1, count: .max)
    vcpu.accounts = [account]
    evidence.ledger.add(vcpu, pid: 1)
    let durations = try #require(try ReportBuilder(evidence).report().totals.reasons[0].durations)
    #expect(durations.p50 <= durations.p99 && durations.p99 <= durations.max)
  }

  @Test func anyEvidenceGivesAReport() throws {
    let schema = try Schema()
    for _ in 0..<200 {
      let report = try ReportBuilder(Self.evidence()).report()
      for isVerbose in [false, true] {
        let text = TextReport(isVerbose: isVerbose).render(report)
        #expect(text.split(separator: "\n").allSatisfy { $0.count <= 100 })
        #expect(!text.contains("nan") && !text.contains("inf "))
      }
      let object = try JSONSerialization.jsonObject(with: Data(JSONReport().render(report).utf8))
      #expect(schema.faults(object, "Report") == [])
    }
  }
}
