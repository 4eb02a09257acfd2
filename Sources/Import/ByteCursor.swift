/// Reads little-endian numbers and texts from bytes of any origin: nil at the end, never a trap.
struct ByteCursor {
  let bytes: UnsafeRawBufferPointer
  /// The next byte; never beyond the end.
  private(set) var position: Int

  /// Begins at `position`, which may lie anywhere.
  init?(_ bytes: UnsafeRawBufferPointer, at position: UInt64 = 0) {
    guard let position = Int(exactly: position), position <= bytes.count else { return nil }
    self.bytes = bytes
    self.position = position
  }

  var remaining: Int { bytes.count - position }

  mutating func integer<Value: FixedWidthInteger & BitwiseCopyable>(_ type: Value.Type) -> Value? {
    guard remaining >= MemoryLayout<Value>.size else { return nil }
    let value = bytes.loadUnaligned(fromByteOffset: position, as: Value.self)
    position += MemoryLayout<Value>.size
    return Value(littleEndian: value)
  }

  mutating func u8() -> UInt8? { integer(UInt8.self) }
  mutating func u16() -> UInt16? { integer(UInt16.self) }
  mutating func u32() -> UInt32? { integer(UInt32.self) }
  mutating func u64() -> UInt64? { integer(UInt64.self) }

  /// The next `count` bytes.
  mutating func take(_ count: some BinaryInteger) -> UnsafeRawBufferPointer? {
    guard let count = Int(exactly: count), count >= 0, count <= remaining else { return nil }
    defer { position += count }
    return UnsafeRawBufferPointer(rebasing: bytes[position..<(position + count)])
  }

  /// A NUL-terminated text of at most `limit` bytes, without its NUL.
  mutating func text(limit: Int = 4096) -> UnsafeRawBufferPointer? {
    let window = UnsafeRawBufferPointer(rebasing: bytes[position..<(position + min(limit, remaining))])
    guard let length = window.firstIndex(of: 0) else { return nil }
    position += length + 1
    return UnsafeRawBufferPointer(rebasing: window[..<length])
  }

  /// Whether the next bytes are these; they are taken if so.
  mutating func takes(_ word: StaticString) -> Bool {
    let word = UnsafeRawBufferPointer(start: word.utf8Start, count: word.utf8CodeUnitCount)
    guard bytes[position...].starts(with: word) else { return false }
    position += word.count
    return true
  }
}

extension UnsafeRawBufferPointer {
  /// As a String up to the first NUL, whatever the bytes are.
  var text: String { String(decoding: prefix { $0 != 0 }, as: UTF8.self) }

  /// The part of this buffer, if it lies inside; an offset and size from a file can be anything.
  func part(at offset: UInt64, size: UInt64) -> UnsafeRawBufferPointer? {
    let (end, overflow) = offset.addingReportingOverflow(size)
    guard !overflow, end <= UInt64(count) else { return nil }
    return UnsafeRawBufferPointer(rebasing: self[Int(offset)..<Int(end)])
  }
}
