import CTinyGuest
import Foundation
import TestSupport
import Testing

@testable import TinyGuest

/// Things that last a known time, measured by those who do them.
@Suite struct KnownDurationTests {
  @Test(.needsKvm)
  func waitsLastAtLeastAsLongAsAsked() throws {
    var workload = Workload([.portInSpin: 3, .portInSleep: 4, .rdtscSpin: 5, .deadline: 6, .oneshot: 7], vcpus: 2)
    workload.spans.inSpin = 300
    let result = try TinyGuest.run(workload)
    #expect(try #require(result.tscKHz) > 0)
    for vcpu in result.vcpus {
      let wall = vcpu.endNanoseconds - vcpu.startNanoseconds
      for (name, count, nanoseconds) in [
        ("in_spin", 3, 300_000), ("in_sleep", 4, 1_000_000), ("rdtsc_spin", 5, 1_000_000),
        ("deadline_halt", 6, 0), ("oneshot_halt", 7, 0),
      ] {
        let one = try #require(vcpu.measured[name])
        #expect(one.count == count)
        // TSC cycles are rounded down to ns.
        #expect(try #require(one.wallNanoseconds) + 1 >= count * nanoseconds)
        #expect(try #require(one.wallNanoseconds) <= wall)
      }
      #expect(try #require(vcpu.measured["in_spin"]?.cpuNanoseconds) >= 900_000)
    }
  }

  @Test(.needsKvm, .needsRoot, arguments: [(1, 1), (2, 3)])
  func pagesComeLate(vcpus: Int, laps: Int) throws {
    var workload = Workload([.touch: 9, .touchDelayed: 5], vcpus: vcpus, laps: laps)
    workload.spans.fault = 1500
    for vcpu in try TinyGuest.run(workload).vcpus {
      #expect(vcpu.did[.touchDelayed] == 5 * laps && vcpu.exits.page == 14 * laps + 2)
      let late = try #require(vcpu.measured["userfault"])
      #expect(late.count == 5 * laps)
      #expect(try #require(late.wallNanoseconds) >= 5 * laps * 1_500_000)
      #expect(late.tid != vcpu.tid)
    }
  }

  @Test(.needsKvm)
  func aCompetitorBurnsWhileTheGuestWorks() throws {
    var workload = Workload([.rdtscSpin: 20], vcpus: 2)
    (workload.pinnedCPU, workload.competitorCPU) = (firstCPU, firstCPU)
    let result = try TinyGuest.run(workload)
    let competitor = try #require(result.measured["competitor"])
    let end = try #require(competitor.endNanoseconds)
    #expect(try #require(competitor.cpuNanoseconds) > 0)
    #expect(result.vcpus.allSatisfy { $0.endNanoseconds <= end })
  }

  @Test(.needsKvm, arguments: [[], ["--vms", "2"], ["--churn", "2"]])
  func aProcessIsStoppedWhileItsGuestWorks(options: [String]) throws {
    let outcome = try Program.run(
      "kvmtax-tracer", ["guest", "--rdtsc-spin", "300", "--stop-ms", "50", "--cpuid", "5"] + options)
    #expect(outcome.status == 0, "\(outcome.errors)")
    let lines = outcome.output.split(separator: "\n")
    #expect(lines.count == (options.isEmpty ? 1 : 2))
    for line in lines {
      let machine = try JSONDecoder().decode(Machine.self, from: Data(line.utf8))
      #expect(try #require(machine.measured["stop"]).wall_ns >= 50_000_000)
      #expect(machine.vcpus[0].end_ns - machine.vcpus[0].start_ns >= 50_000_000)
      #expect(machine.vcpus[0].exits["cpuid"] == 5)
    }
    #expect(Set(lines).count == lines.count)
  }

  private struct Machine: Decodable {
    struct Span: Decodable { var wall_ns: Int }
    struct VCPU: Decodable {
      var start_ns, end_ns: Int
      var exits: [String: Int]
    }
    var vcpus: [VCPU]
    var measured: [String: Span]
  }

  /// Options, exit status, and what the one line says.
  @Test(
    .needsKvm,
    arguments: [
      (["--pin", "1023"], 3, "CPU 1023"), (["--competitor", "1000000000000"], 3, "CPU 1000000000000"),
      (["--stop-ms", "1"], 3, "done before it was stopped"), (["--ipi", "1"], 2, "in pairs"),
      (["--deadline", "1", "--hlt", "3"], 2, "HLT waits in the kernel"), (["--sleep-us", "0"], 2, "sleep-us"),
    ])
  func whatCannotBeIsSaidInOneLine(options: [String], status: Int, words: String) throws {
    let outcome = try Program.run("kvmtax-tracer", ["guest"] + options)
    #expect(outcome.status == Int32(status))
    #expect(outcome.errors.contains(words) && outcome.errors.split(separator: "\n").count == 1)
    #expect(outcome.output.isEmpty)
  }

  private var firstCPU: Int {
    (0..<1024).first { kt_guest_may_use_cpu(Int32($0)) == 0 } ?? 0
  }
}
