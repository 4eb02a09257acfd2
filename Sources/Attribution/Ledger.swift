import CKvmtax

/// Exits of one reason on one vCPU thread: counts, ns per state and the distribution of their durations.
public struct ExitAccount: Equatable, Sendable {
  /// kvm_exit's `isa`: 1 VMX, 2 SVM; anything else is kept and shown by number.
  public var isa: UInt8
  /// kvm_exit's `exit_reason`, all 32 bits.
  public var reason: UInt32
  /// Exits followed by an entry.
  public var finished: UInt64 = 0
  /// Exits that no entry followed: superseded by another exit, or cut by a gap. Their time is unknown.
  public var unpaired: UInt64 = 0
  /// 1 when an exit was open as the trace ended.
  public var open: UInt64 = 0
  /// kvm_exit to kvm_entry, summed over the finished exits, in ns.
  public var totalNanoseconds: UInt64 = 0
  /// The shortest finished exit in ns (0 if none).
  public var minNanoseconds: UInt64 = 0
  /// The longest finished exit in ns.
  public var maxNanoseconds: UInt64 = 0
  /// The finished exits' ns per state; sums to `totalNanoseconds`.
  public var states = StateTimes()
  /// Durations of the finished exits.
  public var histogram = Histogram()

  /// An empty account.
  public init(isa: UInt8, reason: UInt32) {
    self.isa = isa
    self.reason = reason
  }

  /// Copies a row.
  public init(_ row: UnsafePointer<kt_row>) {
    isa = UInt8(truncatingIfNeeded: row.pointee.isa)
    reason = row.pointee.reason
    finished = row.pointee.finished
    unpaired = row.pointee.unpaired
    totalNanoseconds = row.pointee.total_ns
    minNanoseconds = row.pointee.min_ns
    maxNanoseconds = row.pointee.max_ns
    states = StateTimes(copying: kt_row_state_ns(row))
    histogram = Histogram(copying: kt_row_buckets(row))
  }

  /// All kvm_exit events of this reason.
  public var exits: UInt64 { finished &+ unpaired &+ open }

  /// Whether this is the vCPU asking to sleep (HLT), which is idle time and not overhead.
  public var isHalt: Bool { kt_is_halt(isa, reason) != 0 }

  /// Adds another account of the same reason.
  public mutating func add(_ other: ExitAccount) {
    if other.finished > 0 {
      minNanoseconds = finished > 0 ? min(minNanoseconds, other.minNanoseconds) : other.minNanoseconds
      maxNanoseconds = max(maxNanoseconds, other.maxNanoseconds)
    }
    finished &+= other.finished
    unpaired &+= other.unpaired
    open &+= other.open
    totalNanoseconds &+= other.totalNanoseconds
    states.add(other.states)
    histogram.add(other.histogram)
  }
}

/// Exits of a vCPU by kind, as KVM's own statistics (`vcpu->stat`) tell them apart.
public struct ExitKindCounts: Equatable, Sendable {
  /// All: `exits`.
  public var exits: UInt64
  /// `halt_exits`.
  public var halts: UInt64
  /// `irq_exits`.
  public var interrupts: UInt64
  /// `irq_window_exits`.
  public var windows: UInt64
  /// `io_exits`.
  public var ports: UInt64

  /// All of them.
  public init(exits: UInt64, halts: UInt64, interrupts: UInt64, windows: UInt64, ports: UInt64) {
    self.exits = exits
    self.halts = halts
    self.interrupts = interrupts
    self.windows = windows
    self.ports = ports
  }
}

/// What KVM counted between two moments, and what we counted between the same two.
public struct KVMCounts: Equatable, Sendable {
  /// KVM's, from the first moment to the last.
  public var kvm: ExitKindCounts
  /// Ours.
  public var own: ExitKindCounts
  /// KVM's at the first moment.
  public var firstKVM: ExitKindCounts
  /// Ours at the first moment.
  public var firstOwn: ExitKindCounts

  /// All four.
  public init(kvm: ExitKindCounts, own: ExitKindCounts, firstKVM: ExitKindCounts, firstOwn: ExitKindCounts) {
    self.kvm = kvm
    self.own = own
    self.firstKVM = firstKVM
    self.firstOwn = firstOwn
  }
}

/// Where a guest's timer vector is known from (`enum kt_vector_source`).
public enum VectorSource: UInt8, Sendable {
  /// Read from the local APIC.
  case read = 1
  /// The guest was seen to write it.
  case written = 2
}

