/// The local APIC's registers by offset (Intel SDM volume 3, "Local APIC Register Address Map").
enum ApicRegisters {
  static let command: UInt64 = 0x300
  static let commandHigh: UInt64 = 0x310
  static let timerVector: UInt64 = 0x320
  static let timerInitialCount: UInt64 = 0x380
  static let timerCurrentCount: UInt64 = 0x390
  static let timerDivide: UInt64 = 0x3e0
  static let selfIpi: UInt64 = 0x3f0

  /// Any offset within the register's 16 bytes will do.
  static func name(offset: UInt64) -> String? {
    switch offset {
    case 0x100..<0x180: "ISR"
    case 0x180..<0x200: "TMR"
    case 0x200..<0x280: "IRR"
    default: names[offset & ~0xf]
    }
  }

  private static let names: [UInt64: String] = [
    0x20: "ID", 0x30: "version", 0x80: "TPR", 0x90: "APR", 0xa0: "PPR", 0xb0: "EOI", 0xc0: "RRD", 0xd0: "LDR",
    0xe0: "DFR", 0xf0: "SVR", 0x280: "ESR", 0x2f0: "LVT CMCI", command: "ICR", commandHigh: "ICR high",
    timerVector: "LVT timer", 0x330: "LVT thermal", 0x340: "LVT PMC", 0x350: "LVT LINT0", 0x360: "LVT LINT1",
    0x370: "LVT error", timerInitialCount: "timer initial count", timerCurrentCount: "timer current count",
    timerDivide: "timer divide", selfIpi: "self IPI",
  ]
}
