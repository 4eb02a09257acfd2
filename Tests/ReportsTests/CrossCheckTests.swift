import Attribution
import Testing

@testable import Reports

/// Each cross-check, where both sides agree and where they do not.
@Suite struct CrossCheckTests {
  private func vcpu(_ change: (inout VCPU) -> Void) -> VirtualMachine {
    var vcpu = VCPU(thread: 1, tid: 11)
    vcpu.switches = 100
    change(&vcpu)
    var vm = VirtualMachine(pid: 7)
    vm.vcpus = [vcpu]
    return vm
  }

  private func check(_ vm: VirtualMachine, _ id: String) -> Report.CrossCheck? {
    CrossChecks(vms: [vm]).all().first { $0.id == id }
  }

  @Test(arguments: [(0, true), (1, false), (-1, false)]) func exitsEqualKVMsOwnToTheUnit(off: Int, holds: Bool) throws {
    let vm = vcpu { vcpu in
      let ours = ExitKindCounts(exits: 1000, halts: 10, interrupts: 20, windows: 30, ports: 40)
      var theirs = ours
      theirs.interrupts = UInt64(20 + off)
      vcpu.kvmCounts = KVMCounts(kvm: theirs, own: ours, firstKVM: theirs, firstOwn: ours)
    }
    #expect(try #require(check(vm, "kvm_irq_exits")).holds == holds)
    #expect(try #require(check(vm, "kvm_halt_exits")).holds)
  }

  /// Preempted, wake latency and the scheduler's run_delay in ms: run_delay lies between the first and the sum.
  @Test(arguments: [
    (900, 100, 1000, true), (900, 400, 1000, true), (990, 0, 1000, true),
    // less than the scheduler counted: a switch was not seen
    (800, 100, 1000, false),
    // more preempted than there was
    (1100, 0, 1000, false),
  ])
  func runDelayLiesBetween(preempted: UInt64, latency: UInt64, delay: UInt64, holds: Bool) throws {
    let vm = vcpu { vcpu in
      vcpu.runDelayNanoseconds = delay * 1_000_000
      vcpu.states[.preempted] = preempted * 1_000_000
      vcpu.states[.wakeLatency] = latency * 1_000_000
    }
    #expect(try #require(check(vm, "run_delay")).holds == holds)
  }

  @Test func aFewMillisecondsOfRunDelayProveNothing() {
    let vm = vcpu { vcpu in
      vcpu.runDelayNanoseconds = 2_000_000
      vcpu.states[.preempted] = 5_000_000
    }
    #expect(check(vm, "run_delay") == nil)
  }

  @Test(arguments: [(4, true), (5, true), (6, false)] as [(UInt64, Bool)])
  func keysHaveNoMoreExitsThanReasons(keyed: UInt64, holds: Bool) throws {
    var account = ExitAccount(isa: 1, reason: 10)
    account.finished = 5
    var vm = vcpu { $0.accounts = [account] }
    var key = KeyAccount(Key(isa: 1, reason: 10))
    key.finished = keyed
    vm.keys = [key]
    let found = try #require(check(vm, "key_exits"))
    #expect(found.holds == holds && found.ours == keyed && found.theirs == 5)
  }

  @Test func whatFailsIsABannerAndWhatWasNotReadIsNoCheck() throws {
    #expect(CrossChecks(vms: [vcpu { _ in }]).all().isEmpty)
    var scene = Scene()
    var thread = Scene.Thread(tid: 10, pid: 9, index: 0)
    scene.entry(&thread)
    scene.exits(&thread, 5, reason: 10, guest: 1000, kernel: 1000)
    var evidence = scene.evidence()
    let ours = ExitKindCounts(exits: 5, halts: 0, interrupts: 0, windows: 0, ports: 0)
    var theirs = ours
    theirs.exits = 7
    evidence.ledger.vms[0].vcpus[0].kvmCounts = KVMCounts(kvm: theirs, own: ours, firstKVM: theirs, firstOwn: ours)
    let text = TextReport().render(try ReportBuilder(evidence).report())
    #expect(text.replacing("\n", with: " ").contains("NOT TRUSTWORTHY: KVM itself counted 7 exits, the trace has 5"))
  }
}
