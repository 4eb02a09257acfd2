/// A time in which all vCPUs of a VM slept in user space and none called KVM_RUN: the VM was paused, by its monitor, for a
/// snapshot or at the end of a migration. No event says so; it is inferred.
public struct InferredStop: Equatable, Sendable {
  /// Shorter ones may be anything that all vCPUs wait for, ns.
  public static let leastNanoseconds: UInt64 = 100_000_000

  /// What one vCPU thread slept of it.
  public struct Part: Equatable, Sendable {
    /// The thread's serial number in the trace.
    public var thread: UInt32
    /// ns.
    public var nanoseconds: UInt64
    /// The exit that was open meanwhile; nil: none.
    public var exit: Exit?

    /// One thread's part.
    public init(thread: UInt32, nanoseconds: UInt64, exit: Exit?) {
      self.thread = thread
      self.nanoseconds = nanoseconds
      self.exit = exit
    }
  }

  /// kvm_exit's isa and reason.
  public struct Exit: Hashable, Sendable {
    /// isa.
    public var isa: UInt8
    /// exit_reason.
    public var reason: UInt32

    /// An exit of this reason.
    public init(isa: UInt8, reason: UInt32) {
      self.isa = isa
      self.reason = reason
    }
  }

  /// When the last vCPU fell asleep, ns.
  public var startNanoseconds: UInt64
  /// The vCPUs.
  public var parts: [Part]

  /// One stop.
  public init(startNanoseconds: UInt64, parts: [Part]) {
    self.startNanoseconds = startNanoseconds
    self.parts = parts
  }
}

extension Evidence {
  /// Books the sleep of stopped VMs as what it was, everywhere, and says so.
  public mutating func apply(_ stops: [InferredStop]) {
    guard !stops.isEmpty else { return }
    var places: [UInt32: (vm: Int, vcpu: Int)] = [:]
    for vm in ledger.vms.indices {
      for vcpu in ledger.vms[vm].vcpus.indices { places[ledger.vms[vm].vcpus[vcpu].thread] = (vm, vcpu) }
    }
    var longest: [Int: UInt64] = [:]
    for stop in stops {
      var ofVM: [Int: UInt64] = [:]
      for part in stop.parts {
        guard let (vm, vcpu) = places[part.thread] else { continue }
        let moved = ledger.vms[vm].apply(part, to: vcpu)
        timeline.apply(part, startNanoseconds: stop.startNanoseconds, moved: moved)
        ofVM[vm] = max(ofVM[vm] ?? 0, moved)
      }
      for (vm, time) in ofVM where time > 0 { longest[vm, default: 0] &+= time }
    }
    for (vm, time) in longest.sorted(by: { $0.key < $1.key }) {
      let vm = ledger.vms[vm]
      let name = vm.vmid.map { "VM \($0)" } ?? vm.name ?? "the VM with pid \(vm.pid)"
      trust.notes.append(
        "\(name) was stopped for \(grouped(time / 1_000_000)) ms, as inferred: all its vCPUs slept in user space and none "
          + "called KVM_RUN")
    }
  }
}

extension VirtualMachine {
  /// Moves a part from blocked to stopped: in the vCPU's states and, where its exit is finished, in the accounts of its
  /// reason and of its key. How much there was to move.
  fileprivate mutating func apply(_ part: InferredStop.Part, to vcpu: Int) -> UInt64 {
    let moved = vcpus[vcpu].states.move(part.nanoseconds, from: .qemuBlocked, to: .stopped)
    guard let exit = part.exit,
      let account = vcpus[vcpu].accounts.firstIndex(where: { $0.isa == exit.isa && $0.reason == exit.reason })
    else { return moved }
    var left = vcpus[vcpu].accounts[account].states.move(moved, from: .qemuBlocked, to: .stopped)
    // the keys of that reason that slept longest in user space
    let candidates = keys.indices.filter { keys[$0].key.isa == exit.isa && keys[$0].key.reason == exit.reason }
    for key in candidates.sorted(by: { keys[$0].states[.qemuBlocked] > keys[$1].states[.qemuBlocked] }) {
      guard left > 0 else { break }
      left -= keys[key].states.move(left, from: .qemuBlocked, to: .stopped)
    }
    return moved
  }
}

extension StateTimes {
  /// Books at most `limit` ns of one state on another; how much it was.
  fileprivate mutating func move(_ limit: UInt64, from state: State, to other: State) -> UInt64 {
    let time = min(limit, self[state])
    self[state] -= time
    self[other] &+= time
    return time
  }
}

extension Timeline {
  fileprivate mutating func apply(_ part: InferredStop.Part, startNanoseconds: UInt64, moved: UInt64) {
    guard let index = threads.firstIndex(where: { $0.thread == part.thread }) else { return }
    var left = moved
    for interval in 0..<threads[index].count where left > 0 {
      guard threads[index].interval(interval).endNanoseconds > startNanoseconds else { continue }
      left -= threads[index].move(
        left, from: Int(State.qemuBlocked.rawValue), to: Int(State.stopped.rawValue), inInterval: interval)
    }
  }
}
