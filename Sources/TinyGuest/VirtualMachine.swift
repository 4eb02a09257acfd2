import CTinyGuest
import Glibc

/// A VM of /dev/kvm with its memory: one part per virtual CPU, none of it huge pages, only code and counters populated.
final class VirtualMachine {
  let layout: Layout
  let runBytes: Int
  private let system: Int32
  private let descriptor: Int32
  private let memory: [UnsafeMutableRawPointer]
  private let cpuid: UnsafeMutableRawPointer

  init(_ workload: Workload) throws(TinyGuestError) {
    let layout = try Layout(vcpus: workload.vcpus, freshPages: workload.freshPages)
    let system = open("/dev/kvm", O_RDWR | O_CLOEXEC)
    guard system >= 0 else { throw Self.cannotOpen(errno) }
    let descriptor = ioctl(system, kt_kvm_create_vm, 0)
    guard descriptor >= 0 else {
      let code = errno
      close(system)
      throw TinyGuestError("KVM_CREATE_VM", errno: code)
    }
    self.layout = layout
    self.system = system
    self.descriptor = descriptor
    runBytes = Int(ioctl(system, kt_kvm_get_vcpu_mmap_size, 0))
    cpuid = Self.allocateCPUID()
    var parts: [UnsafeMutableRawPointer] = []
    for _ in 0..<workload.vcpus {
      let part = mmap(
        nil, layout.memoryBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
      guard let part, part != MAP_FAILED else { break }
      madvise(part, layout.memoryBytes, MADV_NOHUGEPAGE)
      parts.append(part)
    }
    memory = parts
    guard parts.count == workload.vcpus else { throw TinyGuestError("memory for a tiny VM", errno: ENOMEM) }
    guard runBytes >= MemoryLayout<kvm_run>.size else { throw TinyGuestError("KVM_GET_VCPU_MMAP_SIZE: \(runBytes)") }
    guard ioctl(system, kt_kvm_get_supported_cpuid, cpuid) >= 0 else {
      throw TinyGuestError("KVM_GET_SUPPORTED_CPUID", errno: errno)
    }
    // Intel CPUs that cannot run real mode natively need three pages; others ignore it.
    if let address = UnsafeMutableRawPointer(bitPattern: 0xfffb_d000) {
      _ = ioctl(descriptor, kt_kvm_set_tss_addr, address)
    }
    for index in 0..<workload.vcpus { try fill(index, workload) }
  }

  deinit {
    close(descriptor)
    close(system)
    for part in memory { munmap(part, layout.memoryBytes) }
    cpuid.deallocate()
  }

  private static func cannotOpen(_ code: Int32) -> TinyGuestError {
    switch code {
    case ENOENT:
      TinyGuestError("/dev/kvm is missing: load kvm_amd or kvm_intel, or enable virtualization in the firmware")
    case EACCES, EPERM: TinyGuestError("/dev/kvm may not be opened: run as root or join the group kvm")
    default: TinyGuestError("/dev/kvm", errno: code)
    }
  }

  private static let mostCPUIDEntries = 256

  private static func allocateCPUID() -> UnsafeMutableRawPointer {
    let bytes = MemoryLayout<kvm_cpuid2>.size + mostCPUIDEntries * MemoryLayout<kvm_cpuid_entry2>.stride
    let table = UnsafeMutableRawPointer.allocate(byteCount: bytes, alignment: 8)
    table.initializeMemory(as: UInt8.self, repeating: 0, count: bytes)
    table.storeBytes(of: UInt32(mostCPUIDEntries), as: UInt32.self)
    return table
  }

  /// Lends the table of what this CPU offers to guests.
  func withCPUID(
    _ body: (UnsafeMutableRawPointer) throws(TinyGuestError) -> Void
  ) throws(TinyGuestError) {
    try body(cpuid)
  }

  /// The counters that a virtual CPU shares with its host.
  func page(_ vcpu: Int) -> UnsafeMutablePointer<kt_guest_page> {
    (memory[vcpu] + Layout.countersOffset).assumingMemoryBound(to: kt_guest_page.self)
  }

  func control(_ request: UInt, _ name: String, _ argument: CInt) throws(TinyGuestError) -> CInt {
    let result = ioctl(descriptor, request, argument)
    guard result >= 0 else { throw TinyGuestError(name, errno: errno) }
    return result
  }

  private func fill(_ vcpu: Int, _ workload: Workload) throws(TinyGuestError) {
    (memory[vcpu] + Layout.codeOffset).copyMemory(from: kt_guest_code(), byteCount: kt_guest_code_size())
    var page = kt_guest_page()
    withUnsafeMutableBytes(of: &page.want) { want in
      for deed in Deed.allCases {
        let count = workload.count(deed) - (deed == .halt ? 2 : 0)
        want.storeBytes(of: UInt32(count), toByteOffset: 4 * deed.rawValue, as: UInt32.self)
      }
    }
    page.next_page = UInt32(layout.base(vcpu) + Layout.freshOffset)
    page.mmio = UInt32(layout.mmio(vcpu))
    self.page(vcpu).initialize(to: page)
    var region = kvm_userspace_memory_region()
    region.slot = UInt32(vcpu)
    region.guest_phys_addr = UInt64(layout.base(vcpu))
    region.memory_size = UInt64(layout.memoryBytes)
    region.userspace_addr = UInt64(UInt(bitPattern: memory[vcpu]))
    guard ioctl(descriptor, kt_kvm_set_user_memory_region, &region) >= 0 else {
      throw TinyGuestError("KVM_SET_USER_MEMORY_REGION", errno: errno)
    }
  }
}
