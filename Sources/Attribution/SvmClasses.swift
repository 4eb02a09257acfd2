extension ClassTables {
  /// By SVM exit code (AMD APM volume 2, appendix C). A code that is missing is `OTHER`.
  static let svm: [UInt32: ClassRule] = {
    var rules = svmNamed
    // CR0 to CR15 read and written, and written by guests with encrypted registers; CR8 is the task priority
    for first in [0x00, 0x10, 0x90] as [UInt32] {
      for code in first..<first + 16 { rules[code] = .always(code == first + 8 ? .irqDeliver : .cpuCr) }
    }
    for code in 0x20..<0x40 as Range<UInt32> { rules[code] = .always(.cpuDr) }
    // #DB and #BP are a debugger's
    for code in 0x40..<0x60 as Range<UInt32> {
      rules[code] = .always(code == 0x41 || code == 0x43 ? .debug : .exception)
    }
    return rules
  }()

  private static let svmNamed: [UInt32: ClassRule] = [
    0x60: .hostInterrupt, 0x61: .always(.irqHost), 0x62: .always(.smm), 0x63: .always(.initSignal), 0x64: .window,
    0x65: .always(.cpuCr),
    // descriptor tables
    0x66: .always(.cpuCr), 0x67: .always(.cpuCr), 0x68: .always(.cpuCr), 0x69: .always(.cpuCr),
    0x6a: .always(.cpuCr), 0x6b: .always(.cpuCr), 0x6c: .always(.cpuCr), 0x6d: .always(.cpuCr),
    0x6e: .always(.clockRead), 0x6f: .always(.cpuPmu), 0x70: .always(.other), 0x71: .always(.other),
    0x72: .always(.cpuId), 0x73: .always(.smm), 0x74: .always(.irqDeliver), 0x75: .always(.other),
    0x76: .always(.cpuCr), 0x77: .always(.spin), 0x78: .always(.idle), 0x79: .always(.cpuCr),
    // INVLPGA: only hypervisors use it
    0x7a: .always(.nested), 0x7b: .port, 0x7c: .msr, 0x7d: .always(.other), 0x7e: .always(.other),
    0x7f: .always(.fatal), 0x80: .always(.nested), 0x81: .hypercall, 0x82: .always(.nested), 0x83: .always(.nested),
    0x84: .always(.nested), 0x85: .always(.nested), 0x86: .always(.nested), 0x87: .always(.clockRead),
    0x88: .always(.debug), 0x89: .always(.cpuCr), 0x8a: .always(.idle), 0x8b: .always(.idle), 0x8c: .always(.idle),
    0x8d: .always(.cpuXcr),
    // RDPRU reads MPERF and APERF
    0x8e: .always(.cpuPmu), 0x8f: .always(.cpuCr),
    0xa2: .always(.cpuCr), 0xa5: .always(.lock), 0xa6: .always(.idle), 0x400: .fault,
    0x401: .always(.ipi), 0x402: .apic, 0x403: .always(.confidential), 0xffff_ffff: .always(.fatal),
  ]

  /// Codes that software has defined for VMGEXIT (GHCB specification).
  static let svmVmgexits: ClosedRange<UInt32> = 0x8000_0000...0x8000_ffff
}
