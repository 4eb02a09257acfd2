import Attribution
import CKvmtax
import TestSupport
import Testing

@Suite struct ReplayTests {
  static func event(
    _ kind: kt_kind, _ time: UInt64, tid: UInt32 = 7, tgid: UInt32 = 3, reason: UInt32 = 30, isa: UInt8 = 1,
    vcpu: UInt16 = 0
  ) -> kt_event {
    kt_event(
      time_ns: time, arg: 0, arg2: 0, rip: 0, run_delay_ns: 0, tid: tid, tgid: tgid, reason: reason, extra: 0, cpu: 0,
      vcpu: vcpu, kind: UInt8(kind.rawValue), isa: isa)
  }

  func ledger(_ events: [kt_event]) -> Ledger {
    var replay = Replay()
    replay.step(events.span)
    return replay.ledger()
  }

  @Test func aTidThatComesBackInAnotherProcessIsAnotherThread() {
    let ledger = ledger([
      Self.event(KT_ENTRY, 100), Self.event(KT_EXIT, 150), Self.event(KT_ENTRY, 160, tgid: 4),
      Self.event(KT_EXIT, 190, tgid: 4), Self.event(KT_ENTRY, 250, tgid: 4),
    ])
    #expect(ledger.vms.map(\.pid) == [3, 4])
    #expect(ledger.vcpus.map(\.thread) == [1, 2])
    #expect(ledger.vcpus.map(\.wallNanoseconds) == [50, 90])
    #expect(ledger.vcpus[0].accounts.first?.open == 1)
    #expect(ledger.vcpus[1].accounts.first?.totalNanoseconds == 60)
  }

  @Test func aSourceThatDoesNotSayTheProcessHasOneThreadPerTid() {
    let ledger = ledger([Self.event(KT_ENTRY, 100, tgid: 0), Self.event(KT_EXIT, 150, tgid: 0)])
    #expect(ledger.vms.map(\.pid) == [0])
    #expect(ledger.vcpus.map(\.wallNanoseconds) == [50])
  }

  @Test func aThreadThatNeverRanAGuestIsNoVcpu() {
    let events = [
      Self.event(KT_USERSPACE_EXIT, 100, tid: 8), Self.event(KT_VCPU_WAKEUP, 120, tid: 8), Self.event(KT_ENTRY, 130),
    ]
    #expect(ledger(events).vcpus.map(\.tid) == [7])
  }

  @Test func growsWithTheNumberOfThreads() throws {
    var replay = Replay()
    // far apart, the highest tid included; the first four threads make 1, 2, 3 and 4 exits of 10 ns, the others 4
    let tids = (0..<1000).map { UInt32.max - UInt32($0) * 4_294_967 }
    for round in 0..<4 {
      for tid in tids[round...] {
        let time = UInt64(round) * 100
        replay.step([Self.event(KT_EXIT, time, tid: tid), Self.event(KT_ENTRY, time + 10, tid: tid)].span)
      }
    }
    #expect(replay.threadCount == 1000)
    let vcpus = replay.ledger().vcpus
    #expect(vcpus.map(\.tid) == tids)
    for (number, vcpu) in vcpus.enumerated() {
      let account = try #require(vcpu.accounts.first)
      #expect(account.finished == UInt64(min(number, 3) + 1))
      #expect(account.totalNanoseconds == account.finished * 10)
    }
  }

  @Test func keepsReasonsThatShareTheirLowByteApart() throws {
    var replay = Replay()
    var time: UInt64 = 0
    // 700 reasons, all 0x..30, on two ISAs, twice over: more rows than at first, and every guess is wrong
    for round in 0..<2 {
      for number in 0..<UInt32(700) {
        for isa in [1, 2] as [UInt8] {
          let exit = Self.event(KT_EXIT, time, reason: number << 8 | 0x30, isa: isa)
          replay.step([exit, Self.event(KT_ENTRY, time + UInt64(number) + 1)].span)
          time += 10_000
        }
      }
      if round == 0 { replay.step([Self.event(KT_EXIT, time), Self.event(KT_EXIT, time + 1, reason: 31)].span) }
      time += 10_000
    }
    let vcpu = try #require(replay.ledger().vcpus.first)
    // and reason 30, unpaired, and 31, superseded by the second round's first
    #expect(vcpu.accounts.count == 1402)
    for account in vcpu.accounts where account.reason & 0xff == 0x30 {
      #expect(account.finished == 2)
      #expect(account.totalNanoseconds == UInt64(account.reason >> 8) * 2 + 2)
    }
    for reason in [30, 31] as [UInt32] {
      #expect(vcpu.accounts.first { $0.reason == reason }?.unpaired == 1)
    }
  }

