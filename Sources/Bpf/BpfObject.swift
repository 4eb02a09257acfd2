import CBpf
import Glibc

/// A BPF object: opened, prepared, loaded, attached. Letting go of it unloads its programs; maps live on as long as a
/// `BpfMap` or a mapping of them does, links are detached by themselves.
public struct BpfObject: ~Copyable {
  let handle: OpaquePointer
  /// The object's name, for messages.
  public let name: String
  /// Patterns of arrays of maps: libbpf keeps their descriptors' numbers until it loads.
  private let patterns = HeldMaps()

  /// Opens an object from its bytes; nothing is loaded into the kernel yet.
  public init(image: [UInt8], name: String) throws(BpfError) {
    var options = bpf_object_open_opts()
    options.sz = MemoryLayout<bpf_object_open_opts>.size
    handle = try checkHandle("open \(name)") {
      name.withCString { cName in
        options.object_name = cName
        return image.withUnsafeBytes { bpf_object__open_mem($0.baseAddress, $0.count, &options) }
      }
    }
    self.name = name
  }

  /// Opens an object that `BpfImages` holds as a constant.
  public init(base64: StaticString, name: String) throws(BpfError) {
    try self.init(image: decodeBase64(base64), name: name)
  }

  deinit { bpf_object__close(handle) }

  // MARK: Before load

  /// The names of the object's programs.
  public var programs: [String] {
    var names: [String] = []
    var program = bpf_object__next_program(handle, nil)
    while let current = program {
      names.append(String(cString: bpf_program__name(current)))
      program = bpf_object__next_program(handle, current)
    }
    return names
  }

  /// Whether `load()` loads a program (all are, unless told otherwise).
  public func setAutoload(_ program: String, _ isLoaded: Bool) throws(BpfError) {
    let handle = try self.program(program)
    try check("choose \(program)") { bpf_program__set_autoload(handle, isLoaded) }
  }

  /// Sets how many elements (of a ring buffer: bytes) a map gets.
  public func setMaxEntries(_ map: String, _ count: UInt32) throws(BpfError) {
    let handle = try mapHandle(map)
    try check("size of map \(map)") { bpf_map__set_max_entries(handle, count) }
  }

  /// Whether `load()` creates a map; a map that no loaded program uses can be left out.
  public func setAutocreate(_ map: String, _ isCreated: Bool) throws(BpfError) {
    let handle = try mapHandle(map)
    try check("choose map \(map)") { bpf_map__set_autocreate(handle, isCreated) }
  }

  /// Gives an array of maps the pattern of its elements; the object keeps it.
  public func setInnerMap(_ map: String, like pattern: borrowing BpfMap) throws(BpfError) {
    let handle = try mapHandle(map)
    let descriptor = try check("pattern of \(map)") { fcntl(pattern.descriptor, F_DUPFD_CLOEXEC, 3) }
    patterns.descriptors.append(descriptor)
    try check("inner map of \(map)") { bpf_map__set_inner_map_fd(handle, descriptor) }
  }

  /// Sets a `const volatile` global; the type's size must be the global's.
  public func setConstant<Value: BitwiseCopyable>(_ constant: String, _ value: Value) throws(BpfError) {
    let variable = try locate(constant, in: ".rodata")
    guard variable.size == MemoryLayout<Value>.size else {
      throw BpfError(call: "constant \(constant) of \(variable.size) bytes", code: EINVAL)
    }
    let map = try mapHandle(".rodata")
    var size = 0
    guard let start = bpf_map__initial_value(map, &size), variable.offset + variable.size <= size else {
      throw BpfError(call: "constant \(constant)", code: ERANGE)
    }
    // the pointer is const in name only: before load it is the section's own memory
    UnsafeMutableRawPointer(mutating: start + variable.offset).storeBytes(of: value, as: Value.self)
  }

  /// Replaces the placeholders that a classic tracepoint program reads its fields at; see `patchFields(in:resolve:)`.
  /// Returns how many loads were patched.
  @discardableResult
  public func patchFields(
    program: String, resolve: (UInt32) -> FieldPlacement?
  ) throws(BpfError) -> Int {
    let handle = try self.program(program)
    // const in name only, like the constants above: libbpf copies the instructions to the kernel at load
    let instructions = UnsafeMutableBufferPointer(
      start: UnsafeMutablePointer(mutating: bpf_program__insns(handle)), count: bpf_program__insn_cnt(handle))
    do {
      return try Bpf.patchFields(in: instructions, resolve: resolve)
    } catch {
      throw BpfError(call: "fields of \(program): \(error)", code: EINVAL)
    }
  }

