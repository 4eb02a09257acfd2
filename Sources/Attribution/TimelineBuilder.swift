import CKvmtax

/// Makes a timeline of absolute totals: at each end of an interval it is given all slots and rows, and books what they
/// have more than before. Totals that come late make an interval longer and lose nothing.
///
/// The state of an open interval is booked as if it went on. When it turns out that it was another one (an exit without
/// an entry, a halt that was divided at its wake-up), the total of a state is less than what was booked: it is taken back
/// from the latest intervals that had it, where it was wrong.
public struct TimelineBuilder: Sendable {
  /// Intervals are joined in pairs before there are more.
  public static let intervalLimit = 4096
  /// The same, where there are so many threads and rows that it would take more numbers than this.
  private let cellLimit: Int
  /// Times longer than nine years are a damaged input's; sums of some of them must not overflow.
  private static let longest = Int64(1) << 58

  private var ends: [UInt64] = []
  private var tracks: [Track] = []
  private var rowTracks: [RowTrack] = []
  private var reasons: [ReasonTimeline] = []
  private var reasonIndex: [ReasonKey: Int] = [:]
  /// Intervals that may still be looked at to take time back: a damaged input must not make that quadratic.
  private var corrections = 1 << 26
  private var totals = [UInt64](repeating: 0, count: ThreadTimeline.width)
  private var scratch = [Int64](repeating: 0, count: ThreadTimeline.width)
  /// An interval that is much shorter than this, in ns, becomes part of the next one; grows when intervals are joined.
  public private(set) var leastNanoseconds: UInt64 = 0

  private struct ReasonKey: Hashable {
    var pid: UInt32
    var isa: UInt8
    var reason: UInt32
  }

  /// One thread: its intervals and their sums.
  private struct Track: Sendable {
    var timeline: ThreadTimeline
    var booked = [UInt64](repeating: 0, count: ThreadTimeline.width)
  }

  /// One row: where its exits go and what was booked of it.
  private struct RowTrack: Sendable {
    var place = -1
    var exits: UInt64 = 0
    var handledNanoseconds: UInt64 = 0
  }

  /// No interval yet; at most so many numbers, 128 MiB of them.
  public init(cellLimit: Int = 1 << 24) { self.cellLimit = cellLimit }

  /// Ends an interval at `time`. Of `slots`, those of another `epoch` are not up to date and are left for later; `rows`
  /// name their slot by its number.
  public mutating func close(
    at time: UInt64, slots: UnsafePointer<kt_slot>, slotCount: Int, epoch: UInt32 = 0, rows: UnsafePointer<kt_row>,
    rowNumbers: Range<Int>
  ) {
    if let last = ends.last {
      guard time > last, time - last >= leastNanoseconds - leastNanoseconds / 4 else { return }
    }
    let place = ends.count
    ends.append(time)
    while tracks.count < slotCount { tracks.append(Track(timeline: ThreadTimeline(thread: 0, startNanoseconds: 0))) }
    for number in 0..<slotCount where slots[number].epoch == epoch { take(slots + number, number, time, place) }
    take(rows, rowNumbers, slots, place)
    makeRoom(slotCount: slotCount, rowCount: rowNumbers.count)
  }

  /// The timeline of the ledger that the slots ended up in; the intervals that are still open end with its threads.
  public consuming func finish(
    _ ledger: Ledger, slots: UnsafePointer<kt_slot>, rows: UnsafePointer<kt_row>, rowNumbers: Range<Int>
  ) -> Timeline {
    let vcpus = ledger.vcpus
    let last = vcpus.map(\.lastNanoseconds).max() ?? 0
    if last > ends.last ?? 0 { ends.append(last) }
    guard !ends.isEmpty else { return Timeline() }
    take(rows, rowNumbers, slots, ends.count - 1)
    var numbers: [UInt32: Int] = [:]
    for (number, track) in tracks.enumerated() where track.timeline.count > 0 {
      numbers[track.timeline.thread] = number
    }
    var timeline = Timeline()
    timeline.threads.reserveCapacity(vcpus.count)
    for vcpu in vcpus {
      let fresh = Track(
        timeline: ThreadTimeline(thread: vcpu.thread, startNanoseconds: vcpu.firstNanoseconds))
      var track = numbers[vcpu.thread].map { tracks[$0] } ?? fresh
      end(&track, with: vcpu)
      timeline.threads.append(track.timeline)
    }
    timeline.ends = ends
    timeline.reasons = reasons.filter { !$0.points.isEmpty }
    return timeline
  }

