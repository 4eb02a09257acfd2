/// Where things lie in a tiny VM's address space. Each virtual CPU has a part of its own, and all are in the first GiB:
/// once the first page is mapped, no two virtual CPUs meet in building the nested page tables, which would make one of
/// them fault twice.
struct Layout {
  static let pageBytes = 4096
  /// What one last-level page table maps.
  static let blockBytes = 2 << 20
  static let mostVCPUs = 128
  /// The guest's own pages lie apart, for kernels (5.10's) that map the 8 pages around a fault when the host has them.
  /// Tables (IDT and GDT) and stack are there with an interrupt controller only, samples where deeds are clocked.
  static let tablesOffset = 0
  static let stackOffset = 0x8000
  static let codeOffset = 0x10000
  static let countersOffset = 0x18000
  static let samplesOffset = 0x20000
  static let freshOffset = 0x28000
  static let mostPages = (1 << 30 - 2 * blockBytes - freshOffset) / pageBytes

  static func ownPages(hasIrqchip: Bool) -> Int { hasIrqchip ? 4 : 2 }

  let memoryBytes: Int
  let strideBytes: Int
  /// Pages that come late, behind the fresh ones.
  let delayedOffset: Int
  let delayedBytes: Int

  init(vcpus: Int, freshPages: Int, delayedPages: Int = 0) throws(TinyGuestError) {
    for pages in [freshPages, delayedPages] where pages > Self.mostPages { throw Self.tooManyPages(asked: pages) }
    delayedOffset = Self.freshOffset + freshPages * Self.pageBytes
    delayedBytes = delayedPages * Self.pageBytes
    let bytes = delayedOffset + delayedBytes
    memoryBytes = (bytes + Self.blockBytes - 1) / Self.blockBytes * Self.blockBytes
    strideBytes = memoryBytes + Self.blockBytes
    guard strideBytes * vcpus <= 1 << 30 else { throw Self.tooManyPages(asked: (freshPages + delayedPages) * vcpus) }
  }

  static func tooManyPages(asked: Int) -> TinyGuestError {
    TinyGuestError("\(asked) fresh pages do not fit into a tiny VM's first GiB")
  }

  /// Guest-physical address of a virtual CPU's memory.
  func base(_ vcpu: Int) -> Int { vcpu * strideBytes }

  /// Guest-physical address without memory behind it, in a last-level page table of its own.
  func mmio(_ vcpu: Int) -> Int { base(vcpu) + memoryBytes }
}
