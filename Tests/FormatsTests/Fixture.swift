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

  /// A format text with the usual common fields and the given ones, "type name" each, laid out as a C compiler does.
  static func text(name: String, id: Int = 99, fields: [(type: String, name: String, size: Int)]) -> String {
    var text = """
      name: \(name)
      ID: \(id)
      format:
      \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
      \tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;
      \tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;
      \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;


      """
    var offset = 8
    for field in fields {
      offset = (offset + field.size - 1) / field.size * field.size
      text += "\tfield:\(field.type) \(field.name);\toffset:\(offset);\tsize:\(field.size);\tsigned:0;\n"
      offset += field.size
    }
    return text + "\nprint fmt: \"\(name)\"\n"
  }
}
