import Glibc

/// Walks over a file's blocks from front to back, over damage as well: each byte behind the file header lies in exactly
/// one of the blocks that it yields. The bytes must stay mapped for as long as it is used.
public struct TraceBlocks: Sequence, IteratorProtocol {
  private let bytes: UnsafeRawBufferPointer
  private var offset = TraceFormat.headerLength
  /// Bytes whose checksum was computed: crafted blocks that overlap must not make the walk quadratic.
  private var checked = 0

  /// Starts behind the file header.
  public init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

  /// The next block; nil at the end of the file.
  public mutating func next() -> TraceBlock? {
    guard offset < bytes.count else { return nil }
    let block = block(at: offset)
    offset &+= block.length
    return block
  }

  private mutating func block(at offset: Int) -> TraceBlock {
    let rest = bytes.count &- offset
    guard let header = BlockHeader(bytes, at: offset) else {
      if let next = nextHeader(from: offset &+ 1, before: bytes.count) {
        return TraceBlock(offset: offset, length: next &- offset, status: .damagedHeader)
      }
      let isPart = rest < TraceFormat.blockHeaderLength && isStartOfHeader(offset)
      return TraceBlock(offset: offset, length: rest, status: isPart ? .cut : .damagedHeader)
    }
    let start = offset &+ TraceFormat.blockHeaderLength
    let stored = Int(header.storedLength)
    guard stored <= bytes.count &- start else {
      if let next = nextHeader(from: offset &+ 1, before: bytes.count) {
        return TraceBlock(offset: offset, length: next &- offset, status: .damagedPayload, header: header)
      }
      return TraceBlock(offset: offset, length: rest, status: .cut, header: header)
    }
    let length = Swift.min(TraceFormat.blockHeaderLength &+ header.paddedLength, rest)
    checked &+= stored
    let payload = UnsafeRawBufferPointer(rebasing: bytes[start..<start &+ stored])
    if Checksum.crc32c(payload) == header.payloadChecksum {
      return TraceBlock(offset: offset, length: length, status: .intact, header: header)
    }
    // when bytes are missing from a payload, its length leads past the start of the blocks behind it
    let end = offset &+ length
    if end < bytes.count, checked / 4 < bytes.count, BlockHeader(bytes, at: end) == nil,
      let next = nextHeader(from: offset &+ 1, before: end)
    {
      return TraceBlock(offset: offset, length: next &- offset, status: .damagedPayload, header: header)
    }
    return TraceBlock(offset: offset, length: length, status: .damagedPayload, header: header)
  }

  /// Whether the last bytes of the file can be the first ones of a header.
  private func isStartOfHeader(_ offset: Int) -> Bool {
    for (index, byte) in TraceFormat.blockMagic.enumerated() where offset &+ index < bytes.count {
      if bytes[offset &+ index] != byte { return false }
    }
    return true
  }

  /// Where the next header begins whose own checksum holds; at any byte, because bytes may be missing before it.
  private func nextHeader(from first: Int, before end: Int) -> Int? {
    guard let base = bytes.baseAddress else { return nil }
    var candidate = first
    while candidate < end {
      guard
        let found = memchr(base + candidate, Int32(TraceFormat.blockMagic[0]), end &- candidate)
      else { return nil }
      candidate = UnsafeRawPointer(found) - base
      if BlockHeader(bytes, at: candidate) != nil { return candidate }
      candidate &+= 1
    }
    return nil
  }
}

/// The file header: 64 bytes, the last four their checksum (docs/trace-format.md, "File header").
struct FileHeader: Equatable {
  var version = TraceFormat.version
  var clocks: Clocks

  init(clocks: Clocks) { self.clocks = clocks }

  /// Nil when there are fewer than 64 bytes, or magic or checksum are wrong.
  init?(_ bytes: UnsafeRawBufferPointer) {
    guard bytes.count >= TraceFormat.headerLength, FileHeader.hasMagic(bytes) else { return nil }
    let covered = UnsafeRawBufferPointer(rebasing: bytes[0..<TraceFormat.headerLength &- 4])
    guard Checksum.crc32c(covered) == bytes.little(60, as: UInt32.self) else { return nil }
    version = bytes.little(8, as: UInt32.self)
    clocks = Clocks(
      monotonicNanoseconds: bytes.little(16, as: UInt64.self), boottimeNanoseconds: bytes.little(24, as: UInt64.self),
      realtimeNanoseconds: bytes.little(32, as: UInt64.self), tsc: bytes.little(40, as: UInt64.self))
  }

  static func hasMagic(_ bytes: UnsafeRawBufferPointer) -> Bool {
    bytes.count >= TraceFormat.magic.count
      && TraceFormat.magic.enumerated().allSatisfy { bytes[$0.offset] == $0.element }
  }

  var encoded: [UInt8] {
    var bytes = TraceFormat.magic
    bytes.append(little: version)
    bytes.append(little: UInt32(TraceFormat.headerLength))
    bytes.append(little: clocks.monotonicNanoseconds)
    bytes.append(little: clocks.boottimeNanoseconds)
    bytes.append(little: clocks.realtimeNanoseconds)
    bytes.append(little: clocks.tsc)
    bytes.append(contentsOf: [UInt8](repeating: 0, count: 12))
    let checksum = bytes.withUnsafeBytes { Checksum.crc32c($0) }
    bytes.append(little: checksum)
    return bytes
  }
}

extension TraceFormat {
  /// Whether the bytes are a trace file: by its magic, or, where that is damaged, by an intact header of the first block.
  public static func isTrace(_ bytes: UnsafeRawBufferPointer) -> Bool {
    FileHeader.hasMagic(bytes) || BlockHeader(bytes, at: headerLength) != nil
  }
}
