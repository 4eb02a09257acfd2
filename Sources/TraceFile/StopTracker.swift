import Attribution
import CKvmtax

/// Finds the times in which all vCPUs of a process slept in user space, from one whole snapshot to the next.
struct StopTracker {
  private struct Sleeper {
    var sinceNanoseconds: UInt64
    /// All time blocked in user space up to the last snapshot, the open sleep included.
    var blockedNanoseconds: UInt64
    var exit: InferredStop.Exit?
  }

  private struct Stop {
    var startNanoseconds: UInt64
    /// The last snapshot in which all of them slept.
    var lastNanoseconds: UInt64
    var sleepers: [UInt32: Sleeper]
  }

  private var open: [UInt32: Stop] = [:]
  private(set) var stops: [InferredStop] = []

  /// A whole snapshot at this moment.
  mutating func look(_ slots: UnsafeMutablePointer<kt_slot>, count: Int, at nanoseconds: UInt64) {
    var awake: Set<UInt32> = []
    var asleep: [UInt32: [Int]] = [:]
    for number in 0..<count {
      let slot = slots[number]
      guard slot.ended == 0, slot.exits > 0 || slot.entries > 0 else { continue }
      if UInt32(slot.state) == KT_QEMU_BLOCKED.rawValue {
        asleep[slot.tgid, default: []].append(number)
      } else {
        awake.insert(slot.tgid)
      }
    }
    for (process, stop) in open
    where awake.contains(process) || asleep[process]?.contains(where: { isNew(slots[$0], in: stop) }) ?? true {
      open[process] = nil
      close(stop, slots, count, process)
    }
    for (process, numbers) in asleep where !awake.contains(process) {
      if open[process] != nil {
        for number in numbers { note(slots[number], process, nanoseconds) }
        open[process]?.lastNanoseconds = nanoseconds
        continue
      }
      let start = numbers.map { slots[$0].since_ns }.max() ?? nanoseconds
      guard nanoseconds > start, nanoseconds - start >= InferredStop.leastNanoseconds else { continue }
      open[process] = Stop(startNanoseconds: start, lastNanoseconds: nanoseconds, sleepers: [:])
      for number in numbers { note(slots[number], process, nanoseconds) }
    }
  }

  /// Whatever is still open lasts to the end.
  mutating func finish() {
    for (_, stop) in open.sorted(by: { $0.key < $1.key }) { close(stop, extra: 0) }
    open.removeAll()
  }

  private func isNew(_ slot: kt_slot, in stop: Stop) -> Bool {
    stop.sleepers[slot.thread]?.sinceNanoseconds != slot.since_ns
  }

  private mutating func note(_ slot: kt_slot, _ process: UInt32, _ nanoseconds: UInt64) {
    open[process]?.sleepers[slot.thread] = Sleeper(
      sinceNanoseconds: slot.since_ns, blockedNanoseconds: StopTracker.blocked(slot) &+ (nanoseconds &- slot.since_ns),
      exit: slot.in_exit != 0 ? InferredStop.Exit(isa: slot.isa, reason: slot.reason) : nil)
  }

  private static func blocked(_ slot: kt_slot) -> UInt64 {
    var slot = slot
    return withUnsafePointer(to: &slot) { kt_slot_state_ns($0)[Int(KT_QEMU_BLOCKED.rawValue)] }
  }

  /// The sleepers have gone on since the last snapshot: what all of them slept after it still belongs to the stop.
  private mutating func close(
    _ stop: Stop, _ slots: UnsafeMutablePointer<kt_slot>, _ count: Int, _ process: UInt32
  ) {
    var extra = UInt64.max
    for number in 0..<count where slots[number].tgid == process {
      guard let sleeper = stop.sleepers[slots[number].thread] else { continue }
      let blocked = StopTracker.blocked(slots[number])
      extra = min(extra, blocked > sleeper.blockedNanoseconds ? blocked - sleeper.blockedNanoseconds : 0)
    }
    close(stop, extra: extra == .max ? 0 : extra)
  }

  private mutating func close(_ stop: Stop, extra: UInt64) {
    let length = stop.lastNanoseconds &- stop.startNanoseconds &+ extra
    stops.append(
      InferredStop(
        startNanoseconds: stop.startNanoseconds,
        parts: stop.sleepers.sorted { $0.key < $1.key }.map {
          InferredStop.Part(thread: $0.key, nanoseconds: length, exit: $0.value.exit)
        }))
  }
}
