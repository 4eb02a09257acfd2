import Attribution
import CKvmtax
import Glibc
import TraceFile

/// The trace file of a recording: what is written, in which order, and the one descriptor it is written through.
final class TraceOutput {
  private let file: OutputFile
  private var writer: TraceWriter
  private var encoder: SnapshotEncoder

  /// Room kept for the end: the last, complete snapshot of some 800 vCPU threads.
  private static let reserveBytes = 512 << 10

  init(options: RecordOptions) throws {
    file = try OutputFile(options.output, force: options.force)
    do {
      writer = try TraceWriter(descriptor: file.descriptor, reserve: TraceOutput.reserveBytes)
    } catch {
      file.discard()
      throw InputError(
        file: file.path, found: "cannot be written: \(error)",
        remedy: "Free some space, or choose another folder with -o.")
    }
    encoder = SnapshotEncoder()
  }

  var path: String { file.path }
  var descriptor: Int32 { file.descriptor }
  var ownerName: String { file.ownerName }
  var isInPlace: Bool { file.isInPlace }
  var bytesWritten: UInt64 { writer.bytesWritten }
  var recordsWritten: UInt64 { writer.recordsWritten }
  var snapshotsWritten: UInt64 { writer.snapshotsWritten }

  /// The recording has begun: an existing file may be replaced.
  func putInPlace() throws(InputError) { try file.putInPlace() }

  /// Takes the file away again: the recording never began.
  func discard() { file.discard() }

  /// Closes the file.
  func close() throws(TraceWriteError) {
    let code = file.finish()
    if code != 0 { throw TraceWriteError(call: "close", code: code) }
  }

  func append(_ facts: [CaptureFact]) throws(TraceWriteError) { try writer.append(facts) }
  func append(_ calibration: Calibration) throws(TraceWriteError) { try writer.append(calibration) }
  func append(_ texts: [FormatText]) throws(TraceWriteError) { try writer.append(texts) }
  func append(_ processes: [TracedProcess], usingReserve: Bool) throws(TraceWriteError) {
    try writer.append(processes, usingReserve: usingReserve)
  }
  func append(_ threads: [TracedThread], usingReserve: Bool) throws(TraceWriteError) {
    try writer.append(threads, usingReserve: usingReserve)
  }
  func append(_ losses: [CPULosses], usingReserve: Bool) throws(TraceWriteError) {
    try writer.append(losses, usingReserve: usingReserve)
  }
  func append(_ gap: TraceGap, usingReserve: Bool = false) throws(TraceWriteError) {
    try writer.append(gap, usingReserve: usingReserve)
  }
  func append(_ note: TraceNote) throws(TraceWriteError) { try writer.append(note) }
  func append(_ looks: [TracedLooks], usingReserve: Bool) throws(TraceWriteError) {
    try writer.append(looks, usingReserve: usingReserve)
  }
  func append(_ records: UnsafeBufferPointer<kt_exit_record>) throws(TraceWriteError) { try writer.append(records) }
  func append(_ events: UnsafeBufferPointer<kt_event>) throws(TraceWriteError) { try writer.append(events) }
  func end(_ end: TraceEnd) throws(TraceWriteError) { try writer.end(end) }

  func beginSnapshot(at clocks: Clocks, detail: SnapshotEncoder.Detail) { encoder.begin(at: clocks, detail: detail) }

  /// Adds a thread's copy and those of its rows that changed.
  func add(_ copy: inout SlotTable.Copy, number: Int) {
    guard encoder.add(&copy.slot, number: number) else { return }
    let ended = copy.slot.ended != 0
    for index in copy.rows.indices {
      encoder.add(&copy.rows[index], number: Int(copy.rowNumbers[index]), ended: ended)
    }
    guard encoder.wantsKeys || ended else { return }
    for index in copy.keys.indices { encoder.add(key: &copy.keys[index], number: Int(copy.keyNumbers[index])) }
  }

  func writeSnapshot(usingReserve: Bool) throws(TraceWriteError) {
    try encoder.write(to: &writer, usingReserve: usingReserve)
  }
}

/// What the rings held: records on their way to the file, and news of threads.
final class Pending {
  private let kind: kt_records
  private var exits: [kt_exit_record] = []
  private var events: [kt_event] = []
  /// Records that wait to be written.
  var count: Int { exits.count + events.count }
  /// Slots of threads that are new, as the programs told.
  var newSlots: [Int] = []
  /// Threads that have ended since the last snapshot: their slots wait to be given back.
  var endedThreads = 0

  init(_ kind: kt_records) { self.kind = kind }

  /// Takes a notice of a program.
  func take(_ notice: kt_notice) {
    if notice.ended != 0 { endedThreads += 1 } else { newSlots.append(Int(notice.slot)) }
  }

  func append(_ bytes: UnsafeRawBufferPointer) {
    if kind == KT_RAW_RECORDS {
      guard bytes.count >= MemoryLayout<kt_event>.size else { return }
      events.append(bytes.loadUnaligned(as: kt_event.self))
    } else {
      guard bytes.count >= MemoryLayout<kt_exit_record>.size else { return }
      exits.append(bytes.loadUnaligned(as: kt_exit_record.self))
    }
  }

  /// Writes what has come, if it is worth a block or `all` is asked for.
  func flush(to file: TraceOutput, all: Bool) throws(TraceWriteError) {
    try Pending.flush(&exits, to: file, all: all) { (buffer) throws(TraceWriteError) in try file.append(buffer) }
    try Pending.flush(&events, to: file, all: all) { (buffer) throws(TraceWriteError) in try file.append(buffer) }
  }

  private static func flush<Record>(
    _ records: inout [Record], to file: TraceOutput, all: Bool,
    _ write: (UnsafeBufferPointer<Record>) throws(TraceWriteError) -> Void
  ) throws(TraceWriteError) {
    guard records.count >= 16384 || (all && !records.isEmpty) else { return }
    let before = file.recordsWritten
    var failure: TraceWriteError?
    records.withUnsafeBufferPointer { buffer in
      do throws(TraceWriteError) { try write(buffer) } catch { failure = error }
    }
    if let failure {
      // what went into whole blocks is not to be written again
      records.removeFirst(Int(file.recordsWritten &- before))
      throw failure
    }
    records.removeAll(keepingCapacity: true)
  }
}
