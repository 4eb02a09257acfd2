import Attribution
import CKvmtax
import Files

/// Reads a whole trace file: every intact block, whatever lies between them.
///
/// Throws only when there is nothing to read at all: no trace file, cut inside its first 64 bytes, or of a newer version
/// of the container. Everything else is in `evidence.trust`.
/// `progress` gets the part of the file that has been read, 0 to 1, after each block.
public func readTrace(
  _ file: borrowing MappedFile, using rung: TraceRung, progress: (Double) -> Void = { _ in }
) throws(InputError) -> TraceContents {
  file.willReadSequentially()
  return try readTrace(file.bytes, path: file.path, using: rung, progress: progress)
}

func readTrace(
  _ bytes: UnsafeRawBufferPointer, path: String, using rung: TraceRung, progress: (Double) -> Void = { _ in }
) throws(InputError) -> TraceContents {
  try checkHeader(bytes, path: path)
  var reader = TraceReader(path: path, rung: rung)
  if let header = FileHeader(bytes) {
    reader.contents.start = header.clocks
  } else {
    reader.damage(Damage(offset: 0, length: UInt64(TraceFormat.headerLength), found: "the file header is damaged"))
  }
  let payloads = PayloadReader()
  for block in TraceBlocks(bytes) {
    reader.take(block, in: bytes, payloads)
    progress(Double(block.offset) / Double(bytes.count))
  }
  reader.takeWaiting(in: bytes, payloads)
  if rung == .events { try reader.replay(in: bytes, payloads, progress: progress) }
  return reader.finish()
}

private func checkHeader(_ bytes: UnsafeRawBufferPointer, path: String) throws(InputError) {
  let again = "Copy the file again, or record again."
  if bytes.count < TraceFormat.headerLength {
    guard FileHeader.hasMagic(bytes) else {
      throw InputError(
        file: path, found: "is not a kvmtax trace: \(bytes.count) bytes long",
        remedy: "Name a trace file: one of kvmtax record, trace-cmd record or perf record.")
    }
    throw InputError(
      file: path, offset: UInt64(bytes.count), found: "cut short",
      expected: "The header alone takes \(TraceFormat.headerLength) bytes; nothing was recorded before the cut.",
      remedy: again)
  }
  guard TraceFormat.isTrace(bytes) else {
    throw InputError(
      file: path, offset: 0, found: "is not a kvmtax trace",
      expected: "One begins with the bytes 6b 76 6d 74 61 78 1a 0a (\"kvmtax\").",
      remedy: "Name a trace file: one of kvmtax record, trace-cmd record or perf record.")
  }
  if let header = FileHeader(bytes), header.version > TraceFormat.version {
    throw InputError(
      file: path, offset: 8, found: "was written by a newer kvmtax: container version \(header.version)",
      expected: "This kvmtax reads version \(TraceFormat.version). Nothing was read.", remedy: "Update kvmtax.")
  }
}

/// Collects a file's content block by block.
struct TraceReader: ~Copyable {
  var contents: TraceContents
  private let rung: TraceRung
  private var snapshots = SnapshotAccounts()
  private var records = AccountTable()
  private var recordKeys = KeyTable()
  private var recordsHaveKeys = true
  private var batches = ExitBatches()
  private var eventBatches = RecordBatches<kt_event>()
  private var scan = EventScan()
  private var merge = EventMerge()
  private var replayed: [Replay.Thread]?
  /// Exit and event blocks whose schema has not been seen yet; it may come again further on.
  private var waiting: [TraceBlock] = []
  private var nextSequence: UInt64 = 0
  private var isBehindDamage = false
  private var unreportedDamage = 0
  private var unreadableEntries = 0
  private var missingFields: [String] = []
  private var listCost = 0
  private var lastRecordEnd: UInt64 = 0
  private var processIndex: [UInt64: Int] = [:]
  private var threadIndex: [UInt32: Int] = [:]
  private var lossIndex: [UInt32: Int] = [:]
  private var lookIndex: [UInt32: Int] = [:]

  /// A file that is nothing but damage is not reported place by place.
  static let damageLimit = 1000
  /// Lists (names, texts, notes) are kept as long as their bytes, and 64 more per entry, do not exceed this.
  static let listLimit = 128 << 20

