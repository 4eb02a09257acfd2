import CKvmtax

/// CRC32C (Castagnoli): polynomial 0x1edc6f41, reflected, initial value and final XOR 0xffffffff; of "123456789" it is
/// 0xe3069283.
public enum Checksum {
  /// The checksum of some bytes; `previous` continues an earlier one.
  public static func crc32c(_ bytes: UnsafeRawBufferPointer, continuing previous: UInt32 = 0) -> UInt32 {
    guard let start = bytes.baseAddress else { return previous }
    if hasInstruction { return ~kt_crc32c(~previous, start, UInt64(bytes.count)) }
    return byTable(bytes, continuing: previous)
  }

  private static let hasInstruction = kt_has_crc32c() != 0

  /// The same for CPUs without the instruction, eight bytes a step.
  static func byTable(_ bytes: UnsafeRawBufferPointer, continuing previous: UInt32 = 0) -> UInt32 {
    tables.withUnsafeBufferPointer { table in
      var state = ~previous
      var index = 0
      while index &+ 8 <= bytes.count {
        let word = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: index, as: UInt64.self)) ^ UInt64(state)
        state =
          table[7 &* 256 &+ Int(word & 0xff)] ^ table[6 &* 256 &+ Int(word >> 8 & 0xff)]
          ^ table[5 &* 256 &+ Int(word >> 16 & 0xff)] ^ table[4 &* 256 &+ Int(word >> 24 & 0xff)]
          ^ table[3 &* 256 &+ Int(word >> 32 & 0xff)] ^ table[2 &* 256 &+ Int(word >> 40 & 0xff)]
          ^ table[256 &+ Int(word >> 48 & 0xff)] ^ table[Int(word >> 56)]
        index &+= 8
      }
      while index < bytes.count {
        state = table[Int((state ^ UInt32(bytes[index])) & 0xff)] ^ state >> 8
        index &+= 1
      }
      return ~state
    }
  }

  /// Eight tables of 256: table n advances a byte's contribution by n more zero bytes.
  private static let tables: [UInt32] = {
    var tables = [UInt32](repeating: 0, count: 8 * 256)
    for byte in 0..<256 {
      var value = UInt32(byte)
      for _ in 0..<8 { value = value & 1 != 0 ? value >> 1 ^ 0x82f6_3b78 : value >> 1 }
      tables[byte] = value
    }
    for index in 256..<8 * 256 {
      let before = tables[index - 256]
      tables[index] = before >> 8 ^ tables[Int(before & 0xff)]
    }
    return tables
  }()
}
