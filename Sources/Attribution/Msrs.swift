/// Names of model-specific registers.
enum Msrs {
  /// The offset of the local APIC's register that x2APIC has as this MSR: index = 0x800 + offset / 16. ICR is one
  /// register there: its high half (0x831) does not exist.
  static func apicOffset(_ index: UInt64) -> UInt64? {
    (0x800...0x8ff).contains(index) && index != 0x831 ? (index - 0x800) << 4 : nil
  }

  static func name(_ index: UInt64) -> String? {
    if let offset = apicOffset(index) { return ApicRegisters.name(offset: offset).map { "x2APIC \($0)" } }
    return rowName(index) ?? names[index]
  }

  /// Registers that come in rows: the first, how many, and the name before the number.
  private static let rows: [(first: UInt64, count: UInt64, name: String)] = [
    (0xc1, 8, "IA32_PMC"), (0x186, 8, "IA32_PERFEVTSEL"), (0x309, 5, "IA32_FIXED_CTR"),
    (0x4c1, 8, "IA32_A_PMC"), (0x4000_0090, 16, "HV_SINT"), (0x4000_0100, 5, "HV_CRASH_P"),
    (0xc001_0000, 4, "AMD_PERFEVTSEL"), (0xc001_0004, 4, "AMD_PERFCTR"),
  ]

  private static func rowName(_ index: UInt64) -> String? {
    switch index {
    case 0x200...0x20f: return "IA32_MTRR_PHYS\(index & 1 == 0 ? "BASE" : "MASK")\((index - 0x200) / 2)"
    case 0x268...0x26f: return "IA32_MTRR_FIX4K_\(String(0xc0 + (index - 0x268) * 8, radix: 16, uppercase: true))000"
    case 0x400...0x47f:
      return "IA32_MC\((index - 0x400) / 4)_\(["CTL", "STATUS", "ADDR", "MISC"][Int(index & 3)])"
    case 0x4000_00b0...0x4000_00b7:
      return "HV_STIMER\((index - 0x4000_00b0) / 2)_\(index & 1 == 0 ? "CONFIG" : "COUNT")"
    case 0xc001_0200...0xc001_020b:
      return "AMD_CORE_\(index & 1 == 0 ? "PERFEVTSEL" : "PERFCTR")\((index - 0xc001_0200) / 2)"
    default:
      return rows.first { $0.first <= index && index - $0.first < $0.count }.map { "\($0.name)\(index - $0.first)" }
    }
  }

