import Attribution
import CKvmtax
import Testing

/// The scheduler's and interrupts' events of made-up traces.
@Suite struct SchedulerTests {
  private static let halt: UInt32 = 12

  private func evidence(_ pages: [[RingBufferPage]]) throws -> Evidence {
    var builder = TraceDatBuilder(pages)
    builder.addScheduler()
    return try #require(try imported(builder.file.bytes))
  }

  /// Exits and sleeps, so that no feature is taken for missing.
  private func page(time: UInt64 = 1000) -> RingBufferPage {
    var page = RingBufferPage(time: time)
    page.entry(0, tid: 7)
    for _ in 0..<10 {
      page.exit(100, tid: 7, reason: SchedulerTests.halt)
      page.exchange(10, from: 7, state: 1, to: 0)
      page.waking(1000, by: 0, of: 7)
      page.exchange(50, from: 0, state: 0, to: 7)
      page.wakeup(5, tid: 7, nanoseconds: 1060, waited: true)
      page.irq(5, tid: 7, isEntry: true)
      page.irq(7, tid: 7, isEntry: false)
      page.entry(3, tid: 7)
    }
    page.exit(100, tid: 7, reason: 1)
    page.load(1, tid: 7)
    return page
  }

  @Test func aSleepIsDividedAndAnInterruptTakenOut() throws {
    let evidence = try evidence([[page()]])
    let vcpu = try #require(evidence.ledger.vcpus.first)
    #expect(vcpu.states[.haltWait] == 10 * 1000)
    #expect(vcpu.states[.wakeLatency] == 10 * 50)
    #expect(vcpu.states[.hostInterrupt] == 10 * 7)
    #expect(vcpu.states[.guest] == 11 * 100)
    #expect(vcpu.states.total == vcpu.wallNanoseconds)
    #expect(vcpu.features == [.wakeup, .fpu, .switches, .wakings, .interrupts, .userspaceExit])
    #expect(evidence.trust.notes.allSatisfy { !$0.contains("switches") })
  }

  @Test func eventsOfOtherThreadsMakeNoVcpus() throws {
    var page = page()
    page.exchange(10, from: 7, state: 0, to: 8)
    page.waking(1, by: 8, of: 9)
    page.irq(1, tid: 8, isEntry: true)
    page.irq(1, tid: 8, isEntry: false)
    page.ended(1, tid: 8)
    #expect(try evidence([[page]]).ledger.vcpus.map(\.tid) == [7])
  }

  @Test func aThreadThatEndedIsAnotherOneWhenItComesAgain() throws {
    var page = page()
    page.ended(5, tid: 7)
    page.exchange(5, from: 7, state: 0x80, to: 0)
    page.entry(100, tid: 7)
    page.exit(20, tid: 7, reason: 1)
    let vcpus = try evidence([[page]]).ledger.vcpus
    #expect(vcpus.map(\.tid) == [7, 7] && vcpus.map(\.ended) == [true, false])
    #expect(vcpus.map { $0.states.total == $0.wallNanoseconds } == [true, true])
    #expect(vcpus[1].states[.guest] == 20)
  }

  /// A loss in a sleep: what was waited until then is certain, the rest unknown until the next entry.
  @Test(arguments: [UInt32(0), 1]) func aLossEndsWhatTheThreadWasIn(preempted: UInt32) throws {
    var first = page()
    first.entry(10, tid: 7)
    first.exit(10, tid: 7, reason: SchedulerTests.halt)
    first.exchange(10, from: 7, state: preempted ^ 1, to: 0)
    first.waking(500, by: 0, of: 9)
    var second = RingBufferPage(time: 1_000_000)
    second.flags = 1 << 31
    second.exchange(100, from: 0, state: 0, to: 7)
    second.irq(10, tid: 7, isEntry: true)
    second.irq(10, tid: 7, isEntry: false)
    second.entry(300, tid: 7)
    second.exit(50, tid: 7, reason: 1)
    let vcpu = try #require(try evidence([[first, second]]).ledger.vcpus.first)
    #expect(vcpu.states[preempted == 1 ? .preempted : .haltWait] == (preempted == 1 ? 500 : 10 * 1000 + 500))
    #expect(vcpu.states[.guest] == 11 * 100 + 10 + 50)
    #expect(vcpu.accounts.reduce(0) { $0 + $1.unpaired } == 1)
    #expect(vcpu.states.total == vcpu.wallNanoseconds)
    #expect(vcpu.states[.unknown] >= 1_000_000 - 1000 - 12 * 1180 - 600)
  }

  /// perf record -t: the switch to a thread is not the thread's own event.
  @Test func switchesThatLackAHalfAreNotUsed() throws {
    var page = RingBufferPage(time: 1000)
    page.entry(0, tid: 7)
    for _ in 0..<20 {
      page.exit(100, tid: 7, reason: 30)
      page.userspaceExit(10, tid: 7)
      page.exchange(10, from: 7, state: 1, to: 0)
      page.load(2000, tid: 7)
      page.entry(10, tid: 7)
    }
    let evidence = try evidence([[page]])
    let vcpu = try #require(evidence.ledger.vcpus.first)
    #expect(vcpu.features == [.userspaceExit, .fpu, .wakeup])
    #expect(vcpu.states[.qemu] == 20 * 2010 && vcpu.states[.qemuBlocked] == 0)
    #expect(evidence.trust.notes.contains { $0.hasPrefix("Of 20 switches of vCPU threads, 20 lack a half") })
  }

  @Test func eventsThatNeverCameLeaveTheirStatesMerged() throws {
    var page = RingBufferPage(time: 1000)
    page.entry(0, tid: 7)
    for _ in 0..<10 {
      page.exit(100, tid: 7, reason: SchedulerTests.halt)
      page.entry(1000, tid: 7)
      page.exit(100, tid: 7, reason: 30)
      page.load(40, tid: 7)
      page.entry(10, tid: 7)
    }
    let vcpu = try #require(try evidence([[page]]).ledger.vcpus.first)
    #expect(vcpu.features == [.fpu])
    #expect(vcpu.states[.haltWait] == 10 * 1000)
    #expect(vcpu.states[.kernel] == 10 * 50)
  }

  @Test func anInterruptsEndWithoutItsBeginIsNotRead() throws {
    var builder = TraceDatBuilder([[page()]])
    builder.addScheduler()
    builder.otherFormats[1].texts.removeFirst()
    let evidence = try #require(try imported(builder.file.bytes))
    let vcpu = try #require(evidence.ledger.vcpus.first)
    #expect(!vcpu.features.contains(.interrupts) && vcpu.states[.hostInterrupt] == 0)
  }
}
