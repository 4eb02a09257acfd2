import CBpf
import Glibc

/// What the running kernel's BTF says about KVM: the kernel's own and, where kvm is a module, those of kvm, kvm_amd and
/// kvm_intel, each searched together with the kernel's.
public struct KernelBtf: ~Copyable {
  /// Modules that have KVM's types, where they are modules.
  public static let modules = ["kvm", "kvm_amd", "kvm_intel"]

  private let kernel: OpaquePointer
  private let parts: [(name: String, handle: OpaquePointer)]

  /// An argument of a tracepoint, as a program attached with tp_btf gets it.
  public enum Argument: Equatable, Sendable {
    /// A pointer to a struct of this name.
    case structPointer(String)
    /// An integer or enum of this size in bytes.
    case integer(byteCount: Int)
    /// Anything else.
    case other
  }

  /// Whether the kernel has BTF at all (CONFIG_DEBUG_INFO_BTF).
  public static var isPresent: Bool { access("/sys/kernel/btf/vmlinux", R_OK) == 0 }

  /// Whether a module is loaded and has BTF (CONFIG_DEBUG_INFO_BTF_MODULES); false too for code built into the kernel.
  public static func isPresent(module: String) -> Bool { access("/sys/kernel/btf/\(module)", R_OK) == 0 }

  /// Reads the kernel's BTF (some megabytes) and that of KVM's loaded modules; a module's that cannot be read is left
  /// out.
  public init() throws(BpfError) {
    kernel = try checkHandle("read the kernel's BTF") { btf__load_vmlinux_btf() }
    var parts: [(String, OpaquePointer)] = []
    for module in KernelBtf.modules where KernelBtf.isPresent(module: module) {
      if let handle = btf__load_module_btf(module, kernel) { parts.append((module, handle)) }
    }
    self.parts = parts
  }

  deinit {
    for part in parts { btf__free(part.handle) }
    btf__free(kernel)
  }

  /// The modules whose BTF was read.
  public var presentModules: [String] { parts.map(\.name) }

  /// The arguments of a tracepoint for tp_btf (`typedef void (*btf_trace_NAME)(void *, …)`), without the first, which is
  /// the kernel's own; nil when the tracepoint is not described.
  public func typedTracepoint(_ name: String) -> [Argument]? {
    guard let (btf, number) = find("btf_trace_\(name)", kind: cbpf_kind_typedef),
      let definition = btf__type_by_id(btf, number),
      let pointer = type(definition.pointee.type, in: btf, kind: Kind.pointer),
      let prototype = type(pointer.pointee.type, in: btf, kind: Kind.functionPrototype)
    else { return nil }
    return UnsafeBufferPointer(start: btf_params(prototype), count: Int(btf_vlen(prototype)))
      .dropFirst().map { argument($0.type, in: btf) }
  }

  /// Whether there is a struct of this name, complete with its members.
  public func hasStruct(_ name: String) -> Bool { find(name, kind: cbpf_kind_struct) != nil }

  /// Whether a struct has a member of this name, be it inside an unnamed struct or union.
  public func hasMember(_ member: String, of structure: String) -> Bool {
    guard let (btf, number) = find(structure, kind: cbpf_kind_struct) else { return false }
    return hasMember(member, of: number, in: btf, depth: 0)
  }

  /// The byte offset of a member, be it a member's member, in a struct; nil where one of them is not described.
  public func byteOffset(of path: [String], in structure: String) -> UInt32? {
    guard let (btf, whole) = find(structure, kind: cbpf_kind_struct) else { return nil }
    var inside = whole
    var bits: UInt64 = 0
    for name in path {
      guard let found = member(name, of: inside, in: btf, depth: 0) else { return nil }
      bits += UInt64(found.bits)
      inside = found.type
    }
    return bits % 8 == 0 ? UInt32(exactly: bits / 8) : nil
  }

