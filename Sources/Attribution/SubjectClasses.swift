extension ClassTables {
  /// Model-specific registers of a class.
  struct MsrRow {
    var indices: ClosedRange<UInt64>
    var exitClass: ExitClass
    /// A read is not of the class.
    var isForWrites = false
  }

  /// The first row that holds an index counts; an index in none is `MSR.other`. The x2APIC's go by APIC register.
  static let msrs: [MsrRow] = [
    // TSC_DEADLINE; Hyper-V's STIMER0 to STIMER3, configuration and count
    MsrRow(indices: 0x6e0...0x6e0, exitClass: .timerArm, isForWrites: true),
    MsrRow(indices: 0x4000_00b0...0x4000_00b7, exitClass: .timerArm, isForWrites: true),
    // the TSC and its adjustment; Hyper-V's reference counter
    MsrRow(indices: 0x10...0x10, exitClass: .clockRead), MsrRow(indices: 0x3b...0x3b, exitClass: .clockRead),
    MsrRow(indices: 0x4000_0020...0x4000_0020, exitClass: .clockRead),
    // KVM's wall clock and system time, of the old and the new numbers; Hyper-V's reference TSC
    MsrRow(indices: 0x11...0x12, exitClass: .clockPv),
    MsrRow(indices: 0x4b56_4d00...0x4b56_4d01, exitClass: .clockPv),
    MsrRow(indices: 0x4000_0021...0x4000_0021, exitClass: .clockPv),
    // Hyper-V's EOI and TPR, end of message, ICR
    MsrRow(indices: 0x4000_0070...0x4000_0070, exitClass: .irqDeliver),
    MsrRow(indices: 0x4000_0072...0x4000_0072, exitClass: .irqDeliver),
    MsrRow(indices: 0x4000_0084...0x4000_0084, exitClass: .irqDeliver),
    MsrRow(indices: 0x4000_0071...0x4000_0071, exitClass: .ipi),
    // SPEC_CTRL, PRED_CMD, FLUSH_CMD, VIRT_SPEC_CTRL
    MsrRow(indices: 0x48...0x49, exitClass: .cpuSpec), MsrRow(indices: 0x10b...0x10b, exitClass: .cpuSpec),
    MsrRow(indices: 0xc001_011f...0xc001_011f, exitClass: .cpuSpec),
    // counters and event selects, fixed counters and their controls, PEBS
    MsrRow(indices: 0xc1...0xc8, exitClass: .cpuPmu), MsrRow(indices: 0x186...0x18d, exitClass: .cpuPmu),
    MsrRow(indices: 0x309...0x30d, exitClass: .cpuPmu), MsrRow(indices: 0x345...0x345, exitClass: .cpuPmu),
    MsrRow(indices: 0x38d...0x391, exitClass: .cpuPmu), MsrRow(indices: 0x3f1...0x3f2, exitClass: .cpuPmu),
    MsrRow(indices: 0x4c1...0x4c8, exitClass: .cpuPmu),
    // AMD's: K7 and core counters, and the global registers of version 2
    MsrRow(indices: 0xc001_0000...0xc001_0007, exitClass: .cpuPmu),
    MsrRow(indices: 0xc001_0200...0xc001_020b, exitClass: .cpuPmu),
    MsrRow(indices: 0xc000_0300...0xc000_0303, exitClass: .cpuPmu),
  ]

  /// KVM's hypercalls that are not `HYPERCALL`: KICK_CPU and SCHED_YIELD serve waiting vCPUs.
  static let hypercalls: [UInt64: ExitClass] = [5: .spin, 10: .ipi, 11: .spin]

  /// Hyper-V's: NOTIFY_LONG_SPIN_WAIT, SEND_IPI, SEND_IPI_EX.
  static let hypervHypercalls: [UInt64: ExitClass] = [0x08: .spin, 0x0b: .ipi, 0x15: .ipi]
}
