import Attribution

/// What a VM did, divided into blocks of time that are long enough to be taken as independent of each other, or nearly so.
public struct Blocks: Equatable, Sendable {
  /// What an exit happened for.
  public struct ReasonKey: Hashable, Sendable {
    /// kvm_exit's `isa`.
    public var isa: UInt8
    /// kvm_exit's `exit_reason`.
    public var reason: UInt32

    /// A reason on a vendor's processors.
    public init(isa: UInt8, reason: UInt32) {
      self.isa = isa
      self.reason = reason
    }
  }

  /// Of a reason, in one block.
  public struct Exits: Equatable, Sendable {
    /// Finished and unpaired exits.
    public var count = 0.0
    /// Time of their handling, ns.
    public var handledNanoseconds = 0.0
  }

  /// One block; sums over the vCPUs, in ns.
  public struct Block: Equatable, Sendable {
    /// How long it lasted, ns.
    public var nanoseconds = 0.0
    /// ns per state, in the order of `State`.
    public var states = [Double](repeating: 0, count: State.allCases.count)
    /// The world switch, ns, taken out of the guest's time; 0 without a calibration.
    public var worldSwitch = 0.0
    /// Exits by reason.
    public var reasons: [ReasonKey: Exits] = [:]

    /// Time of all states, ns; the tracer's own is in none of them where it is known.
    public var wall: Double { states.reduce(worldSwitch, +) }
    /// Time in guest mode, ns.
    public var guest: Double { states[Int(State.guest.rawValue)] }
    /// Time in KVM and QEMU on the guest's behalf, and the world switch, ns.
    public var virtualization: Double {
      StateTimes.virtualizationStates.reduce(worldSwitch) { $0 + states[Int($1.rawValue)] }
    }
    /// The two together, ns.
    public var running: Double { guest + virtualization }

    mutating func merge(_ other: Block) {
      nanoseconds += other.nanoseconds
      worldSwitch += other.worldSwitch
      for state in states.indices { states[state] += other.states[state] }
      for (key, exits) in other.reasons {
        reasons[key, default: Exits()].count += exits.count
        reasons[key, default: Exits()].handledNanoseconds += exits.handledNanoseconds
      }
    }
  }

  /// Oldest first.
  public private(set) var blocks: [Block]

  /// The timeline's intervals of these vCPUs, each a block; exits by reason are those of the processes named.
  public init(_ timeline: Timeline, vcpus: [VCPU], pids: Set<UInt32>) {
    let wanted = Set(vcpus.map(\.thread))
    let threads = timeline.threads.filter { wanted.contains($0.thread) && $0.count > 0 }
    var blocks = [Block](repeating: Block(), count: timeline.ends.count)
    var places: ClosedRange<Int>?
    for thread in threads {
      for interval in thread.intervals where blocks.indices.contains(interval.place) {
        for (state, time) in interval.states.nanoseconds.enumerated() {
          blocks[interval.place].states[state] += Double(time)
        }
        let known = places ?? interval.place...interval.place
        places = min(known.lowerBound, interval.place)...max(known.upperBound, interval.place)
      }
    }
    guard let places else {
      self.blocks = []
      return
    }
    for reason in timeline.reasons where pids.contains(reason.pid) {
      let key = ReasonKey(isa: reason.isa, reason: reason.reason)
      for point in reason.points where blocks.indices.contains(point.place) {
        blocks[point.place].reasons[key, default: Exits()].count += Double(point.exits)
        blocks[point.place].reasons[key, default: Exits()].handledNanoseconds += Double(point.handledNanoseconds)
      }
    }
    for place in places {
      // the first one begins where the VM was first seen
      let start = place > places.lowerBound ? timeline.ends[place - 1] : threads.map(\.startNanoseconds).min() ?? 0
      let end = timeline.ends[place]
      blocks[place].nanoseconds = end > start ? Double(end - start) : 0
    }
    self.blocks = Array(blocks[places])
  }

  init(blocks: [Block]) { self.blocks = blocks }

  /// Takes the tracer's cost and the world switch out, as the report's headline has them; `accounts` say how far each
  /// reason's exits go. False, and nothing changes, where this way of recording was not measured.
  @discardableResult public mutating func calibrate(
    _ calibration: Calibration, _ mode: Calibration.Mode, accounts: [ExitAccount]
  ) -> Bool {
    var paths: [ReasonKey: Calibration.Path] = [:]
    for account in accounts {
      paths[ReasonKey(isa: account.isa, reason: account.reason)] = Calibration.exits(of: [account]).keys.first
    }
    var calibrated = blocks
    for (index, block) in blocks.enumerated() {
      var exits: [Calibration.Path: UInt64] = [:]
      for (key, some) in block.reasons { exits[paths[key] ?? .kernel, default: 0] &+= UInt64(clamping: some.count) }
      var states = StateTimes()
      for state in State.allCases { states[state] = UInt64(clamping: block.states[Int(state.rawValue)]) }
      guard let adjusted = calibration.adjusted(states, exits: exits, mode: mode) else { return false }
      calibrated[index].states = adjusted.states.nanoseconds.map { Double($0) }
      calibrated[index].worldSwitch = Double(adjusted.worldSwitchNanoseconds)
    }
    blocks = calibrated
    return true
  }

  /// A length that is no more below this than clocks and timers jitter counts as reached.
  static let tolerance = 0.95

  /// Neighbours joined until each block lasts so many ns; what is left at the end belongs to the last one.
  public func joined(nanoseconds least: Double) -> Blocks {
    var joined: [Block] = []
    var open = Block()
    for block in blocks {
      open.merge(block)
      if open.nanoseconds >= least * Blocks.tolerance {
        joined.append(open)
        open = Block()
      }
    }
    if open.nanoseconds > 0, !joined.isEmpty { joined[joined.count - 1].merge(open) }
    return Blocks(blocks: joined)
  }
}

extension UInt64 {
  /// The nearest whole number that fits.
  fileprivate init(clamping value: Double) { self = value < 0 ? 0 : value < 0x1p64 ? UInt64(value) : .max }
}
