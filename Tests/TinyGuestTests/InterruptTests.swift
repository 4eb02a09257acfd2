import TestSupport
import Testing

@testable import TinyGuest

/// The guest with an interrupt controller.
@Suite struct InterruptTests {
  /// Deeds, virtual CPUs, laps, and what follows in each lap from one of each deed.
  struct Case: Sendable, CustomTestStringConvertible {
    var deed: Deed
    var vcpus: Int
    var laps: Int
    /// WRMSR per occurrence and per lap: arming or sending, end of interrupt; mode, start and stop of the timer.
    var msrWrites: (each: Int, lap: Int)
    var testDescription: String { "\(deed.name), \(vcpus) virtual CPUs, \(laps) laps" }
  }

  static let cases = [
    Case(deed: .deadline, vcpus: 1, laps: 1, msrWrites: (2, 1)),
    Case(deed: .deadline, vcpus: 2, laps: 3, msrWrites: (2, 1)),
    Case(deed: .oneshot, vcpus: 1, laps: 1, msrWrites: (2, 1)),
    Case(deed: .oneshot, vcpus: 3, laps: 2, msrWrites: (2, 1)),
    Case(deed: .periodic, vcpus: 1, laps: 1, msrWrites: (1, 3)),
    Case(deed: .periodic, vcpus: 2, laps: 2, msrWrites: (1, 3)),
    Case(deed: .ipi, vcpus: 2, laps: 1, msrWrites: (2, 0)),
    Case(deed: .ipi, vcpus: 4, laps: 3, msrWrites: (2, 0)),
  ]

  @Test(.needsKvm, arguments: cases)
  func interruptsComeAndEveryExitIsCounted(of one: Case) throws {
    let count = Int.random(in: 2...20)
    var workload = Workload([one.deed: count, .portOut: 3], vcpus: one.vcpus, laps: one.laps)
    workload.spans = .short
    let result = try TinyGuest.run(workload)
    #expect(result.hasIrqchip)
    let asked = count * one.laps
    for vcpu in result.vcpus {
      #expect(vcpu.did[one.deed] == asked)
      // A tick may come between the last and the end of the timer, once a lap.
      let late = vcpu.interrupts - asked
      #expect((0...(one.deed == .periodic ? one.laps : 0)).contains(late))
      // x2APIC: one RDMSR and three WRMSR before the guest is ready.
      #expect(vcpu.exits.msrRead == 1)
      #expect(vcpu.exits.msrWrite == 3 + one.msrWrites.each * asked + one.msrWrites.lap * one.laps + late)
      #expect(vcpu.exits.io == (3 + 1) * one.laps + 1)
      #expect(vcpu.kvmRun == ["io": vcpu.exits.io])
      #expect(vcpu.ownPages == 4 && vcpu.exits.page == 4)
      // An interrupt that comes before HLT is waited for is taken without one, by IPIs only.
      switch one.deed {
      case .periodic: #expect(vcpu.exits.hlt == 0)
      case .ipi: #expect(vcpu.exits.hlt <= asked)
      default: #expect(vcpu.exits.hlt == asked)
      }
    }
  }

  @Test(.needsKvm)
  func everythingWorksInOneLap() throws {
    var times: [Deed: Int] = [:]
    for deed in Deed.allCases where ![.hypercall, .touchDelayed, .halt].contains(deed) { times[deed] = 5 }
    var workload = Workload(times, vcpus: 2, laps: 3)
    workload.spans = .short
    for vcpu in try TinyGuest.run(workload).vcpus {
      for (deed, count) in times { #expect(vcpu.did[deed] == 3 * count, "\(deed)") }
    }
  }

  @Test(.needsKvm)
  func thoseThatWaitForEachOtherDoTheSameNumberOfLaps() throws {
    var workload = Workload([.ipi: 3], vcpus: 4)
    workload.seconds = 0.2
    let sent = Set(try TinyGuest.run(workload).vcpus.map { $0.did[.ipi] })
    #expect(sent.count == 1)
  }

  @Test func theGatesLeadToTheHandlers() {
    let page = UnsafeMutableRawPointer.allocate(byteCount: Layout.pageBytes, alignment: Layout.pageBytes)
    defer { page.deallocate() }
    InterruptTables.write(to: page, codeAddress: 0x1234_0000)
    for vector in 0..<256 {
      let gate = page.load(fromByteOffset: vector * 8, as: UInt64.self)
      #expect(gate >> 48 == 0x1234 && gate >> 16 & 0xffff == 8 && gate >> 32 & 0xffff == 0x8e00)
    }
  }
}
