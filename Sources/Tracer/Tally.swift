import CKvmtax
import Glibc

/// Running totals for the live line, the brakes and the summary: what the slots hold, plus what ended threads held.
struct Tally {
  /// One process's part.
  struct Part: Equatable {
    var exits: UInt64 = 0
    var threads: UInt64 = 0

    mutating func add(exits more: UInt64) {
      exits &+= more
      threads &+= 1
    }
  }

  /// All threads together.
  struct Totals: Equatable {
    var exits: UInt64 = 0
    var steps: UInt64 = 0
    var finished: UInt64 = 0
    var overflowExits: UInt64 = 0
    var runningNanoseconds: UInt64 = 0

    mutating func add(_ slot: UnsafePointer<kt_slot>, now: UInt64) {
      exits &+= slot.pointee.exits
      steps &+= slot.pointee.steps
      finished &+= slot.pointee.finished
      overflowExits &+= slot.pointee.overflow_exits
      guard let states = kt_slot_state_ns(slot) else { return }
      for state in [KT_GUEST, KT_KERNEL, KT_QEMU] {
        runningNanoseconds &+= states[Int(state.rawValue)]
        let since = slot.pointee.since_ns
        if slot.pointee.ended == 0, UInt32(slot.pointee.state) == state.rawValue, now > since {
          runningNanoseconds &+= now - since
        }
      }
    }
  }

  /// When the programs began to count, CLOCK_MONOTONIC.
  private(set) var startNanoseconds: UInt64 = 0
  private var cpuAtStart: UInt64 = 0
  private var retired = Totals()
  private var retiredParts: [UInt32: Part] = [:]
  /// Processes whose part was given up, so that VMs may come and go for days; their exits stay in the totals.
  private(set) var forgottenProcesses = 0
  /// So many parts of ended threads are kept; of more, the quarter with the most exits.
  static let mostParts = 4096

  /// From now on.
  mutating func start() {
    startNanoseconds = monotonicNanoseconds()
    cpuAtStart = ownUsage().cpuNanoseconds
  }

  /// This process's CPU time since then, ns.
  var cpuNanoseconds: UInt64 { ownUsage().cpuNanoseconds &- cpuAtStart }

  /// A thread that ended and whose slot is about to be wiped.
  mutating func retire(_ slot: UnsafePointer<kt_slot>) {
    retired.add(slot, now: 0)
    retiredParts[slot.pointee.tgid, default: Part()].add(exits: slot.pointee.exits)
    guard retiredParts.count > Tally.mostParts else { return }
    let busiest = retiredParts.sorted { $0.value.exits > $1.value.exits }.prefix(Tally.mostParts / 4)
    forgottenProcesses += retiredParts.count - busiest.count
    retiredParts = Dictionary(uniqueKeysWithValues: busiest.map { ($0.key, $0.value) })
  }

  /// Everything up to now. Not a consistent moment, which the live line does not need.
  func totals(_ table: SlotTable) -> Totals {
    let now = monotonicNanoseconds()
    var totals = retired
    for number in 0..<table.slotCount where table.isTaken(number) { totals.add(table.slots + number, now: now) }
    return totals
  }

  /// By process, for the summary.
  func parts(_ table: SlotTable) -> [UInt32: Part] {
    var parts = retiredParts
    for number in 0..<table.slotCount where table.isTaken(number) {
      let slot = table.slots[number]
      parts[slot.tgid, default: Part()].add(exits: slot.exits)
    }
    return parts
  }
}

/// CPU time of this process so far, ns, and its largest memory in bytes.
func ownUsage() -> (cpuNanoseconds: UInt64, memoryBytes: UInt64) {
  var usage = rusage()
  getrusage(RUSAGE_SELF.rawValue, &usage)
  func nanoseconds(_ time: timeval) -> UInt64 { UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_usec) * 1000 }
  return (nanoseconds(usage.ru_utime) + nanoseconds(usage.ru_stime), UInt64(max(usage.ru_maxrss, 0)) * 1024)
}
