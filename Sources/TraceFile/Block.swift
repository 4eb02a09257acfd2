import CZstd

/// A block's header as it stands in the file: 40 bytes, little-endian (docs/trace-format.md, "Block header").
struct BlockHeader: Equatable {
  static let packedFlag: UInt16 = 1

  var type: UInt16
  var flags: UInt16 = 0
  var storedLength: UInt32
  var rawLength: UInt32
  var sequence: UInt64
  var schema: UInt64 = 0
  var payloadChecksum: UInt32

  init(type: UInt16, storedLength: UInt32, rawLength: UInt32, sequence: UInt64, payloadChecksum: UInt32) {
    self.type = type
    self.storedLength = storedLength
    self.rawLength = rawLength
    self.sequence = sequence
    self.payloadChecksum = payloadChecksum
  }

  /// The header at `offset`; nil when fewer bytes are left, or magic or checksum are wrong.
  init?(_ bytes: UnsafeRawBufferPointer, at offset: Int) {
    guard offset >= 0, bytes.count >= TraceFormat.blockHeaderLength,
      offset <= bytes.count &- TraceFormat.blockHeaderLength
    else { return nil }
    for (index, byte) in TraceFormat.blockMagic.enumerated() where bytes[offset &+ index] != byte { return nil }
    let covered = UnsafeRawBufferPointer(rebasing: bytes[offset..<offset &+ TraceFormat.blockHeaderLength &- 4])
    guard Checksum.crc32c(covered) == bytes.little(offset &+ 36, as: UInt32.self) else { return nil }
    type = bytes.little(offset &+ 4, as: UInt16.self)
    flags = bytes.little(offset &+ 6, as: UInt16.self)
    storedLength = bytes.little(offset &+ 8, as: UInt32.self)
    rawLength = bytes.little(offset &+ 12, as: UInt32.self)
    sequence = bytes.little(offset &+ 16, as: UInt64.self)
    schema = bytes.little(offset &+ 24, as: UInt64.self)
    payloadChecksum = bytes.little(offset &+ 32, as: UInt32.self)
  }

  /// Appends the 40 bytes, the header's own checksum last.
  func write(to bytes: inout [UInt8]) {
    let start = bytes.count
    bytes.append(contentsOf: TraceFormat.blockMagic)
    bytes.append(little: type)
    bytes.append(little: flags)
    bytes.append(little: storedLength)
    bytes.append(little: rawLength)
    bytes.append(little: sequence)
    bytes.append(little: schema)
    bytes.append(little: payloadChecksum)
    let checksum = bytes.withUnsafeBytes { Checksum.crc32c(UnsafeRawBufferPointer(rebasing: $0[start...])) }
    bytes.append(little: checksum)
  }

  var isPacked: Bool { flags & BlockHeader.packedFlag != 0 }

  /// The payload's length with the padding that follows it.
  var paddedLength: Int { (Int(storedLength) &+ TraceFormat.alignment &- 1) & ~(TraceFormat.alignment &- 1) }
}

extension UnsafeRawBufferPointer {
  /// A little-endian number at an offset that the caller has checked.
  func little<Number: FixedWidthInteger & BitwiseCopyable>(_ offset: Int, as: Number.Type) -> Number {
    Number(littleEndian: loadUnaligned(fromByteOffset: offset, as: Number.self))
  }
}

extension [UInt8] {
  mutating func append<Number: FixedWidthInteger>(little value: Number) {
    for byte in 0..<Number.bitWidth / 8 { append(UInt8(truncatingIfNeeded: value >> Number(byte * 8))) }
  }
}

/// One block of a file, or a stretch of bytes that cannot be read as one.
public struct TraceBlock: Equatable, Sendable {
  /// What can be done with it.
  public enum Status: Equatable, Sendable {
    /// Header and payload are as they were written.
    case intact
    /// The header is intact, the payload is not.
    case damagedPayload
    /// No block can be recognised here; the stretch ends where the next one can, or with the file.
    case damagedHeader
    /// The file ends inside the block.
    case cut
  }

  /// Where it begins in the file.
  public var offset: Int
  /// Bytes from there to the next block or to the end of the file.
  public var length: Int
  /// Whether it can be read.
  public var status: Status
  /// `BlockType.rawValue`, or a number that this version does not know; 0 when the header is damaged.
  public var type: UInt16 = 0
  /// Its number in the file, from 0 on.
  public var sequence: UInt64 = 0
  /// The schema of its records; 0: none.
  public var schema: UInt64 = 0
  /// Whether the payload is compressed with zstd.
  public var isPacked = false
  /// The payload's length as stored.
  public var storedLength = 0
  /// The payload's length unpacked.
  public var rawLength = 0

  /// The type, where this version knows it.
  public var knownType: BlockType? { BlockType(rawValue: type) }

  init(offset: Int, length: Int, status: Status, header: BlockHeader? = nil) {
    self.offset = offset
    self.length = length
    self.status = status
    guard let header else { return }
    type = header.type
    sequence = header.sequence
    schema = header.schema
    isPacked = header.isPacked
    storedLength = Int(header.storedLength)
    rawLength = Int(header.rawLength)
  }

  /// The stored payload of an intact block; empty for any other.
  func storedPayload(in file: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
    guard status == .intact, storedLength > 0 else { return UnsafeRawBufferPointer(start: nil, count: 0) }
    let start = offset &+ TraceFormat.blockHeaderLength
    return UnsafeRawBufferPointer(rebasing: file[start..<start &+ storedLength])
  }
}

/// Unpacks payloads into one buffer that it reuses.
final class PayloadReader {
  private var buffer = UnsafeMutableRawBufferPointer(start: nil, count: 0)

  deinit { buffer.deallocate() }

  /// The payload of an intact block, valid until the next call; nil when it cannot be unpacked or claims a length that
  /// the format does not allow.
  func payload(of block: TraceBlock, in file: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
    let stored = block.storedPayload(in: file)
    guard block.status == .intact, block.rawLength <= TraceFormat.payloadLimit else { return nil }
    guard block.isPacked else { return block.rawLength == block.storedLength ? stored : nil }
    guard block.rawLength <= max(TraceFormat.freeRawLength, stored.count &* TraceFormat.expansionLimit) else {
      return nil
    }
    if buffer.count < block.rawLength {
      buffer.deallocate()
      buffer = .allocate(byteCount: block.rawLength, alignment: 16)
    }
    let length = ZSTD_decompress(buffer.baseAddress, block.rawLength, stored.baseAddress, stored.count)
    guard ZSTD_isError(length) == 0, length == block.rawLength else { return nil }
    return UnsafeRawBufferPointer(rebasing: buffer[0..<length])
  }
}
