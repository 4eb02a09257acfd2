import CKvmtax

/// The fields of one kind of record, as a schema block names them.
///
/// Its text is what the block holds: a line with the record's name and size in bytes, then a line per field with name,
/// offset, size in bytes and unit. The text's hash is the schema's id.
public struct RecordSchema: Equatable, Sendable {
  /// One field: an unsigned little-endian number.
  public struct Field: Equatable, Sendable {
    /// As in the C structure.
    public var name: String
    /// Bytes from the start of the record.
    public var offset: Int
    /// Bytes: 1, 2, 4 or 8.
    public var size: Int
    /// "ns", "id", "number", "bits", "bytes", "address".
    public var unit: String

    /// Describes one field.
    public init(name: String, offset: Int, size: Int, unit: String) {
      self.name = name
      self.offset = offset
      self.size = size
      self.unit = unit
    }
  }

  /// What the records are: "exit", "event".
  public var name: String
  /// Bytes of one record.
  public var recordSize: Int
  /// In any order.
  public var fields: [Field]

  /// Describes one kind of record.
  public init(name: String, recordSize: Int, fields: [Field]) {
    self.name = name
    self.recordSize = recordSize
    self.fields = fields
  }

  /// The payload of the schema's block.
  public var text: String {
    var text = "\(name) \(recordSize)\n"
    for field in fields { text += "\(field.name) \(field.offset) \(field.size) \(field.unit)\n" }
    return text
  }

  /// The text's FNV-1a hash, 64 bits: what the blocks of its records carry.
  public var id: UInt64 {
    text.utf8.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
  }

  /// Parses a block's payload. Nil unless the first line is in order and the record has 1 to 4,096 bytes; a field that
  /// does not lie inside the record, or is no number of 1, 2, 4 or 8 bytes, is left out.
  public init?(parsing text: String) {
    let lines = text.split(separator: "\n")
    guard let first = lines.first?.split(separator: " "), first.count >= 2, let size = Int(first[1]),
      (1...4096).contains(size), lines.count <= 512
    else { return nil }
    name = String(first[0])
    recordSize = size
    fields = []
    for line in lines.dropFirst() {
      let words = line.split(separator: " ")
      guard words.count >= 4, let offset = Int(words[1]), let length = Int(words[2]),
        [1, 2, 4, 8].contains(length), offset >= 0, offset <= size &- length
      else { continue }
      fields.append(Field(name: String(words[0]), offset: offset, size: length, unit: String(words[3])))
    }
  }

  /// A field of a C structure, which has to be a number.
  private static func field<Record, Value: FixedWidthInteger>(
    _ name: String, _ path: KeyPath<Record, Value>, _ unit: String
  ) -> Field {
    Field(name: name, offset: MemoryLayout<Record>.offset(of: path) ?? 0, size: MemoryLayout<Value>.size, unit: unit)
  }

  /// The schema of `kt_exit_record` as this version has it.
  public static let exit: RecordSchema = {
    func field<Value: FixedWidthInteger>(
      _ name: String, _ path: KeyPath<kt_exit_record, Value>, _ unit: String
    ) -> Field { RecordSchema.field(name, path, unit) }
    return RecordSchema(
      name: "exit", recordSize: MemoryLayout<kt_exit_record>.size,
      fields: [
        field("start_ns", \.start_ns, "ns"), field("total_ns", \.total_ns, "ns"),
        field("kernel_ns", \.kernel_ns, "ns"), field("qemu_ns", \.qemu_ns, "ns"),
        field("halt_poll_ns", \.halt_poll_ns, "ns"), field("halt_wait_ns", \.halt_wait_ns, "ns"),
        field("host_interrupt_ns", \.host_interrupt_ns, "ns"), field("qemu_blocked_ns", \.qemu_blocked_ns, "ns"),
        field("kernel_blocked_ns", \.kernel_blocked_ns, "ns"), field("wake_latency_ns", \.wake_latency_ns, "ns"),
        field("preempted_ns", \.preempted_ns, "ns"), field("stopped_ns", \.stopped_ns, "ns"),
        field("subject", \.subject, "number"), field("thread", \.thread, "id"), field("reason", \.reason, "number"),
        field("traits", \.traits, "bits"), field("cpu", \.cpu, "number"), field("isa", \.isa, "number"),
        field("key_kind", \.key_kind, "number"), field("size", \.size, "bytes"),
        field("userspace", \.userspace, "number"),
      ])
  }()

  static let exitId = exit.id

