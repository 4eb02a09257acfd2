import CZstd

/// The types of records that are looked at (include/uapi/linux/perf_event.h and perf's util/event.h).
enum PerfRecordType {
  static let lost: UInt32 = 2
  static let comm: UInt32 = 3
  static let fork: UInt32 = 7
  static let sample: UInt32 = 9
  static let lostSamples: UInt32 = 13
  static let attribute: UInt32 = 64
  static let tracingData: UInt32 = 66
  static let finishedRound: UInt32 = 68
  static let auxtrace: UInt32 = 71
  static let feature: UInt32 = 80
  static let compressed: UInt32 = 81
  static let compressed2: UInt32 = 83
}

/// One record: its type, what follows its header, and the place of it (or of the compressed record that held it).
struct PerfRecord {
  var type: UInt32
  var body: UnsafeRawBufferPointer
  var offset: UInt64
  /// What follows the record itself: the formats in a pipe's stream.
  var payload = UnsafeRawBufferPointer(start: nil, count: 0)
}

/// The records of a perf.data one after the other, out of compressed ones too.
struct PerfRecords {
  private let bytes: UnsafeRawBufferPointer
  private let end: Int
  private(set) var position: Int
  private var inflater: PerfInflater?
  /// The compressed record whose content is being given out, and what of its data is left.
  private var packed: UnsafeRawBufferPointer?
  private var packedOffset: UInt64 = 0

  init(_ bytes: UnsafeRawBufferPointer, offset: UInt64, size: UInt64) {
    self.bytes = bytes
    position = Int(clamping: min(offset, UInt64(bytes.count)))
    let (end, overflow) = offset.addingReportingOverflow(size)
    self.end = overflow ? bytes.count : Int(clamping: min(end, UInt64(bytes.count)))
  }

  /// The next record; nil at the end or where records can no longer be told apart, which `damage` then says.
  /// A record out of a compressed one is valid until the next call.
  @inline(__always) mutating func next(_ damage: inout DamageLog) -> PerfRecord? {
    if inflater != nil, let record = nextUnpacked(&damage) { return record }
    while end - position >= 8 {
      let type = bytes.loadUnaligned(fromByteOffset: position, as: UInt32.self)
      let size = Int(bytes.loadUnaligned(fromByteOffset: position + 6, as: UInt16.self))
      guard size >= 8, size <= end - position else { break }
      let offset = position
      let body = UnsafeRawBufferPointer(rebasing: bytes[(position + 8)..<(position + size)])
      position += size
      var record = PerfRecord(type: type, body: body, offset: UInt64(offset))
      switch type {
      case PerfRecordType.auxtrace, PerfRecordType.tracingData:
        guard takePayload(&record) else {
          damage.add(offset: record.offset, length: UInt64(end - offset), "a record's data is cut short")
          position = end
          return nil
        }
      case PerfRecordType.compressed, PerfRecordType.compressed2:
        unpack(record)
        if let record = nextUnpacked(&damage) { return record }
        continue
      default: break
      }
      return record
    }
    if position < end {
      damage.add(offset: UInt64(position), length: UInt64(end - position), "a record's header is damaged or cut short")
      position = end
    }
    return nil
  }

  /// Data behind the record that its size does not count.
  private mutating func takePayload(_ record: inout PerfRecord) -> Bool {
    guard var cursor = ByteCursor(record.body) else { return false }
    let size =
      record.type == PerfRecordType.auxtrace
      ? cursor.u64() : cursor.u32().map { (UInt64($0) + 7) & ~7 }
    guard let size, size <= UInt64(end - position) else { return false }
    record.payload = UnsafeRawBufferPointer(rebasing: bytes[position..<(position + Int(size))])
    position += Int(size)
    return true
  }

  private mutating func unpack(_ record: PerfRecord) {
    var data = record.body
    if record.type == PerfRecordType.compressed2 {
      var cursor = ByteCursor(record.body)
      guard let size = cursor?.u64(), let content = cursor?.take(size) else {
        data = UnsafeRawBufferPointer(start: nil, count: 0)
        return
      }
      data = content
    }
    if inflater == nil { inflater = PerfInflater() }
    packed = data
    packedOffset = record.offset
  }

  /// The next record out of the compressed one; nil when it is used up.
  @inline(never) private mutating func nextUnpacked(_ damage: inout DamageLog) -> PerfRecord? {
    guard let inflater else { return nil }
    while true {
      if let (type, body) = inflater.next() { return PerfRecord(type: type, body: body, offset: packedOffset) }
      guard let data = packed, !inflater.isBroken else {
        if inflater.isBroken, packed != nil {
          damage.add(offset: packedOffset, length: UInt64(end) - packedOffset, "compressed records are damaged")
          packed = nil
          position = end
        }
        return nil
      }
      packed = inflater.inflate(data)
    }
  }
}

/// perf's zstd stream: one frame over all compressed records, whose content is records again, cut anywhere.
final class PerfInflater {
  private let stream: OpaquePointer?
  private let buffer: UnsafeMutableRawBufferPointer
  private var start = 0
  private var end = 0
  /// The stream cannot be read on from here.
  private(set) var isBroken = false

  init() {
    stream = ZSTD_createDStream()
    buffer = .allocate(byteCount: 1 << 20, alignment: 16)
    isBroken = stream == nil
  }

  deinit {
    ZSTD_freeDStream(stream)
    buffer.deallocate()
  }

  /// The next whole record in the buffer.
  func next() -> (type: UInt32, body: UnsafeRawBufferPointer)? {
    guard end - start >= 8 else { return nil }
    let type = buffer.loadUnaligned(fromByteOffset: start, as: UInt32.self)
    let size = Int(buffer.loadUnaligned(fromByteOffset: start + 6, as: UInt16.self))
    guard size >= 8 else {
      isBroken = true
      return nil
    }
    guard size <= end - start else { return nil }
    defer { start += size }
    return (type, UnsafeRawBufferPointer(rebasing: buffer[(start + 8)..<(start + size)]))
  }

  /// Fills the buffer behind what is left in it; returns the input that is left, nil when all is taken.
  func inflate(_ data: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
    if start > 0 {
      buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: buffer[start..<end]))
      end -= start
      start = 0
    }
    var input = ZSTD_inBuffer(src: data.baseAddress, size: data.count, pos: 0)
    var output = ZSTD_outBuffer(dst: buffer.baseAddress, size: buffer.count, pos: end)
    let before = (input.pos, output.pos)
    let status = ZSTD_decompressStream(stream, &output, &input)
    if ZSTD_isError(status) != 0 {
      isBroken = true
      return data
    }
    end = output.pos
    let isFull = output.pos == output.size
    if input.pos == input.size, !isFull { return nil }
    if (input.pos, output.pos) == before {
      isBroken = true
      return data
    }
    return UnsafeRawBufferPointer(rebasing: data[input.pos...])
  }
}
