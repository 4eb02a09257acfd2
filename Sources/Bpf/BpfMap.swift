import CBpf
import Glibc

/// A map, by a file descriptor of its own: it lives as long as this value, whatever becomes of its object.
public struct BpfMap: ~Copyable {
  /// The descriptor; closed with this value.
  public let descriptor: Int32
  /// The map's name, for messages.
  public let name: String
  /// Size of a key in bytes (0: queues, ring buffers).
  public let keySize: Int
  /// Size of a value in bytes.
  public let valueSize: Int
  /// Elements; of a ring buffer: bytes.
  public let maxEntries: Int
  let type: UInt32

  /// Takes the descriptor over.
  init(owning descriptor: Int32, name: String) throws(BpfError) {
    var info = bpf_map_info()
    var size = UInt32(MemoryLayout<bpf_map_info>.size)
    do {
      try check("map \(name)") { bpf_obj_get_info_by_fd(descriptor, &info, &size) }
    } catch {
      close(descriptor)
      throw error
    }
    self.descriptor = descriptor
    self.name = name
    keySize = Int(info.key_size)
    valueSize = Int(info.value_size)
    maxEntries = Int(info.max_entries)
    type = info.type
  }

  init(duplicating descriptor: Int32, name: String) throws(BpfError) {
    let copy = try check("map \(name)") { fcntl(descriptor, F_DUPFD_CLOEXEC, 3) }
    try self.init(owning: copy, name: name)
  }

  deinit { close(descriptor) }

  /// Creates a ring buffer map; `byteCount` must be a power of two and a multiple of the page size.
  public static func ring(name: String, byteCount: UInt32) throws(BpfError) -> BpfMap {
    let descriptor = try check("create ring of \(byteCount) bytes") {
      bpf_map_create(BPF_MAP_TYPE_RINGBUF, name, 0, 0, byteCount, nil)
    }
    return try BpfMap(owning: descriptor, name: name)
  }

  /// Puts a map into this array of maps.
  public func insert(_ inner: borrowing BpfMap, at index: UInt32) throws(BpfError) {
    try update(index, inner.descriptor)
  }

  /// Sets an element.
  public func update<Key: BitwiseCopyable, Value: BitwiseCopyable>(_ key: Key, _ value: Value) throws(BpfError) {
    try fits(Key.self, keySize)
    try fits(Value.self, valueSize)
    var (key, value) = (key, value)
    try check("update \(name)") { bpf_map_update_elem(descriptor, &key, &value, UInt64(BPF_ANY)) }
  }

  /// Removes an element; false when there was none.
  @discardableResult
  public func remove<Key: BitwiseCopyable>(_ key: Key) throws(BpfError) -> Bool {
    try fits(Key.self, keySize)
    var key = key
    do {
      try check("remove from \(name)") { bpf_map_delete_elem(descriptor, &key) }
      return true
    } catch  where error.code == ENOENT {
      return false
    } catch {
      throw error
    }
  }

  /// An element; nil when there is none. `zero` is any value of the type.
  public func lookup<Key: BitwiseCopyable, Value: BitwiseCopyable>(
    _ key: Key, like zero: Value
  ) throws(BpfError) -> Value? {
    try fits(Key.self, keySize)
    try fits(Value.self, valueSize)
    var (key, value) = (key, zero)
    do {
      try check("look up \(name)") { bpf_map_lookup_elem(descriptor, &key, &value) }
      return value
    } catch  where error.code == ENOENT {
      return nil
    } catch {
      throw error
    }
  }

  /// Appends to a queue.
  public func push<Value: BitwiseCopyable>(_ value: Value) throws(BpfError) {
    try fits(Value.self, valueSize)
    var value = value
    try check("push to \(name)") { bpf_map_update_elem(descriptor, nil, &value, UInt64(BPF_ANY)) }
  }

  /// The values of a per-CPU element, one per possible CPU.
  public func perCpu(_ key: UInt32) throws(BpfError) -> [UInt64] {
    try fits(UInt32.self, keySize)
    try fits(UInt64.self, valueSize)
    let cpuCount = try check("number of CPUs") { libbpf_num_possible_cpus() }
    var key = key
    var values = [UInt64](repeating: 0, count: Int(cpuCount))
    try check("look up \(name)") {
      values.withUnsafeMutableBytes { bpf_map_lookup_elem(descriptor, &key, $0.baseAddress) }
    }
    return values
  }

  /// A per-CPU element summed over the CPUs.
  public func perCpuSum(_ key: UInt32) throws(BpfError) -> UInt64 { try perCpu(key).reduce(0, &+) }

  /// The kernel memory that the map holds, in bytes: as its fdinfo says ("memlock:", on every kernel from 4.10 on, and
  /// near the truth from 6.4 on), at least what its elements take.
  public var memoryBytes: UInt64 {
    let elements = UInt64(roundedUp(valueSize, to: 8) &+ keySize) &* UInt64(maxEntries)
    let least = type == BPF_MAP_TYPE_RINGBUF.rawValue ? UInt64(maxEntries) : elements
    return max(fdinfoMemlock() ?? 0, isPreallocated ? least : 0)
  }

  private var isPreallocated: Bool {
    type == BPF_MAP_TYPE_ARRAY.rawValue || type == BPF_MAP_TYPE_RINGBUF.rawValue
      || type == BPF_MAP_TYPE_QUEUE.rawValue
  }

  private func fdinfoMemlock() -> UInt64? {
    let file = open("/proc/self/fdinfo/\(descriptor)", O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { return nil }
    defer { close(file) }
    let text = withUnsafeTemporaryAllocation(byteCount: 4096, alignment: 1) { buffer in
      let length = read(file, buffer.baseAddress, buffer.count)
      return String(decoding: UnsafeRawBufferPointer(buffer).prefix(max(0, length)), as: UTF8.self)
    }
    for line in text.split(separator: "\n") where line.hasPrefix("memlock:") {
      return UInt64(line.dropFirst("memlock:".count).drop { $0 == "\t" || $0 == " " })
    }
    return nil
  }

  /// The kernel copies as many bytes as the map's sizes say, whatever the type here.
  private func fits<Value>(_ type: Value.Type, _ size: Int) throws(BpfError) {
    guard MemoryLayout<Value>.size == size else {
      throw BpfError(call: "\(name): \(Value.self) of \(MemoryLayout<Value>.size) bytes for \(size)", code: EINVAL)
    }
  }
}

func roundedUp(_ size: Int, to step: Int) -> Int { (size &+ step &- 1) / step &* step }