  init(path: String, rung: TraceRung) {
    self.rung = rung
    contents = TraceContents(
      evidence: Evidence(
        capture: Capture(file: path, format: "kvmtax trace", rung: rung.rawValue), ledger: Ledger(), trust: Trust()))
    contents.evidence.capture.clock = "monotonic"
  }

  mutating func damage(_ damage: Damage) {
    if contents.evidence.trust.damage.count < TraceReader.damageLimit {
      contents.evidence.trust.damage.append(damage)
    } else {
      unreportedDamage += 1
    }
  }

  // MARK: Blocks

  mutating func take(_ block: TraceBlock, in file: UnsafeRawBufferPointer, _ payloads: PayloadReader) {
    guard block.status == .intact else {
      damage(
        Damage(offset: UInt64(block.offset), length: UInt64(block.length), found: TraceReader.describe(block, batches)))
      isBehindDamage = true
      if block.type == 0 || block.knownType == .events { scan.noteDamage() }
      return
    }
    if block.sequence > nextSequence, !isBehindDamage {
      let count = block.sequence - nextSequence
      scan.noteDamage()
      damage(
        Damage(
          offset: UInt64(block.offset),
          found: count == 1
            ? "a block is missing before this one" : "\(grouped(count)) blocks are missing before this one"))
    }
    isBehindDamage = false
    nextSequence = block.sequence &+ 1
    contents.blockCount += 1
    guard let type = block.knownType else {
      contents.unknownBlockCount += 1
      return
    }
    if type == .exits && !batches.knows(block.schema) || type == .events && !eventBatches.knows(block.schema) {
      waiting.append(block)
      return
    }
    guard let payload = payloads.payload(of: block, in: file) else {
      if type == .events { scan.noteDamage() }
      damage(
        Damage(
          offset: UInt64(block.offset), length: UInt64(block.length), found: "\(type.name) block cannot be unpacked"))
      return
    }
    take(payload, type: type, of: block)
  }

  private mutating func take(_ payload: UnsafeRawBufferPointer, type: BlockType, of block: TraceBlock) {
    switch type {
    case .capture: contents.facts += list(payload)
    case .formatText: contents.formatTexts += list(payload)
    case .schema:
      batches.learn(payload)
      eventBatches.learn(payload)
    case .processes: takeProcesses(list(payload))
    case .threads: takeThreads(list(payload))
    case .snapshot:
      if !snapshots.take(payload) {
        damage(
          Damage(offset: UInt64(block.offset), length: UInt64(block.length), found: "snapshot block without its head"))
      }
    case .exits: takeExits(payload, schema: block.schema)
    case .events: takeEvents(payload, block)
    case .looks: takeLooks(list(payload))
    case .losses: takeLosses(list(payload))
    case .gap: contents.gaps += list(payload)
    case .note: contents.notes += list(payload)
    case .calibration:
      let text = String(decoding: payload.prefix(Calibration.mostBytes + 1), as: UTF8.self)
      contents.evidence.capture.calibration = Calibration(parsing: text) ?? contents.evidence.capture.calibration
    case .end:
      let ends: [TraceEnd] = list(payload)
      contents.end = ends.last ?? contents.end
    }
  }

  /// What is wrong with a block, and how much is lost with it where that is known.
  private static func describe(_ block: TraceBlock, _ batches: ExitBatches) -> String {
    guard block.status != .damagedHeader else { return "not readable as a block" }
    guard block.type != 0 else { return "cut short in a block's header" }
    var text = block.knownType.map { "\($0.name) block" } ?? "block of unknown type \(block.type)"
    let recordSize: Int? =
      switch block.knownType {
      case .exits: batches.recordSize(block.schema)
      case .events: block.schema == RecordSchema.eventId ? MemoryLayout<kt_event>.size : nil
      default: nil
      }
    if !block.isPacked, let size = recordSize {
      text += " of \(grouped(UInt64(block.rawLength / size))) records"
    }
    return text + (block.status == .cut ? " cut short" : " damaged")
  }

  mutating func takeWaiting(in file: UnsafeRawBufferPointer, _ payloads: PayloadReader) {
    for block in waiting {
      let isKnown = block.knownType == .exits ? batches.knows(block.schema) : eventBatches.knows(block.schema)
      if isKnown, let payload = payloads.payload(of: block, in: file) {
        take(payload, type: block.knownType ?? .exits, of: block)
      } else {
        if block.knownType == .events { scan.noteDamage() }
        damage(
          Damage(
            offset: UInt64(block.offset), length: UInt64(block.length),
            found: "\((block.knownType ?? .exits).name) block whose fields are not described in the file"))
      }
    }
    waiting = []
  }