  /// Whether a VM's ioeventfds can be found from its vCPU: KVM keeps them among the devices of its buses.
  public var describesIoeventfds: Bool {
    hasMember("kvm", of: "kvm_vcpu") && hasMember("ioeventfds", of: "kvm") && hasMember("buses", of: "kvm")
      && hasMember("dev_count", of: "kvm_io_bus") && hasMember("range", of: "kvm_io_bus")
      && hasMember("addr", of: "kvm_io_range") && hasMember("dev", of: "kvm_io_range")
      && hasMember("ops", of: "kvm_io_device") && hasMember("list", of: "_ioeventfd")
      && hasMember("dev", of: "_ioeventfd")
  }

  // MARK: Walking the types

  /// A member's offset in bits and its type, looked for in unnamed members too.
  private func member(
    _ name: String, of number: UInt32, in btf: OpaquePointer, depth: Int
  ) -> (bits: UInt32, type: UInt32)? {
    guard depth < 8, let type = resolved(number, in: btf) else { return nil }
    let kind = UInt32(btf_kind(type))
    guard kind == Kind.structure || kind == Kind.union else { return nil }
    for candidate in UnsafeBufferPointer(start: btf_members(type), count: Int(btf_vlen(type))) {
      // with bit fields in the struct the upper byte is a width
      let offset = btf_kflag(type) ? candidate.offset & 0xff_ffff : candidate.offset
      let found = btf__name_by_offset(btf, candidate.name_off).map { String(cString: $0) } ?? ""
      if found == name { return (offset, candidate.type) }
      if found.isEmpty, let inner = member(name, of: candidate.type, in: btf, depth: depth + 1) {
        return (offset + inner.bits, inner.type)
      }
    }
    return nil
  }

  private enum Kind {
    static let integer: UInt32 = 1
    static let pointer: UInt32 = 2
    static let structure: UInt32 = 4
    static let union: UInt32 = 5
    static let enumeration: UInt32 = 6
    static let functionPrototype: UInt32 = 13
    static let enumeration64: UInt32 = 19
    /// typedef, volatile, const, restrict, type tag
    static let names: Set<UInt32> = [8, 9, 10, 11, 18]
  }

  private func find(_ name: String, kind: UInt32) -> (btf: OpaquePointer, number: UInt32)? {
    for btf in [kernel] + parts.map(\.handle) {
      let number = btf__find_by_name_kind(btf, name, kind)
      if number > 0 { return (btf, UInt32(number)) }
    }
    return nil
  }

  /// A type behind its names and qualifiers, when it is of the kind.
  private func type(_ number: UInt32, in btf: OpaquePointer, kind: UInt32) -> UnsafePointer<btf_type>? {
    guard let type = resolved(number, in: btf), UInt32(btf_kind(type)) == kind else { return nil }
    return type
  }

  private func resolved(_ number: UInt32, in btf: OpaquePointer) -> UnsafePointer<btf_type>? {
    var number = number
    for _ in 0..<32 {
      guard let type = btf__type_by_id(btf, number) else { return nil }
      guard Kind.names.contains(UInt32(btf_kind(type))) else { return type }
      number = type.pointee.type
    }
    return nil
  }

  private func argument(_ number: UInt32, in btf: OpaquePointer) -> Argument {
    guard let type = resolved(number, in: btf) else { return .other }
    switch UInt32(btf_kind(type)) {
    case Kind.integer, Kind.enumeration, Kind.enumeration64: return .integer(byteCount: Int(type.pointee.size))
    case Kind.pointer:
      guard let target = self.type(type.pointee.type, in: btf, kind: Kind.structure),
        let name = btf__name_by_offset(btf, target.pointee.name_off)
      else { return .other }
      return .structPointer(String(cString: name))
    default: return .other
    }
  }

  private func hasMember(_ member: String, of number: UInt32, in btf: OpaquePointer, depth: Int) -> Bool {
    guard depth < 8, let type = resolved(number, in: btf) else { return false }
    let kind = UInt32(btf_kind(type))
    guard kind == Kind.structure || kind == Kind.union else { return false }
    for candidate in UnsafeBufferPointer(start: btf_members(type), count: Int(btf_vlen(type))) {
      let name = btf__name_by_offset(btf, candidate.name_off).map { String(cString: $0) } ?? ""
      if name == member { return true }
      if name.isEmpty, hasMember(member, of: candidate.type, in: btf, depth: depth + 1) { return true }
    }
    return false
  }
}
