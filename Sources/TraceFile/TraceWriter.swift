import Attribution
import CKvmtax
import CZstd
import Glibc

/// Why a block could not be appended. The file is as it was before the attempt, whole blocks only, unless
/// `isDamaged` says otherwise.
public struct TraceWriteError: Error, Equatable, Sendable, CustomStringConvertible {
  /// For failures of whoever owns the descriptor.
  public init(call: String, code: Int32) {
    self.call = call
    self.code = code
  }

  /// The system call that failed.
  public var call: String
  /// Its errno.
  public var code: Int32
  /// Part of a block could not be taken back (ftruncate failed as well).
  public var isDamaged = false

  /// The file system, a quota or a size limit has no room; another try may work later.
  public var isDiskFull: Bool { [ENOSPC, EDQUOT, EFBIG].contains(code) }

  /// "pwrite: No space left on device".
  public var description: String { "\(call): \(String(cString: strerror(code)))" }
}

/// Appends blocks to a file that the caller opened for writing and closes. It writes a file header at once, a block per
/// call, and never leaves part of a block behind an error.
///
/// Where the file system can, each append first asks for the block's room plus a reserve; so a disk that runs full is
/// noticed before anything is written, and the reserve remains for the notes and the end that say so.
public struct TraceWriter: ~Copyable {
  private let descriptor: Int32
  private let reserve: Int
  private var canReserve = true
  private var sequence: UInt64 = 0
  private var recordsSinceSchema = 0
  private var schemaWritten: UInt64 = 0
  private var buffer: [UInt8] = []
  private var packed: [UInt8] = []
  private let context: OpaquePointer?
  /// The file's length: whole blocks.
  public private(set) var bytesWritten: UInt64 = 0
  /// Exit or event records written.
  public private(set) var recordsWritten: UInt64 = 0
  /// Snapshots written.
  public internal(set) var snapshotsWritten: UInt64 = 0

  /// The schema is repeated after so many records, so that a damaged block does not take the records' meaning with it.
  static let recordsPerSchema = 1 << 20
  /// Records per block: 1 MiB of exits, half of that of events.
  static let recordsPerBlock = 1 << 13
  /// What remains of the reserve for the last notes and the end when a snapshot may use it.
  static let lastReserve = 8 << 10
  /// A list that grows beyond this is continued in another block.
  static let listLimit = 256 << 10

  /// Truncates the file and writes the header. `reserve` bytes are kept free for the end of the recording.
  public init(descriptor: Int32, clocks: Clocks = .now(), reserve: Int = 64 << 10) throws(TraceWriteError) {
    self.descriptor = descriptor
    self.reserve = max(0, reserve)
    context = ZSTD_createCCtx()
    guard ftruncate(descriptor, 0) == 0 else { throw TraceWriteError(call: "ftruncate", code: errno) }
    buffer = FileHeader(clocks: clocks).encoded
    try writeBuffer(keeping: self.reserve)
  }

  deinit { ZSTD_freeCCtx(context) }

  // MARK: Blocks

  /// Facts about the recording.
  public mutating func append(_ facts: [CaptureFact]) throws(TraceWriteError) { try appendList(facts) }

  /// Format texts.
  public mutating func append(_ formats: [FormatText]) throws(TraceWriteError) { try appendList(formats) }

  /// Processes that are new or of which more is known.
  public mutating func append(_ processes: [TracedProcess], usingReserve: Bool = false) throws(TraceWriteError) {
    try appendList(processes, usingReserve: usingReserve)
  }

  /// Threads that are new or of which more is known.
  public mutating func append(_ threads: [TracedThread], usingReserve: Bool = false) throws(TraceWriteError) {
    try appendList(threads, usingReserve: usingReserve)
  }

  /// Absolute totals of the CPUs that lost something.
  public mutating func append(_ losses: [CPULosses], usingReserve: Bool = false) throws(TraceWriteError) {
    try appendList(losses, usingReserve: usingReserve)
  }

