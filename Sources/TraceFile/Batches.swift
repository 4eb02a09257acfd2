import Attribution
import CKvmtax
import Files

/// Lends the records of exit blocks: in place where they are exactly today's, else converted by name.
struct ExitBatches {
  private var decoders: [UInt64: ExitRecordDecoder] = [:]
  private var scratch = [kt_exit_record](repeating: kt_exit_record(), count: 1024)

  /// Learns a schema from its block.
  mutating func learn(_ payload: UnsafeRawBufferPointer) {
    guard payload.count <= 64 << 10, let schema = RecordSchema(parsing: String(decoding: payload, as: UTF8.self)),
      schema.name == "exit",
      decoders.count < 64
    else { return }
    // the hash of the bytes as they stand: they may say more than this version understands
    let id = payload.reduce(0xcbf2_9ce4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
    decoders[id] = ExitRecordDecoder(schema)
  }

  /// Whether blocks of this schema can be read.
  func knows(_ schema: UInt64) -> Bool { schema == RecordSchema.exitId || decoders[schema] != nil }

  /// Today's fields that records of this schema lack.
  func missingFields(_ schema: UInt64) -> [String] {
    schema == RecordSchema.exitId ? [] : decoders[schema]?.missing ?? []
  }

  /// The bytes of one record.
  func recordSize(_ schema: UInt64) -> Int? {
    schema == RecordSchema.exitId ? MemoryLayout<kt_exit_record>.size : decoders[schema]?.recordSize
  }

  /// Hands over all whole records of a payload.
  mutating func lend(
    _ payload: UnsafeRawBufferPointer, schema: UInt64, _ body: (Span<kt_exit_record>) -> Void
  ) {
    guard let size = recordSize(schema), let base = payload.baseAddress else { return }
    let count = payload.count / size
    if schema == RecordSchema.exitId, Int(bitPattern: base) % MemoryLayout<kt_exit_record>.alignment == 0 {
      body(UnsafeBufferPointer(start: base.assumingMemoryBound(to: kt_exit_record.self), count: count).span)
      return
    }
    let decoder = decoders[schema] ?? ExitRecordDecoder(RecordSchema.exit)
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

/// Lends every readable exit record of a trace file, in the file's order, a block at a time. Blocks that are damaged, or
/// whose schema is not in front of them, are passed over; `readTrace` says which.
public func forEachExitBatch(
  in file: borrowing MappedFile, _ body: (Span<kt_exit_record>) -> Void
) {
  let payloads = PayloadReader()
  var batches = ExitBatches()
  for block in TraceBlocks(file.bytes) where block.status == .intact {
    guard block.knownType == .exits || block.knownType == .schema,
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
