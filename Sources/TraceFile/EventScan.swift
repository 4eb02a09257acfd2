import CKvmtax

/// Looks over the event records in the file's order, before they are replayed: what the blocks span, and which stretches
/// of which CPUs may be missing because a block is.
struct EventScan {
  /// A stretch of one CPU of which records may be missing.
  struct Hole: Equatable {
    var cpu: UInt32
    var fromNanoseconds: UInt64
    var toNanoseconds: UInt64
  }

  private struct Break {
    var fromNanoseconds: UInt64
    var toNanoseconds: UInt64
  }

  private struct Cpu {
    var lastNanoseconds: UInt64 = 0
    /// How many of the breaks were taken into account.
    var breaks = 0
    var isSeen = false
  }

  /// So long may a record wait in its ring: then the programs go quiet.
  private static let longestWait = UInt64(KT_HEARTBEAT_LIMIT_NS)
  private static let cpuLimit = 1 << 16
  static let holeLimit = 1 << 14

  private var cpus: [Cpu] = []
  private var breaks: [Break] = []
  private var isBroken = false
  private(set) var holes: [Hole] = []
  /// Holes beyond the limit.
  private(set) var unreportedHoles: UInt64 = 0
  private(set) var count: UInt64 = 0
  /// kvm_exit events.
  private(set) var exits: UInt64 = 0
  private(set) var firstNanoseconds: UInt64 = .max
  private(set) var lastNanoseconds: UInt64 = 0

  /// A block may be missing here.
  mutating func noteDamage() { isBroken = true }

  /// Takes a block's records; gives the time of the oldest.
  mutating func take(_ events: Span<kt_event>) -> UInt64 {
    var first = UInt64.max
    for index in events.indices { first = min(first, events[index].time_ns) }
    if isBroken, events.count > 0 {
      isBroken = false
      let before = lastNanoseconds > EventScan.longestWait ? lastNanoseconds - EventScan.longestWait : 0
      let (after, isBeyond) = first.addingReportingOverflow(EventScan.longestWait)
      breaks.append(Break(fromNanoseconds: before, toNanoseconds: isBeyond ? .max : after))
    }
    for index in events.indices { take(events[index]) }
    firstNanoseconds = min(firstNanoseconds, first)
    count &+= UInt64(events.count)
    return first
  }

  @inline(__always) private mutating func take(_ event: kt_event) {
    if event.kind == UInt8(KT_EXIT.rawValue) { exits &+= 1 }
    if event.time_ns > lastNanoseconds { lastNanoseconds = event.time_ns }
    let cpu = Int(event.cpu)
    if cpu >= cpus.count {
      guard cpu < EventScan.cpuLimit else { return }
      cpus.append(contentsOf: repeatElement(Cpu(), count: cpu + 1 - cpus.count))
    }
    if cpus[cpu].breaks != breaks.count { close(cpu, before: event.time_ns) }
    cpus[cpu].isSeen = true
    cpus[cpu].lastNanoseconds = max(cpus[cpu].lastNanoseconds, event.time_ns)
  }

  /// A CPU's records may be missing from its last one before the first of the breaks on to the next one it has.
  private mutating func close(_ cpu: Int, before time: UInt64) {
    let from = max(cpus[cpu].lastNanoseconds, breaks[cpus[cpu].breaks].fromNanoseconds)
    let to = min(time, breaks[breaks.count - 1].toNanoseconds)
    cpus[cpu].breaks = breaks.count
    guard from < to else { return }
    if holes.count < EventScan.holeLimit {
      holes.append(Hole(cpu: UInt32(cpu), fromNanoseconds: from, toNanoseconds: to))
    } else {
      unreportedHoles &+= 1
    }
  }

  /// Call after the last block; `endNanoseconds` ends what nothing else does. Puts the holes into the order of their ends.
  mutating func finish(endNanoseconds: UInt64) {
    if isBroken {
      let before = lastNanoseconds > EventScan.longestWait ? lastNanoseconds - EventScan.longestWait : 0
      breaks.append(Break(fromNanoseconds: before, toNanoseconds: endNanoseconds))
    }
    for cpu in cpus.indices where cpus[cpu].isSeen && cpus[cpu].breaks != breaks.count {
      close(cpu, before: max(endNanoseconds, lastNanoseconds))
    }
    holes.sort { ($0.toNanoseconds, $0.cpu) < ($1.toNanoseconds, $1.cpu) }
  }
}
