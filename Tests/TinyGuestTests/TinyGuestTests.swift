import CTinyGuest
import TestSupport
import Testing

@testable import TinyGuest

/// Deeds that need neither interrupts nor hypercalls nor userfaultfd.
private let plainDeeds = Deed.allCases.filter { !$0.needsIrqchip && $0 != .hypercall && $0 != .touchDelayed }

extension Workload.Spans {
  /// For tests of counts.
  static var short: Self {
    var spans = Self()
    (spans.timer, spans.inSpin, spans.inSleep, spans.guestSpin, spans.fault) = (200, 10, 10, 10, 10)
    return spans
  }
}

@Suite struct TinyGuestTests {
  @Test(.needsKvm, arguments: [(1, 1), (3, 1), (2, 3)])
  func theGuestDoesWhatItIsToldAndUserSpaceSeesIt(vcpus: Int, laps: Int) throws {
    var times: [Deed: Int] = [:]
    for deed in plainDeeds { times[deed] = Int.random(in: 2...200) }
    var workload = Workload(times, vcpus: vcpus, laps: laps)
    workload.spans = .short
    let result = try TinyGuest.run(workload)
    #expect(result.vcpus.count == vcpus)
    #expect(Set(result.vcpus.map(\.tid)).count == vcpus)
    func asked(_ deed: Deed) -> Int { times[deed, default: 0] * laps }
    let halts = asked(.halt) - (laps - 1)
    for vcpu in result.vcpus {
      for deed in Deed.allCases { #expect(vcpu.did[deed] == (deed == .halt ? halts : asked(deed)), "\(deed)") }
      #expect(vcpu.kvmRun["io"] == vcpu.exits.io)
      #expect(vcpu.exits.io == asked(.portOut) + asked(.portIn) + asked(.portInSpin) + asked(.portInSleep))
      #expect(vcpu.kvmRun["mmio"] == asked(.mmioWrite) + asked(.mmioRead))
      #expect(vcpu.kvmRun["hlt"] == halts)
      #expect(vcpu.ownPages == 2 && vcpu.exits.page == asked(.touch) + 2)
      #expect(vcpu.exits.hlt == halts && vcpu.exits.cpuid == asked(.cpuid) && vcpu.exits.pause == asked(.pause))
      #expect(vcpu.exits.msrRead == asked(.rdmsr) && vcpu.exits.msrWrite == asked(.wrmsr))
    }
  }

  @Test(.needsKvm, .needsHypercalls, arguments: [false, true])
  func hypercallsDoNotComeToUserSpace(hasIrqchip: Bool) throws {
    let result = try TinyGuest.run(Workload([.hypercall: 23, .oneshot: hasIrqchip ? 1 : 0]))
    #expect(result.vcpus[0].exits.hypercall == 23)
    #expect(result.vcpus[0].kvmRun == (hasIrqchip ? ["io": 2] : ["hlt": 2]))
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

  @Test(.needsKvm, .needsKernel(5, 14))
  func kvmsOwnStatisticsAreRead() throws {
    let result = try TinyGuest.run(Workload([.cpuid: 5, .halt: 7], vcpus: 2))
    for vcpu in result.vcpus {
      let statistics = try #require(vcpu.statistics)
      #expect(statistics["halt_exits"] == 7)
      #expect(statistics["exits", default: 0] >= 7)
      #expect(statistics["irq_exits"] != nil && statistics["halt_poll_success_ns"] != nil)
    }
    #expect(result.statistics == nil)
  }

  @Test func aGuestThatDidAnythingElseThanItWasToldWentAstray() throws {
    let workload = Workload([.cpuid: 5, .halt: 7])
    func counts(cpuid: Int, halts: Int) -> GuestCounts {
      var page = kt_guest_page()
      withUnsafeMutableBytes(of: &page.did) {
        $0.storeBytes(of: UInt32(cpuid), toByteOffset: 4 * Deed.cpuid.rawValue, as: UInt32.self)
        $0.storeBytes(of: UInt32(halts), toByteOffset: 4 * Deed.halt.rawValue, as: UInt32.self)
      }
      return GuestCounts(page, hasIrqchip: false, tscKHz: nil, spun: Measured(), slept: Measured())
    }
    try counts(cpuid: 5, halts: 7).check(laps: 1, of: workload, kvmRun: [:])
    try counts(cpuid: 15, halts: 19).check(laps: 3, of: workload, kvmRun: [:])
    let error = #expect(throws: TinyGuestError.self) {
      try counts(cpuid: 10, halts: 9).check(laps: 1, of: workload, kvmRun: ["hlt": 9, "io": 0])
    }
    #expect(
      error?.description.contains("cpuid 10 times, not 5, hlt 9 times, not 7 (returns of KVM_RUN: hlt 9, io 0)") == true
    )
  }

