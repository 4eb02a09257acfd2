import Attribution
import CKvmtax
import Foundation
import Glibc
import Testing

@testable import TraceFile

/// A file system of a few hundred KiB; unmounted with its owner.
final class SmallDisk {
  let path: String

  init(kibibytes: Int) throws {
    path = FileManager.default.temporaryDirectory.path + "/kvmtax-disk-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
    guard mount("tmpfs", path, "tmpfs", 0, "size=\(kibibytes)k") == 0 else {
      rmdir(path)
      throw MountError(code: errno)
    }
  }

  struct MountError: Error { var code: Int32 }

  deinit {
    umount(path)
    rmdir(path)
  }

  /// Why there can be none here; nil where there can.
  static let blocker: String? = {
    do {
      _ = try SmallDisk(kibibytes: 64)
      return nil
    } catch {
      return "a tmpfs cannot be mounted here (root can): \(error)"
    }
  }()
}

@Suite struct WriterTests {
  private static let disk = SmallDisk.blocker

  @Test(.enabled(if: disk == nil, Comment(rawValue: disk ?? "")), arguments: [64, 96, 300, 500])
  func aFullDiskLeavesWholeBlocksAndRoomForTheEnd(kibibytes: Int) throws {
    let disk = try SmallDisk(kibibytes: kibibytes + 100)
    let file = try ScratchFile(folder: disk.path)
    let host = FakeHost(threads: 20)
    var writer = try TraceWriter(descriptor: file.descriptor, clocks: host.clocks)
    var encoder = SnapshotEncoder()
    var written: UInt64 = 0
    let failure = #expect(throws: TraceWriteError.self) {
      while written < 100_000 {
        host.run(nanoseconds: 1_000_000_000, exits: 37)
        try host.records.withUnsafeBufferPointer { try writer.append($0) }
        written += UInt64(host.records.count)
        host.records = []
        host.snapshot(&encoder, .changes)
        try encoder.write(to: &writer)
      }
    }
    #expect(failure?.isDiskFull == true && failure?.isDamaged == false)
    #expect(failure?.description.contains("No space left") == true)
    // it goes on failing, and changes nothing
    let length = writer.bytesWritten
    host.snapshot(&encoder, .complete)
    #expect(throws: TraceWriteError.self) {
      while true { try writer.append([CaptureFact(key: "a", value: "b")]) }
    }
    #expect(try UInt64(file.bytes.count) == writer.bytesWritten && writer.bytesWritten >= length)
    // a last snapshot that does not fit even into the reserve leaves room for the end
    let crowd = FakeHost(threads: 2_000)
    crowd.keepsRecords = false
    crowd.run(nanoseconds: 1_000_000_000, exits: 5)
    var last = SnapshotEncoder()
    crowd.snapshot(&last, .complete)
    #expect(throws: TraceWriteError.self) { try last.write(to: &writer, usingReserve: true) }
    try writer.append(TraceNote(monotonicNanoseconds: host.now, code: "disk-full", text: "the disk is full"))
    try writer.end(
      TraceEnd(
        clocks: host.clocks, reason: "disk-full", exits: 1, records: written, snapshots: writer.snapshotsWritten,
        lostRecords: 0))
    let contents = try file.bytes.trace(.exits)
    #expect(contents.end?.reason == "disk-full" && contents.evidence.trust.isComplete)
    #expect(contents.evidence.trust.damage.isEmpty)
    #expect(contents.exitRecordCount == written)
    #expect(contents.snapshotCount == writer.snapshotsWritten)
    #expect(contents.notes.map(\.code) == ["disk-full"])
  }

  @Test(.enabled(if: disk == nil, Comment(rawValue: disk ?? "")))
  func aWriteThatStopsHalfwayIsTakenBack() throws {
    let disk = try SmallDisk(kibibytes: 256)
    let file = try ScratchFile(folder: disk.path)
    var writer = try TraceWriter(descriptor: file.descriptor)
    try writer.append([CaptureFact(key: "host", value: "pve")])
    let before = try file.bytes
    // noise does not compress, and the reserve does not count: pwrite writes a part and then has no room
    var random = Random(state: 10)
    let noise = (0..<1 << 20).map { _ in UInt8.random(in: 0...255, using: &random) }
    let error = #expect(throws: TraceWriteError.self) {
      try noise.withUnsafeBytes { try writer.append(type: 99, payload: $0, packing: true, usingReserve: true) }
    }
    #expect(error?.call == "pwrite" && error?.isDiskFull == true && error?.isDamaged == false)
    #expect(try file.bytes == before)
    try writer.append([CaptureFact(key: "kernel", value: "6.12")])
    #expect(try file.bytes.trace(.accounts).facts.count == 2)
  }

  @Test func aDescriptorThatCannotBeWrittenIsNamed() throws {
    let file = try ScratchFile()
    let descriptor = open(file.path, O_RDONLY | O_CLOEXEC)
    defer { close(descriptor) }
    let error = #expect(throws: TraceWriteError.self) { _ = try TraceWriter(descriptor: descriptor) }
    #expect(error?.isDiskFull == false && error?.code == EINVAL)
    let full = open("/dev/full", O_WRONLY | O_CLOEXEC)
    defer { close(full) }
    #expect(throws: TraceWriteError.self) { _ = try TraceWriter(descriptor: full) }
  }

  @Test func nothingIsLeftBehindTheEnd() throws {
    let file = try ScratchFile()
    let host = FakeHost(threads: 1)
    var writer = try TraceWriter(descriptor: file.descriptor, reserve: 1 << 20)
    try writer.end(
      TraceEnd(clocks: host.clocks, reason: "duration", exits: 0, records: 0, snapshots: 0, lostRecords: 0))
    var status = stat()
    fstat(file.descriptor, &status)
    #expect(UInt64(status.st_size) == writer.bytesWritten)
    #expect(status.st_blocks * 512 < 1 << 20)
  }

  @Test func manyRecordsAreSplitAndTheSchemaIsRepeated() throws {
    let file = try ScratchFile()
    var writer = try TraceWriter(descriptor: file.descriptor)
    var record = kt_exit_record()
    record.thread = 1
    let records = [kt_exit_record](repeating: record, count: TraceWriter.recordsPerBlock * 2 + 1)
    for _ in 0..<65 { try records.withUnsafeBufferPointer { try writer.append($0) } }
    let blocks = try file.bytes.withUnsafeBytes { Array(TraceBlocks($0)) }
    #expect(blocks.count { $0.knownType == .exits } == 65 * 3)
    #expect(blocks.count { $0.knownType == .schema } == 2)
    #expect(blocks.allSatisfy { $0.status == .intact && $0.storedLength <= 1 << 20 })
    #expect(writer.recordsWritten == UInt64(65 * records.count))
  }

  @Test func twoReadingsOfTheClocksAgree() {
    let first = Clocks.now()
    let second = Clocks.now()
    #expect(first.monotonicNanoseconds > 0 && second.monotonicNanoseconds >= first.monotonicNanoseconds)
    #expect(second.boottimeNanoseconds >= first.boottimeNanoseconds)
    #expect(first.boottimeNanoseconds >= first.monotonicNanoseconds - 1_000_000)
    #expect(first.realtimeNanoseconds > 1_700_000_000_000_000_000)
  }
}
