import CKvmtax

/// Which event of the kernel is which kind of the machine's, and the names that kernels gave to the fields it needs.
/// "a|b" is whichever there is, "a?" may be missing.
struct KvmEventSource: Sendable {
  var kind: kt_kind
  var rule = KvmEventLayout.Rule.plain
  var reason = ""
  var isa = ""
  var vcpu = ""
  var argument = ""
  var argument2 = ""
  var extra = ""
  var rip = ""
  var thread = ""
  var other = ""
  var constant: UInt32 = 0

  /// Nil for an event that does not move the machine.
  static func of(system: String, name: String) -> KvmEventSource? {
    switch system {
    case "kvm": kvm[name]
    case "sched": scheduler[name]
    case "irq": interrupts[name]
    case "irq_vectors": vector(name)
    default: nil
    }
  }

  /// kvm_exit's info2 was the interruption information on VMX before it had a field of its own (5.10); on SVM no one reads
  /// that.
  private static let kvm: [String: KvmEventSource] = [
    "kvm_exit": KvmEventSource(
      kind: KT_EXIT, reason: "exit_reason|esr_ec", isa: "isa?", vcpu: "vcpu_id?", argument: "info1?",
      argument2: "info2?", extra: "intr_info|info2?", rip: "guest_rip|vcpu_pc?"),
    "kvm_entry": KvmEventSource(kind: KT_ENTRY, reason: "immediate_exit?", vcpu: "vcpu_id?"),
    "kvm_userspace_exit": KvmEventSource(kind: KT_USERSPACE_EXIT, reason: "reason", extra: "errno"),
    "kvm_vcpu_wakeup": KvmEventSource(kind: KT_VCPU_WAKEUP, reason: "waited", argument: "ns"),
    "kvm_fpu": KvmEventSource(kind: KT_FPU_LOAD, rule: .loading, reason: "load"),
    "kvm_msr": KvmEventSource(kind: KT_MSR, rule: .modelSpecific, reason: "write", argument: "ecx", other: "data"),
    "kvm_apic": KvmEventSource(
      kind: KT_TIMER_VECTOR, rule: .timerVector, argument: "reg", extra: "val", other: "rw"),
    "kvm_mmio": KvmEventSource(kind: KT_MMIO, reason: "type", argument: "gpa", extra: "len"),
    "kvm_fast_mmio": KvmEventSource(kind: KT_FAST_MMIO, argument: "gpa"),
    "kvm_cpuid": KvmEventSource(kind: KT_CPUID, argument: "function"),
    "kvm_hypercall": KvmEventSource(kind: KT_HYPERCALL, argument: "nr"),
    "kvm_hv_hypercall": KvmEventSource(kind: KT_HYPERCALL, argument: "code", constant: 1),
    "kvm_inj_virq": KvmEventSource(kind: KT_INJECT, reason: "vector|irq"),
    "kvm_apic_accept_irq": KvmEventSource(kind: KT_ACCEPT_IRQ, reason: "vec"),
    "kvm_vmgexit_enter": KvmEventSource(kind: KT_VMGEXIT, argument: "exit_reason"),
    "kvm_nested_vmexit": KvmEventSource(kind: KT_NESTED_EXIT),
    "kvm_nested_vmexit_inject": KvmEventSource(kind: KT_NESTED_INJECT),
  ]

  private static let scheduler: [String: KvmEventSource] = [
    "sched_switch": KvmEventSource(
      kind: KT_SCHED_OUT, rule: .exchange, reason: "prev_state", thread: "prev_pid", other: "next_pid"),
    "sched_waking": KvmEventSource(kind: KT_WAKING, rule: .ofTarget, thread: "pid"),
    // later than sched_waking: for traces that have nothing else
    "sched_wakeup": KvmEventSource(kind: KT_WAKING, rule: .ofTarget, thread: "pid"),
    "sched_process_exit": KvmEventSource(kind: KT_THREAD_END),
  ]

  private static let interrupts: [String: KvmEventSource] = [
    "irq_handler_entry": entry(KT_HOST_IRQ_DEVICE, "irq"), "irq_handler_exit": KvmEventSource(kind: KT_IRQ_EXIT),
    "softirq_entry": entry(KT_HOST_IRQ_SOFT, "vec"), "softirq_exit": KvmEventSource(kind: KT_IRQ_EXIT),
  ]

  /// Each of the CPU's own vectors has an entry and an exit.
  private static func vector(_ name: String) -> KvmEventSource? {
    if name.hasSuffix("_exit") { return KvmEventSource(kind: KT_IRQ_EXIT) }
    guard name.hasSuffix("_entry") else { return nil }
    return switch name.dropLast("_entry".count) {
    case "local_timer": entry(KT_HOST_IRQ_TIMER, "vector")
    case "reschedule", "call_function", "call_function_single", "irq_work": entry(KT_HOST_IRQ_IPI, "vector")
    default: entry(KT_HOST_IRQ_OTHER, "vector")
    }
  }

  private static func entry(_ which: kt_host_irq, _ number: String) -> KvmEventSource {
    KvmEventSource(kind: KT_IRQ_ENTRY, argument: number, constant: which.rawValue)
  }
}
