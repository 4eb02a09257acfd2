import Attribution
import CKvmtax
import Testing

@testable import TraceFile

/// Files of other versions.
@Suite struct CompatibilityTests {
  private static let records: [kt_exit_record] = {
    let host = FakeHost(threads: 3)
    host.run(nanoseconds: 1_000_000_000, exits: 50)
    return host.records
  }()

  /// A field of today's record, by its bytes.
  private static func value(_ record: kt_exit_record, _ name: String) -> UInt64 {
    guard let field = RecordSchema.exit.fields.first(where: { $0.name == name }) else { return 0xdead_beef_dead_beef }
    return withUnsafeBytes(of: record) { bytes in
      (0..<field.size).reduce(0) { $0 | UInt64(bytes[field.offset + $1]) << UInt64(8 * $1) }
    }
  }

  /// Lays the records out as a schema says, byte by byte.
  private static func payload(_ schema: RecordSchema, _ records: [kt_exit_record] = records) -> [UInt8] {
    var bytes: [UInt8] = []
    for record in records {
      var item = [UInt8](repeating: 0xaa, count: schema.recordSize)
      for field in schema.fields {
        for byte in 0..<field.size {
          item[field.offset + byte] = UInt8(truncatingIfNeeded: value(record, field.name) >> UInt64(8 * byte))
        }
      }
      bytes += item
    }
    return bytes
  }

  private static func schema(_ size: Int, _ change: (inout [RecordSchema.Field]) -> Void) -> RecordSchema {
    var fields = RecordSchema.exit.fields
    change(&fields)
    return RecordSchema(name: "exit", recordSize: size, fields: fields)
  }

  private static let schemas: [(name: String, schema: RecordSchema, lacks: [String])] = [
    ("today's", RecordSchema.exit, []),
    (
      "a newer one with fields added behind",
      schema(144) { $0.append(.init(name: "gpa", offset: 128, size: 8, unit: "gpa")) }, []
    ),
    (
      "a newer one with a field inserted in front",
      schema(137) { fields in
        for index in fields.indices { fields[index].offset += 9 }
        fields.insert(.init(name: "vector", offset: 0, size: 1, unit: "number"), at: 0)
      }, []
    ),
    (
      "one with the fields in another order and wider",
      schema(200) { fields in
        fields.reverse()
        for index in fields.indices {
          fields[index].offset = index * 9 + 1
          fields[index].size = 8
        }
      }, []
    ),
    (
      "an older one without the halt states", schema(128) { $0.removeAll { $0.name.hasPrefix("halt") } },
      ["halt_poll_ns", "halt_wait_ns"]
    ),
    ("an older one without the total", schema(128) { $0.removeAll { $0.name == "total_ns" } }, ["total_ns"]),
    (
      "one whose cpu has another unit",
      schema(128) { fields in
        for index in fields.indices where fields[index].name == "cpu" { fields[index].unit = "node" }
      },
      ["cpu"]
    ),
  ]

  @Test(arguments: schemas.indices)
  func recordsAreReadByName(index: Int) throws {
    let (name, schema, lacks) = CompatibilityTests.schemas[index]
    var file = BuiltFile()
    file.add(BlockType.schema.rawValue, Array(schema.text.utf8))
    file.add(BlockType.exits.rawValue, CompatibilityTests.payload(schema), schema: schema.id)
    let contents = try file.bytes.trace(.exits)
    #expect(contents.exitRecordCount == UInt64(CompatibilityTests.records.count), "\(name)")
    #expect(contents.evidence.trust.damage.isEmpty)
    let notes = contents.evidence.trust.notes.filter { $0.contains("lack") }
    #expect(notes == (lacks.isEmpty ? [] : ["the exit records of this file lack \(lacks.joined(separator: ", "))"]))
    var total: UInt64 = 0
    for record in CompatibilityTests.records {
      // without its total a record is as long as the parts it has
      total += record.total_ns
    }
    let accounts = contents.evidence.ledger.vcpus.flatMap(\.accounts)
    #expect(accounts.reduce(0) { $0 + $1.totalNanoseconds } == total, "\(name)")
    #expect(accounts.reduce(0) { $0 + $1.states.total } == total, "\(name)")
    let kernel = CompatibilityTests.records.reduce(0) { $0 + $1.kernel_ns }
    #expect(accounts.reduce(0) { $0 + $1.states[.kernel] } == kernel)
    let threads = Set(CompatibilityTests.records.map(\.thread))
    #expect(Set(contents.evidence.ledger.vcpus.map(\.thread)) == threads)
  }

