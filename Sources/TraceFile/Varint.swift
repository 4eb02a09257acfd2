/// A growing payload. Numbers are LEB128: seven bits a byte, the lowest first, the top bit set on all but the last.
struct ByteWriter {
  private(set) var bytes: [UInt8] = []

  /// Keeps the storage for the next payload.
  mutating func removeAll() { bytes.removeAll(keepingCapacity: true) }

  mutating func append(contentsOf other: ByteWriter) { bytes.append(contentsOf: other.bytes) }

  mutating func append(_ value: UInt64) {
    var rest = value
    while rest >= 0x80 {
      bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    bytes.append(UInt8(truncatingIfNeeded: rest))
  }

  /// A difference that may be negative: 0, -1, 1, -2… become 0, 1, 2, 3…
  mutating func append(signed value: Int64) { append(UInt64(bitPattern: value << 1 ^ value >> 63)) }

  /// `to` minus `from`, whatever their order.
  mutating func append(from: UInt64, to: UInt64) { append(signed: Int64(bitPattern: to &- from)) }

  /// The number of bytes, then the text as UTF-8.
  mutating func append(_ text: String) {
    let utf8 = Array(text.utf8)
    append(UInt64(utf8.count))
    bytes.append(contentsOf: utf8)
  }

  mutating func append(_ clocks: Clocks) {
    append(clocks.monotonicNanoseconds)
    append(clocks.boottimeNanoseconds)
    append(clocks.realtimeNanoseconds)
    append(clocks.tsc)
  }

  /// The entry's length, then the entry.
  mutating func append(entry: ByteWriter) {
    append(UInt64(entry.bytes.count))
    bytes.append(contentsOf: entry.bytes)
  }
}

/// Reads a payload from the front. Past the end everything is 0 and empty, and `isShort` says so: an entry that an older
/// writer made shorter reads as one whose missing fields have their defaults.
struct ByteReader {
  private let bytes: UnsafeRawBufferPointer
  private(set) var offset = 0
  private(set) var isShort = false

  init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

  var isAtEnd: Bool { offset >= bytes.count }

  /// A number of up to ten bytes; bits beyond the 64th are dropped.
  mutating func number() -> UInt64 {
    var value: UInt64 = 0
    var shift: UInt64 = 0
    while offset < bytes.count, shift < 70 {
      let byte = bytes[offset]
      offset &+= 1
      if shift < 64 { value |= UInt64(byte & 0x7f) << shift }
      if byte & 0x80 == 0 { return value }
      shift &+= 7
    }
    isShort = true
    return 0
  }

  mutating func number32() -> UInt32 { UInt32(truncatingIfNeeded: number()) }

  mutating func signed() -> Int64 {
    let value = number()
    return Int64(bitPattern: value >> 1) ^ -Int64(bitPattern: value & 1)
  }

  /// The number that `append(from:to:)` was given as `to`.
  mutating func number(from: UInt64) -> UInt64 { from &+ UInt64(bitPattern: signed()) }

  mutating func text() -> String { String(decoding: counted(), as: UTF8.self) }

  mutating func clocks() -> Clocks {
    Clocks(
      monotonicNanoseconds: number(), boottimeNanoseconds: number(), realtimeNanoseconds: number(), tsc: number())
  }

  /// A reader of the next entry alone.
  mutating func entry() -> ByteReader { ByteReader(counted()) }

  /// As many bytes as the number before them says; none when there are not so many.
  private mutating func counted() -> UnsafeRawBufferPointer {
    guard let count = Int(exactly: number()), count <= bytes.count &- offset else {
      isShort = true
      offset = bytes.count
      return UnsafeRawBufferPointer(start: nil, count: 0)
    }
    defer { offset &+= count }
    return UnsafeRawBufferPointer(rebasing: bytes[offset..<offset &+ count])
  }
}
