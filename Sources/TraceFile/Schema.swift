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
    /// "ns", "id", "number".
    public var unit: String

    /// Describes one field.
    public init(name: String, offset: Int, size: Int, unit: String) {
      self.name = name
      self.offset = offset
      self.size = size
      self.unit = unit
    }
  }

  /// What the records are: "exit".
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

  /// The schema of `kt_exit_record` as this version has it.
  public static let exit: RecordSchema = {
    typealias Record = kt_exit_record
    func field<Value>(_ name: String, _ path: KeyPath<Record, Value>, _ unit: String) -> Field {
      Field(
        name: name, offset: MemoryLayout<Record>.offset(of: path) ?? 0, size: MemoryLayout<Value>.size, unit: unit)
    }
    return RecordSchema(
      name: "exit", recordSize: MemoryLayout<Record>.size,
      fields: [
        field("start_ns", \.start_ns, "ns"), field("total_ns", \.total_ns, "ns"),
        field("kernel_ns", \.kernel_ns, "ns"), field("qemu_ns", \.qemu_ns, "ns"),
        field("halt_poll_ns", \.halt_poll_ns, "ns"), field("halt_wait_ns", \.halt_wait_ns, "ns"),
        field("thread", \.thread, "id"), field("reason", \.reason, "number"), field("cpu", \.cpu, "number"),
        field("isa", \.isa, "number"),
      ])
  }()

  static let exitId = exit.id
}

/// Reads exit records of any schema: by name, with defaults for what is missing.
struct ExitRecordDecoder {
  private struct Source {
    var offset = 0
    var size = 0

    init(_ schema: RecordSchema, _ name: String, _ unit: String) {
      // a field whose unit changed is another field
      guard let field = schema.fields.first(where: { $0.name == name && $0.unit == unit }) else { return }
      offset = field.offset
      size = field.size
    }

    func value(_ record: UnsafeRawBufferPointer) -> UInt64 {
      switch size {
      case 1: UInt64(record[offset])
      case 2: UInt64(record.little(offset, as: UInt16.self))
      case 4: UInt64(record.little(offset, as: UInt32.self))
      case 8: record.little(offset, as: UInt64.self)
      default: 0
      }
    }
  }

  let recordSize: Int
  /// Fields of today's record that the schema lacks; they read as 0, `total_ns` as the sum of its parts.
  let missing: [String]
  private let start, total, kernel, qemu, haltPoll, haltWait, thread, reason, cpu, isa: Source

  init(_ schema: RecordSchema) {
    recordSize = schema.recordSize
    missing = RecordSchema.exit.fields.filter { Source(schema, $0.name, $0.unit).size == 0 }.map(\.name)
    start = Source(schema, "start_ns", "ns")
    total = Source(schema, "total_ns", "ns")
    kernel = Source(schema, "kernel_ns", "ns")
    qemu = Source(schema, "qemu_ns", "ns")
    haltPoll = Source(schema, "halt_poll_ns", "ns")
    haltWait = Source(schema, "halt_wait_ns", "ns")
    thread = Source(schema, "thread", "id")
    reason = Source(schema, "reason", "number")
    cpu = Source(schema, "cpu", "number")
    isa = Source(schema, "isa", "number")
  }

  /// The record in `bytes`, which hold at least `recordSize` bytes.
  func decode(_ bytes: UnsafeRawBufferPointer) -> kt_exit_record {
    var record = kt_exit_record()
    record.start_ns = start.value(bytes)
    record.kernel_ns = kernel.value(bytes)
    record.qemu_ns = qemu.value(bytes)
    record.halt_poll_ns = haltPoll.value(bytes)
    record.halt_wait_ns = haltWait.value(bytes)
    record.total_ns =
      total.size > 0
      ? total.value(bytes) : record.kernel_ns &+ record.qemu_ns &+ record.halt_poll_ns &+ record.halt_wait_ns
    record.thread = UInt32(truncatingIfNeeded: thread.value(bytes))
    record.reason = UInt32(truncatingIfNeeded: reason.value(bytes))
    record.cpu = UInt16(truncatingIfNeeded: cpu.value(bytes))
    record.isa = UInt8(truncatingIfNeeded: isa.value(bytes))
    return record
  }
}
