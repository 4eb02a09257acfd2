import Attribution
import Foundation
import Testing
import TestSupport

@testable import Tracer

@Suite struct OutputFileTests {
  private func found(_ path: String, force: Bool = false) -> String? {
    do throws(InputError) {
      let file = try OutputFile(path, force: force)
      try file.putInPlace()
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

  @Test func `A file that force would replace is kept until the recording begins`() throws {
    let folder = try ScratchFolder()
    try Data("precious".utf8).write(to: URL(filePath: folder.file("a")))
    let file = try OutputFile(folder.file("a"), force: true)
    #expect(try String(contentsOfFile: folder.file("a"), encoding: .utf8) == "precious")
    file.discard()
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["a"])
    #expect(try String(contentsOfFile: folder.file("a"), encoding: .utf8) == "precious")
  }

  @Test func `Only our own file is taken away, and one that has gone is missed`() throws {
    let folder = try ScratchFolder()
    let file = try OutputFile(folder.file("a"), force: false)
    #expect(file.isInPlace)
    #expect(rename(folder.file("a"), folder.file("b")) == 0)
    #expect(!file.isInPlace)
    try Data("another's".utf8).write(to: URL(filePath: folder.file("a")))
    #expect(!file.isInPlace)
    file.discard()
    #expect(try String(contentsOfFile: folder.file("a"), encoding: .utf8) == "another's")
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
    #expect(found(folder.path + "/") != nil)
    #expect(found("..", force: true) != nil)
  }

  @Test func `The default name sorts by time`() {
    let names = [0, 86_400, 1_000_000_000, 1_795_000_000].map { OutputFile.defaultName(at: $0) }
    #expect(names == names.sorted())
    #expect(names.allSatisfy { $0.hasPrefix("kvmtax-") && $0.hasSuffix(".kvmtax") })
  }
}