  /// A thread's open interval may have been booked beyond its last moment, and as another state than the ledger's.
  private mutating func end(_ track: inout Track, with vcpu: VCPU) {
    for state in State.allCases { totals[Int(state.rawValue)] = vcpu.states[state] }
    totals[ThreadTimeline.width - 1] = vcpu.exits
    while track.timeline.count > 0, track.timeline.endNanoseconds >= vcpu.lastNanoseconds {
      if track.timeline.endNanoseconds == vcpu.lastNanoseconds, track.booked == totals { return }
      let cells = track.timeline.removeLast()
      for (index, value) in cells.enumerated() { track.booked[index] &-= value }
    }
    // the first end that is not before the thread's
    var (low, high) = (Int(track.timeline.places.last ?? 0), ends.count - 1)
    while low < high {
      let middle = (low + high) / 2
      if ends[middle] < vcpu.lastNanoseconds { low = middle + 1 } else { high = middle }
    }
    book(&track, until: vcpu.lastNanoseconds, place: low)
  }

  // MARK: Threads

  private mutating func take(_ slot: UnsafePointer<kt_slot>, _ number: Int, _ time: UInt64, _ place: Int) {
    let since = slot.pointee.since_ns
    // known only by its rows so far
    guard since != 0 else { return }
    let end = slot.pointee.ended != 0 ? since : max(time, since)
    let states = kt_slot_state_ns(slot)!
    for state in 0..<ThreadTimeline.width - 1 { totals[state] = states[state] }
    let open = Int(slot.pointee.state)
    totals[open < ThreadTimeline.width - 1 ? open : 0] &+= end - since
    totals[ThreadTimeline.width - 1] = slot.pointee.exits
    if tracks[number].timeline.count == 0 {
      guard slot.pointee.first_ns < end else { return }
      tracks[number].timeline = ThreadTimeline(thread: slot.pointee.thread, startNanoseconds: slot.pointee.first_ns)
    }
    // taken out, so that its arrays are changed in place
    var track = Track(timeline: ThreadTimeline(thread: 0, startNanoseconds: 0), booked: [])
    swap(&track, &tracks[number])
    book(&track, until: end, place: place)
    swap(&track, &tracks[number])
  }

  /// Books `totals` minus what is booked, as the interval up to `end`; its states sum to its length whatever they are.
  private mutating func book(_ track: inout Track, until end: UInt64, place: Int) {
    guard end > track.timeline.endNanoseconds else { return }
    let states = ThreadTimeline.width - 1
    let length = Int64(bitPattern: end - track.timeline.endNanoseconds)
    var sum: Int64 = 0
    var isSane = (0...TimelineBuilder.longest).contains(length)
    for state in 0..<states {
      scratch[state] = Int64(bitPattern: totals[state] &- track.booked[state])
      sum &+= scratch[state]
      if scratch[state].magnitude > TimelineBuilder.longest.magnitude { isSane = false }
    }
    if isSane {
      scratch[0] += length - sum
      takeBack(&track)
    } else {
      for state in 1..<states { scratch[state] = 0 }
      scratch[0] = length
    }
    let exits = Int64(bitPattern: totals[states] &- track.booked[states])
    scratch[states] = max(0, exits)
    for cell in 0...states { track.booked[cell] &+= UInt64(bitPattern: scratch[cell]) }
    track.timeline.append(until: end, place: place, cells: scratch.lazy.map { UInt64(bitPattern: $0) })
  }

