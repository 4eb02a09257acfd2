import Attribution
import CKvmtax
import Testing

@testable import TraceFile

/// All vCPUs of a VM asleep in user space, seen at snapshots a second apart.
@Suite struct StopTests {
  private func slot(
    _ thread: UInt32, state: kt_state, since: UInt64, blocked: UInt64 = 0, inExit: Bool = true
  ) -> kt_slot {
    var slot = kt_slot()
    slot.thread = thread
    slot.tgid = 7
    slot.exits = 5
    slot.state = UInt8(state.rawValue)
    slot.since_ns = since
    slot.in_exit = inExit ? 1 : 0
    (slot.isa, slot.reason) = (2, 0x60)
    withUnsafeMutablePointer(to: &slot) { kt_slot_mutable_state_ns($0)[Int(KT_QEMU_BLOCKED.rawValue)] = blocked }
    return slot
  }

  private func stops(_ snapshots: [(UInt64, [kt_slot])]) -> [InferredStop] {
    var tracker = StopTracker()
    for (time, slots) in snapshots {
      var slots = slots
      slots.withUnsafeMutableBufferPointer { tracker.look($0.baseAddress!, count: $0.count, at: time) }
    }
    tracker.finish()
    return tracker.stops
  }

  @Test func aStopLastsFromTheLastToSleepToTheFirstThatWakes() throws {
    let second: UInt64 = 1_000_000_000
    let asleep = [
      slot(1, state: KT_QEMU_BLOCKED, since: second / 2),
      slot(2, state: KT_QEMU_BLOCKED, since: second * 6 / 10, blocked: 30),
    ]
    // it goes on 0.3 s after the second snapshot; vCPU 1 sleeps a little more later
    let awake = [
      slot(1, state: KT_GUEST, since: second * 29 / 10, blocked: second * 19 / 10),
      slot(2, state: KT_GUEST, since: second * 24 / 10, blocked: 30 + second * 17 / 10),
    ]
    let found = stops([(second, asleep), (second * 2, asleep), (second * 3, awake)])
    let stop = try #require(found.first)
    #expect(found.count == 1 && stop.startNanoseconds == second * 6 / 10)
    #expect(stop.parts.map(\.nanoseconds) == [second * 17 / 10, second * 17 / 10])
    #expect(stop.parts.map(\.thread) == [1, 2])
    #expect(stop.parts.allSatisfy { $0.exit == InferredStop.Exit(isa: 2, reason: 0x60) })
  }

  @Test func oneThatRunsOrAMomentsSleepIsNoStop() {
    let second: UInt64 = 1_000_000_000
    let runs = slot(2, state: KT_HALT_WAIT, since: 5)
    #expect(stops([(second, [slot(1, state: KT_QEMU_BLOCKED, since: 0), runs])]).isEmpty)
    // both wait, but since 50 ms only
    let shortly = [1, 2].map { slot($0, state: KT_QEMU_BLOCKED, since: second - 50_000_000) }
    #expect(stops([(second, shortly)]).isEmpty)
  }

  @Test func aStopIsBookedAsOneInStatesReasonsAndKeys() throws {
    var key = kt_key()
    (key.isa, key.reason, key.userspace) = (2, 0x60, 11)
    var states = StateTimes()
    (states[.qemuBlocked], states[.guest]) = (900, 100)
    var account = ExitAccount(isa: 2, reason: 0x60)
    (account.finished, account.totalNanoseconds) = (1, 850)
    account.states[.qemuBlocked] = 850
    var vcpu = VCPU(thread: 3, tid: 33)
    (vcpu.states, vcpu.accounts, vcpu.lastNanoseconds) = (states, [account], 1000)
    var vm = VirtualMachine(pid: 7, name: "paused")
    var keyed = KeyAccount(Key(key))
    (keyed.finished, keyed.totalNanoseconds, keyed.states) = (1, 850, account.states)
    (vm.vcpus, vm.keys) = ([vcpu], [keyed])
    var ledger = Ledger()
    ledger.vms = [vm]
    var evidence = Evidence(
      capture: Capture(file: "x", format: "kvmtax trace", rung: "accounts"), ledger: ledger, trust: Trust())
    let exit = InferredStop.Exit(isa: 2, reason: 0x60)
    evidence.apply([
      InferredStop(startNanoseconds: 5, parts: [InferredStop.Part(thread: 3, nanoseconds: 800, exit: exit)])
    ])
    let after = try #require(evidence.ledger.vms.first)
    for times in [after.vcpus[0].states, after.vcpus[0].accounts[0].states, after.keys[0].states] {
      #expect(times[.stopped] == 800)
    }
    #expect(after.vcpus[0].states.total == 1000 && after.vcpus[0].accounts[0].states.total == 850)
    #expect(evidence.trust.notes.contains { $0.contains("stopped") && $0.contains("inferred") })
  }
}
