import Glibc

/// A result as one line of JSON. Every name in it is ours, or plain letters of the kernel's: nothing to escape.
enum GuestJSON {
  /// Deeds that are in it whether they were asked for or not.
  private static let always: Set<Deed> = [
    .cpuid, .portOut, .portIn, .mmioWrite, .mmioRead, .rdmsr, .wrmsr, .touch, .halt,
  ]

  static func line(_ result: Result) -> String {
    let vcpus = "[" + result.vcpus.map(vcpu).joined(separator: ",") + "]"
    return object([
      ("pid", "\(getpid())"), ("tsc_khz", result.tscKHz.map { "\($0)" } ?? "null"),
      ("irqchip", "\(result.hasIrqchip)"), ("vcpus", vcpus), ("measured", measured(result.measured)),
      ("vm_stats", statistics(result.statistics)),
    ]) + "\n"
  }

  private static func vcpu(_ vcpu: VCPUResult) -> String {
    let did = Deed.allCases.map { ($0, vcpu.did[$0] ?? 0) }.filter { $1 > 0 || always.contains($0) }
    return object([
      ("tid", "\(vcpu.tid)"), ("did", object(did.map { ($0.name, "\($1)") })), ("own_pages", "\(vcpu.ownPages)"),
      ("kvm_run", object(vcpu.kvmRun.sorted { $0.key < $1.key }.map { ($0, "\($1)") })),
      ("exits", object(vcpu.exits.named.map { ($0, "\($1)") })), ("interrupts", "\(vcpu.interrupts)"),
      ("measured", measured(vcpu.measured)), ("start_ns", "\(vcpu.startNanoseconds)"),
      ("end_ns", "\(vcpu.endNanoseconds)"), ("stats", statistics(vcpu.statistics)),
    ])
  }

  private static func measured(_ kinds: [String: Measured]) -> String {
    object(
      kinds.sorted { $0.key < $1.key }.map { name, one in
        let fields: [(String, String?)] = [
          ("count", "\(one.count)"), ("cpu_ns", one.cpuNanoseconds.map { "\($0)" }),
          ("wall_ns", one.wallNanoseconds.map { "\($0)" }), ("tsc", one.tscCycles.map { "\($0)" }),
          ("start_ns", one.startNanoseconds.map { "\($0)" }), ("end_ns", one.endNanoseconds.map { "\($0)" }),
          ("tid", one.tid.map { "\($0)" }),
        ]
        return (name, object(fields.compactMap { name, text in text.map { (name, $0) } }))
      })
  }

  private static func statistics(_ values: [String: UInt64]?) -> String {
    guard let values else { return "null" }
    return object(values.sorted { $0.key < $1.key }.map { ($0, "\($1)") })
  }

  private static func object(_ fields: [(String, String)]) -> String {
    "{" + fields.map { "\"\($0)\":\($1)" }.joined(separator: ",") + "}"
  }
}
