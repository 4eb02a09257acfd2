import CTinyGuest
import Glibc

/// What KVM itself counts.
enum KVMStatistics {
  // Far beyond what any kernel has, and bounds for what is read.
  private static let mostValues = 1024
  private static let mostNameBytes = 256

  /// The cumulative values of a virtual CPU, by KVM's names; nil where the kernel has no KVM_GET_STATS_FD (before 5.14).
  static func read(vcpu: Int32) -> [String: UInt64]? {
    let descriptor = ioctl(vcpu, kt_kvm_get_stats_fd, 0)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    var header = kvm_stats_header()
    guard load(&header, descriptor, at: 0) else { return nil }
    let nameBytes = Int(header.name_size)
    guard (1...mostNameBytes).contains(nameBytes), header.num_desc <= mostValues else { return nil }
    var values: [String: UInt64] = [:]
    for index in 0..<Int(header.num_desc) {
      let bytes = MemoryLayout<kvm_stats_desc>.size
      let place = Int(header.desc_offset) + index * (bytes + nameBytes)
      var description = kvm_stats_desc()
      guard load(&description, descriptor, at: place) else { break }
      let kind = description.flags & UInt32(KVM_STATS_TYPE_MASK)
      guard kind == UInt32(KVM_STATS_TYPE_CUMULATIVE), description.size == 1 else { continue }
      var name = [UInt8](repeating: 0, count: nameBytes)
      var value: UInt64 = 0
      guard pread(descriptor, &name, nameBytes, place + bytes) == nameBytes,
        load(&value, descriptor, at: Int(header.data_offset) + Int(description.offset))
      else { break }
      if let text = checkedName(name.prefix { $0 != 0 }) { values[text] = value }
    }
    return values
  }

  /// Fills a value of plain memory.
  private static func load<T>(_ value: inout T, _ descriptor: Int32, at offset: Int) -> Bool {
    withUnsafeMutableBytes(of: &value) { pread(descriptor, $0.baseAddress, $0.count, offset) == $0.count }
  }

  /// Names go into JSON as they are: nothing to escape may be in them.
  private static func checkedName(_ bytes: some Collection<UInt8>) -> String? {
    let isPlain = bytes.allSatisfy {
      (UInt8(ascii: "a")...UInt8(ascii: "z")).contains($0) || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0)
        || $0 == UInt8(ascii: "_")
    }
    return isPlain && !bytes.isEmpty ? String(decoding: bytes, as: UTF8.self) : nil
  }

  /// The sums of a VM's virtual CPUs in debugfs, by KVM's names; nil where that is not mounted or may not be read.
  static func read(vm: Int32, creator: Int32) -> [String: UInt64]? {
    let folder = "/sys/kernel/debug/kvm/\(creator)-\(vm)"
    guard let entries = opendir(folder) else { return nil }
    defer { closedir(entries) }
    var values: [String: UInt64] = [:]
    while values.count < mostValues, let entry = readdir(entries) {
      let bytes = withUnsafeBytes(of: entry.pointee.d_name) { Array($0.prefix { $0 != 0 }) }
      guard entry.pointee.d_type == UInt8(DT_REG), let name = checkedName(bytes),
        let value = number(in: "\(folder)/\(name)")
      else { continue }
      values[name] = value
    }
    return values
  }

  private static func number(in path: String) -> UInt64? {
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { return nil }
    defer { close(file) }
    var buffer = [UInt8](repeating: 0, count: 32)
    let count = Glibc.read(file, &buffer, buffer.count)
    guard count > 0, count < buffer.count else { return nil }
    return UInt64(String(decoding: buffer[..<count].prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self))
  }
}