  @Test func deedsAreNumberedAsInTheGuest() {
    #expect(Deed.allCases.map(\.rawValue) == Array(0..<Int(KT_GUEST_KINDS)))
    #expect(Deed.halt.rawValue == Int(KT_GUEST_HALT) && Deed.touch.rawValue == Int(KT_GUEST_TOUCH))
    #expect(kt_guest_code_size() <= Layout.pageBytes)
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
    ["--pauses", "1"], ["--vms", "0"], ["--rate", "0"], ["--rate", "nan"], ["--seconds", "inf"],
    ["--churn", "0"], ["--churn", "2", "--vms", "2"], ["--pin", "-1"], ["--competitor", "x"], ["--stop-ms"],
  ])
  func aWrongCommandLineIsRefused(arguments: [String]) {
    #expect(throws: TinyGuestError.self) { try Order(arguments) }
  }

  @Test(arguments: [
    ["--hlt", "1"], ["--vcpus", "0"], ["--vcpus", "129"], ["--repeat", "0"], ["--cpuid", "1000000001"],
    ["--touch", "1", "--seconds", "1"], ["--touch-delayed", "1", "--seconds", "1"],
    ["--ipi", "1"], ["--ipi", "1", "--vcpus", "3"], ["--deadline", "1", "--hlt", "2"],
    ["--timer-us", "0"], ["--spin-us", "1000001"], ["--fault-us", "0"], ["--stop-ms", "0"],
  ])
  func aWorkloadThatCannotBeIsRefused(arguments: [String]) throws {
    let order = try Order(arguments)
    #expect(throws: TinyGuestError.self) { try order.workload.check() }
  }

  @Test(arguments: [(1, Int.max / 4096), (1, 262_144), (128, 3000)])
  func pagesBeyondTheFirstGiBAreRefused(vcpus: Int, pages: Int) {
    #expect(throws: TinyGuestError.self) { try Layout(vcpus: vcpus, freshPages: pages) }
    #expect(throws: TinyGuestError.self) { try Layout(vcpus: vcpus, freshPages: 0, delayedPages: pages) }
  }

  @Test func aCommandLineIsUnderstood() throws {
    let order = try Order([
      "--cpuid", "5", "--mmio-read", "6", "--vcpus", "2", "--vms", "3", "--repeat", "4", "--rate", "0.5", "--wait",
    ])
    #expect(order.workload.times == [.cpuid: 5, .mmioRead: 6])
    #expect(order.workload.vcpus == 2 && order.workload.laps == 4 && order.vms == 3 && order.waits)
    #expect(order.workload.immediateExitsPerSecond == 0.5)
  }

  @Test func spansAndDisturbancesAreUnderstood() throws {
    let order = try Order([
      "--deadline", "3", "--timer-us", "1", "--spin-us", "2", "--sleep-us", "3", "--guest-spin-us", "4", "--fault-us",
      "5", "--pin", "1", "--competitor", "2", "--stop-ms", "7", "--churn", "8",
    ])
    var spans = Workload.Spans()
    (spans.timer, spans.inSpin, spans.inSleep, spans.guestSpin, spans.fault) = (1, 2, 3, 4, 5)
    #expect(order.workload.spans == spans && order.workload.needsIrqchip && order.churn == 8)
    #expect(order.workload.pinnedCPU == 1 && order.workload.competitorCPU == 2)
    #expect(order.workload.stopMilliseconds == 7)
  }
}
