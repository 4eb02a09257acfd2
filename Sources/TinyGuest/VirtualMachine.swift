import CTinyGuest
import Glibc

/// A VM of /dev/kvm with its memory: one part per virtual CPU, none of it huge pages, only the guest's own pages populated.
final class VirtualMachine {
  let layout: Layout
  let runBytes: Int
  let hasIrqchip: Bool
  private let creator = kt_guest_thread_id()
  private let system: Int32
  private let descriptor: Int32
  private let memory: [UnsafeMutableRawPointer]
  private let cpuid: UnsafeMutableRawPointer

  init(_ workload: Workload) throws(TinyGuestError) {
    let layout = try Layout(
      vcpus: workload.vcpus, freshPages: workload.freshPages, delayedPages: workload.delayedPages)
    let system = open("/dev/kvm", O_RDWR | O_CLOEXEC)
    guard system >= 0 else { throw Self.cannotOpen(errno) }
    let descriptor = ioctl(system, kt_kvm_create_vm, 0)
    guard descriptor >= 0 else {
      let code = errno
      close(system)
      throw TinyGuestError("KVM_CREATE_VM", errno: code)
    }
    self.layout = layout
    hasIrqchip = workload.needsIrqchip
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
      // A fork would make it copy-on-write, and KVM would take faults again.
      madvise(part, layout.memoryBytes, MADV_DONTFORK)
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
    if hasIrqchip { try createIrqchip() }
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

  /// Before there are virtual CPUs. The guest is offered x2APIC and the TSC deadline, which KVM emulates and does not
  /// report of its own accord.
  private func createIrqchip() throws(TinyGuestError) {
    guard ioctl(descriptor, kt_kvm_create_irqchip, 0) >= 0 else {
      throw TinyGuestError("timers and ipi need KVM's interrupt controller; KVM_CREATE_IRQCHIP", errno: errno)
    }
    for entry in cpuidEntries.indices where cpuidEntries[entry].function == 1 {
      cpuidEntries[entry].ecx |= 1 << 21 | 1 << 24
    }
  }

  private var cpuidEntries: UnsafeMutableBufferPointer<kvm_cpuid_entry2> {
    let count = Int(cpuid.load(as: UInt32.self))
    let first = (cpuid + MemoryLayout<kvm_cpuid2>.size).assumingMemoryBound(to: kvm_cpuid_entry2.self)
    return UnsafeMutableBufferPointer(start: first, count: min(count, Self.mostCPUIDEntries))
  }

  /// Whether the CPU knows VMMCALL instead of VMCALL: AMD's, and Hygon's, which are made after them.
  private var isAMD: Bool {
    let amd: UInt32 = 0x6874_7541  // "Auth"enticAMD
    let hygon: UInt32 = 0x6f67_7948  // "Hygo"nGenuine
    return cpuidEntries.first { $0.function == 0 }.map { $0.ebx == amd || $0.ebx == hygon } ?? false
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

  /// The page of samples of a virtual CPU.
  func samples(_ vcpu: Int) -> UnsafeBufferPointer<UInt32> {
    let start = memory[vcpu] + Layout.samplesOffset
    return UnsafeBufferPointer(
      start: start.assumingMemoryBound(to: UInt32.self), count: Layout.pageBytes / MemoryLayout<UInt32>.stride)
  }

  func control(_ request: UInt, _ name: String, _ argument: CInt) throws(TinyGuestError) -> CInt {
    let result = ioctl(descriptor, request, argument)
    guard result >= 0 else { throw TinyGuestError(name, errno: errno) }
    return result
  }

  /// The memory that comes late, of a virtual CPU.
  func delayedMemory(_ vcpu: Int) -> UnsafeMutableRawPointer { memory[vcpu] + layout.delayedOffset }

  /// Sums over the virtual CPUs, from debugfs.
  func statistics() -> [String: UInt64]? { KVMStatistics.read(vm: descriptor, creator: creator) }

  private func fill(_ vcpu: Int, _ workload: Workload) throws(TinyGuestError) {
    (memory[vcpu] + Layout.codeOffset).copyMemory(from: kt_guest_code(), byteCount: kt_guest_code_size())
    if hasIrqchip {
      InterruptTables.write(
        to: memory[vcpu] + Layout.tablesOffset, codeAddress: layout.base(vcpu) + Layout.codeOffset)
      (memory[vcpu] + Layout.stackOffset).initializeMemory(as: UInt8.self, repeating: 0, count: Layout.pageBytes)
    }
    if workload.isClocked {
      (memory[vcpu] + Layout.samplesOffset).initializeMemory(as: UInt8.self, repeating: 0, count: Layout.pageBytes)
    }
    page(vcpu).initialize(to: orders(vcpu, workload))
    var region = kvm_userspace_memory_region()
    region.slot = UInt32(vcpu)
    region.guest_phys_addr = UInt64(layout.base(vcpu))
    region.memory_size = UInt64(layout.memoryBytes)
    region.userspace_addr = UInt64(UInt(bitPattern: memory[vcpu]))
    guard ioctl(descriptor, kt_kvm_set_user_memory_region, &region) >= 0 else {
      throw TinyGuestError("KVM_SET_USER_MEMORY_REGION", errno: errno)
    }
  }

  /// What the guest is told.
  private func orders(_ vcpu: Int, _ workload: Workload) -> kt_guest_page {
    var page = kt_guest_page()
    withUnsafeMutableBytes(of: &page.want) { want in
      for deed in Deed.allCases {
        let count = workload.count(deed) - (deed == .halt && !hasIrqchip ? 2 : 0)
        want.storeBytes(of: UInt32(count), toByteOffset: 4 * deed.rawValue, as: UInt32.self)
      }
    }
    page.next_page = UInt32(layout.base(vcpu) + Layout.freshOffset)
    page.next_delayed = UInt32(layout.base(vcpu) + layout.delayedOffset)
    page.mmio = UInt32(layout.mmio(vcpu))
    page.is_amd = isAMD ? 1 : 0
    page.has_irqchip = hasIrqchip ? 1 : 0
    page.tables = UInt32(layout.base(vcpu) + Layout.tablesOffset)
    page.timer_ns = UInt32(workload.spans.timer * 1000)
    // KVM's APIC ids are the numbers of the virtual CPUs.
    page.ipi_target = UInt32(vcpu ^ 1)
    page.ipi_first = vcpu % 2 == 0 ? 1 : 0
    if workload.isClocked { page.samples = UInt32(layout.base(vcpu) + Layout.samplesOffset) }
    return page
  }
}