  /// In which order states get what was booked wrongly: what an exit without entry becomes first, guest mode last.
  private static let gainers = [Int(State.unknown.rawValue)] + Array(2..<State.allCases.count) + [1]

  /// Brings negative times in `scratch` to 0, its sum unchanged.
  private mutating func takeBack(_ track: inout Track) {
    for state in 0..<ThreadTimeline.width - 1 where scratch[state] < 0 {
      var index = track.timeline.count - 1
      while scratch[state] < 0, index >= 0, corrections > 0 {
        corrections -= 1
        for gainer in TimelineBuilder.gainers where scratch[gainer] > 0 && scratch[state] < 0 {
          let limit = min(scratch[gainer].magnitude, scratch[state].magnitude)
          let time = Int64(track.timeline.move(limit, from: state, to: gainer, inInterval: index))
          scratch[state] += time
          scratch[gainer] -= time
          track.booked[state] &-= UInt64(time)
          track.booked[gainer] &+= UInt64(time)
          if UInt64(time) < limit { break }
        }
        index -= 1
      }
      // no interval had it: totals that went back; others have to wait for the next interval
      for gainer in TimelineBuilder.gainers where scratch[gainer] > 0 && scratch[state] < 0 {
        let time = min(scratch[gainer], -scratch[state])
        scratch[state] += time
        scratch[gainer] -= time
      }
    }
  }

  // MARK: Rows

  private mutating func take(
    _ rows: UnsafePointer<kt_row>, _ numbers: Range<Int>, _ slots: UnsafePointer<kt_slot>, _ place: Int
  ) {
    while rowTracks.count < numbers.upperBound { rowTracks.append(RowTrack()) }
    for number in numbers {
      let row = rows + number
      let exits = row.pointee.finished &+ row.pointee.unpaired
      guard exits > rowTracks[number].exits else { continue }
      let slot = slots + Int(row.pointee.slot)
      guard slot.pointee.since_ns != 0 else { continue }
      let states = kt_row_state_ns(row)!
      let handled = StateTimes.virtualizationStates.reduce(0) { $0 &+ states[Int($1.rawValue)] }
      let more = handled > rowTracks[number].handledNanoseconds ? handled - rowTracks[number].handledNanoseconds : 0
      if rowTracks[number].place < 0 { rowTracks[number].place = self.place(of: row, pid: slot.pointee.tgid) }
      reasons[rowTracks[number].place].add(
        exits: exits - rowTracks[number].exits, handledNanoseconds: more, place: place)
      rowTracks[number].exits = exits
      rowTracks[number].handledNanoseconds &+= more
    }
  }

  private mutating func place(of row: UnsafePointer<kt_row>, pid: UInt32) -> Int {
    let key = ReasonKey(pid: pid, isa: UInt8(truncatingIfNeeded: row.pointee.isa), reason: row.pointee.reason)
    if let place = reasonIndex[key] { return place }
    reasonIndex[key] = reasons.count
    reasons.append(ReasonTimeline(pid: key.pid, isa: key.isa, reason: key.reason))
    return reasons.count - 1
  }

  // MARK: Bounds

  /// Joins intervals until one more fits.
  private mutating func makeRoom(slotCount: Int, rowCount: Int) {
    let each = slotCount * ThreadTimeline.width + rowCount * 2 + 1
    let limit = max(2, min(TimelineBuilder.intervalLimit, cellLimit / each))
    while ends.count >= limit {
      let span = (ends.last ?? 0) - (ends.first ?? 0)
      let doubled = leastNanoseconds.multipliedReportingOverflow(by: 2)
      leastNanoseconds = max(doubled.overflow ? .max : doubled.partialValue, span / UInt64(ends.count - 1) * 2, 1)
      for number in tracks.indices { tracks[number].timeline.joinPairs() }
      for number in reasons.indices { reasons[number].joinPairs() }
      ends = stride(from: 0, to: ends.count, by: 2).map { ends[min($0 + 1, ends.count - 1)] }
    }
  }
}