  // MARK: Lists

  private mutating func list<Item: Entry>(_ payload: UnsafeRawBufferPointer) -> [Item] {
    listCost += payload.count
    var items: [Item] = []
    var reader = ByteReader(payload)
    while !reader.isAtEnd {
      var entry = reader.entry()
      listCost += 64
      guard !reader.isShort, listCost <= TraceReader.listLimit else {
        unreadableEntries += 1
        break
      }
      items.append(Item(reading: &entry))
    }
    return items
  }

  private mutating func takeProcesses(_ processes: [TracedProcess]) {
    for process in processes {
      let key = UInt64(process.pid) << 32 ^ process.startNanoseconds
      if let index = processIndex[key], contents.processes[index].pid == process.pid,
        contents.processes[index].startNanoseconds == process.startNanoseconds
      {
        contents.processes[index] = process
      } else {
        processIndex[key] = contents.processes.count
        contents.processes.append(process)
      }
    }
  }

  private mutating func takeThreads(_ threads: [TracedThread]) {
    for thread in threads {
      if let index = threadIndex[thread.thread] {
        contents.threads[index] = thread
      } else {
        threadIndex[thread.thread] = contents.threads.count
        contents.threads.append(thread)
      }
    }
  }

  /// Counts only grow: of two entries of a CPU the greater one is the later one.
  private mutating func takeLosses(_ losses: [CPULosses]) {
    for loss in losses {
      guard let index = lossIndex[loss.cpu] else {
        lossIndex[loss.cpu] = contents.losses.count
        contents.losses.append(loss)
        continue
      }
      for (kind, count) in loss.counts.enumerated() {
        if kind < contents.losses[index].counts.count {
          contents.losses[index].counts[kind] = max(contents.losses[index].counts[kind], count)
        } else {
          contents.losses[index].counts.append(count)
        }
      }
    }
  }

  private mutating func takeExits(_ payload: UnsafeRawBufferPointer, schema: UInt64) {
    guard let size = batches.recordSize(schema) else { return }
    contents.exitRecordCount &+= UInt64(payload.count / size)
    for field in batches.missingFields(schema) where !missingFields.contains(field) { missingFields.append(field) }
    let hasKeys = ["subject", "traits", "key_kind", "userspace"].allSatisfy { batches.has($0, in: schema) }
    if !hasKeys { recordsHaveKeys = false }
    guard rung == .exits else { return }
    var end = lastRecordEnd
    // a local copy of the table cannot be had (it is not copyable), and a closure may not change self and batches at once
    var table = AccountTable()
    var keys = KeyTable()
    swap(&table, &records)
    swap(&keys, &recordKeys)
    batches.lend(payload, schema: schema) { span in
      for index in span.indices {
        let record = span[index]
        table.book(record)
        if hasKeys { keys.book(record) }
        let recordEnd = record.start_ns &+ record.total_ns
        if recordEnd > end { end = recordEnd }
      }
    }
    swap(&table, &records)
    swap(&keys, &recordKeys)
    lastRecordEnd = end
  }

  private mutating func takeEvents(_ payload: UnsafeRawBufferPointer, _ block: TraceBlock) {
    for field in eventBatches.missingFields(block.schema) where !missingFields.contains(field) {
      missingFields.append(field)
    }
    var scan = EventScan()
    swap(&scan, &self.scan)
    var first = UInt64.max
    let before = scan.count
    eventBatches.lend(payload, schema: block.schema) { span in first = min(first, scan.take(span)) }
    swap(&scan, &self.scan)
    merge.add(block, first: first, count: Int(self.scan.count &- before))
    contents.eventRecordCount = self.scan.count
  }

  private mutating func takeLooks(_ looks: [TracedLooks]) {
    for look in looks {
      if let index = lookIndex[look.thread] {
        contents.looks[index] = look
      } else {
        lookIndex[look.thread] = contents.looks.count
        contents.looks.append(look)
      }
    }
  }

  // MARK: The replay