  /// The record of the first version: four states, and no key.
  static let first = RecordSchema(
    parsing: """
      exit 64
      start_ns 0 8 ns
      total_ns 8 8 ns
      kernel_ns 16 8 ns
      qemu_ns 24 8 ns
      halt_poll_ns 32 8 ns
      halt_wait_ns 40 8 ns
      thread 48 4 id
      reason 52 4 number
      cpu 56 2 number
      isa 58 1 number

      """)

  @Test func recordsOfTheFirstVersionLeaveWhatTheyDoNotDivideUnknown() throws {
    let schema = try #require(CompatibilityTests.first)
    #expect(schema.id == 0xfc8e_79ce_2ce0_190d)
    let host = FakeHost(threads: 3, features: Replay.allFeatures)
    host.run(nanoseconds: 1_000_000_000, exits: 50)
    var file = BuiltFile()
    file.add(BlockType.schema.rawValue, Array(schema.text.utf8))
    file.add(BlockType.exits.rawValue, CompatibilityTests.payload(schema, host.records), schema: schema.id)
    let contents = try file.bytes.trace(.exits)
    let accounts = contents.evidence.ledger.vcpus.flatMap(\.accounts)
    #expect(contents.evidence.trust.notes.isEmpty)
    #expect(contents.evidence.ledger.vms.allSatisfy { $0.keys.isEmpty })
    let divided = host.records.reduce(0) { $0 + $1.kernel_ns + $1.qemu_ns + $1.halt_poll_ns + $1.halt_wait_ns }
    let total = host.records.reduce(0) { $0 + $1.total_ns }
    #expect(divided < total)
    #expect(accounts.reduce(0) { $0 + $1.states[.unknown] } == total - divided)
    #expect(accounts.reduce(0) { $0 + $1.states.total } == total)
  }

  @Test func todaysRecordsNeedNoSchemaBlock() throws {
    var file = BuiltFile()
    file.add(BlockType.exits.rawValue, CompatibilityTests.payload(.exit), schema: RecordSchema.exit.id)
    let contents = try file.bytes.trace(.exits)
    #expect(
      contents.evidence.ledger.vcpus.flatMap(\.accounts).reduce(0) { $0 + $1.finished } == contents.exitRecordCount)
    #expect(contents.evidence.trust.damage.isEmpty)
  }

  @Test func aSchemaMayComeBehindItsRecords() throws {
    let (_, schema, _) = CompatibilityTests.schemas[2]
    var file = BuiltFile()
    file.add(BlockType.exits.rawValue, CompatibilityTests.payload(schema), schema: schema.id)
    let without = try file.bytes.trace(.exits)
    #expect(without.evidence.trust.damage.map(\.offset) == [64])
    #expect(without.evidence.trust.damage.first?.found.contains("not described") == true)
    file.add(BlockType.schema.rawValue, Array(schema.text.utf8))
    let contents = try file.bytes.trace(.exits)
    #expect(contents.exitRecordCount == UInt64(CompatibilityTests.records.count))
    #expect(contents.evidence.trust.damage.isEmpty)
  }

  @Test func blocksOfUnknownTypesArePassedOverAndCounted() throws {
    var file = BuiltFile()
    file.add(77, [1, 2, 3])
    file.add(BlockType.note, [entry { TraceNote(monotonicNanoseconds: 1, code: "a", text: "b").write(to: &$0) }])
    file.add(999, [UInt8](repeating: 9, count: 1000))
    let contents = try file.bytes.trace(.accounts)
    #expect(contents.unknownBlockCount == 2)
    #expect(contents.notes.map(\.text) == ["b"])
    #expect(contents.evidence.trust.damage.isEmpty)
    #expect(contents.evidence.trust.notes.contains { $0.hasPrefix("2 blocks of types") })
  }

  @Test func entriesMayGrowAndShrink() throws {
    let thread = TracedThread(
      thread: 3, tid: 40, tgid: 30, vcpu: 1, comm: "CPU 1/KVM", processStartNanoseconds: 77)
    var longer = entry { thread.write(to: &$0) }
    longer.append(12345)
    longer.append("a later version's")
    var shorter = ByteWriter()
    shorter.append(9)
    shorter.append(41)
    var file = BuiltFile()
    file.add(BlockType.threads, [longer, shorter])
    let contents = try file.bytes.trace(.accounts)
    #expect(contents.threads == [thread, TracedThread(thread: 9, tid: 41, tgid: 0)])
  }

  @Test func aNewerContainerIsRefusedWithItsVersion() throws {
    let bytes = BuiltFile(version: 2).bytes
    let error = #expect(throws: InputError.self) { try bytes.trace(.accounts) }
    #expect(error?.found.contains("version 2") == true)
    #expect(error?.remedy != nil)
  }

  private func entry(_ write: (inout ByteWriter) -> Void) -> ByteWriter {
    var entry = ByteWriter()
    write(&entry)
    return entry
  }
}
