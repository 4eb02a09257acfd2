import Attribution
import Terminal

/// What a recording prints when it has ended.
func summary(
  _ recorder: Recorder, _ file: TraceOutput, _ ending: Ending, _ child: ChildCommand?, elapsed: UInt64, owner: String,
  isInPlace: Bool
) -> [String] {
  let totals = recorder.tally.totals(recorder.session.table)
  let usage = ownUsage()
  // writing the end takes time too
  let wall = Double(max(monotonicNanoseconds() &- recorder.tally.startNanoseconds, 1))
  var lines: [String] = []
  if let child { lines.append("The command \(child.outcome).") }
  if let remark = ending.remark { lines.append(remark) }
  let lost = recorder.lostRecords &+ recorder.unwrittenRecords &+ recorder.lostThreadEvents
  var cost = "Tracer: \(percentage(Double(recorder.tally.cpuNanoseconds) / wall)) of one core"
  if totals.runningNanoseconds > 0 {
    let share = Double(recorder.programNanoseconds) / Double(totals.runningNanoseconds)
    cost += ", its programs \(percentage(share)) of the vCPUs' running time (estimated)"
  }
  lines.append("Recorded \(timeSpan(nanoseconds: elapsed)): \(counted(totals.exits, "exit")), \(grouped(lost)) lost.")
  lines.append("\(cost), \(byteCount(usage.memoryBytes)).")
  lines += lossLines(recorder, totals)
  lines += guestLines(recorder, elapsed: Double(max(elapsed, 1)))
  if totals.exits == 0 {
    lines.append("No exit was seen: no vCPU ran during the recording. `kvmtax doctor` shows what works here.")
  }
  guard isInPlace else {
    lines.append("There is no \(sanitized(file.path)) any more: it was removed or renamed during the recording.")
    return lines
  }
  lines.append(
    "Wrote \(sanitized(file.path)) (\(byteCount(file.bytesWritten)), 0600, owner \(sanitized(owner)))")
  lines.append("Next: kvmtax report \(shellWord(sanitized(file.path)))")
  return lines
}

private func lossLines(_ recorder: Recorder, _ totals: Tally.Totals) -> [String] {
  var lines: [String] = []
  if recorder.lostRecords > 0 {
    lines.append(
      "Lost: \(counted(recorder.lostRecords, "event record")) (rings full); the accounts hold them all the same.")
  }
  if recorder.unwrittenRecords > 0 {
    lines.append(
      "Lost: \(counted(recorder.unwrittenRecords, "event record")) (file full); the accounts hold them all the same."
    )
  }
  if recorder.lostThreadEvents > 0 {
    lines.append("Lost: \(counted(recorder.lostThreadEvents, "event")) of vCPU threads beyond the table's size.")
  }
  if totals.overflowExits > 0 {
    lines.append("Not told apart: \(counted(totals.overflowExits, "exit")), for whose reason no account was free.")
  }
  if recorder.gapNanoseconds > 0 {
    lines.append("Not observed: \(timeSpan(nanoseconds: recorder.gapNanoseconds)), while the tracer was stopped.")
  }
  return lines
}

/// A line per VM, the busiest first; at most ten.
private func guestLines(_ recorder: Recorder, elapsed: Double) -> [String] {
  let parts = recorder.tally.parts(recorder.session.table).sorted {
    ($1.value.exits, $0.key) < ($0.value.exits, $1.key)
  }
  var lines = parts.prefix(10).map { pid, part in
    let name = recorder.guest(pid)?.label ?? "pid \(pid)"
    return "  \(padded(truncated(sanitized(name), width: 30), width: 30))"
      + " \(padded(counted(part.threads, "vCPU"), width: 9, .right))"
      + " \(padded(rate(Double(part.exits) * 1e9 / elapsed), width: 10, .right)) exits/s"
  }
  let more = max(parts.count - 10, 0) + recorder.tally.forgottenProcesses
  if more > 0 { lines.append("  and \(counted(UInt64(more), "more VM"))") }
  return lines
}
