/// The pages of one CPU's part of a trace.dat, one at a time: as they lie in the file, or out of compressed chunks.
struct RingBufferPages {
  private let bytes: UnsafeRawBufferPointer
  private let pageSize: Int
  private let compression: Compression
  private let maximumChunkSize: Int
  /// File offsets of what is left: pages, or chunks.
  private var position: Int
  private var end: Int
  private var chunksLeft: UInt32 = 0
  private var chunk: Decompressed?
  private var chunkPosition = 0
  private var chunkOffset = 0
  /// Chunks that could not be used.
  private(set) var damagedChunks = 0

  /// The region must lie inside `bytes`. `chunkBudget` bounds the memory that this CPU may take.
  init(
    _ bytes: UnsafeRawBufferPointer, _ data: TraceDatHeader.CpuData, _ buffer: TraceDatHeader.Buffer, chunkBudget: Int
  ) {
    self.bytes = bytes
    pageSize = buffer.pageSize
    compression = buffer.compression
    maximumChunkSize = chunkBudget
    position = Int(data.offset)
    end = Int(data.offset + data.size)
    if compression != .none {
      guard var cursor = ByteCursor(bytes, at: data.offset), let count = cursor.u32(), cursor.position <= end else {
        position = end
        return
      }
      chunksLeft = count
      // the size that trace-cmd writes leaves out the count of chunks itself
      end = min(end + 4, bytes.count)
      position = cursor.position
    }
  }

  /// Bytes of the file already taken.
  var fileOffset: Int { position }

  /// The times of the next two pages, where they can be read without decompressing more.
  var nextTimes: (first: UInt64?, second: UInt64?) {
    let (source, place, end) =
      compression == .none
      ? (bytes, position, end) : chunk.map { ($0.bytes, chunkPosition, $0.bytes.count) } ?? (bytes, 0, 0)
    func time(_ place: Int) -> UInt64? {
      place <= end - 8 ? source.loadUnaligned(fromByteOffset: place, as: UInt64.self) : nil
    }
    return (time(place), time(place + pageSize))
  }

  /// The next page, the last one possibly short, and the file offset of it or of its chunk; nil at the end.
  mutating func next(_ damage: inout DamageLog) -> (page: UnsafeRawBufferPointer, offset: Int)? {
    if compression == .none {
      guard position < end else { return nil }
      let size = min(pageSize, end - position)
      defer { position += size }
      return (UnsafeRawBufferPointer(rebasing: bytes[position..<(position + size)]), position)
    }
    while true {
      if let chunk, chunkPosition < chunk.bytes.count {
        let size = min(pageSize, chunk.bytes.count - chunkPosition)
        defer { chunkPosition += size }
        return (
          UnsafeRawBufferPointer(rebasing: chunk.bytes[chunkPosition..<(chunkPosition + size)]), chunkOffset
        )
      }
      guard nextChunk(&damage) else { return nil }
    }
  }

  /// Decompresses the next intact chunk; false at the end.
  private mutating func nextChunk(_ damage: inout DamageLog) -> Bool {
    chunk = nil
    while chunksLeft > 0 {
      chunksLeft -= 1
      chunkOffset = position
      guard var cursor = ByteCursor(bytes, at: UInt64(position)), let packed = cursor.u32(), let plain = cursor.u32(),
        cursor.position <= end, Int(packed) <= end - cursor.position, let source = cursor.take(packed)
      else {
        damage.add(offset: UInt64(position), length: UInt64(end - position), "a compressed chunk is cut short")
        damagedChunks += 1
        position = end
        chunksLeft = 0
        return false
      }
      position = cursor.position
      guard plain > 0, Int(plain) <= maximumChunkSize,
        let content = Decompressed(source, size: Int(plain), compression: compression)
      else {
        damage.add(offset: UInt64(chunkOffset), length: UInt64(packed) + 8, "a compressed chunk is damaged")
        damagedChunks += 1
        continue
      }
      chunk = content
      chunkPosition = 0
      return true
    }
    return false
  }
}
