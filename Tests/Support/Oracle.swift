import Attribution
import CKvmtax

/// The partition of time and the keys of exits, worked out a second time: slowly, from what the events mean and not from
/// the state machine's source. It keeps what every interval was, and books an exit's intervals only when nothing more can
/// come that explains them. Each rule is a sentence of the model.
public struct Oracle {
  private struct Loss {
    var from: UInt64
    var to: UInt64
  }
  private let features: UInt8
  private(set) var threads: [OracleThread] = []
  private var numbers: [UInt32: Int] = [:]
  private var losses: [UInt32: Loss] = [:]

  /// Without events, of a stream that can hold the events of these features.
  public init(features: UInt8 = Replay.allFeatures) { self.features = features }

  /// Takes a stream in order.
  public init(_ events: [kt_event], features: UInt8 = Replay.allFeatures) {
    self.init(features: features)
    for event in events { take(event) }
  }

  /// Takes the next event.
  public mutating func take(_ event: kt_event) {
    guard let number = number(of: event) else { return }
    // rule: a wake-up happens on the waker's CPU and time; it tells when, and nothing else
    if event.kind == UInt8(KT_WAKING.rawValue) { return threads[number].wake(at: event.time_ns) }
    // rule: who comes to a CPU that lost events since may have been there then
    if threads[number].cpu != event.cpu, let loss = losses[event.cpu], threads[number].lastSeen < loss.to {
      threads[number].gap(from: loss.from, to: loss.to)
    }
    threads[number].cpu = event.cpu
    threads[number].lastEvent = event.time_ns
    threads[number].take(event)
  }

  /// rule: a thread is a tid, until it ends or the tid comes back in another process; it is known from its first exit or
  /// entry on.
  private mutating func number(of event: kt_event) -> Int? {
    if let known = numbers[event.tid] {
      let process = threads[known].tgid
      if !threads[known].hasEnded, process == event.tgid || process == 0 || event.tgid == 0 { return known }
    }
    guard event.kind == UInt8(KT_EXIT.rawValue) || event.kind == UInt8(KT_ENTRY.rawValue) else { return nil }
    var thread = OracleThread(event, features: features)
    thread.cpu = event.cpu
    numbers[event.tid] = threads.count
    threads.append(thread)
    return threads.count - 1
  }

  /// A CPU's events between the two times were lost.
  public mutating func takeLoss(cpu: UInt32, from start: UInt64, to end: UInt64) {
    losses[cpu] = Loss(from: start, to: end)
    // rule: who was last seen on that CPU is unknown from then on, unless it was seen after the loss
    for index in threads.indices where threads[index].cpu == cpu && threads[index].lastSeen <= end {
      threads[index].gap(from: start, to: end)
    }
  }

  /// Nothing was taken on any thread between the two times.
  public mutating func takeGap(from start: UInt64, to end: UInt64) {
    for index in threads.indices { threads[index].gap(from: start, to: end) }
  }

  /// The ledger, with each vCPU's accounts ordered by ISA and reason.
  public func ledger() -> Ledger {
    var ledger = Ledger()
    for (index, thread) in threads.enumerated() { ledger.add(thread.vcpu(number: index + 1), pid: thread.tgid) }
    ledger.sort()
    return ledger.withSortedAccounts()
  }
}

extension OracleThread {
  func vcpu(number: Int) -> VCPU {
    var vcpu = VCPU(thread: UInt32(number), tid: tid)
    vcpu.index = index
    vcpu.firstNanoseconds = firstTime
    vcpu.lastNanoseconds = lastTime
    vcpu.states = statesSoFar
    vcpu.exits = counts.exits
    vcpu.entries = counts.entries
    vcpu.unpairedEntries = counts.unpairedEntries
    vcpu.backwards = counts.backwards
    vcpu.ended = hasEnded
    vcpu.features = StateFeatures(rawValue: UInt8(features))
    // rule: where nothing says what was recorded, what came was
    if features == 0, counts.wakeups > 0 { vcpu.features.insert(.wakeup) }
    if features == 0, counts.userspaceExits > 0 { vcpu.features.insert(.userspaceExit) }
    vcpu.switches = counts.switches
    vcpu.missedSwitches = counts.missedSwitches
    vcpu.missedWakings = counts.missedWakings
    // each is the reading plus 1
    if counts.runDelay > 0 { vcpu.runDelayNanoseconds = counts.runDelay &- counts.firstRunDelay }
    vcpu.timerVectorSource = VectorSource(rawValue: timerSource)
    if vcpu.timerVectorSource != nil, timerVector != 0 { vcpu.timerVector = timerVector }
    var accounts = accounts
    if let event = exit?.event {
      accounts[Reason(event), default: ExitAccount(isa: event.isa, reason: event.reason)].open = 1
    }
    vcpu.accounts = Array(accounts.values)
    return vcpu
  }
}

extension Ledger {
  /// The same ledger with each vCPU's accounts ordered by ISA and reason, so that two can be compared.
  public func withSortedAccounts() -> Ledger {
    var copy = self
    for vm in copy.vms.indices {
      for vcpu in copy.vms[vm].vcpus.indices {
        copy.vms[vm].vcpus[vcpu].accounts.sort { ($0.isa, $0.reason) < ($1.isa, $1.reason) }
      }
    }
    return copy
  }
}

/// The histogram's bounds, from their definition: eight equal steps in each octave from 64 ns to 2^34 ns.
public enum OracleBuckets {
  /// The least duration of buckets 1, 2, …; bucket 0 lies below the first.
  public static let bounds: [UInt64] = {
    var bounds: [UInt64] = []
    for octave in 6..<34 {
      let least = UInt64(1) << octave
      for step in 0..<UInt64(8) { bounds.append(least + least / 8 * step) }
    }
    return bounds + [1 << 34]
  }()

  /// The bucket of a duration: how many bounds it has reached.
  public static func bucket(of nanoseconds: UInt64) -> Int {
    var (low, high) = (0, bounds.count)
    while low < high {
      let middle = (low + high) / 2
      if bounds[middle] <= nanoseconds { low = middle + 1 } else { high = middle }
    }
    return low
  }
}
