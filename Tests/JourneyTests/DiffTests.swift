import Attribution
import CKvmtax
import Foundation
import TestSupport
import Testing
import TraceFile

/// Two recordings, from the file to the verdict.
@Suite struct DiffTests {
  /// A minute and a half of one vCPU with a snapshot each second: 100 exits a second of about so many ns, which vary a
  /// little from second to second.
  private static func write(_ name: String, in folder: borrowing ScratchFolder, nanoseconds: UInt64, seconds: Int = 90)
    throws -> String
  {
    let path = try folder.write([], to: name)
    let file = try FileHandle(forWritingTo: URL(filePath: path))
    defer { try? file.close() }
    var now: UInt64 = 5_000_000_000
    var clocks: Clocks {
      Clocks(monotonicNanoseconds: now, boottimeNanoseconds: now, realtimeNanoseconds: now, tsc: 0)
    }
    var writer = try TraceWriter(descriptor: file.fileDescriptor, clocks: clocks)
    try writer.append([TracedProcess(pid: 30, name: "mail", vmid: 107)])
    var encoder = SnapshotEncoder()
    var slot = kt_slot()
    var row = kt_row()
    slot.thread = 1
    row.thread = 1
    row.isa = 1
    row.reason = 30
    kt_start(&slot, now, 31, 30, 0)
    for second in 0..<seconds {
      let start = now
      for exit in 0..<100 as Range<UInt64> {
        slot.exits += 1
        slot.finished += 1
        slot.entries += 1
        slot.steps += 2
        kt_move(&slot, start + exit * 10_000_000, UInt8(KT_KERNEL.rawValue))
        let length = nanoseconds + UInt64(second * 7 % 11) * nanoseconds / 50
        kt_move(&slot, start + exit * 10_000_000 + length, UInt8(KT_GUEST.rawValue))
        row.finished += 1
        row.total_ns += length
        withUnsafeMutablePointer(to: &row) {
          kt_row_mutable_state_ns($0)![Int(KT_KERNEL.rawValue)] += length
          kt_row_mutable_buckets($0)![Int(kt_bucket(length))] += 1
        }
      }
      now += 1_000_000_000
      encoder.begin(at: clocks, detail: second == seconds - 1 ? .complete : .changes)
      if encoder.add(&slot, number: 0) { encoder.add(&row, number: 0, ended: false) }
      try encoder.write(to: &writer)
    }
    try writer.end(
      TraceEnd(
        clocks: clocks, reason: "duration", exits: slot.exits, records: 0, snapshots: UInt64(seconds), lostRecords: 0))
    return path
  }

  @Test func `A gate fails for a difference, not for the same, and not for lack of data unseen`() throws {
    let folder = try ScratchFolder()
    let before = try Self.write("before.kvmtax", in: folder, nanoseconds: 800_000)
    let same = try Self.write("same.kvmtax", in: folder, nanoseconds: 801_000)
    let worse = try Self.write("worse.kvmtax", in: folder, nanoseconds: 1_100_000)
    let short = try Self.write("short.kvmtax", in: folder, nanoseconds: 1_100_000, seconds: 5)
    func gate(_ after: String) throws -> Program.Outcome {
      try Program.run("kvmtax", ["diff", "--fail-on", "difference", before, after])
    }
    let unchanged = try gate(same)
    #expect(unchanged.status == 0 && unchanged.errors.isEmpty)
    #expect(unchanged.output.contains("VM 107 mail: no difference that matters"))
    let different = try gate(worse)
    #expect(different.status == 1 && different.errors.isEmpty)
    #expect(different.output.contains("VM 107 mail loses 3."))
    #expect(different.output.contains("IO_INSTRUCTION, handling"))
    let untold = try gate(short)
    #expect(untold.status == 3 && untold.errors.contains("too short to tell"))
    #expect(try Program.run("kvmtax", ["diff", before, worse]).status == 0)
    let report = try Program.run("kvmtax", ["report", before])
    #expect(report.output.contains("9 blocks of 10 s"))
    // in the file before the verdict
    let path = "\(folder.path)/diff.json"
    #expect(try Program.run("kvmtax", ["diff", "--fail-on", "difference", "-o", path, before, worse]).status == 1)
    let written = try JSONSerialization.jsonObject(with: Data(contentsOf: URL(filePath: path))) as? [String: Any]
    #expect(written?["is_different"] as? Bool == true && written?["schema"] as? String == "kvmtax-diff/1")
  }
}