  /// A gap.
  public mutating func append(_ gap: TraceGap, usingReserve: Bool = false) throws(TraceWriteError) {
    try appendList([gap], usingReserve: usingReserve)
  }

  /// A note; it may use the reserve.
  public mutating func append(_ note: TraceNote) throws(TraceWriteError) { try appendList([note], usingReserve: true) }

  /// KVM's own counts of threads.
  public mutating func append(_ looks: [TracedLooks], usingReserve: Bool = false) throws(TraceWriteError) {
    try appendList(looks, usingReserve: usingReserve)
  }

  /// Exit records, copied into the file as they are.
  public mutating func append(_ records: UnsafeBufferPointer<kt_exit_record>) throws(TraceWriteError) {
    try appendRecords(records, type: .exits)
  }

  /// Event records, copied into the file as they are. Those of one CPU have to come in their order.
  public mutating func append(_ events: UnsafeBufferPointer<kt_event>) throws(TraceWriteError) {
    try appendRecords(events, type: .events)
  }

  /// Records of one kind; a recording has one kind only.
  private mutating func appendRecords<Record: TraceRecord>(
    _ records: UnsafeBufferPointer<Record>, type: BlockType
  ) throws(TraceWriteError) {
    var rest = records[...]
    while !rest.isEmpty {
      if recordsSinceSchema == 0 || recordsSinceSchema >= TraceWriter.recordsPerSchema
        || schemaWritten != Record.schemaId
      {
        try append(Record.schema)
        recordsSinceSchema = 0
        schemaWritten = Record.schemaId
      }
      let part = rest.prefix(TraceWriter.recordsPerBlock)
      let bytes = UnsafeRawBufferPointer(UnsafeBufferPointer(rebasing: part))
      try append(type: type.rawValue, payload: bytes, packing: false, schema: Record.schemaId)
      recordsSinceSchema &+= part.count
      recordsWritten &+= UInt64(part.count)
      rest = rest.dropFirst(part.count)
    }
  }

  /// A schema other than today's; `append` of records writes theirs itself.
  public mutating func append(_ schema: RecordSchema) throws(TraceWriteError) {
    let text = Array(schema.text.utf8)
    try text.withUnsafeBufferPointer { (bytes) throws(TraceWriteError) in
      try append(
        type: BlockType.schema.rawValue, payload: UnsafeRawBufferPointer(bytes), packing: false, schema: schema.id)
    }
  }

  /// What was measured on this host before.
  public mutating func append(_ calibration: Calibration) throws(TraceWriteError) {
    let text = Array(calibration.text.utf8)
    try text.withUnsafeBufferPointer { (bytes) throws(TraceWriteError) in
      try append(type: BlockType.calibration.rawValue, payload: UnsafeRawBufferPointer(bytes), packing: true)
    }
  }

  /// The end; may use the reserve, and gives back what is left of it.
  public mutating func end(_ end: TraceEnd) throws(TraceWriteError) {
    try appendList([end], usingReserve: true)
    // what was reserved behind the file is given back; where that fails, closing the file does it or nothing does
    if canReserve { _ = ftruncate(descriptor, off_t(bytesWritten)) }
  }

  /// Any block. `packing`: compress it where that makes it smaller.
  public mutating func append(
    type: UInt16, payload: UnsafeRawBufferPointer, packing: Bool, schema: UInt64 = 0, usingReserve: Bool = false
  ) throws(TraceWriteError) {
    guard payload.count <= TraceFormat.payloadLimit else { throw TraceWriteError(call: "append", code: EMSGSIZE) }
    let packedLength = packing ? pack(payload) : nil
    let storedLength = packedLength ?? payload.count
    let checksum =
      packedLength == nil
      ? Checksum.crc32c(payload)
      : packed.withUnsafeBytes { Checksum.crc32c(UnsafeRawBufferPointer(rebasing: $0[0..<storedLength])) }
    var header = BlockHeader(
      type: type, storedLength: UInt32(storedLength), rawLength: UInt32(payload.count), sequence: sequence,
      payloadChecksum: checksum)
    header.flags = packedLength == nil ? 0 : BlockHeader.packedFlag
    header.schema = schema
    buffer.removeAll(keepingCapacity: true)
    buffer.reserveCapacity(TraceFormat.blockHeaderLength + header.paddedLength)
    header.write(to: &buffer)
    if packedLength == nil {
      buffer.append(contentsOf: payload)
    } else {
      buffer.append(contentsOf: packed[0..<storedLength])
    }
    while buffer.count % TraceFormat.alignment != 0 { buffer.append(0) }
    let isSnapshot = type == BlockType.snapshot.rawValue
    try writeBuffer(keeping: usingReserve ? isSnapshot ? min(reserve, TraceWriter.lastReserve) : 0 : reserve)
    sequence &+= 1
  }

