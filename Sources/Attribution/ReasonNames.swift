/// Names of kvm_exit's reasons, per ISA. Names from the trace's own formats come first, the tables of the kernel's
/// uapi headers second; a reason in neither is shown by number.
public struct ReasonNames: Equatable, Sendable {
  /// By isa, then by reason.
  public private(set) var names: [UInt8: [UInt32: String]] = [:]

  /// Without names of its own: the tables only.
  public init() {}

  /// Adds one name, as a trace's format gives it.
  public mutating func set(isa: UInt8, reason: UInt32, name: String) { names[isa, default: [:]][reason] = name }

  /// The name of a reason: "HLT", "EPT_VIOLATION", or "reason 0x2a" with the ISA's number where it is not known.
  public func name(isa: UInt8, reason: UInt32) -> String {
    if let name = names[isa]?[reason] ?? ReasonTables.name(isa: isa, reason: reason) { return name }
    // VMX: bit 31 says that the entry failed, bit 26 that a bus lock was held; the basic reason is in bits 15:0
    if isa == 1, reason & 0xffff != reason {
      let basic = name(isa: isa, reason: reason & 0xffff)
      var flags: [String] = []
      if reason & 1 << 31 != 0 { flags.append("failed entry") }
      if reason & 1 << 26 != 0 { flags.append("bus lock") }
      let rest = reason & 0x7bff_0000
      if rest != 0 { flags.append("0x" + String(rest, radix: 16)) }
      return "\(basic) (\(flags.joined(separator: ", ")))"
    }
    let number = "reason 0x" + String(reason, radix: 16)
    return isa == 1 || isa == 2 ? number : "\(number), isa \(isa)"
  }
}
