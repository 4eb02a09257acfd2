import Attribution
import CKvmtax
import Foundation
import Testing

@testable import TraceFile

/// docs/trace-format.md tells the truth: its example is what the writer writes, its schema is today's.
@Suite struct DescriptionTests {
  private static let text: String = {
    let path = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent().appendingPathComponent("docs/trace-format.md")
    return (try? String(contentsOf: path, encoding: .utf8)) ?? ""
  }()

  /// The bytes of the hex dump: offset, two spaces, bytes, two spaces, what they are.
  private static func example() -> [UInt8] {
    guard let start = text.range(of: "```hexdump\n"),
      let end = text.range(of: "```", range: start.upperBound..<text.endIndex)
    else { return [] }
    var bytes: [UInt8] = []
    for line in text[start.upperBound..<end.lowerBound].split(separator: "\n") {
      let parts = line.components(separatedBy: "  ")
      guard parts.count >= 2, Int(parts[0], radix: 16) == bytes.count else { continue }
      bytes += parts[1].split(separator: " ").compactMap { UInt8($0, radix: 16) }
    }
    return bytes
  }

  /// One vCPU thread of which one exit was seen, as long as 2,000 ns.
  private static func written() throws -> [UInt8] {
    let file = try ScratchFile()
    let clocks = Clocks(
      monotonicNanoseconds: 1_000_000, boottimeNanoseconds: 1_000_000,
      realtimeNanoseconds: 1_795_000_000_000_000_000, tsc: 3_000_000)
    var writer = try TraceWriter(descriptor: file.descriptor, clocks: clocks)
    try writer.append([CaptureFact(key: "kernel", value: "6.12.48")])
    try writer.append([TracedThread(thread: 1, tid: 4242, tgid: 4200, vcpu: 0, comm: "CPU 0/KVM")])
    var slot = kt_slot()
    var row = kt_row()
    var superseded: UInt8 = 0
    var reason: UInt32 = 0
    slot.thread = 1
    kt_start(&slot, 1_100_000, 4242, 4200, 3)
    slot.vcpu = 0
    row.thread = 1
    row.isa = 1
    row.reason = 30
    // a write of one byte to port 0x3f8
    kt_step_exit(&slot, 1_200_000, 1, 30, 0x3f8_0000, 0, 0, &superseded, &reason)
    kt_step_userspace_exit(&slot, 1_200_500, 2, 0)
    kt_step_entry(&slot, 1_202_000, 0)
    kt_account(&row, &slot)
    var key = kt_key_row()
    key.thread = 1
    key.key = slot.key
    kt_account_key(&key, &slot)
    kt_clear_exit(&slot)
    var encoder = SnapshotEncoder()
    encoder.begin(
      at: Clocks(
        monotonicNanoseconds: 2_000_000, boottimeNanoseconds: 2_000_000,
        realtimeNanoseconds: 1_795_000_000_001_000_000, tsc: 6_000_000), detail: .complete)
    encoder.add(&slot, number: 0)
    encoder.add(&row, number: 1, ended: false)
    encoder.add(key: &key, number: 1)
    try encoder.write(to: &writer)
    try writer.end(
      TraceEnd(
        clocks: Clocks(
          monotonicNanoseconds: 2_000_100, boottimeNanoseconds: 2_000_100,
          realtimeNanoseconds: 1_795_000_000_001_000_100, tsc: 6_000_300), reason: "duration", exits: 1, records: 0,
        snapshots: 1, lostRecords: 0))
    return try file.bytes
  }

  @Test func theExampleIsWhatTheWriterWrites() throws {
    let written = try DescriptionTests.written()
    let hex = written.map { String(format: "%02x", $0) }.joined(separator: " ")
    #expect(DescriptionTests.example() == written, "\(hex)")
  }

  @Test func theExampleReadsAsItSays() throws {
    let contents = try DescriptionTests.example().trace(.accounts)
    let vcpu = try #require(contents.evidence.ledger.vcpus.first)
    #expect(contents.evidence.trust == Trust())
    #expect(vcpu.wallNanoseconds == 900_000 && vcpu.states[.unknown] == 100_000)
    #expect(vcpu.states[.kernel] == 500 && vcpu.states[.qemu] == 1_500 && vcpu.states[.guest] == 798_000)
    #expect(vcpu.accounts.first?.totalNanoseconds == 2_000 && vcpu.accounts.first?.histogram.total == 1)
    let key = try #require(contents.evidence.ledger.vms.first?.keys.first)
    #expect(key.key.kind == .port && key.key.subject == 0x3f8 && key.totalNanoseconds == 2_000)
  }

  @Test(arguments: [RecordSchema.exit, RecordSchema.event])
  func todaysSchemasAreTheOnesDescribed(schema: RecordSchema) {
    #expect(DescriptionTests.text.contains("```\n\(schema.text)```"), "\(schema.text)")
    #expect(DescriptionTests.text.contains("has the hash \(String(schema.id, radix: 16)):"))
  }

  @Test func everyBlockTypeIsDescribed() {
    for type in BlockType.allCases { #expect(DescriptionTests.text.contains("| \(type.rawValue) | \(type.name) |")) }
  }
}
