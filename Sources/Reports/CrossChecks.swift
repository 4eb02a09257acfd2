import Attribution
import Terminal

extension Report {
  /// A number of ours beside one that somebody else counted of the same thing.
  public struct CrossCheck: Equatable, Sendable {
    /// Its stable name: "kvm_exits", "run_delay", "key_exits"…
    public var id: String
    /// Ours.
    public var ours: UInt64
    /// Theirs.
    public var theirs: UInt64
    /// "exits" or "ns".
    public var unit: String
    /// Whether they agree as far as they must.
    public var holds: Bool
    /// What was compared and how it came out, a sentence without a full stop.
    public var text: String
  }
}

/// Compares what we counted with what KVM and the scheduler counted themselves. What fails makes the report untrustworthy.
struct CrossChecks {
  let vms: [VirtualMachine]

  private var vcpus: [VCPU] { vms.flatMap(\.vcpus) }

  func all() -> [Report.CrossCheck] { [exits(), runDelay(), keys()].flatMap(\.self) }

  // MARK: KVM's statistics

  private static let kinds: [(id: String, name: String, count: KeyPath<ExitKindCounts, UInt64> & Sendable)] = [
    ("kvm_exits", "exits", \.exits), ("kvm_halt_exits", "halts", \.halts),
    ("kvm_irq_exits", "interrupts", \.interrupts),
    ("kvm_irq_window_exits", "interrupt windows", \.windows), ("kvm_io_exits", "port accesses", \.ports),
  ]

  /// `vcpu->stat` between two looks of the vCPU's own thread, and our counts between the same two: equal to the exit.
  private func exits() -> [Report.CrossCheck] {
    let read = vcpus.compactMap(\.kvmCounts)
    guard !read.isEmpty else { return [] }
    return CrossChecks.kinds.map { kind in
      let ours = read.reduce(0) { $0 &+ $1.own[keyPath: kind.count] }
      let theirs = read.reduce(0) { $0 &+ $1.kvm[keyPath: kind.count] }
      let isEqual = read.allSatisfy { $0.own[keyPath: kind.count] == $0.kvm[keyPath: kind.count] }
      return Report.CrossCheck(
        id: kind.id, ours: ours, theirs: theirs, unit: "exits", holds: isEqual,
        text: isEqual
          ? "KVM's own count of \(kind.name) is the same, \(grouped(theirs))"
          : "KVM itself counted \(grouped(theirs)) \(kind.name), the trace has \(grouped(ours))")
    }
  }

  // MARK: The scheduler

  /// Less than this proves nothing, ns.
  private static let leastNanoseconds: UInt64 = 10_000_000

  /// sched_info.run_delay: how long the threads were able to run and did not. It begins when a woken task is queued, which
  /// on another CPU can be much later than sched_waking: that way is wake latency, and run_delay never shows it. So it
  /// lies between preempted and preempted with wake latency, within 2 %; and, since the scheduler reads its clock after its
  /// event and the programs at it, within 20 µs per switch; and, since run_delay is read at entries and at returns to user
  /// space, not when the recording begins and ends, within two time slices per thread.
  private func runDelay() -> [Report.CrossCheck] {
    let read = vcpus.filter { $0.runDelayNanoseconds != nil && $0.switches > 0 }
    let theirs = read.reduce(0) { $0 &+ ($1.runDelayNanoseconds ?? 0) }
    let preempted = read.reduce(0) { $0 &+ $1.states[.preempted] }
    let ours = read.reduce(preempted) { $0 &+ $1.states[.wakeLatency] }
    guard max(ours, theirs) >= CrossChecks.leastNanoseconds else { return [] }
    let switches = read.reduce(0) { $0 &+ $1.switches }
    let tolerance = max(theirs / 50, UInt64(read.count) &* 8_000_000 &+ switches &* 20_000)
    let holds = ours &+ tolerance >= theirs && preempted <= theirs &+ tolerance
    let difference = Double(ours) / Double(max(theirs, 1)) - 1
    let text =
      if !holds {
        "the scheduler counted \(duration(nanoseconds: theirs)) of run delay, preempted is "
          + "\(duration(nanoseconds: preempted)), with wake latency \(duration(nanoseconds: ours))"
      } else if difference > 0.02 {
        "the scheduler's run delay lies between preempted and preempted with wake latency, which is "
          + "\(percentage(difference)) more: the way to another CPU"
      } else {
        "the scheduler's run delay agrees with preempted and wake latency within \(percentage(abs(difference)))"
      }
    return [Report.CrossCheck(id: "run_delay", ours: ours, theirs: theirs, unit: "ns", holds: holds, text: text)]
  }

  // MARK: Keys

  /// Every finished exit is under one key, or counted as without one.
  private func keys() -> [Report.CrossCheck] {
    let keyed = vms.filter { !$0.keys.isEmpty }
    guard !keyed.isEmpty else { return [] }
    let ours = keyed.reduce(0) { sum, vm in sum &+ vm.keys.reduce(vm.overflowKeys) { $0 &+ $1.finished } }
    let theirs = keyed.reduce(0) { sum, vm in
      sum &+ vm.vcpus.reduce(0) { $0 &+ $1.accounts.reduce($1.overflowExits) { $0 &+ $1.finished } }
    }
    return [
      Report.CrossCheck(
        id: "key_exits", ours: ours, theirs: theirs, unit: "exits", holds: ours <= theirs,
        text: ours == theirs
          ? "every finished exit is under one key"
          : ours < theirs
            ? "\(grouped(theirs - ours)) finished exits are under no key: keys were not kept all the time"
            : "keys have \(grouped(ours)) exits, reasons only \(grouped(theirs))")
    ]
  }
}
