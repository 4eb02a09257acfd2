import CKvmtax

/// Puts events in the order of their times as perf does: what was recorded before a round ended is complete only when
/// the next one has ended too, so a round gives out what is not younger than the youngest event of the round before.
struct PerfOrder {
  private struct Key {
    var nanoseconds: UInt64
    var index: UInt32
  }

  private var events: [kt_event] = []
  private var keys: [Key] = []
  private var isSorted = true
  private var youngest: UInt64 = 0
  private var limit: UInt64 = 0
  /// Times at which so many events were waiting that a part was given out early.
  private(set) var earlyFlushes: UInt64 = 0
  /// 3 million events or 250 MB.
  private static let maximumWaiting = 3 << 20

  init() {
    events.reserveCapacity(1 << 16)
    keys.reserveCapacity(1 << 16)
  }

  /// A record's time, whether the record matters or not.
  @inline(__always) mutating func see(_ nanoseconds: UInt64) {
    if nanoseconds > youngest, nanoseconds != .max { youngest = nanoseconds }
  }

  /// Takes an event; true when too many are waiting. A time of all ones, perf's word for none, would wait for ever behind
  /// every round: it counts as the youngest so far.
  @inline(__always) mutating func add(_ recorded: kt_event) -> Bool {
    var event = recorded
    if event.time_ns == .max { event.time_ns = youngest }
    if let last = keys.last, event.time_ns < last.nanoseconds { isSorted = false }
    keys.append(Key(nanoseconds: event.time_ns, index: UInt32(truncatingIfNeeded: events.count)))
    events.append(event)
    return events.count >= PerfOrder.maximumWaiting
  }

  /// The end of a round.
  mutating func finishRound(into batch: inout [kt_event]) {
    give(upTo: limit, into: &batch)
    limit = youngest
  }

  /// The older half of those that wait, at least: a half of the time could be a single event.
  mutating func giveHalf(into batch: inout [kt_event]) {
    guard !keys.isEmpty else { return }
    earlyFlushes &+= 1
    sort()
    give(upTo: keys[keys.count / 2].nanoseconds, into: &batch)
  }

  /// Everything.
  mutating func giveRest(into batch: inout [kt_event]) { give(upTo: .max, into: &batch) }

  private mutating func sort() {
    if !isSorted {
      // of equal times the one that came first stays first
      keys.sort { $0.nanoseconds < $1.nanoseconds || ($0.nanoseconds == $1.nanoseconds && $0.index < $1.index) }
    }
    isSorted = true
  }

  private mutating func give(upTo limit: UInt64, into batch: inout [kt_event]) {
    sort()
    let count = keys.firstIndex { $0.nanoseconds > limit } ?? keys.count
    guard count > 0 else { return }
    for key in keys[..<count] { batch.append(events[Int(key.index)]) }
    var rest: [kt_event] = []
    rest.reserveCapacity(max(events.count - count, 1 << 16))
    for place in count..<keys.count {
      let key = keys[place]
      keys[place - count] = Key(nanoseconds: key.nanoseconds, index: UInt32(rest.count))
      rest.append(events[Int(key.index)])
    }
    keys.removeLast(count)
    events = rest
  }
}