  /// The schema of `kt_event` as this version has it.
  public static let event: RecordSchema = {
    func field<Value: FixedWidthInteger>(_ name: String, _ path: KeyPath<kt_event, Value>, _ unit: String) -> Field {
      RecordSchema.field(name, path, unit)
    }
    return RecordSchema(
      name: "event", recordSize: MemoryLayout<kt_event>.size,
      fields: [
        field("time_ns", \.time_ns, "ns"), field("arg", \.arg, "number"), field("arg2", \.arg2, "number"),
        field("rip", \.rip, "address"), field("run_delay_ns", \.run_delay_ns, "ns"), field("tid", \.tid, "id"),
        field("tgid", \.tgid, "id"), field("reason", \.reason, "number"), field("extra", \.extra, "number"),
        field("cpu", \.cpu, "number"), field("vcpu", \.vcpu, "number"), field("kind", \.kind, "number"),
        field("isa", \.isa, "number"),
      ])
  }()

  static let eventId = event.id
}

/// A record that a file holds as it is in memory, and what it is where a file does not say.
protocol TraceRecord {
  static var schema: RecordSchema { get }
  static var schemaId: UInt64 { get }
  /// The fields that every version had: a file that lacks one of them has to be said to.
  static var expectedFields: Set<String> { get }
  /// What fields are that a file does not have.
  static var blank: Self { get }
  /// Settles what a file's schema leaves open.
  mutating func complete(without missing: Set<String>)
}

extension kt_exit_record: TraceRecord {
  static var schema: RecordSchema { .exit }
  static var schemaId: UInt64 { RecordSchema.exitId }
  static let expectedFields: Set<String> = [
    "start_ns", "total_ns", "kernel_ns", "qemu_ns", "halt_poll_ns", "halt_wait_ns", "thread", "reason", "cpu", "isa",
  ]
  static let blank: kt_exit_record = {
    var record = kt_exit_record()
    record.subject = .max  // KT_NO_SUBJECT
    return record
  }()

  mutating func complete(without missing: Set<String>) { if missing.contains("total_ns") { total_ns = divided } }

  /// The sum of the states.
  var divided: UInt64 {
    let inKVM = kernel_ns &+ kernel_blocked_ns &+ halt_poll_ns &+ halt_wait_ns
    return inKVM &+ qemu_ns &+ qemu_blocked_ns &+ host_interrupt_ns &+ wake_latency_ns &+ preempted_ns &+ stopped_ns
  }
}

extension kt_event: TraceRecord {
  static var schema: RecordSchema { .event }
  static var schemaId: UInt64 { RecordSchema.eventId }
  static let expectedFields = Set(RecordSchema.event.fields.map(\.name))
  static let blank: kt_event = {
    var event = kt_event()
    event.vcpu = UInt16(KT_NO_VCPU)
    return event
  }()

  mutating func complete(without missing: Set<String>) {}
}

/// Reads records of any schema: by name, with defaults for what is missing.
struct RecordDecoder<Record: TraceRecord> {
  private struct Move {
    var from: RecordSchema.Field
    var to: RecordSchema.Field
  }

  let recordSize: Int
  /// Today's fields that the schema lacks.
  let missing: Set<String>
  private let moves: [Move]

  init(_ schema: RecordSchema) {
    recordSize = schema.recordSize
    // a field whose unit changed is another field
    moves = Record.schema.fields.compactMap { own in
      schema.fields.first { $0.name == own.name && $0.unit == own.unit }.map { Move(from: $0, to: own) }
    }
    missing = Set(Record.schema.fields.map(\.name)).subtracting(moves.map(\.to.name))
  }

  /// Fields that every version had and this schema lacks, in their order.
  var missingExpected: [String] {
    Record.schema.fields.map(\.name).filter { missing.contains($0) && Record.expectedFields.contains($0) }
  }

  /// The record in `bytes`, which hold at least `recordSize` bytes.
  func decode(_ bytes: UnsafeRawBufferPointer) -> Record {
    var record = Record.blank
    withUnsafeMutableBytes(of: &record) { record in
      for move in moves {
        let value: UInt64 =
          switch move.from.size {
          case 1: UInt64(bytes[move.from.offset])
          case 2: UInt64(bytes.little(move.from.offset, as: UInt16.self))
          case 4: UInt64(bytes.little(move.from.offset, as: UInt32.self))
          default: bytes.little(move.from.offset, as: UInt64.self)
          }
        for byte in 0..<move.to.size {
          record[move.to.offset &+ byte] = UInt8(truncatingIfNeeded: value >> UInt64(8 &* byte))
        }
      }
    }
    record.complete(without: missing)
    return record
  }
}
