import TestSupport
import Testing

@testable import TinyGuest

@Suite struct TinyGuestTests {
  @Test(.needsKvm, arguments: [(1, 1), (3, 1), (2, 3)])
  func theGuestDoesWhatItIsToldAndUserSpaceSeesIt(vcpus: Int, laps: Int) throws {
    var times: [Deed: Int] = [:]
    for deed in Deed.allCases { times[deed] = Int.random(in: 2...200) }
    let result = try TinyGuest.run(Workload(times, vcpus: vcpus, laps: laps))
    #expect(result.vcpus.count == vcpus)
    #expect(Set(result.vcpus.map(\.tid)).count == vcpus)
    func asked(_ deed: Deed) -> Int { times[deed, default: 0] * laps }
    let halts = asked(.halt) - (laps - 1)
    for vcpu in result.vcpus {
      for deed in Deed.allCases { #expect(vcpu.did[deed] == (deed == .halt ? halts : asked(deed)), "\(deed)") }
      #expect(vcpu.kvmRun["io"] == asked(.portOut) + asked(.portIn))
      #expect(vcpu.kvmRun["mmio"] == asked(.mmioWrite) + asked(.mmioRead))
      #expect(vcpu.kvmRun["hlt"] == halts)
    }
  }

  @Test(.needsKvm)
  func immediateExitsRunNoGuestCode() throws {
    var workload = Workload(vcpus: 2)
    workload.immediateExits = 50
    for vcpu in try TinyGuest.run(workload).vcpus {
      #expect(vcpu.kvmRun["immediate"] == 50)
      #expect(vcpu.did[.halt] == 1)
    }
  }

  @Test(.needsKvm)
  func aGuestThatDoesNotEndIsGivenUp() {
    var workload = Workload([.cpuid: 1_000_000_000])
    workload.timeLimitSeconds = 0.05
    #expect(throws: TinyGuestError.self) { try TinyGuest.run(workload) }
  }

  @Test(.needsKvm)
  func theProbeExitsAHandfulOfTimes() throws {
    let result = try TinyGuest.probe()
    #expect(result.did(.cpuid) == 8)
    #expect(result.vcpus.first?.kvmRun["io"] == 8)
  }

  @Test(arguments: [(1, 0), (1, 1000), (64, 512), (128, 0), (2, 100_000)])
  func partsOfVirtualCPUsDoNotShareALastLevelPageTable(vcpus: Int, pages: Int) throws {
    let layout = try Layout(vcpus: vcpus, freshPages: pages)
    for index in 0..<vcpus {
      let lastPage = layout.base(index) + Layout.freshOffset + pages * Layout.pageBytes
      #expect(layout.base(index) % Layout.blockBytes == 0)
      #expect(lastPage <= layout.mmio(index))
      #expect(layout.mmio(index) % Layout.blockBytes == 0)
      #expect(layout.mmio(index) + Layout.pageBytes <= layout.base(index + 1))
    }
    #expect(layout.base(vcpus) <= 1 << 30)
  }

  @Test(arguments: [
    ["--cpuid"], ["--cpuid", "x"], ["--cpuid", "-1"], ["--cpuid", "9223372036854775808"], ["cpuid", "1"],
    ["--pause", "1"], ["--vms", "0"], ["--rate", "0"], ["--rate", "nan"], ["--seconds", "inf"],
  ])
  func aWrongCommandLineIsRefused(arguments: [String]) {
    #expect(throws: TinyGuestError.self) { try Order(arguments) }
  }

  @Test(arguments: [
    ["--hlt", "1"], ["--vcpus", "0"], ["--vcpus", "129"], ["--repeat", "0"], ["--cpuid", "1000000001"],
    ["--touch", "1", "--seconds", "1"],
  ])
  func aWorkloadThatCannotBeIsRefused(arguments: [String]) throws {
    let order = try Order(arguments)
    #expect(throws: TinyGuestError.self) { try order.workload.check() }
  }

  @Test(arguments: [(1, Int.max / 4096), (1, 262_144), (128, 3000)])
  func pagesBeyondTheFirstGiBAreRefused(vcpus: Int, pages: Int) {
    #expect(throws: TinyGuestError.self) { try Layout(vcpus: vcpus, freshPages: pages) }
  }

  @Test func aCommandLineIsUnderstood() throws {
    let order = try Order([
      "--cpuid", "5", "--mmio-read", "6", "--vcpus", "2", "--vms", "3", "--repeat", "4", "--rate", "0.5", "--wait",
    ])
    #expect(order.workload.times == [.cpuid: 5, .mmioRead: 6])
    #expect(order.workload.vcpus == 2 && order.workload.laps == 4 && order.vms == 3 && order.waits)
    #expect(order.workload.immediateExitsPerSecond == 0.5)
  }
}
