import Bpf
import CKvmtax
import Formats

/// What cannot work, in a line, and its remedy.
struct Obstacle: Error {
  var found: String
  var remedy: String
}

/// The tracepoints of this kernel as their format texts describe them, and which fields the programs read.
struct Layouts {
  /// The events this recording can use, by name: "kvm/kvm_exit".
  private(set) var formats: [String: EventFormat] = [:]
  /// Their texts as the kernel gives them, for the trace file.
  private(set) var texts: [(system: String, event: String, text: [UInt8])] = []
  /// Whether kvm_vcpu_wakeup is there.
  var hasWakeup: Bool { has("kvm", "kvm_vcpu_wakeup") }
  /// Whether kvm_userspace_exit is there.
  var hasUserspaceExit: Bool { has("kvm", "kvm_userspace_exit") }

  /// The host's own interrupts that have tracepoints with an entry and an exit.
  static let interprocessorInterrupts = ["reschedule", "call_function", "call_function_single", "irq_work"]

  /// Events that are used where the kernel has them.
  private static let events: [(String, String)] =
    [
      "kvm_exit", "kvm_entry", "kvm_userspace_exit", "kvm_vcpu_wakeup", "kvm_fpu", "kvm_msr", "kvm_mmio",
      "kvm_fast_mmio", "kvm_cpuid", "kvm_hypercall", "kvm_hv_hypercall", "kvm_inj_virq", "kvm_apic_accept_irq",
      "kvm_vmgexit_enter", "kvm_nested_vmexit", "kvm_nested_vmexit_inject",
    ].map { ("kvm", $0) } + [("sched", "sched_switch"), ("sched", "sched_waking")]
    + ["irq_handler_entry", "irq_handler_exit", "softirq_entry", "softirq_exit"].map { ("irq", $0) }
    + (["local_timer"] + interprocessorInterrupts).flatMap {
      [("irq_vectors", "\($0)_entry"), ("irq_vectors", "\($0)_exit")]
    }

  /// Each field that a classic program reads: its event and the names that kernels gave it.
  static let fields: [UInt32: (event: String, fields: [String])] = [
    KT_FIELD_EXIT_REASON.rawValue: ("kvm/kvm_exit", ["exit_reason", "esr_ec"]),
    KT_FIELD_EXIT_ISA.rawValue: ("kvm/kvm_exit", ["isa"]),
    KT_FIELD_EXIT_RIP.rawValue: ("kvm/kvm_exit", ["guest_rip", "vcpu_pc"]),
    KT_FIELD_EXIT_INFO1.rawValue: ("kvm/kvm_exit", ["info1"]),
    KT_FIELD_EXIT_INFO2.rawValue: ("kvm/kvm_exit", ["info2"]),
    KT_FIELD_EXIT_INTR_INFO.rawValue: ("kvm/kvm_exit", ["intr_info", "info2"]),
    KT_FIELD_ENTRY_VCPU.rawValue: ("kvm/kvm_entry", ["vcpu_id"]),
    KT_FIELD_ENTRY_IMMEDIATE.rawValue: ("kvm/kvm_entry", ["immediate_exit"]),
    KT_FIELD_WAKEUP_NS.rawValue: ("kvm/kvm_vcpu_wakeup", ["ns"]),
    KT_FIELD_WAKEUP_WAITED.rawValue: ("kvm/kvm_vcpu_wakeup", ["waited"]),
    KT_FIELD_USERSPACE_REASON.rawValue: ("kvm/kvm_userspace_exit", ["reason"]),
    KT_FIELD_USERSPACE_ERRNO.rawValue: ("kvm/kvm_userspace_exit", ["errno"]),
    KT_FIELD_FPU_LOAD.rawValue: ("kvm/kvm_fpu", ["load"]),
    KT_FIELD_MSR_WRITE.rawValue: ("kvm/kvm_msr", ["write"]),
    KT_FIELD_MSR_INDEX.rawValue: ("kvm/kvm_msr", ["ecx"]),
    KT_FIELD_MSR_DATA.rawValue: ("kvm/kvm_msr", ["data"]),
    KT_FIELD_MMIO_TYPE.rawValue: ("kvm/kvm_mmio", ["type"]),
    KT_FIELD_MMIO_LEN.rawValue: ("kvm/kvm_mmio", ["len"]),
    KT_FIELD_MMIO_GPA.rawValue: ("kvm/kvm_mmio", ["gpa"]),
    KT_FIELD_FAST_MMIO_GPA.rawValue: ("kvm/kvm_fast_mmio", ["gpa"]),
    KT_FIELD_CPUID_LEAF.rawValue: ("kvm/kvm_cpuid", ["function"]),
    KT_FIELD_HYPERCALL_NR.rawValue: ("kvm/kvm_hypercall", ["nr"]),
    KT_FIELD_HV_CODE.rawValue: ("kvm/kvm_hv_hypercall", ["code"]),
    KT_FIELD_INJECT_VECTOR.rawValue: ("kvm/kvm_inj_virq", ["vector", "irq"]),
    KT_FIELD_ACCEPT_VECTOR.rawValue: ("kvm/kvm_apic_accept_irq", ["vec"]),
    KT_FIELD_VMGEXIT_CODE.rawValue: ("kvm/kvm_vmgexit_enter", ["exit_reason"]),
    KT_FIELD_SWITCH_PREV_STATE.rawValue: ("sched/sched_switch", ["prev_state"]),
    KT_FIELD_SWITCH_NEXT.rawValue: ("sched/sched_switch", ["next_pid"]),
    KT_FIELD_WAKING_PID.rawValue: ("sched/sched_waking", ["pid"]),
    KT_FIELD_VECTOR.rawValue: ("irq_vectors/local_timer_entry", ["vector"]),
    KT_FIELD_IRQ.rawValue: ("irq/irq_handler_entry", ["irq"]),
    KT_FIELD_SOFTIRQ.rawValue: ("irq/softirq_entry", ["vec"]),
  ]

