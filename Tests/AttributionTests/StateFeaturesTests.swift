import Attribution
import Testing

@Suite struct StateFeaturesTests {
  static let full: StateFeatures = [.wakeup, .userspaceExit, .fpu, .switches, .wakings, .interrupts]

  @Test func withEveryEventNothingIsMerged() {
    for state in State.allCases { #expect(StateFeaturesTests.full.merged(in: state) == []) }
  }

  @Test func eachMissingEventMergesItsStates() {
    func merged(without missing: StateFeatures, in state: State) -> [State] {
      StateFeaturesTests.full.subtracting(missing).merged(in: state)
    }
    #expect(merged(without: .userspaceExit, in: .kernel) == [.qemu, .qemuBlocked, .stopped])
    #expect(merged(without: .userspaceExit, in: .qemu) == [])
    #expect(merged(without: .fpu, in: .qemu) == [.kernel])
    #expect(merged(without: .interrupts, in: .kernel) == [.hostInterrupt])
    #expect(merged(without: .interrupts, in: .haltPoll) == [.hostInterrupt])
    #expect(merged(without: .wakeup, in: .haltWait) == [.kernel, .haltPoll])
    #expect(merged(without: .wakings, in: .haltWait) == [.wakeLatency])
    #expect(merged(without: .wakings, in: .qemuBlocked) == [.wakeLatency])
    let unscheduled: StateFeatures = [.switches, .wakings]
    #expect(merged(without: unscheduled, in: .kernel) == [.kernelBlocked, .wakeLatency, .preempted])
    #expect(merged(without: unscheduled, in: .qemu) == [.qemuBlocked, .wakeLatency, .preempted, .stopped])
    #expect(merged(without: unscheduled, in: .haltWait) == [.haltPoll, .wakeLatency])
  }

  @Test func runDelayIsPreemptionAndWakeLatencyInOne() {
    let lite = StateFeaturesTests.full.subtracting([.switches, .wakings]).union(.runDelay)
    #expect(lite.merged(in: .preempted) == [.wakeLatency])
    #expect(lite.merged(in: .kernel) == [.kernelBlocked])
    #expect(lite.merged(in: .haltWait) == [.haltPoll])
    #expect(StateFeaturesTests.full.union(.runDelay).merged(in: .preempted) == [])
  }
}
