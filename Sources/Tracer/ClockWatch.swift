import TraceFile

/// Notices that the host slept or that somebody set its clock: the clocks then move apart.
struct ClockWatch {
  private var last: Clocks?
  /// NTP slews by at most 500 ppm; what moves apart by more than this in one look is a step.
  private static let thresholdNanoseconds: Int64 = 50_000_000

  /// Compares the clocks with those of the last call.
  mutating func look(at now: Clocks) -> [TraceGap] {
    defer { last = now }
    guard let last else { return [] }
    let monotonic = Int64(bitPattern: now.monotonicNanoseconds &- last.monotonicNanoseconds)
    let slept = Int64(bitPattern: now.boottimeNanoseconds &- last.boottimeNanoseconds) &- monotonic
    let stepped = Int64(bitPattern: now.realtimeNanoseconds &- last.realtimeNanoseconds) &- monotonic &- slept
    var gaps: [TraceGap] = []
    if slept > ClockWatch.thresholdNanoseconds {
      gaps.append(gap(.suspend, from: last, to: now, slept))
    }
    if stepped.magnitude > UInt64(ClockWatch.thresholdNanoseconds) {
      gaps.append(gap(.clockStep, from: last, to: now, stepped))
    }
    return gaps
  }

  private func gap(_ reason: TraceGap.Reason, from: Clocks, to: Clocks, _ length: Int64) -> TraceGap {
    TraceGap(
      reason: reason, fromNanoseconds: from.monotonicNanoseconds, toNanoseconds: to.monotonicNanoseconds,
      lengthNanoseconds: length)
  }
}