  /// Feeds the event records to the machine, in the order of time.
  mutating func replay(
    in file: UnsafeRawBufferPointer, _ payloads: PayloadReader, progress: (Double) -> Void
  ) throws(InputError) {
    guard scan.count > 0 else { return }
    // what lies behind the last records of a recording that did not end in order may have been under way
    let lastSnapshot = snapshots.lastClocks?.monotonicNanoseconds ?? 0
    let end = contents.end != nil ? max(lastSnapshot, scan.lastNanoseconds) : scan.lastNanoseconds
    scan.finish(endNanoseconds: end)
    var feed = EventFeed(
      features: machineFeatures(), quietTimes: contents.gaps.filter { $0.reason == .quiet }.map(\.fromNanoseconds),
      holes: scan.holes)
    let isWhole = merge.forEach(in: file, payloads, &eventBatches, progress: progress) { feed.take($0) }
    guard isWhole else {
      throw InputError(
        file: contents.evidence.capture.file,
        found: "holds event records too far out of order to be replayed",
        expected:
          "No more than \(grouped(UInt64(EventMerge.openLimit))) records overlap in time in what kvmtax writes.",
        remedy: "Take the numbers from the accounts: --using accounts.")
    }
    replayed = feed.finish(endNanoseconds: end)
    recordThreads()
    if feed.refusedEvents > 0 {
      contents.evidence.trust.notes.append(
        "\(grouped(feed.refusedEvents)) events belong to more threads than can be replayed")
    }
  }

  /// Which events the recording could hold: what it says itself, else what its threads say.
  private mutating func machineFeatures() -> UInt8 {
    if let value = contents.fact(CaptureFact.Key.features) {
      return RecordedFeature.machineFeatures(RecordedFeature.parse(value))
    }
    var features: UInt8 = 0
    for number in 0..<snapshots.table.slotCount { features |= snapshots.table.slots[number].features }
    if features == 0 {
      contents.evidence.trust.notes.append(
        "the file does not say which events were recorded: time off CPU and in interrupts is not told apart")
    }
    return features
  }

  /// Gives the replayed threads the serials that the recording knows them by, and their keys to the records' table.
  private mutating func recordThreads() {
    guard var threads = replayed else { return }
    var serials: [UInt64: [UInt32]] = [:]
    var greatest: UInt32 = 0
    func name(_ tid: UInt32, _ tgid: UInt32) -> UInt64 { UInt64(tid) << 32 | UInt64(tgid) }
    var named = Set<UInt32>()
    for thread in contents.threads where named.insert(thread.thread).inserted {
      serials[name(thread.tid, thread.tgid), default: []].append(thread.thread)
      greatest = max(greatest, thread.thread)
    }
    for number in 0..<snapshots.table.slotCount {
      let slot = snapshots.table.slots[number]
      greatest = max(greatest, slot.thread)
      if slot.sequence != 0, named.insert(slot.thread).inserted {
        serials[name(slot.tid, slot.tgid), default: []].append(slot.thread)
      }
    }
    // the greatest first: the last one is taken
    for key in serials.keys { serials[key]?.sort(by: >) }
    for index in threads.indices {
      let key = name(threads[index].vcpu.tid, threads[index].pid)
      let serial = serials[key]?.popLast()
      if serial == nil { greatest = greatest &+ 1 }
      threads[index].vcpu.thread = serial ?? greatest
      for var row in threads[index].keys {
        row.thread = threads[index].vcpu.thread
        recordKeys.take(row)
      }
      threads[index].keys = []
    }
    replayed = threads
  }

  // MARK: The end

  mutating func finish() -> TraceContents {
    snapshots.finish()
    contents.lastSnapshot = snapshots.lastClocks
    contents.snapshotCount = snapshots.count
    let usesRecords = rung == .exits && contents.exitRecordCount > 0
    if rung != .accounts, !usesRecords, replayed == nil {
      contents.evidence.capture.rung = TraceRung.accounts.rawValue
      contents.evidence.trust.notes.append(
        "the file holds no \(rung == .exits ? "exit" : "event") records: the numbers are the accounts'")
    }
    let quiet = contents.gaps.filter { $0.reason == .quiet }
    var ledger = LedgerBuilder(
      quietGaps: quiet, endNanoseconds: snapshots.lastClocks?.monotonicNanoseconds ?? lastRecordEnd,
      looks: contents.looks)
    if let replayed {
      ledger.build(replayed)
      if keysWereRecorded { ledger.take(recordKeys) }
    } else if usesRecords {
      records.takeUnpaired(from: snapshots.table)
      ledger.build(snapshots, records: records)
      if recordsHaveKeys, keysWereRecorded { ledger.take(recordKeys) }
    } else {
      ledger.build(snapshots)
      ledger.take(snapshots.keys)
    }
    ledger.name(processes: contents.processes, threads: contents.threads)
    contents.evidence.ledger = ledger.ledger
    contents.evidence.timeline = snapshots.timeline(of: ledger.ledger)
    contents.evidence.trust.notes += ledger.notes
    contents.evidence.apply(snapshots.stops)
    finishCapture()
    finishTrust(refused: snapshots.table.refused &+ records.refused)
    return contents
  }

