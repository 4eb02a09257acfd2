import CBpf
import Glibc

/// A shared mapping of a map's memory; unmapped with this value, which keeps the map alive.
struct Mapping: ~Copyable {
  let start: UnsafeMutableRawPointer
  let byteCount: Int

  init(_ map: borrowing BpfMap, byteCount: Int) throws(BpfError) {
    let size = roundedUp(byteCount, to: Int(sysconf(Int32(_SC_PAGESIZE))))
    guard let start = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_SHARED, map.descriptor, 0), start != MAP_FAILED
    else {
      let code = errno
      throw BpfError(call: "mmap \(map.name)", code: code)
    }
    self.start = start
    self.byteCount = size
  }

  deinit { munmap(start, byteCount) }
}

/// An array map with BPF_F_MMAPABLE, as memory: no system call per element. The programs change it meanwhile.
public struct MappedArray<Element: BitwiseCopyable>: ~Copyable {
  private let mapping: Mapping
  /// Number of elements.
  public let count: Int
  private let stride: Int

  /// Maps an array whose values are of the element's size (with its trailing padding).
  public init(_ map: borrowing BpfMap) throws(BpfError) {
    guard map.type == BPF_MAP_TYPE_ARRAY.rawValue, map.valueSize == MemoryLayout<Element>.stride else {
      throw BpfError(call: "mmap \(map.name) as array of \(Element.self)", code: EINVAL)
    }
    // the kernel lays elements out in steps of 8 bytes (array_map_alloc)
    let stride = roundedUp(map.valueSize, to: 8)
    mapping = try Mapping(map, byteCount: stride &* map.maxEntries)
    count = map.maxEntries
    self.stride = stride
  }

  /// An element's place, valid as long as this value, which must therefore have a name of its own; nil when there is
  /// none of that number.
  @inline(__always) public func pointer(at index: Int) -> UnsafeMutablePointer<Element>? {
    guard index >= 0, index < count else { return nil }
    return (mapping.start + index &* stride).assumingMemoryBound(to: Element.self)
  }
}

/// The globals of an object's section, live.
public struct MappedGlobals: ~Copyable {
  private let mapping: Mapping
  private let places: [String: GlobalPlace]
  private let section: String

  init(map: borrowing BpfMap, places: [String: GlobalPlace]) throws(BpfError) {
    mapping = try Mapping(map, byteCount: map.valueSize)
    section = map.name
    self.places = places
  }

  /// A global's value now. `zero` is any value of its type.
  public func value<Value: BitwiseCopyable>(_ variable: String, like zero: Value) throws(BpfError) -> Value {
    try pointer(to: variable, as: Value.self).pointee
  }

  /// Sets a global.
  public func set<Value: BitwiseCopyable>(_ variable: String, _ value: Value) throws(BpfError) {
    try pointer(to: variable, as: Value.self).pointee = value
  }

  /// A global's place, valid as long as this value, which must therefore have a name of its own (a temporary ends
  /// before the pointer is used). The type's size must be the global's.
  public func pointer<Value: BitwiseCopyable>(
    to variable: String, as type: Value.Type
  ) throws(BpfError) -> UnsafeMutablePointer<Value> {
    guard let place = places[variable], place.offset >= 0, place.offset + place.size <= mapping.byteCount else {
      throw BpfError(call: "find global \(variable) in \(section)", code: ENOENT)
    }
    guard place.size == MemoryLayout<Value>.size, place.offset % MemoryLayout<Value>.alignment == 0 else {
      throw BpfError(call: "global \(variable) of \(place.size) bytes", code: EINVAL)
    }
    return (mapping.start + place.offset).assumingMemoryBound(to: Value.self)
  }
}
