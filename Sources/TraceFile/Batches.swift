import Attribution
import CKvmtax
import Files

/// Lends the records of a file's blocks: in place where they are exactly today's, else converted by name.
struct RecordBatches<Record: TraceRecord> {
  private var decoders: [UInt64: RecordDecoder<Record>] = [:]
  private var scratch = [Record](repeating: Record.blank, count: 1024)

  /// Learns a schema from its block, if it is of these records.
  mutating func learn(_ payload: UnsafeRawBufferPointer) {
    guard payload.count <= 64 << 10, let schema = RecordSchema(parsing: String(decoding: payload, as: UTF8.self)),
      schema.name == Record.schema.name,
      decoders.count < 64
    else { return }
    // the hash of the bytes as they stand: they may say more than this version understands
    let id = payload.reduce(0xcbf2_9ce4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
    decoders[id] = RecordDecoder(schema)
  }

  /// Whether blocks of this schema can be read.
  func knows(_ schema: UInt64) -> Bool { schema == Record.schemaId || decoders[schema] != nil }

  /// Fields that every version had and that records of this schema lack.
  func missingFields(_ schema: UInt64) -> [String] {
    schema == Record.schemaId ? [] : decoders[schema]?.missingExpected ?? []
  }

  /// Whether records of this schema have the field.
  func has(_ field: String, in schema: UInt64) -> Bool {
    schema == Record.schemaId || decoders[schema]?.missing.contains(field) == false
  }

  /// The bytes of one record.
  func recordSize(_ schema: UInt64) -> Int? {
    schema == Record.schemaId ? MemoryLayout<Record>.size : decoders[schema]?.recordSize
  }

  /// Hands over all whole records of a payload.
  mutating func lend(
    _ payload: UnsafeRawBufferPointer, schema: UInt64, _ body: (Span<Record>) -> Void
  ) {
    guard let size = recordSize(schema), let base = payload.baseAddress else { return }
    let count = payload.count / size
    if schema == Record.schemaId, Int(bitPattern: base) % MemoryLayout<Record>.alignment == 0 {
      body(UnsafeBufferPointer(start: base.assumingMemoryBound(to: Record.self), count: count).span)
      return
    }
    let decoder = decoders[schema] ?? RecordDecoder(Record.schema)
    var done = 0
    while done < count {
      let part = min(scratch.count, count &- done)
      for index in 0..<part {
        let start = (done &+ index) &* size
        scratch[index] = decoder.decode(UnsafeRawBufferPointer(rebasing: payload[start..<start &+ size]))
      }
      body(scratch.span.extracting(first: part))
      done &+= part
    }
  }
}

typealias ExitBatches = RecordBatches<kt_exit_record>

/// Lends every readable exit record of a trace file, in the file's order, a block at a time. Blocks that are damaged, or
/// whose schema is not in front of them, are passed over; `readTrace` says which.
public func forEachExitBatch(
  in file: borrowing MappedFile, _ body: (Span<kt_exit_record>) -> Void
) { forEachBatch(in: file, type: .exits, body) }

/// Lends every readable event record of a trace file in the same way: not in the order of time, which `EventMerge` gives.
public func forEachEventBatch(
  in file: borrowing MappedFile, _ body: (Span<kt_event>) -> Void
) { forEachBatch(in: file, type: .events, body) }

private func forEachBatch<Record: TraceRecord>(
  in file: borrowing MappedFile, type: BlockType, _ body: (Span<Record>) -> Void
) {
  let payloads = PayloadReader()
  var batches = RecordBatches<Record>()
  for block in TraceBlocks(file.bytes) where block.status == .intact {
    guard block.knownType == type || block.knownType == .schema,
      let payload = payloads.payload(of: block, in: file.bytes)
    else { continue }
    if block.knownType == .schema {
      batches.learn(payload)
    } else {
      batches.lend(payload, schema: block.schema, body)
    }
  }
}

/// Hands over every intact snapshot block of a trace file, in the file's order: the parts of one snapshot have the same
/// number in their heads. Totals are absolute; what a thread or row did in an interval is the difference to its last entry.
public func forEachSnapshotBlock(in file: borrowing MappedFile, _ body: (inout SnapshotCursor) -> Void) {
  let payloads = PayloadReader()
  for block in TraceBlocks(file.bytes) where block.knownType == .snapshot {
    guard let payload = payloads.payload(of: block, in: file.bytes), var cursor = SnapshotCursor(payload) else {
      continue
    }
    body(&cursor)
  }
}
