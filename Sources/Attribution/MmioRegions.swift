/// Guest-physical addresses of the chipset. Those of PCI devices are where firmware and guest choose: they have no name
/// here.
enum MmioRegions {
  struct Region {
    var addresses: ClosedRange<UInt64>
    var name: String
    /// A timer of the PC.
    var isTimer = false
    /// On every machine; else PCI devices may lie there on some.
    var isFixed = true
  }

  /// The region that an address lies in.
  static func region(of address: UInt64) -> Region? { all.first { $0.addresses.contains(address) } }

  /// Disjoint.
  static let all: [Region] = [
    Region(addresses: 0xa_0000...0xb_ffff, name: "VGA memory"),
    Region(addresses: 0xc_0000...0xd_ffff, name: "option ROM"),
    Region(addresses: 0xe_0000...0xf_ffff, name: "BIOS"),
    Region(addresses: 0xb000_0000...0xbfff_ffff, name: "PCI config (q35)", isFixed: false),
    Region(addresses: 0xfec0_0000...0xfec0_0fff, name: "I/O APIC"),
    Region(addresses: 0xfed0_0000...0xfed0_0fff, name: "HPET", isTimer: true),
    Region(addresses: 0xfed1_c000...0xfed1_ffff, name: "chipset registers"),
    Region(addresses: 0xfed4_0000...0xfed4_4fff, name: "TPM"),
    Region(addresses: 0xfed4_5000...0xfed4_53ff, name: "TPM PPI"),
    Region(addresses: 0xfee0_0000...0xfeef_ffff, name: "local APIC"),
    // QEMU's firmware: 4 MiB below 4 GiB at most by default
    Region(addresses: 0xffc0_0000...0xffff_ffff, name: "flash"),
  ]
}
