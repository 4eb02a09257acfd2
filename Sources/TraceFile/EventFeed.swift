import Attribution
import CKvmtax

/// Feeds events to the machine, and between them what else the file knows of their time: when the programs went quiet,
/// and which stretches of CPUs are missing.
struct EventFeed: ~Copyable {
  private var replay: Replay
  private let quietTimes: [UInt64]
  private let holes: [EventScan.Hole]
  private var nextQuiet = 0
  private var nextHole = 0

  /// `holes` in the order of their ends.
  init(features: UInt8, quietTimes: [UInt64], holes: [EventScan.Hole]) {
    replay = Replay(features: features)
    self.quietTimes = quietTimes.sorted()
    self.holes = holes
  }

  /// Events of more threads than can be replayed.
  var refusedEvents: UInt64 { replay.refusedEvents }

  mutating func take(_ events: Span<kt_event>) {
    if nextQuiet == quietTimes.count, nextHole == holes.count { return replay.step(events) }
    for index in events.indices {
      catchUp(to: events[index].time_ns)
      replay.step(events.extracting(index...index))
    }
  }

  /// The threads, observed up to the end.
  mutating func finish(endNanoseconds: UInt64) -> [Replay.Thread] {
    catchUp(to: .max)
    return replay.threads(until: endNanoseconds)
  }

  private mutating func catchUp(to time: UInt64) {
    while nextQuiet < quietTimes.count, quietTimes[nextQuiet] < time {
      replay.goQuiet(atNanoseconds: quietTimes[nextQuiet])
      nextQuiet += 1
    }
    while nextHole < holes.count, holes[nextHole].toNanoseconds <= time {
      var loss = kt_event()
      loss.kind = Replay.lossKind
      loss.cpu = holes[nextHole].cpu
      loss.arg = holes[nextHole].fromNanoseconds
      loss.time_ns = holes[nextHole].toNanoseconds
      replay.step([loss].span)
      nextHole += 1
    }
  }
}
