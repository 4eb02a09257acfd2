import Foundation
import Formats

/// The format texts of several kernels: all of 6.1 and 6.18, and of others those that a tracer reads.
enum Fixture {
  static let folder = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Fixtures")

  static let kernels = ["5.10", "6.1", "6.12", "6.18", "7.2"]

  static func text(_ kernel: String, _ event: String) throws -> String {
    try String(contentsOf: folder.appending(path: "formats-\(kernel)/\(event).format"), encoding: .utf8)
  }

  /// "6.1/kvm_exit" and so on, all of them.
  static let all: [String] = kernels.flatMap { kernel in
    let folder = folder.appending(path: "formats-\(kernel)").path
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    return names.sorted().map { "\(kernel)/\($0.replacing(".format", with: ""))" }
  }
}
