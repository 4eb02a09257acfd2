import Attribution
import Formats

/// Reads a trace.dat. The main buffer is taken; if it holds no kvm events, the first instance that does.
func importTraceDat(
  _ bytes: UnsafeRawBufferPointer, path: String, progress: (Double) -> Void
) throws(InputError) -> Evidence {
  let header = try TraceDatHeader(bytes, file: path)
  guard header.formats.events.hasExits else {
    throw InputError(
      file: path, found: "holds no format of the event kvm_exit", expected: header.formats.events.notes.first,
      remedy: "Record again with: trace-cmd record -e kvm")
  }
  guard !header.buffers.isEmpty else {
    throw InputError(file: path, found: "holds no trace data", remedy: "Record again with: trace-cmd record -e kvm")
  }
  let total = Double(max(1, bytes.count))
  var evidence: Evidence?
  var others: [String] = []
  for buffer in header.buffers {
    if evidence?.ledger.vms.isEmpty == false {
      others.append(buffer.name)
      continue
    }
    evidence = try replayed(header.formats.events, file: path) { (table, replay) throws(InputError) in
      var source = TraceDatSource(header, buffer, table)
      try replay.drain(&source, file: path) { progress(min(1, Double($0.findings.bytesTaken) / total)) }
      return header.evidence(source, replay)
    }
  }
  guard var evidence else { throw InputError(file: path, found: "holds no trace data") }
  if !others.isEmpty {
    evidence.trust.notes.append("\(others.count) more buffers of the trace were not read.")
  }
  return evidence
}

extension TraceDatHeader {
  /// Puts together what the header says and what the events add up to.
  fileprivate borrowing func evidence(_ source: borrowing TraceDatSource, _ replay: borrowing Replay) -> Evidence {
    var capture = Capture(file: file, format: "trace.dat v\(version)", rung: "events")
    capture.host = host
    capture.kernel = kernel
    capture.clock = clock
    if replay.eventCount > 0 { capture.durationNanoseconds = replay.lastNanoseconds - replay.firstNanoseconds }
    if let format = formats.events.exitFormat { capture.reasonNames = ReasonNames(kvmExitFormat: format) }
    var trust = Trust()
    trust.isComplete = isComplete
    // the pages' own counts and the statistics count the same losses
    trust.lostEvents = max(lostByStatistics, source.findings.lost)
    trust.notes = notes + formats.events.notes
    if source.findings.lossesOfUnknownSize > 0 {
      trust.notes.append(
        "ftrace lost events \(grouped(source.findings.lossesOfUnknownSize)) times without saying how many.")
    }
    damage.report(in: &trust)
    source.findings.damage.report(in: &trust)
    let ledger = replay.ledger()
    var evidence = Evidence(capture: capture, ledger: ledger, timeline: replay.timeline(of: ledger), trust: trust)
    evidence.nameThreads(threadNames)
    evidence.noteTheUsual(cpus: source.cpuCount)
    return evidence
  }
}
