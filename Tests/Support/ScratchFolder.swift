import Foundation

/// A folder that goes when the last one who holds it is gone.
public final class ScratchFolder: Sendable {
  /// The folder's path.
  public let path: String

  /// Makes one in the system's place for temporary files.
  public init() throws {
    path = NSTemporaryDirectory() + "/kvmtax-test-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  /// A file's path inside.
  public func file(_ name: String) -> String { path + "/" + name }

  /// Writes a file and gives its path.
  public func write(_ bytes: [UInt8], to name: String) throws -> String {
    try Data(bytes).write(to: URL(fileURLWithPath: file(name)))
    return file(name)
  }
}
