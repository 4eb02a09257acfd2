/// Why KVM_RUN returned (`KVM_EXIT_...`, linux/kvm.h).
public enum UserspaceReasons {
  static let debug = 4
  static let mmio = 6
  static let shutdown = 8
  static let failedEntry = 9
  static let internalError = 17

  /// As the kernel spells it, without KVM_EXIT_; by number where it is not known.
  public static func name(_ reason: Int) -> String { names[reason] ?? "reason \(reason)" }

  private static let names: [Int: String] = [
    0: "UNKNOWN", 1: "EXCEPTION", 2: "IO", 3: "HYPERCALL", debug: "DEBUG", 5: "HLT", mmio: "MMIO",
    7: "IRQ_WINDOW_OPEN", shutdown: "SHUTDOWN", failedEntry: "FAIL_ENTRY", 10: "INTR", 11: "SET_TPR",
    12: "TPR_ACCESS", 13: "S390_SIEIC", 14: "S390_RESET", 15: "DCR", 16: "NMI", internalError: "INTERNAL_ERROR",
    18: "OSI", 19: "PAPR_HCALL", 20: "S390_UCONTROL", 21: "WATCHDOG", 22: "S390_TSCH", 23: "EPR", 24: "SYSTEM_EVENT",
    25: "S390_STSI", 26: "IOAPIC_EOI", 27: "HYPERV", 28: "ARM_NISV", 29: "X86_RDMSR", 30: "X86_WRMSR",
    31: "DIRTY_RING_FULL", 32: "AP_RESET_HOLD", 33: "X86_BUS_LOCK", 34: "XEN", 35: "RISCV_SBI", 36: "RISCV_CSR",
    37: "NOTIFY", 38: "LOONGARCH_IOCSR", 39: "MEMORY_FAULT",
  ]
}