  /// Intel SDM volume 4, AMD APM volume 2 appendix A, KVM's (asm/kvm_para.h) and Hyper-V's (TLFS, appendix C).
  private static let names: [UInt64: String] = [
    0x10: "IA32_TSC", 0x11: "KVM_WALL_CLOCK (old)", 0x12: "KVM_SYSTEM_TIME (old)", 0x17: "IA32_PLATFORM_ID",
    0x1b: "IA32_APIC_BASE", 0x34: "SMI_COUNT", 0x3a: "IA32_FEATURE_CONTROL", 0x3b: "IA32_TSC_ADJUST",
    0x48: "IA32_SPEC_CTRL", 0x49: "IA32_PRED_CMD", 0x79: "IA32_BIOS_UPDT_TRIG", 0x8b: "IA32_BIOS_SIGN_ID",
    0x9e: "IA32_SMBASE", 0xce: "PLATFORM_INFO", 0xcf: "IA32_CORE_CAPABILITIES", 0xe1: "IA32_UMWAIT_CONTROL",
    0xe2: "PKG_CST_CONFIG_CONTROL", 0xe7: "IA32_MPERF", 0xe8: "IA32_APERF", 0xfe: "IA32_MTRRCAP",
    0x10a: "IA32_ARCH_CAPABILITIES", 0x10b: "IA32_FLUSH_CMD", 0x122: "IA32_TSX_CTRL", 0x123: "IA32_MCU_OPT_CTRL",
    0x140: "MISC_FEATURES_ENABLES", 0x174: "IA32_SYSENTER_CS", 0x175: "IA32_SYSENTER_ESP",
    0x176: "IA32_SYSENTER_EIP", 0x179: "IA32_MCG_CAP", 0x17a: "IA32_MCG_STATUS", 0x17b: "IA32_MCG_CTL",
    0x198: "IA32_PERF_STATUS", 0x199: "IA32_PERF_CTL", 0x19a: "IA32_CLOCK_MODULATION",
    0x19b: "IA32_THERM_INTERRUPT", 0x19c: "IA32_THERM_STATUS", 0x1a0: "IA32_MISC_ENABLE",
    0x1a2: "TEMPERATURE_TARGET", 0x1a4: "MISC_FEATURE_CONTROL", 0x1ad: "TURBO_RATIO_LIMIT",
    0x1b0: "IA32_ENERGY_PERF_BIAS", 0x1c4: "IA32_XFD", 0x1c5: "IA32_XFD_ERR", 0x1d9: "IA32_DEBUGCTL",
    0x250: "IA32_MTRR_FIX64K_00000", 0x258: "IA32_MTRR_FIX16K_80000", 0x259: "IA32_MTRR_FIX16K_A0000",
    0x277: "IA32_PAT", 0x2ff: "IA32_MTRR_DEF_TYPE", 0x345: "IA32_PERF_CAPABILITIES",
    0x38d: "IA32_FIXED_CTR_CTRL", 0x38e: "IA32_PERF_GLOBAL_STATUS", 0x38f: "IA32_PERF_GLOBAL_CTRL",
    0x390: "IA32_PERF_GLOBAL_STATUS_RESET", 0x391: "IA32_PERF_GLOBAL_STATUS_SET", 0x3f1: "IA32_PEBS_ENABLE",
    0x3f2: "PEBS_DATA_CFG", 0x480: "IA32_VMX_BASIC", 0x600: "IA32_DS_AREA", 0x606: "RAPL_POWER_UNIT",
    0x611: "PKG_ENERGY_STATUS", 0x639: "PP0_ENERGY_STATUS", 0x6a0: "IA32_U_CET", 0x6a2: "IA32_S_CET",
    0x6e0: "IA32_TSC_DEADLINE", 0x770: "IA32_PM_ENABLE", 0x774: "IA32_HWP_REQUEST", 0xda0: "IA32_XSS",
    0x4000_0000: "HV_GUEST_OS_ID", 0x4000_0001: "HV_HYPERCALL", 0x4000_0002: "HV_VP_INDEX", 0x4000_0003: "HV_RESET",
    0x4000_0010: "HV_VP_RUNTIME", 0x4000_0020: "HV_TIME_REF_COUNT", 0x4000_0021: "HV_REFERENCE_TSC",
    0x4000_0022: "HV_TSC_FREQUENCY", 0x4000_0023: "HV_APIC_FREQUENCY", 0x4000_0070: "HV_EOI", 0x4000_0071: "HV_ICR",
    0x4000_0072: "HV_TPR", 0x4000_0073: "HV_VP_ASSIST_PAGE", 0x4000_0080: "HV_SCONTROL", 0x4000_0081: "HV_SVERSION",
    0x4000_0082: "HV_SIEFP", 0x4000_0083: "HV_SIMP", 0x4000_0084: "HV_EOM", 0x4000_00f0: "HV_GUEST_IDLE",
    0x4000_0105: "HV_CRASH_CTL", 0x4000_0106: "HV_REENLIGHTENMENT_CONTROL", 0x4000_0107: "HV_TSC_EMULATION_CONTROL",
    0x4000_0108: "HV_TSC_EMULATION_STATUS", 0x4000_0118: "HV_TSC_INVARIANT_CONTROL",
    0x4b56_4d00: "KVM_WALL_CLOCK", 0x4b56_4d01: "KVM_SYSTEM_TIME", 0x4b56_4d02: "KVM_ASYNC_PF_EN",
    0x4b56_4d03: "KVM_STEAL_TIME", 0x4b56_4d04: "KVM_PV_EOI_EN", 0x4b56_4d05: "KVM_POLL_CONTROL",
    0x4b56_4d06: "KVM_ASYNC_PF_INT", 0x4b56_4d07: "KVM_ASYNC_PF_ACK", 0x4b56_4d08: "KVM_MIGRATION_CONTROL",
    0xc000_0080: "EFER", 0xc000_0081: "STAR", 0xc000_0082: "LSTAR", 0xc000_0083: "CSTAR", 0xc000_0084: "SYSCALL_MASK",
    0xc000_0100: "FS_BASE", 0xc000_0101: "GS_BASE", 0xc000_0102: "KERNEL_GS_BASE", 0xc000_0103: "TSC_AUX",
    0xc000_0104: "AMD_TSC_RATIO", 0xc000_0300: "AMD_PERF_GLOBAL_STATUS", 0xc000_0301: "AMD_PERF_GLOBAL_CTL",
    0xc000_0302: "AMD_PERF_GLOBAL_STATUS_CLR", 0xc000_0303: "AMD_PERF_GLOBAL_STATUS_SET", 0xc001_0010: "AMD_SYSCFG",
    0xc001_0015: "AMD_HWCR", 0xc001_001f: "AMD_NB_CFG", 0xc001_0055: "AMD_INT_PENDING", 0xc001_0064: "AMD_PSTATE_DEF0",
    0xc001_0114: "AMD_VM_CR", 0xc001_0117: "AMD_VM_HSAVE_PA", 0xc001_011f: "AMD_VIRT_SPEC_CTRL",
    0xc001_0130: "AMD_SEV_GHCB", 0xc001_0131: "AMD_SEV_STATUS", 0xc001_0140: "AMD_OSVW_ID_LENGTH",
    0xc001_0141: "AMD_OSVW_STATUS", 0xc001_1022: "AMD_DC_CFG", 0xc001_1023: "AMD_BU_CFG2", 0xc001_1029: "AMD_DE_CFG",
  ]
}