  /// Where the events that refine keys were not recorded, those of the records would name other classes.
  private var keysWereRecorded: Bool {
    contents.fact(CaptureFact.Key.features).map { RecordedFeature.parse($0).contains(.keys) } ?? true
  }

  private mutating func finishCapture() {
    typealias Key = CaptureFact.Key
    contents.evidence.capture.host = contents.fact(Key.host)
    contents.evidence.capture.kernel = contents.fact(Key.kernel)
    contents.evidence.capture.attach = contents.fact(Key.attach)
    contents.evidence.capture.calibrationProblem = contents.fact(Key.calibrationProblem)
    if let attach = contents.fact(Key.attach), let words = contents.fact(Key.features)?.split(separator: ","),
      words.contains("states"), !words.contains("raw")
    {
      contents.evidence.capture.mode = Calibration.Mode(
        attach: attach, tier: words.contains("sched_switch") ? "full" : "lite", keys: words.contains("keys"),
        records: words.contains("exits"))
    }
    let start = contents.start ?? snapshots.firstClocks
    contents.evidence.capture.startRealtimeNanoseconds = start?.realtimeNanoseconds
    let end =
      snapshots.lastClocks?.monotonicNanoseconds ?? contents.end?.clocks.monotonicNanoseconds
      ?? max(lastRecordEnd, scan.lastNanoseconds)
    if let from = start?.monotonicNanoseconds, end > from {
      contents.evidence.capture.durationNanoseconds = end - from
    }
  }

  private mutating func finishTrust(refused: UInt64) {
    var trust = contents.evidence.trust
    for loss in contents.losses {
      let counts = loss.counts + [UInt64](repeating: 0, count: Int(KT_LOSSES.rawValue))
      trust.lostRecords &+= counts[Int(KT_LOST_RECORDS.rawValue)]
      trust.lostEvents &+= counts[Int(KT_LOST_THREADS.rawValue)] &+ counts[Int(KT_LOST_TIDS.rawValue)]
    }
    for gap in contents.gaps {
      trust.gaps &+= 1
      if gap.reason != .clockStep { trust.gapNanoseconds &+= gap.lengthNanoseconds.magnitude }
    }
    trust.isComplete = contents.end != nil
    trust.notes = contents.notes.prefix(100).map(\.text) + trust.notes
    func note(_ count: UInt64, _ text: String) { if count > 0 { trust.notes.append("\(grouped(count)) \(text)") } }
    note(UInt64(contents.unknownBlockCount), "blocks of types that this version does not know were passed over")
    note(UInt64(unreadableEntries) &+ snapshots.unreadable, "entries of intact blocks could not be read")
    if replayed != nil { noteMissingEvents(&trust) }
    note(refused, "exits belong to more threads and reasons than a report can hold; they are not in the table")
    note(UInt64(unreportedDamage), "more places of the file are damaged")
    if !missingFields.isEmpty {
      let kind = contents.exitRecordCount > 0 ? "exit" : "event"
      trust.notes.append("the \(kind) records of this file lack \(missingFields.joined(separator: ", "))")
    }
    contents.evidence.trust = trust
  }

  /// A replay is as good as its events are complete.
  private func noteMissingEvents(_ trust: inout Trust) {
    var counted: UInt64 = 0
    for number in 0..<snapshots.table.slotCount { counted &+= snapshots.table.slots[number].exits }
    if scan.exits < counted {
      trust.notes.append(
        "event records hold \(grouped(scan.exits)) of the \(grouped(counted)) exits that were counted: states and counts "
          + "around those that are missing are not right, the accounts' are")
    }
    let holes = UInt64(scan.holes.count) &+ scan.unreportedHoles
    if holes > 0 {
      trust.notes.append(
        "blocks of event records are missing: \(grouped(holes)) stretches of CPUs are unknown for as long as their "
          + "events may have been in them")
    }
  }
}
