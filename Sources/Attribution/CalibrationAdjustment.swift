import CKvmtax

extension Calibration {
  /// Which end of its interval the overhead is wanted at.
  public enum Edge: Sendable {
    /// The least overhead that the calibration allows.
    case low
    /// The best single value.
    case mid
    /// The greatest.
    case high
  }

  /// Times from which the tracer's cost is taken out, and in which the world switch is apart from the guest's time.
  /// `states.total + worldSwitchNanoseconds + tracerNanoseconds` is the total of before.
  public struct Adjusted: Equatable, Sendable {
    /// ns per state; the guest's without the world switch.
    public var states: StateTimes
    /// World switch, ns.
    public var worldSwitchNanoseconds: UInt64 = 0
    /// The tracer's cost, ns.
    public var tracerNanoseconds: UInt64 = 0
  }

  /// Takes the tracer's cost out of each state and the world switch out of the guest's time; nil where this way of
  /// recording was not measured.
  ///
  /// More than a state has is never taken from it: what is missing stays where it is, so that nothing becomes negative
  /// and no time appears from nowhere.
  /// - Parameters:
  ///   - exits: how many exits took each path.
  ///   - edge: at which end of the bounds. At `low` the world switch and the tracer's part in the guest's time are at their
  ///     least and the tracer's part in the handling at its greatest; at `high` the other way round.
  public func adjusted(
    _ states: StateTimes, exits: [Path: UInt64], mode: Mode, at edge: Edge = .mid
  ) -> Adjusted? {
    var adjusted = Adjusted(states: states)
    for (path, count) in exits.sorted(by: { $0.key.rawValue < $1.key.rawValue }) where count > 0 {
      guard let cost = tracer(path, mode) else { return nil }
      let inside = Double(count) * cost.inside.value(edge.opposite)
      // The exit's program ends in the kernel's time. The entry's begins in that of whoever the exit went to.
      let reachesUser = path == .userspace || path == .switched
      let qemu = reachesUser ? adjusted.take(inside / 2, from: [.qemu, .kernel]) : 0
      let kernel = adjusted.take(inside - (reachesUser ? inside / 2 : 0), from: [.kernel, .qemu])
      let guest = adjusted.take(Double(count) * cost.outside.value(edge), from: [.guest])
      adjusted.tracerNanoseconds &+= qemu &+ kernel &+ guest
    }
    for (path, count) in exits.sorted(by: { $0.key.rawValue < $1.key.rawValue }) where count > 0 {
      guard let cost = worldSwitch(path) else { continue }
      adjusted.worldSwitchNanoseconds &+= adjusted.take(Double(count) * cost.value(edge), from: [.guest])
    }
    return adjusted
  }
}

extension Calibration {
  /// How many exits took which path, as far as accounts by reason can say: a reason of which some exits came to user space
  /// counts as if all had.
  public static func exits(of accounts: [ExitAccount]) -> [Path: UInt64] {
    accounts.reduce(into: [:]) { exits, account in
      let states = account.states
      let waited = states[.haltWait] &+ states[.wakeLatency]
      let path: Path =
        account.isHalt && waited > 0
        ? .switched : states[.qemu] &+ states[.qemuBlocked] > 0 ? .userspace : .kernel
      exits[path, default: 0] &+= account.exits
    }
  }

  /// The same by keys, each of which says whether its exits came to user space.
  public static func exits(of accounts: [KeyAccount]) -> [Path: UInt64] {
    accounts.reduce(into: [:]) { exits, account in
      let waited = account.states[.haltWait] &+ account.states[.wakeLatency]
      let slept = kt_is_halt(account.key.isa, account.key.reason) != 0 && waited > 0
      let path: Path = slept ? .switched : account.key.userspace != nil ? .userspace : .kernel
      exits[path, default: 0] &+= account.finished
    }
  }
}

extension Calibration.Edge {
  fileprivate var opposite: Self {
    switch self {
    case .low: .high
    case .mid: .mid
    case .high: .low
    }
  }
}

extension Bounded {
  /// The value at an end; a cost is never below nothing.
  fileprivate func value(_ edge: Calibration.Edge) -> Double {
    switch edge {
    case .low: max(low, 0)
    case .mid: max(mid, 0)
    case .high: max(high, 0)
    }
  }
}

extension Calibration.Adjusted {
  /// Takes so many ns from the first of these states that has them, then from the next; how many it were.
  fileprivate mutating func take(_ wanted: Double, from sources: [State]) -> UInt64 {
    var taken: UInt64 = 0
    for source in sources {
      let rest = wanted - Double(taken)
      guard rest >= 1 else { break }
      let available = states[source]
      // the comparison comes first: what is not below a UInt64 as Double may not fit into one
      let part = rest < Double(available) ? min(UInt64(rest), available) : available
      states[source] = available - part
      taken &+= part
    }
    return taken
  }
}
