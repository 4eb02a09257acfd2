/// What happened when: the ledger's times and exits, interval by interval. A thread's intervals follow each other without
/// a hole from its first observed moment to its last, each sums to its own length, and all of them to the ledger's states.
public struct Timeline: Equatable, Sendable {
  /// Ends of the intervals in ns on the trace's clock, ascending; snapshots, or whole seconds of an import.
  public internal(set) var ends: [UInt64] = []
  /// Each vCPU thread's intervals, in the ledger's order.
  public internal(set) var threads: [ThreadTimeline] = []
  /// Exits by VM and reason.
  public internal(set) var reasons: [ReasonTimeline] = []

  /// Nothing observed.
  public init() {}

  /// Puts a timeline together; `place`s of its parts are indices of `ends`.
  public init(ends: [UInt64], threads: [ThreadTimeline], reasons: [ReasonTimeline] = []) {
    self.ends = ends
    self.threads = threads
    self.reasons = reasons
  }
}

/// One vCPU thread's intervals. Usually there is one per end of the timeline; one that spans several ends, because what
/// the thread did in between is only known as a sum, belongs to the last of them.
public struct ThreadTimeline: Equatable, Sendable {
  /// One interval.
  public struct Interval: Equatable, Sendable {
    /// Index of the timeline's end that it belongs to.
    public var place: Int
    /// Its first moment, ns.
    public var startNanoseconds: UInt64
    /// Its last moment, ns.
    public var endNanoseconds: UInt64
    /// ns per state; sums to end - start.
    public var states: StateTimes
    /// kvm_exit events.
    public var exits: UInt64
  }

  /// ns per state, then the number of exits.
  static let width = State.allCases.count + 1

  /// The ledger's serial number of the thread.
  public let thread: UInt32
  /// First moment of the first interval, ns.
  public let startNanoseconds: UInt64
  private(set) var ends: [UInt64] = []
  private(set) var places: [UInt32] = []
  private var cells: [UInt64] = []

  /// A thread without intervals yet.
  public init(thread: UInt32, startNanoseconds: UInt64) {
    self.thread = thread
    self.startNanoseconds = startNanoseconds
  }

  /// Number of intervals.
  public var count: Int { ends.count }
  /// Last moment of the last interval, ns.
  public var endNanoseconds: UInt64 { ends.last ?? startNanoseconds }
  /// All intervals, oldest first.
  public var intervals: some RandomAccessCollection<Interval> { (0..<count).lazy.map(interval) }

  /// One interval, from 0 on.
  public func interval(_ index: Int) -> Interval {
    let first = index * ThreadTimeline.width
    var states = StateTimes()
    for state in State.allCases { states[state] = cells[first + Int(state.rawValue)] }
    return Interval(
      place: Int(places[index]), startNanoseconds: index == 0 ? startNanoseconds : ends[index - 1],
      endNanoseconds: ends[index], states: states, exits: cells[first + ThreadTimeline.width - 1])
  }

  /// Adds the interval from the last one's end on, of so many ns per state.
  public mutating func append(until end: UInt64, place: Int, states: StateTimes, exits: UInt64) {
    append(until: end, place: place, cells: states.nanoseconds + [exits])
  }

  mutating func append(until end: UInt64, place: Int, cells: some Collection<UInt64>) {
    ends.append(end)
    places.append(UInt32(truncatingIfNeeded: place))
    self.cells.append(contentsOf: cells)
  }

  /// Takes the last interval away; its cells.
  mutating func removeLast() -> [UInt64] {
    ends.removeLast()
    places.removeLast()
    let last = Array(cells.suffix(ThreadTimeline.width))
    cells.removeLast(ThreadTimeline.width)
    return last
  }

  /// Books time of an interval on another state: at most `limit` ns, and no more than it has. How much it was.
  mutating func move(_ limit: UInt64, from state: Int, to other: Int, inInterval index: Int) -> UInt64 {
    let first = index * ThreadTimeline.width
    let time = min(limit, cells[first + state])
    cells[first + state] -= time
    cells[first + other] += time
    return time
  }

  /// Joins each pair of the timeline's intervals, the first with the second and so on.
  mutating func joinPairs() {
    var kept = 0
    for index in 0..<count {
      let place = places[index] / 2
      let from = index * ThreadTimeline.width
      if kept > 0, places[kept - 1] == place {
        let into = (kept - 1) * ThreadTimeline.width
        for cell in 0..<ThreadTimeline.width { cells[into + cell] &+= cells[from + cell] }
        ends[kept - 1] = ends[index]
        continue
      }
      let into = kept * ThreadTimeline.width
      for cell in 0..<ThreadTimeline.width { cells[into + cell] = cells[from + cell] }
      ends[kept] = ends[index]
      places[kept] = place
      kept += 1
    }
    ends.removeLast(count - kept)
    places.removeLast(places.count - kept)
    cells.removeLast(cells.count - kept * ThreadTimeline.width)
  }
}

/// The exits of one reason on all vCPUs of a process.
public struct ReasonTimeline: Equatable, Sendable {
  /// What came in one of the timeline's intervals.
  public struct Point: Equatable, Sendable {
    /// Index of the timeline's end.
    public var place: Int
    /// Finished and unpaired exits.
    public var exits: UInt64
    /// The virtualization part of the finished ones' time, ns.
    public var handledNanoseconds: UInt64

    /// Exits of one interval.
    public init(place: Int, exits: UInt64, handledNanoseconds: UInt64) {
      self.place = place
      self.exits = exits
      self.handledNanoseconds = handledNanoseconds
    }
  }

  /// The process.
  public let pid: UInt32
  /// kvm_exit's `isa`.
  public let isa: UInt8
  /// kvm_exit's `exit_reason`.
  public let reason: UInt32
  /// Intervals that had any, oldest first.
  public internal(set) var points: [Point]

  /// A reason's exits.
  public init(pid: UInt32, isa: UInt8, reason: UInt32, points: [Point] = []) {
    self.pid = pid
    self.isa = isa
    self.reason = reason
    self.points = points
  }

  mutating func add(exits: UInt64, handledNanoseconds: UInt64, place: Int) {
    if let last = points.last, last.place == place {
      points[points.count - 1].exits &+= exits
      points[points.count - 1].handledNanoseconds &+= handledNanoseconds
    } else {
      points.append(Point(place: place, exits: exits, handledNanoseconds: handledNanoseconds))
    }
  }

  mutating func joinPairs() {
    let before = points
    points.removeAll(keepingCapacity: true)
    for point in before {
      add(exits: point.exits, handledNanoseconds: point.handledNanoseconds, place: point.place / 2)
    }
  }
}
