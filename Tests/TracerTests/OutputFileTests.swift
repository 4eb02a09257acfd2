import Attribution
import Foundation
import Testing
import TestSupport

@testable import Tracer

@Suite struct OutputFileTests {
  private func found(_ path: String, force: Bool = false) -> String? {
    do {
      close(try OutputFile.create(path, force: force))
      return nil
    } catch { return error.found }
  }

  @Test func `A new file is the owner's alone`() throws {
    let folder = try ScratchFolder()
    #expect(found(folder.file("a")) == nil)
    let mode = try FileManager.default.attributesOfItem(atPath: folder.file("a"))[.posixPermissions] as? Int
    #expect(mode == 0o600)
  }

  @Test func `An existing file is kept, unless force replaces it with an empty one`() throws {
    let folder = try ScratchFolder()
    try Data("precious".utf8).write(to: URL(filePath: folder.file("a")))
    #expect(found(folder.file("a")) == "exists")
    #expect(try String(contentsOfFile: folder.file("a"), encoding: .utf8) == "precious")
    #expect(found(folder.file("a"), force: true) == nil)
    #expect(try String(contentsOfFile: folder.file("a"), encoding: .utf8) == "")
  }

  @Test(arguments: [true, false]) func `No symbolic link is followed, whatever it points at`(force: Bool) throws {
    let folder = try ScratchFolder()
    try Data("precious".utf8).write(to: URL(filePath: folder.file("target")))
    symlink(folder.file("target"), folder.file("link"))
    symlink(folder.file("nothing"), folder.file("dangling"))
    #expect(found(folder.file("link"), force: force)?.contains("symbolic link") == true)
    #expect(found(folder.file("dangling"), force: force)?.contains("symbolic link") == true)
    #expect(try String(contentsOfFile: folder.file("target"), encoding: .utf8) == "precious")
    #expect(access(folder.file("nothing"), F_OK) != 0)
  }

  @Test func `Folders and missing folders are refused`() throws {
    let folder = try ScratchFolder()
    #expect(found(folder.path, force: true) != nil)
    #expect(found(folder.file("no/such/folder")) != nil)
  }

  @Test func `The default name sorts by time`() {
    let names = [0, 86_400, 1_000_000_000, 1_795_000_000].map { OutputFile.defaultName(at: $0) }
    #expect(names == names.sorted())
    #expect(names.allSatisfy { $0.hasPrefix("kvmtax-") && $0.hasSuffix(".kvmtax") })
  }
}