  @Test func knowsTheFirstAndTheLastMoment() {
    var replay = Replay()
    replay.step([Self.event(KT_ENTRY, 500), Self.event(KT_EXIT, 400), Self.event(KT_ENTRY, 450)].span)
    #expect(replay.firstNanoseconds == 400 && replay.lastNanoseconds == 500)
    #expect(replay.eventCount == 3)
  }

  @Test func aGapCutsTheOpenExit() throws {
    var replay = Replay()
    replay.step([Self.event(KT_ENTRY, 100), Self.event(KT_EXIT, 150)].span)
    replay.gap(from: 160, to: 300)
    replay.step([Self.event(KT_EXIT, 400), Self.event(KT_ENTRY, 420)].span)
    let vcpu = try #require(replay.ledger().vcpus.first)
    #expect(vcpu.states[.guest] == 50)
    #expect(vcpu.states[.unknown] == 250)
    #expect(vcpu.states[.kernel] == 20)
    #expect(vcpu.accounts.map(\.unpaired) == [1] && vcpu.accounts.map(\.finished) == [1])
  }

  /// What it waited to run during a gap is no time of what comes after.
  @Test func aGapTakesTheDelayBeforeItAlong() throws {
    func event(_ kind: kt_kind, _ time: UInt64, delay: UInt64) -> kt_event {
      var event = Self.event(kind, time)
      event.run_delay_ns = delay + 1
      return event
    }
    var replay = Replay(features: 3 | UInt8(KT_HAS_RUN_DELAY.rawValue))
    replay.step([event(KT_ENTRY, 100, delay: 5), event(KT_EXIT, 150, delay: 5)].span)
    replay.gap(from: 160, to: 1000)
    let later = [
      event(KT_ENTRY, 1010, delay: 700), event(KT_EXIT, 1100, delay: 700), event(KT_ENTRY, 1120, delay: 708),
    ]
    replay.step(later.span)
    let vcpu = try #require(replay.ledger().vcpus.first)
    #expect(vcpu.states[.guest] == 50 + 90 && vcpu.states[.unknown] == 860)
    #expect(vcpu.states[.preempted] == 8 && vcpu.states[.kernel] == 12)
    #expect(vcpu.runDelayNanoseconds == 703)
  }

  /// Woken in a gap, of which it is not known where the thread was: that says nothing of its next sleep.
  @Test func aWakeUpInAGapIsNotOfALaterSleep() throws {
    var replay = Replay(features: Replay.allFeatures)
    replay.step([Self.event(KT_ENTRY, 100), Self.event(KT_EXIT, 150)].span)
    replay.step([Self.event(KT_WAKING, 200)].span)
    replay.gap(from: 160, to: 300)
    let later = [
      Self.event(KT_USERSPACE_EXIT, 310), Self.event(KT_SCHED_OUT, 320, reason: 1), Self.event(KT_SCHED_IN, 350),
    ]
    replay.step(later.span)
    let vcpu = try #require(replay.ledger().vcpus.first)
    #expect(vcpu.states[.qemuBlocked] == 30 && vcpu.states[.wakeLatency] == 0)
  }

  /// Asked for before a gap, no trait of an exit after it.
  @Test func aGapEndsWhatTheLastEntryAskedFor() throws {
    var replay = Replay()
    replay.step([Self.event(KT_ENTRY, 100, reason: 1)].span)
    replay.gap(from: 160, to: 300)
    replay.step([Self.event(KT_EXIT, 400, reason: 1), Self.event(KT_ENTRY, 420)].span)
    let key = try #require(replay.threads().first?.keys.first)
    #expect(Key(key.key) == Key(isa: 1, reason: 1))
  }

  /// Batches of two, an error or the end after the last.
  struct Batches: EventSource {
    var events: [kt_event]
    var error: InputError?
    mutating func read(into batch: inout [kt_event]) throws(InputError) {
      batch.removeAll()
      if events.isEmpty, let error { throw error }
      batch.append(contentsOf: events.prefix(2))
      events.removeFirst(min(2, events.count))
    }
  }

  @Test func drainsASourceToItsEnd() throws {
    var source = Batches(events: (0..<5).map { Self.event(KT_ENTRY, $0) })
    var replay = Replay()
    try replay.drain(&source)
    #expect(replay.eventCount == 5)
  }

  @Test func keepsWhatCameBeforeAnError() {
    let error = InputError(file: "trace.dat", found: "ends")
    var source = Batches(events: [Self.event(KT_ENTRY, 1), Self.event(KT_EXIT, 5)], error: error)
    var replay = Replay()
    do throws(InputError) {
      try replay.drain(&source)
      Issue.record("the error was lost")
    } catch { #expect(error.found == "ends") }
    #expect(replay.ledger().vcpus.map(\.wallNanoseconds) == [4])
  }
}
