/// Where things lie in a tiny VM's address space. Each virtual CPU has a part of its own, and all are in the first GiB:
/// once the first page is mapped, no two virtual CPUs meet in building the nested page tables, which would make one of
/// them fault twice.
struct Layout {
  static let pageBytes = 4096
  /// What one last-level page table maps.
  static let blockBytes = 2 << 20
  static let mostVCPUs = 128
  /// Code and counters lie apart, for kernels (5.10's) that map the 8 pages around a fault when the host has them.
  static let codeOffset = 0x10000
  static let countersOffset = 0x18000
  static let freshOffset = 0x20000
  static let mostPages = (1 << 30 - 2 * blockBytes - freshOffset) / pageBytes
  /// Code and counters.
  static let ownPages = 2

  let memoryBytes: Int
  let strideBytes: Int

  init(vcpus: Int, freshPages: Int) throws(TinyGuestError) {
    guard freshPages <= Self.mostPages else { throw Self.tooManyPages(asked: freshPages) }
    let bytes = Self.freshOffset + freshPages * Self.pageBytes
    memoryBytes = (bytes + Self.blockBytes - 1) / Self.blockBytes * Self.blockBytes
    strideBytes = memoryBytes + Self.blockBytes
    guard strideBytes * vcpus <= 1 << 30 else { throw Self.tooManyPages(asked: freshPages * vcpus) }
  }

  static func tooManyPages(asked: Int) -> TinyGuestError {
    TinyGuestError("\(asked) fresh pages do not fit into a tiny VM's first GiB")
  }

  /// Guest-physical address of a virtual CPU's memory.
  func base(_ vcpu: Int) -> Int { vcpu * strideBytes }

  /// Guest-physical address without memory behind it, in a last-level page table of its own.
  func mmio(_ vcpu: Int) -> Int { base(vcpu) + memoryBytes }
}
