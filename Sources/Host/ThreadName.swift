/// Names that VM programs give their vCPU threads (`/proc/PID/task/TID/comm`, 15 bytes at most).
public enum ThreadName {
  /// The vCPU's number: 0 for QEMU's "CPU 0/KVM", cloud-hypervisor's "vcpu0", crosvm's "crosvm_vcpu0" and Firecracker's
  /// "fc_vcpu 0"; nil for any other name (QEMU names its threads only with debug-threads=on).
  public static func vcpuIndex(_ name: some StringProtocol) -> Int? { vcpuIndex(bytes: name.utf8) }

  /// The same from bytes as the kernel keeps them; a NUL ends the name, and a final newline does not belong to it.
  public static func vcpuIndex(bytes: some Collection<UInt8>) -> Int? {
    var name = Array(bytes.prefix(32).prefix { $0 != 0 })
    if name.last == UInt8(ascii: "\n") { name.removeLast() }
    for form in forms {
      let prefix = Array(form.prefix.utf8)
      let suffix = Array(form.suffix.utf8)
      guard name.count > prefix.count + suffix.count, name.starts(with: prefix),
        name.suffix(suffix.count).elementsEqual(suffix)
      else { continue }
      return number(name[prefix.count..<(name.count - suffix.count)])
    }
    return nil
  }

  private static let forms: [(prefix: String, suffix: String)] = [
    ("CPU ", "/KVM"), ("vcpu", ""), ("crosvm_vcpu", ""), ("fc_vcpu ", ""),
  ]

  /// At most 5 digits: KVM knows no more than 65,535 vCPUs.
  private static func number(_ digits: ArraySlice<UInt8>) -> Int? {
    guard !digits.isEmpty, digits.count <= 5, digits.allSatisfy({ UInt8(ascii: "0")...UInt8(ascii: "9") ~= $0 }) else {
      return nil
    }
    return digits.reduce(0) { $0 * 10 + Int($1 - UInt8(ascii: "0")) }
  }
}
