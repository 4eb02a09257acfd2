import Attribution
import Files
import Foundation
import TestSupport
import Testing

@Suite struct MappedFileTests {
  @Test func `A file cut while it is mapped ends with status 3, not with a crash`() async {
    await #expect(processExitsWith: .exitCode(3)) {
      let folder = try ScratchFolder()
      let path = try folder.write([UInt8](repeating: 7, count: 1 << 20), to: "a")
      let file = try MappedFile(path: path)
      precondition(file.bytes[1 << 19] == 7)
      truncate(path, 0)
      _exit(file.bytes[1 << 19] == 7 ? 0 : 1)
    }
  }

  @Test(arguments: ["missing", "folder", "empty", "pipe", "device"])
  func `What is no file with content is refused by name`(kind: String) throws {
    let folder = try ScratchFolder()
    var path = folder.file("it")
    switch kind {
    case "folder": path = folder.path
    case "empty": path = try folder.write([], to: "it")
    case "pipe": mkfifo(path, 0o600)
    case "device": path = "/dev/zero"
    default: break
    }
    do {
      let file = try MappedFile(path: path)
      Issue.record("mapped \(file.bytes.count) bytes")
    } catch {
      #expect(error.file == path)
      #expect(!error.found.isEmpty)
    }
  }
}
