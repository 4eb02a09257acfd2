import CTinyGuest

/// The guest's IDT and GDT, in one page.
enum InterruptTables {
  static let idtBytes = 256 * 8
  static let gdtBytes = 3 * 8

  /// Writes both. Flat segments 8 (code) and 16 (data) are those that the virtual CPU starts with, marked as accessed, so
  /// that the CPU writes nothing into the table.
  static func write(to page: UnsafeMutableRawPointer, codeAddress: Int) {
    for vector in 0..<256 {
      let handler =
        switch Int32(vector) {
        case KT_GUEST_TIMER_VECTOR: kt_guest_timer_handler()
        case KT_GUEST_IPI_VECTOR: kt_guest_ipi_handler()
        case KT_GUEST_SPURIOUS_VECTOR: kt_guest_spurious_handler()
        default: kt_guest_exception_handler()
        }
      page.storeBytes(of: gate(UInt64(codeAddress) + UInt64(handler)), toByteOffset: vector * 8, as: UInt64.self)
    }
    let flat: [UInt64] = [0, 0x00cf_9b00_0000_ffff, 0x00cf_9300_0000_ffff]
    for (index, descriptor) in flat.enumerated() {
      page.storeBytes(of: descriptor, toByteOffset: Int(KT_GUEST_GDT) + index * 8, as: UInt64.self)
    }
  }

  /// A 32-bit interrupt gate: present, for code segment 8, which leaves interrupts off.
  private static func gate(_ address: UInt64) -> UInt64 {
    (address & 0xffff) | 8 << 16 | 0x8e00 << 32 | (address >> 16) << 48
  }
}
