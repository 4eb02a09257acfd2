import ArgumentParser
import Bpf
import CKvmtax
import Glibc

/// How much of the time off CPU is told apart.
enum Tier: String, ExpressibleByArgument {
  /// The scheduler's and the interrupts' events: they tax every task of the host.
  case full
  /// run_delay at the vCPUs' own events: preemption and wake latency as one sum, no more.
  case lite

  /// Context switches per second of the whole host up to which the full tier is taken by itself.
  static let mostSwitches: UInt64 = 50_000
}

/// Which programs a recording attaches, where, and which events the state machine thereby gets.
struct ProgramPlan {
  /// What is given up together when tracing costs too much; in this order from the end.
  enum Group {
    case base
    case scheduler
    case keys
  }

  /// One program at one tracepoint.
  struct Attachment {
    var program: String
    var group = Group.base
    /// nil: where the program's section says.
    var tracepoint: (system: String, event: String)?
  }

  private(set) var attachments: [Attachment] = []
  /// `enum kt_feature`.
  private(set) var features: UInt32 = 0
  private(set) var tier: Tier
  let keepsKeys: Bool
  /// Of sched_info.run_delay in task_struct; 0 where it cannot be read.
  let delayOffset: UInt32
  /// Whether kvm_entry's arguments say that an immediate exit was asked for.
  let hasImmediateExits: Bool
  /// Whether KVM's own statistics of a vCPU are read.
  let looks: Bool
  /// Whether KVM's own table of ioeventfds is read: it names kicks where no event does.
  let keepsIoeventfds: Bool

  /// Each program once.
  var programs: [String] {
    attachments.reduce(into: []) { if !$0.contains($1.program) { $0.append($1.program) } }
  }

  init(attach: AttachPath, layouts: Layouts, proxy: Bool, tier: Tier, keys: Bool) {
    let btf = KernelBtf.isPresent && !proxy ? try? KernelBtf() : nil
    delayOffset = btf?.byteOffset(of: ["sched_info", "run_delay"], in: "task_struct") ?? 0
    hasImmediateExits = btf?.typedTracepoint("kvm_entry")?.count == 2
    let hasStatistics = btf?.hasMember("stat", of: "kvm_vcpu") ?? false
    let describesIoeventfds = btf?.describesIoeventfds ?? false
    looks = hasStatistics
    keepsKeys = keys && !proxy
    keepsIoeventfds = keepsKeys && hasStatistics && describesIoeventfds
    let canSwitch = layouts.has("sched", "sched_switch") && layouts.has("sched", "sched_waking")
    self.tier = proxy || !canSwitch ? .lite : tier
    if proxy {
      attachments = ["on_proxy_exit", "on_proxy_entry", "on_process_exit"].map { Attachment(program: $0) }
      return
    }
    addBase(attach, layouts, hasStatistics: hasStatistics)
    if keepsKeys { addKeys(layouts) }
    if self.tier == .full { addScheduler(layouts) }
    if self.tier == .lite, delayOffset != 0 { features |= KT_HAS_RUN_DELAY.rawValue }
  }

  private mutating func addBase(_ attach: AttachPath, _ layouts: Layouts, hasStatistics: Bool) {
    let ending = attach == .btf ? "_btf" : ""
    // before the entry's own program: what it reads belongs to the exit that the entry ends
    if attach == .tp, hasStatistics { attachments.append(Attachment(program: "on_look")) }
    attachments += ["on_exit\(ending)", "on_entry\(ending)"].map { Attachment(program: $0) }
    let others: [(String, String, kt_feature)] = [
      ("kvm_userspace_exit", "on_userspace_exit", KT_HAS_USERSPACE_EXIT),
      ("kvm_vcpu_wakeup", "on_vcpu_wakeup", KT_HAS_WAKEUP), ("kvm_fpu", "on_fpu", KT_HAS_FPU),
    ]
    for (event, program, feature) in others where layouts.has("kvm", event) {
      attachments.append(Attachment(program: program + ending))
      features |= feature.rawValue
    }
    attachments.append(Attachment(program: "on_process_exit"))
  }

  private mutating func addKeys(_ layouts: Layouts) {
    let programs = [
      ("kvm_msr", "on_msr"), ("kvm_mmio", "on_mmio"), ("kvm_fast_mmio", "on_fast_mmio"), ("kvm_cpuid", "on_cpuid"),
      ("kvm_hypercall", "on_hypercall"), ("kvm_hv_hypercall", "on_hv_hypercall"), ("kvm_inj_virq", "on_inject"),
      ("kvm_apic_accept_irq", "on_accept"), ("kvm_vmgexit_enter", "on_vmgexit"),
      ("kvm_nested_vmexit", "on_nested_exit"), ("kvm_nested_vmexit_inject", "on_nested_inject"),
    ]
    for (event, program) in programs where layouts.has("kvm", event) {
      attachments.append(Attachment(program: program, group: .keys))
    }
  }

  private mutating func addScheduler(_ layouts: Layouts) {
    attachments.append(Attachment(program: "on_switch", group: .scheduler))
    attachments.append(Attachment(program: "on_waking", group: .scheduler))
    features |= KT_HAS_SWITCH.rawValue | KT_HAS_WAKING.rawValue
    func add(_ program: String, _ system: String, _ event: String) {
      attachments.append(Attachment(program: program, group: .scheduler, tracepoint: (system, event)))
    }
    // an end without its beginning would be taken for another's
    func addPair(_ program: String, _ system: String, _ event: String) {
      guard layouts.has(system, "\(event)_entry"), layouts.has(system, "\(event)_exit") else { return }
      add("on_irq_exit", system, "\(event)_exit")
      add(program, system, "\(event)_entry")
      features |= KT_HAS_IRQ.rawValue
    }
    addPair("on_timer_entry", "irq_vectors", "local_timer")
    for name in Layouts.interprocessorInterrupts { addPair("on_ipi_entry", "irq_vectors", name) }
    addPair("on_device_entry", "irq", "irq_handler")
    addPair("on_softirq_entry", "irq", "softirq")
  }

  /// The scheduler's events are given up: what is left is the lite tier.
  mutating func shedScheduler() {
    attachments.removeAll { $0.group == .scheduler }
    features &= ~(KT_HAS_SWITCH.rawValue | KT_HAS_WAKING.rawValue | KT_HAS_IRQ.rawValue)
    if delayOffset != 0 { features |= KT_HAS_RUN_DELAY.rawValue }
    tier = .lite
  }
}

/// Context switches of the whole host per second, from /proc/stat over a fifth of a second; nil where it is not told.
func hostSwitchesPerSecond() -> UInt64? {
  func count() -> UInt64? {
    readProcText("/proc/stat", limit: 1 << 20)?.split(separator: "\n").first { $0.hasPrefix("ctxt ") }
      .flatMap { UInt64($0.dropFirst(5)) }
  }
  guard let first = count() else { return nil }
  usleep(200_000)
  guard let second = count() else { return nil }
  return (second &- first) &* 5
}
