import Attribution
import CKvmtax
import Testing

@testable import TraceFile

/// A file put together block by block, with correct checksums over whatever the blocks hold.
struct BuiltFile {
  var bytes: [UInt8]
  private var sequence: UInt64 = 0

  init(version: UInt32 = TraceFormat.version) {
    var header = FileHeader(
      clocks: Clocks(
        monotonicNanoseconds: 1000, boottimeNanoseconds: 2000, realtimeNanoseconds: 3000, tsc: 4000))
    header.version = version
    bytes = header.encoded
  }

  mutating func add(
    _ type: UInt16, _ payload: [UInt8], schema: UInt64 = 0, rawLength: UInt32? = nil, storedLength: UInt32? = nil,
    flags: UInt16 = 0
  ) {
    var header = BlockHeader(
      type: type, storedLength: storedLength ?? UInt32(payload.count), rawLength: rawLength ?? UInt32(payload.count),
      sequence: sequence, payloadChecksum: payload.withUnsafeBytes { Checksum.crc32c($0) })
    header.flags = flags
    header.schema = schema
    header.write(to: &bytes)
    bytes += payload
    while bytes.count % 8 != 0 { bytes.append(0) }
    sequence += 1
  }

  mutating func add(_ type: BlockType, _ entries: [ByteWriter]) {
    var payload = ByteWriter()
    for entry in entries { payload.append(entry: entry) }
    add(type.rawValue, payload.bytes)
  }
}
