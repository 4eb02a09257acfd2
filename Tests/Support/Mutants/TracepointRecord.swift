/// One recorded event, whatever file it came from.
public struct TracepointRecord: Sendable {
  /// The trace's clock.
  public var nanoseconds: UInt64
  /// The CPU in whose buffer it lies.
  public var cpu: Int
  /// The record as the kernel wrote it, `common_type` first.
  public var bytes: [UInt8]
  /// The record's place in the file it came from: perf.data finds the rest of its sample there.
  public var origin: Int
  /// Taken back by the kernel after it was written (an event filter's doing); the bytes stay, as padding.
  public var discarded = false
  /// So many records of the same CPU right before this one were lost, and the recorder says so.
  public var lostBefore: UInt64 = 0

  /// One record.
  public init(nanoseconds: UInt64, cpu: Int, bytes: [UInt8], origin: Int) {
    self.nanoseconds = nanoseconds
    self.cpu = cpu
    self.bytes = bytes
    self.origin = origin
  }

  /// `common_type`: the event's id.
  public var id: Int { bytes.count >= 2 ? Int(bytes[0]) | Int(bytes[1]) << 8 : -1 }
  /// `common_pid`: the thread. All kernels have it at offset 4.
  public var thread: UInt32 {
    guard bytes.count >= 8 else { return 0 }
    return UInt32(bytes[4]) | UInt32(bytes[5]) << 8 | UInt32(bytes[6]) << 16 | UInt32(bytes[7]) << 24
  }
}

/// Little-endian numbers, appended.
extension [UInt8] {
  mutating func append<Number: FixedWidthInteger>(number: Number) {
    Swift.withUnsafeBytes(of: number.littleEndian) { append(contentsOf: $0) }
  }
}

/// Reads a file's parts one after the other; what lies beyond the end is an error, for samples are whole.
struct PartReader {
  struct Short: Error { var at: Int }
  let bytes: [UInt8]
  var position: Int

  mutating func take(_ count: Int) throws -> [UInt8] {
    guard count >= 0, position <= bytes.count, count <= bytes.count - position else { throw Short(at: position) }
    defer { position += count }
    return Array(bytes[position..<position + count])
  }

  mutating func number<Number: FixedWidthInteger>(_ type: Number.Type) throws -> Number {
    let size = MemoryLayout<Number>.size
    guard position <= bytes.count, size <= bytes.count - position else { throw Short(at: position) }
    defer { position += size }
    return bytes.withUnsafeBytes { Number(littleEndian: $0.loadUnaligned(fromByteOffset: position, as: Number.self)) }
  }

  mutating func string() throws -> String {
    guard let end = bytes[position...].firstIndex(of: 0) else { throw Short(at: position) }
    defer { position = end + 1 }
    return String(decoding: bytes[position..<end], as: UTF8.self)
  }

  mutating func text<Number: FixedWidthInteger>(sizedBy type: Number.Type) throws -> String {
    String(decoding: try take(Int(truncatingIfNeeded: try number(type))), as: UTF8.self)
  }
}
