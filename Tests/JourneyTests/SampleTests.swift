import Attribution
import Foundation
import TestSupport
import Testing
import TraceFile

/// The bundled traces of our own: files of every release stay readable.
@Suite struct SampleTests {
  static let traces = SampleFolder.names(".kvmtax")

  @Test func `There is a trace of our own among the samples`() { #expect(!SampleTests.traces.isEmpty) }

  @Test(arguments: traces) func `A trace says the same by its accounts and by its exit records`(name: String) throws {
    let accounts = try Recording(SampleFolder.path(name))
    let records = try Recording(SampleFolder.path(name), using: .exits)
    #expect(accounts.evidence.trust.isComplete && accounts.evidence.trust.damage.isEmpty)
    #expect(accounts.residualNanoseconds == 0)
    #expect(records.residualNanoseconds == 0)
    #expect(accounts.contents.exitRecordCount > 0)
    let pairs = zip(accounts.evidence.ledger.vcpus, records.evidence.ledger.vcpus)
    for (left, right) in pairs {
      #expect(left.thread == right.thread)
      #expect(left.states == right.states)
      func finished(_ vcpu: VCPU) -> [UInt32: [UInt64]] {
        Dictionary(
          uniqueKeysWithValues: vcpu.accounts.filter { $0.finished > 0 }.map {
            ($0.reason, [$0.finished, $0.totalNanoseconds, $0.minNanoseconds, $0.maxNanoseconds] + $0.histogram.counts)
          })
      }
      #expect(finished(left) == finished(right))
    }
  }

  @Test(arguments: traces) func `Each interval sums to its wall time, and all of them to the ledger`(name: String)
    throws
  {
    for rung in [TraceRung.accounts, .exits] {
      let evidence = try Recording(SampleFolder.path(name), using: rung).evidence
      try expectTimelineSums(evidence)
      #expect(!evidence.timeline.ends.isEmpty)
    }
  }

  @Test(arguments: traces) func `A trace cut before its first snapshot blames the cut, not the host`(name: String)
    throws
  {
    let folder = try ScratchFolder()
    let whole = try Data(contentsOf: URL(filePath: SampleFolder.path(name)))
    let path = try folder.write(Array(whole.prefix(70_000)), to: name)
    let outcome = try Program.run("kvmtax", ["report", path])
    #expect(outcome.status == 0, "\(outcome.errors)")
    #expect(outcome.output.contains("damaged at byte"))
    #expect(outcome.output.contains("Copy the file again"))
    #expect(!outcome.output.contains("no VM ran"))
  }

  @Test(arguments: traces) func `The report names the reasons as the recording kernel does`(name: String) throws {
    let outcome = try Program.run("kvmtax", ["report", SampleFolder.path(name)])
    #expect(outcome.status == 0, "\(outcome.errors)")
    let isVMX = name.hasPrefix("vmx")
    let reasons = isVMX ? ["CPUID", "MSR_WRITE", "EPT_VIOLATION", "HLT"] : ["cpuid", "msr", "npf", "hlt"]
    for reason in reasons { #expect(outcome.output.contains(reason)) }
    #expect(outcome.output.contains(isVMX ? "Intel VMX" : "AMD SVM"))
    #expect(!outcome.output.contains("reason 0x"))
  }
}

/// `Samples/`, found from this file's place in the source tree.
private enum SampleFolder {
  static let path = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().appending(path: "Samples").path

  static func path(_ name: String) -> String { "\(path)/\(name)" }

  static func names(_ ending: String) -> [String] {
    ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []).filter { $0.hasSuffix(ending) }.sorted()
  }
}