  /// Whether this kernel has an event, in a form that can be read.
  func has(_ system: String, _ event: String) -> Bool { formats["\(system)/\(event)"] != nil }

  /// Reads the formats; throws where an event without which nothing can be recorded is absent.
  init(tracefs: Tracefs, proxy: Bool) throws(Obstacle) {
    let needed = proxy ? ["kvm_userspace_exit", "kvm_fpu"] : ["kvm_exit", "kvm_entry"]
    for (system, event) in Layouts.events {
      let isNeeded = system == "kvm" && needed.contains(event)
      guard let text = tracefs.format(system, event) else {
        if !isNeeded { continue }
        throw Obstacle(
          found: "this kernel has no tracepoint \(system):\(event)",
          remedy: "load kvm_intel or kvm_amd; a kernel built without CONFIG_TRACEPOINTS cannot be traced")
      }
      do {
        formats["\(system)/\(event)"] = try EventFormat(kernelText: text, system: system)
        texts.append((system, event, text))
      } catch {
        guard isNeeded else { continue }
        throw Obstacle(
          found: "the format of \(system):\(event) cannot be read: \(error.found)",
          remedy: "report it with the content of events/\(system)/\(event)/format")
      }
    }
    for (event, field) in [("kvm_exit", "exit_reason")] where !proxy {
      guard
        formats["kvm/\(event)"]?.field(named: field) != nil || formats["kvm/\(event)"]?.field(named: "esr_ec") != nil
      else {
        throw Obstacle(
          found: "kvm:\(event) has no field \(field) in this kernel",
          remedy: "report it with the content of events/kvm/\(event)/format")
      }
    }
  }

  /// One line for `doctor`.
  var summary: String {
    var text = "kvm_exit, kvm_entry"
    if hasUserspaceExit { text += ", kvm_userspace_exit" }
    if hasWakeup { text += ", kvm_vcpu_wakeup" }
    let others = formats.count - 2 - (hasUserspaceExit ? 1 : 0) - (hasWakeup ? 1 : 0)
    return others > 0 ? "\(text) and \(others) more" : text
  }

  /// Where this kernel has a field of the classic programs; nil where it has none.
  func placement(of field: kt_field) -> FieldPlacement? {
    guard let names = Layouts.fields[field.rawValue] else { return nil }
    for name in names.fields {
      if let layout = formats[names.event]?.field(named: name), [1, 2, 4, 8].contains(layout.size), layout.offset >= 0 {
        return FieldPlacement(offset: UInt32(layout.offset), size: UInt32(layout.size))
      }
    }
    return nil
  }
}
