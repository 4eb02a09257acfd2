import Attribution
import CKvmtax
import Formats

/// Reads a perf.data, as a file or as what perf wrote to a pipe.
func importPerfData(
  _ bytes: UnsafeRawBufferPointer, path: String, progress: (Double) -> Void
) throws(InputError) -> Evidence {
  let header = try PerfHeader(bytes, file: path)
  if !header.isPipe {
    try header.checkFormats()
    try header.checkEvents()
  }
  let recorded = Set(header.attributes.filter(\.isWhole).map(\.config))
  // perf writes the formats of the events that it records, and to a pipe it writes them before the first sample
  let formats = header.isPipe ? header.formatsInPipe : header.formats
  return try replayed(
    formats?.events ?? KvmEventTable(), file: path, isRecorded: { header.isPipe || recorded.contains($0) }
  ) { (table, replay) throws(InputError) in
    try evidence(header, table, &replay, progress: progress)
  }
}

private func evidence(
  _ header: PerfHeader, _ table: KvmEventTable, _ replay: inout Replay, progress: (Double) -> Void
) throws(InputError) -> Evidence {
  var source = PerfSource(header, table)
  if !header.isPipe, !source.hasExits { throw header.noExits }
  let total = Double(max(1, header.bytes.count))
  try replay.drain(&source, file: header.file) { progress(min(1, Double($0.position) / total)) }
  if header.isPipe {
    try source.header.checkFormats()
    try source.header.checkEvents()
    if !source.hasExits { throw source.header.noExits }
  }
  if replay.eventCount == 0, let place = source.damage.places.first {
    throw InputError(
      file: header.file, offset: place.offset, found: "\(place.found); no kvm event is readable before it",
      remedy: "Copy or record it again.")
  }
  return evidence(source, replay)
}

extension PerfHeader {
  /// The event formats among the records of a pipe.
  fileprivate var formatsInPipe: TracingFormats? {
    var records = PerfRecords(bytes, offset: dataOffset, size: dataSize)
    var damage = DamageLog()
    while let record = records.next(&damage) {
      if record.type == PerfRecordType.tracingData { return TracingFormats(perfTracingData: record.payload) }
    }
    return nil
  }

  /// Without formats no record can be read; says why they are missing.
  fileprivate func checkFormats() throws(InputError) {
    guard formats == nil else { return }
    var records = PerfRecords(bytes, offset: dataOffset, size: dataSize)
    var damage = DamageLog()
    var samples: UInt64 = 0
    while let record = records.next(&damage) {
      if record.type == PerfRecordType.sample { samples &+= 1 }
    }
    if isCutShort || (isPipe && !damage.places.isEmpty) {
      let promised = isPipe ? "perf was writing" : "the header promises \(grouped(promisedSize)) bytes"
      throw InputError(
        file: file, offset: UInt64(bytes.count), found: "\(promised) and the file is cut short",
        expected: "\(grouped(samples)) samples before the cut are readable, but perf writes its event formats last and "
          + "they are missing.",
        remedy: "Copy the file again.")
    }
    if wasKilled {
      throw InputError(
        file: file, offset: 48, found: "perf record did not end in order: the header gives no size",
        expected: "\(grouped(samples)) samples are there, but perf writes its event formats last and they are missing.",
        remedy: "Record it again and stop perf with Ctrl-C.")
    }
    if let place = self.damage.places.first {
      throw InputError(
        file: file, offset: place.offset, found: place.found,
        expected: "Without its event formats no sample is readable.",
        remedy: "Copy or record it again.")
    }
    throw InputError(
      file: file, found: "holds no event formats",
      expected: "perf writes them only if it was built with libtraceevent.",
      remedy: "Record again with another build of perf, with trace-cmd or with kvmtax record.")
  }

  /// Pairing needs every event with its time.
  fileprivate func checkEvents() throws(InputError) {
    guard let events = formats?.events else { return }
    // of the others the file just has none that can be used
    for attribute in attributes where attribute.isTracepoint && events.isPaired(slot: events.slot(id: attribute.config))
    {
      if attribute.sampleType & 1 << 2 == 0 || attribute.sampleType & 1 << 10 == 0 {
        throw InputError(
          file: file, found: "its kvm events carry no \(attribute.sampleType & 1 << 2 == 0 ? "times" : "fields")",
          remedy: "Record again with: perf kvm stat record")
      }
      if attribute.isFrequency || attribute.samplePeriod > 1 {
        throw InputError(
          file: file, found: "holds a choice of the kvm events only, not all of them",
          remedy: "Record again with: perf kvm stat record (or perf record -c 1)")
      }
    }
  }

  fileprivate var noExits: InputError {
    InputError(
      file: file, found: "holds no event kvm_exit", expected: formats?.events.notes.first,
      remedy: "Record again with: perf kvm stat record")
  }
}

/// Puts together what the header says and what the events add up to.
private func evidence(_ source: borrowing PerfSource, _ replay: borrowing Replay) -> Evidence {
  let header = source.header
  var capture = Capture(
    file: header.file, format: header.isPipe ? "perf.data (pipe)" : "perf.data", rung: "events")
  capture.host = header.host
  capture.kernel = header.kernel
  capture.clock = header.attributes.first?.clock
  if replay.eventCount > 0 { capture.durationNanoseconds = replay.lastNanoseconds - replay.firstNanoseconds }
  if let format = header.formats?.events.exitFormat { capture.reasonNames = ReasonNames(kvmExitFormat: format) }
  var trust = Trust()
  trust.lostEvents = source.lost
  trust.isComplete = !header.isCutShort && !header.wasKilled && source.damage.places.isEmpty
  trust.notes = header.notes + (header.formats?.events.notes ?? [])
  if source.strangers > 0 {
    trust.notes.append("\(grouped(source.strangers)) samples belong to no event that the file describes.")
  }
  if source.earlyFlushes > 0 {
    trust.notes.append("perf's rounds are so long that events were put in order in parts; some may be out of order.")
  }
  header.damage.report(in: &trust)
  source.damage.report(in: &trust)
  let ledger = replay.ledger()
  var evidence = Evidence(capture: capture, ledger: ledger, timeline: replay.timeline(of: ledger), trust: trust)
  evidence.nameThreads(source.threadNames)
  evidence.noteTheUsual(cpus: 1)
  return evidence
}
