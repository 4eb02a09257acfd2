import CKvmtax

/// What a vCPU thread is doing; every nanosecond is in exactly one state (`enum kt_state`, BPF/include/record.h).
public enum State: UInt8, CaseIterable, Sendable {
  /// Not observed: before the first event, in a gap, between events that do not pair.
  case unknown
  /// kvm_entry to kvm_exit; contains the world switch.
  case guest
  /// KVM handles an exit.
  case kernel
  /// The host's own interrupts on the vCPU's time.
  case hostInterrupt
  /// User space; on CPU and blocked together where no scheduler events were recorded.
  case qemu
  /// User space, sleeping.
  case qemuBlocked
  /// KVM, sleeping outside HLT.
  case kernelBlocked
  /// KVM polls for a wake-up before it sleeps.
  case haltPoll
  /// Sleeping in HLT; poll, wait and wake latency together where they were not told apart.
  case haltWait
  /// Woken, not yet running.
  case wakeLatency
  /// Runnable, not running.
  case preempted
  /// The VM is paused.
  case stopped

  /// The state's one name in JSON, docs and trace files.
  public var name: String {
    switch self {
    case .unknown: "unknown"
    case .guest: "guest"
    case .kernel: "kernel"
    case .hostInterrupt: "host_interrupt"
    case .qemu: "qemu"
    case .qemuBlocked: "qemu_blocked"
    case .kernelBlocked: "kernel_blocked"
    case .haltPoll: "halt_poll"
    case .haltWait: "halt_wait"
    case .wakeLatency: "wake_latency"
    case .preempted: "preempted"
    case .stopped: "stopped"
    }
  }
}

extension State {
  /// What it is, in a sentence.
  public var summary: String {
    switch self {
    case .unknown: "not observed, or between events that do not pair; never spread over the other states"
    case .guest: "the guest's own code, kvm_entry to kvm_exit, with the way in and out of it"
    case .kernel: "KVM handles an exit, on CPU"
    case .hostInterrupt: "the host's interrupt and softirq handlers on the vCPU's time; nothing of the VM's"
    case .qemu: "user space (QEMU) handles an exit, on CPU"
    case .qemuBlocked: "user space sleeps: a lock of QEMU's, or I/O that it waits for"
    case .kernelBlocked: "KVM sleeps outside HLT: swap, userfaultfd, a lock"
    case .haltPoll: "in HLT, KVM polls for a wake-up before it sleeps: the host's CPU time, no overhead of the guest"
    case .haltWait: "asleep in HLT: the guest has nothing to do"
    case .wakeLatency: "woken, and not on a CPU yet"
    case .preempted: "able to run while the host ran something else: the guest sees it as steal"
    case .stopped: "the process is stopped or the VM paused"
    }
  }
}

/// Nanoseconds per state.
public struct StateTimes: Equatable, Sendable {
  /// One value per state, in the order of `State`.
  public private(set) var nanoseconds: [UInt64]

  /// All zero.
  public init() { nanoseconds = [UInt64](repeating: 0, count: State.allCases.count) }

  /// Copies `State.allCases.count` values from a C array (`kt_slot.state_ns`, `kt_row.state_ns`).
  public init(copying values: UnsafePointer<UInt64>) {
    nanoseconds = Array(UnsafeBufferPointer(start: values, count: State.allCases.count))
  }

  /// Nanoseconds in one state.
  public subscript(state: State) -> UInt64 {
    get { nanoseconds[Int(state.rawValue)] }
    set { nanoseconds[Int(state.rawValue)] = newValue }
  }

  /// The sum over all states, wrapping: a damaged input must not trap.
  public var total: UInt64 { nanoseconds.reduce(0, &+) }

  /// The states that make up the headline's `virt`; the world switch is not among them, only a calibration knows it.
  public static let virtualizationStates: [State] = [.kernel, .qemu, .qemuBlocked, .kernelBlocked]

  /// Time in KVM and in QEMU on the guest's behalf, ns, wrapping.
  public var virtualization: UInt64 { StateTimes.virtualizationStates.reduce(0) { $0 &+ self[$1] } }

  /// Adds the other's times, state by state.
  public mutating func add(_ other: StateTimes) {
    for index in nanoseconds.indices { nanoseconds[index] &+= other.nanoseconds[index] }
  }
}

extension StateTimes {
  /// An exit record's times; what they do not sum to is unknown.
  public init(_ record: kt_exit_record) {
    self.init()
    self[.kernel] = record.kernel_ns
    self[.hostInterrupt] = record.host_interrupt_ns
    self[.qemu] = record.qemu_ns
    self[.qemuBlocked] = record.qemu_blocked_ns
    self[.kernelBlocked] = record.kernel_blocked_ns
    self[.haltPoll] = record.halt_poll_ns
    self[.haltWait] = record.halt_wait_ns
    self[.wakeLatency] = record.wake_latency_ns
    self[.preempted] = record.preempted_ns
    self[.stopped] = record.stopped_ns
    let known = total
    if record.total_ns > known { self[.unknown] = record.total_ns - known }
  }
}
