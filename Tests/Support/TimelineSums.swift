import Attribution
import Testing

/// Expects that a timeline says the same as the ledger: a thread's intervals follow each other from its first moment to
/// its last, each sums to its length, and all of them to the thread's states and exits.
public func expectTimelineSums(_ evidence: Evidence) throws {
  let timeline = evidence.timeline
  let vcpus = evidence.ledger.vcpus
  #expect(zip(timeline.ends, timeline.ends.dropFirst()).allSatisfy { $0 < $1 })
  try #require(timeline.threads.map(\.thread) == vcpus.map(\.thread))
  for (thread, vcpu) in zip(timeline.threads, vcpus) where vcpu.wallNanoseconds > 0 {
    var states = StateTimes()
    var exits: UInt64 = 0
    var end = vcpu.firstNanoseconds
    for interval in thread.intervals {
      #expect(interval.startNanoseconds == end && interval.endNanoseconds > end)
      // the design allows 0.01 %, and nothing is measured here that could be off by even that
      #expect(interval.states.total == interval.endNanoseconds - interval.startNanoseconds)
      end = interval.endNanoseconds
      states.add(interval.states)
      exits += interval.exits
      #expect(timeline.ends.indices.contains(interval.place))
    }
    #expect(end == vcpu.lastNanoseconds, "thread \(vcpu.thread)")
    #expect(states == vcpu.states, "thread \(vcpu.thread)")
    #expect(exits == vcpu.exits, "thread \(vcpu.thread)")
  }
  for vm in evidence.ledger.vms {
    let reasons = timeline.reasons.filter { $0.pid == vm.pid }
    for reason in reasons {
      #expect(zip(reason.points, reason.points.dropFirst()).allSatisfy { $0.place < $1.place })
      let accounts = vm.vcpus.flatMap(\.accounts).filter { $0.reason == reason.reason && $0.isa == reason.isa }
      #expect(reason.points.reduce(0) { $0 + $1.exits } == accounts.reduce(0) { $0 + $1.finished + $1.unpaired })
      #expect(
        reason.points.reduce(0) { $0 + $1.handledNanoseconds } == accounts.reduce(0) { $0 + $1.states.virtualization })
    }
    let named = Set(
      vm.vcpus.flatMap(\.accounts).filter { $0.finished + $0.unpaired > 0 }.map { "\($0.isa) \($0.reason)" })
    #expect(Set(reasons.map { "\($0.isa) \($0.reason)" }) == named)
  }
}
