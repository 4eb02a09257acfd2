/// Vectors of the CPU's exceptions, and those of the host's own interrupts that Linux has not moved since 5.10. The
/// timer's has moved and is learned from the trace instead.
enum Vectors {
  static let debug: UInt64 = 1
  static let nmi: UInt64 = 2
  static let breakpoint: UInt64 = 3
  static let alignmentCheck: UInt64 = 17

  /// IPIs between the host's CPUs (arch/x86/include/asm/irq_vectors.h): posted interrupts (nested, wake-up, the plain
  /// one), function calls and reschedule.
  static let hostIpis: Set<UInt64> = [0xf0, 0xf1, 0xf2, 0xfb, 0xfc, 0xfd]

  /// An exception's mnemonic.
  static func exception(_ vector: UInt64) -> String? { exceptions[vector] }

  private static let exceptions: [UInt64: String] = [
    0: "#DE", debug: "#DB", nmi: "NMI", breakpoint: "#BP", 4: "#OF", 5: "#BR", 6: "#UD", 7: "#NM", 8: "#DF",
    10: "#TS", 11: "#NP", 12: "#SS", 13: "#GP", 14: "#PF", 16: "#MF", alignmentCheck: "#AC", 18: "#MC", 19: "#XM",
    20: "#VE", 21: "#CP", 28: "#HV", 29: "#VC", 30: "#SX",
  ]

  /// A host vector's owner.
  static func host(_ vector: UInt64) -> String? { hosts[vector] }

  private static let hosts: [UInt64: String] = [
    0xf0: "posted interrupt, nested", 0xf1: "posted interrupt wake-up", 0xf2: "posted interrupt", 0xf6: "IRQ work",
    0xfb: "function call", 0xfc: "function call", 0xfd: "reschedule",
  ]
}
