/// The taxonomy's tables: reasons, registers and calls to classes.
enum ClassTables {
  /// By VMX basic exit reason (Intel SDM volume 3, appendix C). A reason that is missing is `OTHER`.
  static let vmx: [UInt32: ClassRule] = [
    0: .exception, 1: .hostInterrupt, 2: .always(.fatal), 3: .always(.initSignal), 4: .always(.initSignal),
    // SMIs, and RSM (17)
    5: .always(.smm), 6: .always(.smm), 17: .always(.smm),
    7: .window, 8: .always(.irqDeliver), 9: .always(.other), 10: .always(.cpuId), 12: .always(.idle),
    13: .always(.cpuCr), 14: .always(.cpuCr), 15: .always(.cpuPmu), 16: .always(.clockRead), 18: .hypercall,
    19: .always(.nested), 20: .always(.nested), 21: .always(.nested), 22: .always(.nested), 23: .always(.nested),
    24: .always(.nested), 25: .always(.nested), 26: .always(.nested), 27: .always(.nested), 28: .controlRegister,
    29: .always(.cpuDr), 30: .port, 31: .msr, 32: .msr, 33: .always(.fatal), 34: .always(.fatal),
    36: .always(.idle), 37: .always(.debug), 39: .always(.idle), 40: .always(.spin), 41: .always(.fatal),
    43: .always(.irqDeliver), 44: .apic, 45: .always(.irqDeliver), 46: .always(.cpuCr), 47: .always(.cpuCr),
    48: .fault, 49: .device, 50: .always(.nested), 51: .always(.clockRead), 52: .preemptionTimer,
    53: .always(.nested), 54: .always(.cpuCr), 55: .always(.cpuXcr), 56: .apic,
    // RDRAND, ENCLS, RDSEED: instructions that no class is about
    57: .always(.other), 58: .always(.cpuCr), 59: .always(.nested), 60: .always(.other), 61: .always(.other),
    62: .always(.dirtyPml), 63: .always(.cpuXcr), 64: .always(.cpuXcr), 67: .always(.idle), 68: .always(.idle),
    74: .always(.lock), 75: .always(.notify), 76: .always(.confidential), 77: .always(.confidential), 84: .msr,
    85: .msr,
  ]
}
