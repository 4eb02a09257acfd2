/// A slice of a real trace, changed at random: what happened to it, and what is to be written.
public struct Mutant: Sendable {
  /// Which program's file the mutant becomes; some changes are beyond one of them.
  public enum Target: Sendable {
    case traceDat
    case perfData
  }

  /// What was done, for the message of a failed test.
  public private(set) var changes: [String] = []
  /// Formats to write.
  public private(set) var events: [EventText]
  /// Records to write, in the order of time.
  public private(set) var records: [TracepointRecord]
  /// CPUs to write.
  public private(set) var cpuCount: Int
  /// New ids of events by their old ones.
  public private(set) var ids: [Int: Int] = [:]
  /// The generator, for choices of the encoding.
  public var random: MutantRandom
  private let target: Target

  /// Changes a slice of a trace: always at least one change, mostly several.
  public init(
    of events: [EventText], records: [TracepointRecord], cpuCount: Int, target: Target, random: MutantRandom
  ) {
    self.events = events
    self.records = records
    self.cpuCount = cpuCount
    self.target = target
    self.random = random
    repeat {
      dropAtRandom()
      moveBetweenCPUs()
      loseWithMark()
      changeTimes()
      changeLayouts()
      changeCatalogue()
    } while changes.isEmpty
  }

  private mutating func note(_ text: String) { changes.append(text) }

  private func id(of name: String) -> Int { events.first { $0.name == name }?.id ?? -1 }
}

// Losing events, one of three kinds at a time so that each breaks the pairing in its own way.
extension Mutant {
  private mutating func dropAtRandom() {
    let exit = id(of: "kvm_exit")
    let entry = id(of: "kvm_entry")
    let kinds: [(String, (Int) -> Bool)] = [
      ("exits", { $0 == exit }), ("entries", { $0 == entry }), ("others", { $0 != exit && $0 != entry }),
      ("all", { _ in true }),
    ]
    for (kind, matches) in kinds {
      if random.oneIn(3) {
        let share = UInt64(5 + random.below(200))
        records.removeAll { matches($0.id) && random.oneIn(share) }
        note("dropped 1/\(share) of \(kind)")
      }
      if random.oneIn(4) {
        for _ in 0..<1 + random.below(4) { dropBurst(where: matches) }
        note("dropped bursts of \(kind)")
      }
    }
    if random.oneIn(3) {
      let share = UInt64(10 + random.below(100))
      for index in records.indices where random.oneIn(share) { records[index].discarded = true }
      note("discarded 1/\(share)")
    }
  }

  private mutating func dropBurst(where matches: (Int) -> Bool) {
    let start = random.below(records.count)
    let end = min(start + 1 + random.below(150), records.count)
    let kept = records[start..<end].filter { !matches($0.id) }
    records.replaceSubrange(start..<end, with: kept)
  }
}

// CPUs. The records stay in the order of time, so each CPU's own stay in order too.
extension Mutant {
  private mutating func moveBetweenCPUs() {
    if random.oneIn(2) {
      cpuCount = max(cpuCount, 2) + random.below(3)
      let threads = Array(Set(records.map(\.thread))).sorted()
      for _ in 0..<1 + random.below(20) {
        let thread = threads[random.below(threads.count)]
        let start = random.below(records.count)
        let end = min(start + random.below(records.count / 4 + 1), records.count)
        let cpu = random.below(cpuCount)
        for index in start..<end where records[index].thread == thread { records[index].cpu = cpu }
      }
      note("threads moved over \(cpuCount) CPUs")
    }
    if random.oneIn(6) {
      cpuCount = max(cpuCount, 2) + random.below(6)
      for index in records.indices { records[index].cpu = random.below(cpuCount) }
      note("scattered over \(cpuCount) CPUs")
    }
    if random.oneIn(2) {
      cpuCount = max(cpuCount, 2)
      let places = Array(0..<cpuCount).shuffled(using: &random)
      for index in records.indices { records[index].cpu = places[records[index].cpu] }
      note("CPUs swapped \(places)")
    }
  }