  // MARK: Details

  private mutating func appendList<Item: Entry>(_ items: [Item], usingReserve: Bool = false) throws(TraceWriteError) {
    var list = ByteWriter()
    var entry = ByteWriter()
    for item in items {
      entry.removeAll()
      item.write(to: &entry)
      if !list.bytes.isEmpty, list.bytes.count + entry.bytes.count > TraceWriter.listLimit {
        try append(list, type: Item.type, usingReserve: usingReserve)
        list.removeAll()
      }
      list.append(entry: entry)
    }
    if !list.bytes.isEmpty { try append(list, type: Item.type, usingReserve: usingReserve) }
  }

  mutating func append(_ payload: ByteWriter, type: BlockType, usingReserve: Bool) throws(TraceWriteError) {
    try payload.bytes.withUnsafeBufferPointer { (bytes) throws(TraceWriteError) in
      try append(
        type: type.rawValue, payload: UnsafeRawBufferPointer(bytes), packing: true, usingReserve: usingReserve)
    }
  }

  /// Compresses into `packed`; nil when that gains nothing, or unpacks to more than a reader accepts.
  private mutating func pack(_ payload: UnsafeRawBufferPointer) -> Int? {
    guard payload.count > 64, let context else { return nil }
    let room = ZSTD_compressBound(payload.count)
    if packed.count < room { packed = [UInt8](repeating: 0, count: room) }
    let length = packed.withUnsafeMutableBytes {
      ZSTD_compressCCtx(context, $0.baseAddress, $0.count, payload.baseAddress, payload.count, 1)
    }
    guard ZSTD_isError(length) == 0, length < payload.count,
      payload.count <= max(TraceFormat.freeRawLength, length &* TraceFormat.expansionLimit)
    else { return nil }
    return length
  }

  /// Writes `buffer` behind the last whole block, all of it or nothing, and only if so much room remains behind it.
  private mutating func writeBuffer(keeping room: Int) throws(TraceWriteError) {
    if canReserve, room > 0 { try claim(buffer.count + room) }
    var failure: Int32 = 0
    var done = 0
    let start = off_t(bytesWritten)
    buffer.withUnsafeBytes { bytes in
      while done < bytes.count, let base = bytes.baseAddress {
        let count = pwrite(descriptor, base + done, bytes.count - done, start + off_t(done))
        if count > 0 {
          done += count
        } else if count == 0 || errno != EINTR {
          failure = count == 0 ? ENOSPC : errno
          return
        }
      }
    }
    guard failure != 0 else {
      bytesWritten &+= UInt64(buffer.count)
      return
    }
    var error = TraceWriteError(call: "pwrite", code: failure)
    error.isDamaged = done > 0 && ftruncate(descriptor, start) != 0
    throw error
  }

  /// Asks for room behind the last block, beyond the file's end; nothing changes where the file system cannot do that.
  private mutating func claim(_ length: Int) throws(TraceWriteError) {
    while kt_claim_room(descriptor, bytesWritten, UInt64(length)) != 0 {
      switch errno {
      case EINTR: continue
      case ENOSPC, EDQUOT, EFBIG: throw TraceWriteError(call: "fallocate", code: errno)
      default:
        canReserve = false
        return
      }
    }
  }
}
