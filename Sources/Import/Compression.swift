import CZlib
import CZstd

/// How a part of a file is compressed.
enum Compression: Equatable {
  case none
  case zlib
  case zstd

  /// By trace-cmd's name of the algorithm.
  init?(name: String) {
    switch name {
    case "none", "": self = .none
    case "zlib": self = .zlib
    case "zstd": self = .zstd
    default: return nil
    }
  }

  /// Fills `target` exactly; false if the data is damaged or of another size.
  func decompress(_ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer) -> Bool {
    guard let from = source.baseAddress, let to = target.baseAddress else { return false }
    switch self {
    case .none:
      guard source.count == target.count else { return false }
      to.copyMemory(from: from, byteCount: source.count)
      return true
    case .zlib:
      var size = uLongf(target.count)
      let status = uncompress(
        to.assumingMemoryBound(to: UInt8.self), &size, from.assumingMemoryBound(to: UInt8.self), uLong(source.count))
      return status == Z_OK && size == uLongf(target.count)
    case .zstd:
      let size = ZSTD_decompress(to, target.count, from, source.count)
      return ZSTD_isError(size) == 0 && size == target.count
    }
  }
}

/// Memory that holds decompressed parts of a file for as long as this object lives.
final class Decompressed {
  let bytes: UnsafeRawBufferPointer
  private let storage: UnsafeMutableRawBufferPointer

  /// Nil if the data is damaged.
  init?(_ source: UnsafeRawBufferPointer, size: Int, compression: Compression) {
    storage = .allocate(byteCount: size, alignment: 16)
    bytes = UnsafeRawBufferPointer(storage)
    guard compression.decompress(source, into: storage) else {
      return nil
    }
  }

  deinit { storage.deallocate() }
}
