/// I/O ports of a PC that lie where they have always lain, or where QEMU and its firmware put them. Ports of PCI
/// devices are where firmware and guest choose: they have no name here.
enum Ports {
  struct Range {
    var ports: ClosedRange<UInt64>
    var name: String
    /// A timer or clock of the PC.
    var isTimer = false
  }

  /// The range that a port lies in.
  static func range(of port: UInt64) -> Range? { all.first { $0.ports.contains(port) } }

  /// Disjoint.
  static let all: [Range] = [
    Range(ports: 0x00...0x0f, name: "DMA"), Range(ports: 0x20...0x21, name: "PIC"),
    Range(ports: 0x2e...0x2f, name: "Super I/O"), Range(ports: 0x40...0x43, name: "PIT", isTimer: true),
    Range(ports: 0x4e...0x4f, name: "Super I/O"), Range(ports: 0x60...0x60, name: "keyboard data"),
    // the PIT's third channel and the speaker
    Range(ports: 0x61...0x61, name: "PIT gate", isTimer: true), Range(ports: 0x64...0x64, name: "keyboard command"),
    Range(ports: 0x70...0x71, name: "RTC", isTimer: true), Range(ports: 0x80...0x80, name: "POST code"),
    Range(ports: 0x81...0x8f, name: "DMA page"), Range(ports: 0x92...0x92, name: "A20 gate"),
    Range(ports: 0xa0...0xa1, name: "PIC"), Range(ports: 0xb2...0xb3, name: "SMI command"),
    Range(ports: 0xc0...0xdf, name: "DMA"), Range(ports: 0xed...0xed, name: "I/O delay"),
    Range(ports: 0xf0...0xf1, name: "FPU error"), Range(ports: 0x170...0x177, name: "IDE 2"),
    Range(ports: 0x1ce...0x1d0, name: "VGA VBE"), Range(ports: 0x1f0...0x1f7, name: "IDE 1"),
    Range(ports: 0x278...0x27a, name: "parallel 2"), Range(ports: 0x2e8...0x2ef, name: "serial 4"),
    Range(ports: 0x2f8...0x2ff, name: "serial 2"), Range(ports: 0x376...0x376, name: "IDE 2"),
    Range(ports: 0x378...0x37a, name: "parallel 1"), Range(ports: 0x3b4...0x3b5, name: "VGA"),
    Range(ports: 0x3ba...0x3ba, name: "VGA"), Range(ports: 0x3c0...0x3df, name: "VGA"),
    Range(ports: 0x3e8...0x3ef, name: "serial 3"), Range(ports: 0x3f0...0x3f5, name: "floppy"),
    Range(ports: 0x3f6...0x3f6, name: "IDE 1"), Range(ports: 0x3f7...0x3f7, name: "floppy"),
    Range(ports: 0x3f8...0x3ff, name: "serial 1"), Range(ports: 0x402...0x402, name: "debug console"),
    Range(ports: 0x4d0...0x4d1, name: "PIC edge/level"), Range(ports: 0x505...0x505, name: "pvpanic"),
    Range(ports: 0x510...0x51b, name: "fw_cfg"),
    // ICH9 (q35), and PIIX4 as SeaBIOS sets it up
    Range(ports: 0x600...0x607, name: "ACPI PM"), Range(ports: 0x608...0x60b, name: "ACPI PM timer", isTimer: true),
    Range(ports: 0x620...0x62f, name: "ACPI GPE"), Range(ports: 0x630...0x637, name: "ACPI SMI"),
    Range(ports: 0x660...0x67f, name: "TCO watchdog"), Range(ports: 0x700...0x73f, name: "SMBus"),
    Range(ports: 0xa00...0xa17, name: "ACPI memory hotplug"),
    Range(ports: 0xae00...0xae17, name: "ACPI PCI hotplug"), Range(ports: 0xaf00...0xaf1f, name: "ACPI CPU hotplug"),
    Range(ports: 0xafe0...0xafe3, name: "ACPI GPE"),
    // PIIX4 as OVMF and old SeaBIOS set it up
    Range(ports: 0xb000...0xb007, name: "ACPI PM"), Range(ports: 0xb008...0xb00b, name: "ACPI PM timer", isTimer: true),
    Range(ports: 0xcc0...0xcd7, name: "ACPI PCI hotplug"), Range(ports: 0xcd8...0xce3, name: "ACPI CPU hotplug"),
    Range(ports: 0xcf8...0xcf8, name: "PCI config address"), Range(ports: 0xcf9...0xcf9, name: "reset"),
    Range(ports: 0xcfc...0xcff, name: "PCI config data"), Range(ports: 0x5658...0x5659, name: "VMware backdoor"),
  ]
}