  /// Losses that the ring buffer itself reports: all records of one CPU for a while.
  private mutating func loseWithMark() {
    guard target == .traceDat, random.oneIn(4) else { return }
    for _ in 0..<1 + random.below(4) {
      let start = random.below(records.count)
      let end = min(start + 1 + random.below(100), records.count)
      let cpu = records[start].cpu
      guard let next = records[end...].firstIndex(where: { $0.cpu == cpu }) else { continue }
      let lost = records[start..<end].filter { $0.cpu == cpu }
      records[next].lostBefore += lost.reduce(0) { $0 + 1 + $1.lostBefore }
      records.replaceSubrange(start..<end, with: records[start..<end].filter { $0.cpu != cpu })
    }
    note("losses with a mark")
  }

  private mutating func changeTimes() {
    if random.oneIn(3) {
      let shift = random.next() >> UInt64(12 + random.below(40))
      for index in records.indices { records[index].nanoseconds += shift }
      note("times + \(shift) ns")
    }
    if random.oneIn(4) {
      // two records of one CPU at the same nanosecond keep the order in which they were written
      for index in records.indices.dropFirst() where records[index].cpu == records[index - 1].cpu && random.oneIn(20) {
        records[index].nanoseconds = records[index - 1].nanoseconds
      }
      note("some at the same time as the one before")
    }
  }
}

// Layouts.
extension Mutant {
  private mutating func changeLayouts() {
    var rewriters: [Int: RecordRewriter] = [:]
    let previous = events
    if random.oneIn(6) {
      // as kernels with PREEMPT_RT have it, behind common_pid
      for index in events.indices { events[index].addCommonField() }
      note("common field added")
    }
    for index in events.indices {
      let important = ["kvm_exit", "kvm_entry", "kvm_userspace_exit"].contains(events[index].name)
      if important ? random.oneIn(2) : random.oneIn(20) {
        let what = events[index].changeLayout(using: &random)
        if important { note("\(events[index].name): \(what)") }
      }
    }
    if random.oneIn(3) { renumber() }
    for (old, new) in zip(previous, events) where old.text != new.text {
      rewriters[old.id] = RecordRewriter(from: old, to: new)
    }
    if rewriters.isEmpty { return }
    for index in records.indices {
      guard let rewriter = rewriters[records[index].id] else { continue }
      records[index].bytes = rewriter.rewrite(records[index].bytes, noise: &random)
    }
  }

  /// Gives all events each other's ids and a few that no event had.
  private mutating func renumber() {
    var numbers = events.map(\.id) + (0..<3).map { 60_000 + $0 }
    numbers.shuffle(using: &random)
    for index in events.indices {
      ids[events[index].id] = numbers[index]
      events[index].id = numbers[index]
    }
    note("ids renumbered")
  }
}

// The list of formats itself.
extension Mutant {
  private mutating func changeCatalogue() {
    let needed = ["kvm_exit", "kvm_entry"]
    if random.oneIn(3) {
      var broken = ["\"%s\", REC->", "\"%d\", __no_such(REC->x, {1, \"a\"} })", "", "}}}}((("]
      // perf 6.1 never comes back from a string that does not end
      if target == .traceDat { broken.append("\"unclosed, REC->ip") }
      let candidates = events.indices.filter { !needed.contains(events[$0].name) }
      for _ in 0..<1 + random.below(3) where !candidates.isEmpty {
        let index = candidates[random.below(candidates.count)]
        events[index].printFormat = broken[random.below(broken.count)] + "\n"
        note("\(events[index].name): print fmt broken")
      }
    }
    // perf opens no file in which a recorded event has no format ("cannot find event format"), trace-cmd reads on
    if target == .traceDat, random.oneIn(4) {
      // trace-cmd 3.1 stops where the first record after a loss has no format
      let used = Set(records.map(\.id)).subtracting(records.filter { $0.lostBefore > 0 }.map(\.id))
      let candidates = events.indices.filter { !needed.contains(events[$0].name) && used.contains(events[$0].id) }
      if let index = candidates.randomElement(using: &random) {
        note("\(events[index].name): format missing")
        events.remove(at: index)
      }
    }
    if random.oneIn(3) {
      events.shuffle(using: &random)
      note("formats shuffled")
    }
  }
}
