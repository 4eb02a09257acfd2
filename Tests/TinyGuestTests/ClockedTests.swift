import TestSupport
import Testing
import TinyGuest

/// What the guest clocks with its own TSC, and that clocking changes no count.
@Suite(.serialized, .needsKvm) struct ClockedTests {
  @Test(arguments: [Deed.cpuid, .portOut, .rdmsr, .portInSleep])
  func `Every time has a sample, lap by lap`(deed: Deed) throws {
    let guest = try ClockedGuest(deed, perLap: 40, sleepMicroseconds: 100)
    for _ in 0..<3 {
      let lap = try guest.lap()
      #expect(lap.cycles.count == 40)
      // an exit takes longer than reading the TSC twice
      #expect(lap.cycles.allSatisfy { $0 > 0 })
      #expect(lap.cycles.sorted()[20] > lap.emptyCycles)
    }
  }

  @Test func `A sleep is seen in the samples`() throws {
    let short = try ClockedGuest(.portInSleep, perLap: 20, sleepMicroseconds: 100).lap().cycles.sorted()[10]
    let long = try ClockedGuest(.portInSleep, perLap: 20, sleepMicroseconds: 3000).lap().cycles.sorted()[10]
    #expect(long > 4 * short)
  }

  @Test func `Arming a timer that never fires takes no interrupt, and each WRMSR is counted`() throws {
    let vcpu = try TinyGuest.run(Workload([.arm: 30], laps: 2)).vcpus[0]
    #expect(vcpu.did[.arm] == 60 && vcpu.interrupts == 0)
    // the APIC's set-up; the timer's mode and its end, once a lap
    #expect(vcpu.exits.msrWrite == 3 + 60 + 2 * 2)
    #expect(try ClockedGuest(.arm, perLap: 50).lap().cycles.count == 50)
  }

  @Test func `A page holds so many samples and no more`() throws {
    #expect(try ClockedGuest(.cpuid, perLap: ClockedGuest.mostPerLap).lap().cycles.count == 1023)
    #expect(throws: TinyGuestError.self) { try ClockedGuest(.cpuid, perLap: 1024) }
    #expect(throws: TinyGuestError.self) { try ClockedGuest(.halt, perLap: 10) }
  }
}