  // MARK: Load and after

  /// Creates the maps and loads the programs. A refusal carries the verifier's essential lines.
  public func load() throws(BpfError) { try check("load \(name)") { bpf_object__load(handle) } }

  /// Attaches a loaded program where its section says (tp, raw_tp, tp_btf).
  public func attach(_ program: String) throws(BpfError) -> BpfLink {
    let handle = try self.program(program)
    return BpfLink(handle: try checkHandle("attach \(program)") { bpf_program__attach(handle) })
  }

  /// Attaches a loaded classic tracepoint program to a tracepoint, be it another than its section's: one program may serve
  /// several whose records look alike.
  public func attach(_ program: String, system: String, event: String) throws(BpfError) -> BpfLink {
    let handle = try self.program(program)
    return BpfLink(
      handle: try checkHandle("attach \(program) to \(system):\(event)") {
        bpf_program__attach_tracepoint(handle, system, event)
      })
  }

  /// A loaded object's map.
  public func map(_ map: String) throws(BpfError) -> BpfMap {
    let handle = try mapHandle(map)
    let descriptor = try check("map \(map)") { bpf_map__fd(handle) }
    return try BpfMap(duplicating: descriptor, name: map)
  }

  /// Maps the globals of ".bss" or ".data", which the programs go on writing.
  public func globals(_ section: String = ".bss") throws(BpfError) -> MappedGlobals {
    let map = try self.map(section)
    return try MappedGlobals(map: map, places: try variables(in: section))
  }

  /// Runs a program once on this CPU and returns its return value: SEC("syscall") (Linux 5.14), or SEC("raw_tp") that
  /// takes nothing from its context (Linux 5.10).
  @discardableResult
  public func run(_ program: String) throws(BpfError) -> Int32 {
    let descriptor = try self.descriptor(of: program)
    var options = bpf_test_run_opts()
    options.sz = MemoryLayout<bpf_test_run_opts>.size
    try check("run \(program)") { bpf_prog_test_run_opts(descriptor, &options) }
    return Int32(bitPattern: options.retval)
  }

  // MARK: Finding things

  func program(_ program: String) throws(BpfError) -> OpaquePointer {
    try checkHandle("find program \(program)") { bpf_object__find_program_by_name(handle, program) }
  }

  func descriptor(of program: String) throws(BpfError) -> Int32 {
    let handle = try self.program(program)
    return try check("program \(program)") { bpf_program__fd(handle) }
  }

  private func mapHandle(_ map: String) throws(BpfError) -> OpaquePointer {
    try checkHandle("find map \(map)") { bpf_object__find_map_by_name(handle, map) }
  }

  private func locate(_ variable: String, in section: String) throws(BpfError) -> GlobalPlace {
    guard let place = try variables(in: section)[variable] else {
      throw BpfError(call: "find global \(variable)", code: ENOENT)
    }
    return place
  }

  /// The globals of a section, from the object's own BTF.
  private func variables(in section: String) throws(BpfError) -> [String: GlobalPlace] {
    let btf = try checkHandle("BTF of \(name)") { bpf_object__btf(handle) }
    let number = try check("section \(section)") { btf__find_by_name_kind(btf, section, cbpf_kind_datasec) }
    guard let type = btf__type_by_id(btf, UInt32(number)) else {
      throw BpfError(call: "section \(section)", code: ENOENT)
    }
    var places: [String: GlobalPlace] = [:]
    for info in UnsafeBufferPointer(start: btf_var_secinfos(type), count: Int(btf_vlen(type))) {
      guard let variable = btf__type_by_id(btf, info.type),
        let text = btf__name_by_offset(btf, variable.pointee.name_off)
      else { continue }
      places[String(cString: text)] = GlobalPlace(offset: Int(info.offset), size: Int(info.size))
    }
    return places
  }
}

/// Maps that live as long as an object; a box, because setting up an object does not change the value that owns it.
private final class HeldMaps {
  var descriptors: [Int32] = []
  deinit { for descriptor in descriptors { close(descriptor) } }
}

/// Where a global lies in its section, in bytes.
struct GlobalPlace: Equatable {
  var offset: Int
  var size: Int
}
