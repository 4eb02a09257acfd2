/// CPUID leaves that guests are known to read often, or that say what the guest is after.
enum CpuidLeaves {
  static func name(_ leaf: UInt64) -> String? {
    switch leaf {
    // the processor's name comes in three leaves
    case 0x8000_0002...0x8000_0004: "processor name"
    default: names[leaf]
    }
  }

  private static let names: [UInt64: String] = [
    0x0: "vendor", 0x1: "features", 0x2: "cache descriptors", 0x4: "caches", 0x5: "MWAIT", 0x6: "power",
    0x7: "extended features", 0xa: "performance counters", 0xb: "topology", 0xd: "extended state",
    0x15: "TSC frequency",
    0x16: "CPU frequency", 0x1f: "topology", 0x4000_0000: "hypervisor vendor", 0x4000_0001: "hypervisor features",
    0x8000_0000: "highest extended leaf", 0x8000_0001: "extended features", 0x8000_0005: "caches",
    0x8000_0006: "caches", 0x8000_0007: "invariant TSC", 0x8000_0008: "address sizes", 0x8000_000a: "SVM",
    0x8000_001d: "caches", 0x8000_001e: "topology", 0x8000_001f: "memory encryption",
  ]
}
