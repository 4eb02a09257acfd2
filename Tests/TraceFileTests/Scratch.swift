import Foundation
import Glibc
import Testing

@testable import TraceFile

/// A file that lives as long as this object.
final class ScratchFile {
  let path: String
  let descriptor: Int32

  init(folder: String = FileManager.default.temporaryDirectory.path) throws {
    path = "\(folder)/kvmtax-test-\(UUID().uuidString)"
    descriptor = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    try #require(descriptor >= 0)
  }

  deinit {
    close(descriptor)
    unlink(path)
  }

  var bytes: [UInt8] {
    get throws { [UInt8](try Data(contentsOf: URL(fileURLWithPath: path))) }
  }
}

extension [UInt8] {
  /// Reads them as a trace file.
  func trace(_ rung: TraceRung) throws -> TraceContents {
    try withUnsafeBytes { try readTrace($0, path: "test.kvmtax", using: rung) }
  }
}
