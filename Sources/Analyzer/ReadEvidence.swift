import Attribution
import Files
import Formats
import Import
import Terminal
import TraceFile

/// Reads a trace of any kind, told by content; shows how far it is when that takes longer than a second.
func readEvidence(_ path: String, using rung: TraceRung) throws(InputError) -> Evidence {
  let file = try MappedFile(path: path)
  var line = ProgressLine()
  let name = sanitized(path)
  let show = { (part: Double) in
    line.update("Reading \(name)  \(fixed(part * 100, decimals: 0)) % of \(byteCount(UInt64(file.bytes.count)))")
  }
  if TraceFormat.isTrace(file.bytes) {
    let contents = try readTrace(file, using: rung, progress: show)
    var evidence = contents.evidence
    for format in contents.formatTexts where format.name == "kvm_exit" {
      // a text that cannot be read loses its names and nothing else
      guard let layout = try? EventFormat(text: format.text, system: format.system) else { continue }
      evidence.capture.reasonNames.add(kvmExitFormat: layout)
    }
    return evidence
  }
  if ImportedFormat.detect(file.bytes) == nil, file.bytes.starts(with: [0x7f, 0x45, 0x4c, 0x46]) {
    throw InputError(
      file: path, found: "is a program or library (ELF), not a trace",
      remedy: "Name a trace file: one of kvmtax record, trace-cmd record or perf record.")
  }
  return try importTrace(file, progress: show)
}
