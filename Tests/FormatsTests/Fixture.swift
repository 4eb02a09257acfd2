import Foundation
import Formats

/// The format texts of two kernels, and older layouts made from them.
enum Fixture {
  static let folder = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Fixtures")

  static func text(_ kernel: String, _ event: String) throws -> String {
    try String(contentsOf: folder.appending(path: "formats-\(kernel)/\(event).format"), encoding: .utf8)
  }

  /// "6.1/kvm_exit" and so on, all of them.
  static let all: [String] = ["6.1", "6.18"].flatMap { kernel in
    let folder = folder.appending(path: "formats-\(kernel)").path
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    return names.sorted().map { "\(kernel)/\($0.replacing(".format", with: ""))" }
  }
}