/// One vCPU thread's time and exits.
public struct VCPU: Equatable, Sendable {
  /// Serial number of the thread in this trace, from 1 on; the same tid can come twice.
  public var thread: UInt32
  /// Host thread id.
  public var tid: UInt32
  /// KVM's vcpu_id, where the events say it.
  public var index: Int?
  /// The thread's name, as "CPU 0/KVM"; untrusted text.
  public var name: String?
  /// Observed from, CLOCK_MONOTONIC ns (an import: the trace's clock).
  public var firstNanoseconds: UInt64 = 0
  /// Observed to.
  public var lastNanoseconds: UInt64 = 0
  /// ns per state; sums to last - first.
  public var states = StateTimes()
  /// By reason.
  public var accounts: [ExitAccount] = []
  /// kvm_exit events.
  public var exits: UInt64 = 0
  /// kvm_entry events.
  public var entries: UInt64 = 0
  /// Entries in guest mode: the exit before them was not seen.
  public var unpairedEntries: UInt64 = 0
  /// Events that found the thread's slot busy and were not taken.
  public var missed: UInt64 = 0
  /// Events older than their predecessor.
  public var backwards: UInt64 = 0
  /// Finished exits for which no row was free; in `states`, in no account.
  public var overflowExits: UInt64 = 0
  /// Their time in ns.
  public var overflowNanoseconds: UInt64 = 0
  /// Whether the thread's end was seen.
  public var ended = false
  /// Which events fed it: `features.merged(in:)` says what its states hold besides what they are named after.
  public var features: StateFeatures = []
  /// Times that it came on a CPU again.
  public var switches: UInt64 = 0
  /// Events on a CPU while it was off it, or the other way round: the switch between was not seen.
  public var missedSwitches: UInt64 = 0
  /// Host interrupts that came while another event was counted: their time is in what they interrupted.
  public var missedInterrupts: UInt64 = 0
  /// Sleeps of which nobody was seen to end them: their wake latency is in the waiting.
  public var missedWakings: UInt64 = 0
  /// What the scheduler's own `run_delay` grew by, ns; nil where it was not read.
  public var runDelayNanoseconds: UInt64?
  /// The vector of the guest's timer; nil: not known.
  public var timerVector: UInt8?
  /// Where that is from.
  public var timerVectorSource: VectorSource?
  /// Finished exits whose key found no row; in `states` and `accounts`, under no key.
  public var overflowKeys: UInt64 = 0
  /// Their time in ns.
  public var overflowKeyNanoseconds: UInt64 = 0
  /// KVM's own counts beside ours; nil where they were not read.
  public var kvmCounts: KVMCounts?

  /// A thread with nothing observed yet.
  public init(thread: UInt32, tid: UInt32) {
    self.thread = thread
    self.tid = tid
  }

  /// Copies a slot, closing its open interval at `endNanoseconds` (nil: at its last event).
  public init(_ slot: UnsafePointer<kt_slot>, endNanoseconds: UInt64?) {
    let value = slot.pointee
    thread = value.thread
    tid = value.tid
    index = value.vcpu == UInt16(KT_NO_VCPU) ? nil : Int(value.vcpu)
    firstNanoseconds = value.first_ns
    lastNanoseconds = max(value.since_ns, endNanoseconds ?? 0)
    states = StateTimes(copying: kt_slot_state_ns(slot))
    if let state = State(rawValue: value.state) { states[state] &+= lastNanoseconds - value.since_ns }
    exits = value.exits
    entries = value.entries
    unpairedEntries = value.unpaired_entries
    missed = value.missed
    backwards = value.backwards
    overflowExits = value.overflow_exits
    overflowNanoseconds = value.overflow_ns
    ended = value.ended != 0
    features = StateFeatures(rawValue: value.features)
    if features.isEmpty {
      // from before the features were written down: what came was recorded
      if value.wakeups > 0 { features.insert(.wakeup) }
      if value.userspace_exits > 0 { features.insert(.userspaceExit) }
    }
    switches = value.switches
    missedSwitches = value.missed_switches
    missedWakings = value.missed_wakings
    missedInterrupts = value.missed_interrupts
    // both are stored plus 1
    if value.run_delay_ns != 0 { runDelayNanoseconds = value.run_delay_ns &- value.first_run_delay_ns }
    timerVectorSource = VectorSource(rawValue: value.timer_source)
    if timerVectorSource != nil, value.timer_vector != 0 { timerVector = value.timer_vector }
    overflowKeys = value.overflow_keys
    overflowKeyNanoseconds = value.overflow_keys_ns
  }

  /// How long the thread was observed, in ns.
  public var wallNanoseconds: UInt64 { lastNanoseconds &- firstNanoseconds }
}

/// The vCPU threads of one process.
public struct VirtualMachine: Equatable, Sendable {
  /// The process (QEMU's pid); 0 when the trace does not say.
  public var pid: UInt32
  /// QEMU's `-name` or `-id`, else the process's name; untrusted text.
  public var name: String?
  /// Proxmox's number of the VM.
  public var vmid: Int?
  /// Ordered by index, then by thread.
  public var vcpus: [VCPU] = []
  /// By key, over all vCPUs; in the order of their exits. Empty where no keys were recorded.
  public var keys: [KeyAccount] = []
  /// Finished exits whose key found no room: they are in the vCPUs' accounts, under no key.
  public var overflowKeys: UInt64 = 0
  /// Their time in ns.
  public var overflowKeyNanoseconds: UInt64 = 0

  /// A VM without vCPUs.
  public init(pid: UInt32, name: String? = nil, vmid: Int? = nil) {
    self.pid = pid
    self.name = name
    self.vmid = vmid
  }
}

/// States and accounts per vCPU: what everything above is computed from, whatever rung it was entered at.
public struct Ledger: Equatable, Sendable {
  /// Ordered by VMID, then by pid.
  public var vms: [VirtualMachine] = []

  /// Nothing observed.
  public init() {}

  /// All vCPU threads.
  public var vcpus: [VCPU] { vms.flatMap(\.vcpus) }

  /// Files a vCPU thread under its process.
  public mutating func add(_ vcpu: VCPU, pid: UInt32) {
    if let index = vms.firstIndex(where: { $0.pid == pid }) {
      vms[index].vcpus.append(vcpu)
    } else {
      var vm = VirtualMachine(pid: pid)
      vm.vcpus.append(vcpu)
      vms.append(vm)
    }
  }

  /// Puts VMs and vCPUs into their order; call once after the last `add`.
  public mutating func sort() {
    for index in vms.indices {
      vms[index].vcpus.sort { ($0.index ?? .max, $0.thread) < ($1.index ?? .max, $1.thread) }
    }
    vms.sort { ($0.vmid ?? .max, $0.pid) < ($1.vmid ?? .max, $1.pid) }
  }
}
