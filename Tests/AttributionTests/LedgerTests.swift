import Attribution
import CKvmtax
import Testing

@Suite struct LedgerTests {
  func vcpu(thread: UInt32, index: Int?) -> VCPU {
    var vcpu = VCPU(thread: thread, tid: 1000 + thread)
    vcpu.index = index
    return vcpu
  }

  @Test func ordersVcpusByIndexThenByThread() {
    var ledger = Ledger()
    for (thread, index) in [(1, nil), (2, 3), (3, 0), (4, nil), (5, 0)] as [(UInt32, Int?)] {
      ledger.add(vcpu(thread: thread, index: index), pid: 50)
    }
    ledger.sort()
    #expect(ledger.vcpus.map(\.thread) == [3, 5, 2, 1, 4])
  }

  @Test func ordersMachinesByVmidThenByPid() {
    var ledger = Ledger()
    for (thread, pid) in [(1, 900), (2, 100), (3, 500), (4, 300)] as [(UInt32, UInt32)] {
      ledger.add(vcpu(thread: thread, index: 0), pid: pid)
    }
    for (vm, vmid) in zip(ledger.vms.indices, [101, nil, 100, nil]) { ledger.vms[vm].vmid = vmid }
    ledger.sort()
    #expect(ledger.vms.map(\.pid) == [500, 900, 100, 300])
  }

  @Test func filesThreadsOfOneProcessTogether() {
    var ledger = Ledger()
    ledger.add(vcpu(thread: 1, index: 0), pid: 5)
    ledger.add(vcpu(thread: 2, index: 0), pid: 6)
    ledger.add(vcpu(thread: 3, index: 1), pid: 5)
    #expect(ledger.vms.map { $0.vcpus.map(\.thread) } == [[1, 3], [2]])
  }

  @Test func mergesAccounts() {
    func account(_ durations: [UInt64], unpaired: UInt64 = 0) -> ExitAccount {
      var account = ExitAccount(isa: 1, reason: 30)
      account.finished = UInt64(durations.count)
      account.unpaired = unpaired
      account.totalNanoseconds = durations.reduce(0, +)
      account.minNanoseconds = durations.min() ?? 0
      account.maxNanoseconds = durations.max() ?? 0
      account.states[.kernel] = account.totalNanoseconds
      for duration in durations { account.histogram.add(nanoseconds: duration) }
      return account
    }
    // the empty account's least duration of 0 is none
    for (left, right) in [([70, 90], [80, 500]), ([], [80, 500]), ([70, 90], []), ([], [])] as [([UInt64], [UInt64])] {
      var sum = account(left, unpaired: 2)
      sum.add(account(right, unpaired: 3))
      #expect(sum == account(left + right, unpaired: 5))
      #expect(sum.exits == UInt64(left.count + right.count) + 5)
    }
  }

  @Test(
    arguments: [
      (1, 12, true), (2, 0x78, true), (2, 0xa6, true), (1, 0x78, false), (2, 12, false), (1, 0x0400_000c, true),
      (0, 12, false), (1, 36, false), (1, 40, false),
    ] as [(UInt8, UInt32, Bool)])
  func knowsTheHalts(isa: UInt8, reason: UInt32, isHalt: Bool) {
    #expect(ExitAccount(isa: isa, reason: reason).isHalt == isHalt)
  }

  @Test func closesTheOpenIntervalWhereTheTraceEnds() {
    var slot = kt_slot()
    kt_start(&slot, 100, 7, 3, 3)
    _ = kt_step_entry(&slot, 150, 0)
    for (end, wall, guest) in [(nil, 50, 0), (400, 300, 250), (120, 50, 0)] as [(UInt64?, UInt64, UInt64)] {
      let vcpu = VCPU(&slot, endNanoseconds: end)
      #expect(vcpu.wallNanoseconds == wall)
      #expect(vcpu.states[.guest] == guest)
      #expect(vcpu.states.total == wall)
    }
  }

  @Test func theStatesHaveTheirKernelNumbersAndOneNameEach() {
    #expect(State.allCases.count == Int(KT_STATES.rawValue))
    #expect(State.guest.rawValue == UInt8(KT_GUEST.rawValue))
    #expect(State.haltWait.rawValue == UInt8(KT_HALT_WAIT.rawValue))
    #expect(State.stopped.rawValue == UInt8(KT_STOPPED.rawValue))
    #expect(Set(State.allCases.map(\.name)).count == State.allCases.count)
  }

  @Test(
    arguments: [(0, "0"), (999, "999"), (1000, "1,000"), (.max, "18,446,744,073,709,551,615")] as [(UInt64, String)])
  func groupsThousands(number: UInt64, text: String) {
    #expect(grouped(number) == text)
  }
}

@Suite struct ReasonNamesTests {
  @Test func theTracesOwnNamesComeFirst() {
    var names = ReasonNames()
    names.set(isa: 1, reason: 12, name: "MY_HLT")
    #expect(names.name(isa: 1, reason: 12) == "MY_HLT")
    #expect(names.name(isa: 2, reason: 12) != "MY_HLT")
  }

  @Test(
    arguments: [
      (0x8000_0021, "STATE (failed entry)"), (0x0400_0021, "STATE (bus lock)"),
      (0x8400_0021, "STATE (failed entry, bus lock)"), (0x0001_0021, "STATE (0x10000)"),
      (0xffff_0021, "STATE (failed entry, bus lock, 0x7bff0000)"),
    ] as [(UInt32, String)])
  func namesVmxFlagsBesideTheBasicReason(reason: UInt32, expected: String) {
    var names = ReasonNames()
    names.set(isa: 1, reason: 0x21, name: "STATE")
    #expect(names.name(isa: 1, reason: reason) == expected)
  }

  /// Numbers that no ISA has.
  @Test(
    arguments: [
      (1, 0xfffe, "reason 0xfffe"), (2, 0x9999_0021, "reason 0x99990021"), (7, 12, "reason 0xc, isa 7"),
      (0, 0, "reason 0x0, isa 0"),
    ] as [(UInt8, UInt32, String)])
  func showsUnknownReasonsByNumber(isa: UInt8, reason: UInt32, expected: String) {
    #expect(ReasonNames().name(isa: isa, reason: reason) == expected)
  }
}
