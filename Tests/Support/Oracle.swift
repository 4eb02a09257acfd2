import Attribution
import CKvmtax

/// What happened on one thread, as the oracle reads it: an event, or a stretch from which nothing was taken.
public enum Happening {
  /// An event, whatever its kind.
  case event(kt_event)
  /// Nothing was taken between the two times (ns).
  case gap(from: UInt64, to: UInt64)
}

/// The partition of time, worked out a second time from what the events mean: slowly, over the whole list of a thread's
/// events, and not from the state machine's source. Each rule below is a sentence of the model.
public struct Oracle {
  private struct Thread {
    var tid: UInt32
    var tgid: UInt32
    var cpu: UInt32
    var happenings: [Happening]
  }
  private struct Loss {
    var cpu: UInt32
    var from: UInt64
    var to: UInt64
  }
  private var threads: [Thread] = []
  private var losses: [Loss] = []

  /// Without events.
  public init() {}

  /// Takes a stream in order. A thread is a tid, until the tid comes back in another process.
  public init(_ events: [kt_event]) {
    for event in events { take(event) }
  }

  /// Takes the next event.
  public mutating func take(_ event: kt_event) {
    let known = threads.lastIndex { $0.tid == event.tid }
    if let known, threads[known].tgid == event.tgid || threads[known].tgid == 0 || event.tgid == 0 {
      // rule: who comes to a CPU that lost events since may have been there then
      if threads[known].cpu != event.cpu, let loss = losses.last(where: { $0.cpu == event.cpu }),
        History(threads[known].happenings).lastTime < loss.to
      {
        threads[known].happenings.append(.gap(from: loss.from, to: loss.to))
      }
      threads[known].cpu = event.cpu
      threads[known].happenings.append(.event(event))
    } else {
      threads.append(Thread(tid: event.tid, tgid: event.tgid, cpu: event.cpu, happenings: [.event(event)]))
    }
  }

  /// A CPU's events between the two times were lost.
  public mutating func takeLoss(cpu: UInt32, from start: UInt64, to end: UInt64) {
    losses.append(Loss(cpu: cpu, from: start, to: end))
    // rule: who was last seen on that CPU is unknown from then on, unless it was seen after the loss
    for index in threads.indices
    where threads[index].cpu == cpu && History(threads[index].happenings).lastTime <= end {
      threads[index].happenings.append(.gap(from: start, to: end))
    }
  }

  /// Nothing was taken on any thread between the two times.
  public mutating func takeGap(from start: UInt64, to end: UInt64) {
    for index in threads.indices { threads[index].happenings.append(.gap(from: start, to: end)) }
  }

  /// The ledger, with each vCPU's accounts ordered by ISA and reason.
  public func ledger() -> Ledger {
    var ledger = Ledger()
    for (index, thread) in threads.enumerated() {
      let history = History(thread.happenings)
      guard history.count(of: KT_EXIT) + history.count(of: KT_ENTRY) > 0 else { continue }
      var vcpu = VCPU(thread: UInt32(index + 1), tid: thread.tid)
      history.describe(&vcpu)
      ledger.add(vcpu, pid: thread.tgid)
    }
    ledger.sort()
    return ledger.withSortedAccounts()
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

/// One thread's events, thought over.
struct History {
  /// A happening that says where the thread is, at its time; times never go back.
  private struct Mark {
    var time: UInt64
    var what: Happening
    var kind: kt_kind? {
      if case .event(let event) = what { return kt_kind(UInt32(event.kind)) }
      return nil
    }
    var event: kt_event? {
      if case .event(let event) = what { return event }
      return nil
    }
  }

  /// A stretch of time and where it belongs.
  private struct Piece {
    var start: UInt64
    var end: UInt64
    var state: State
  }

  private let all: [Happening]
  private let firstTime: UInt64
  private var marks: [Mark] = []
  private var backwards: UInt64 = 0
  private var pieces: [Piece] = []

  init(_ happenings: [Happening]) {
    all = happenings
    firstTime = if case .event(let event)? = happenings.first { event.time_ns } else { 0 }
    var latest = firstTime
    for happening in happenings {
      guard saysSomething(happening) else { continue }
      let time = if case .event(let event) = happening { event.time_ns } else { History.end(of: happening) }
      // rule: a time before the last one counts as zero length
      if time < latest { backwards += 1 }
      latest = max(latest, time)
      marks.append(Mark(time: latest, what: happening))
    }
    cut()
    forgetUnpairedExits()
  }

  private static func end(of happening: Happening) -> UInt64 {
    if case .gap(_, let end) = happening { return end }
    return 0
  }

  /// The last time that counted.
  var lastTime: UInt64 { marks.last?.time ?? firstTime }

  func count(of kind: kt_kind) -> UInt64 {
    UInt64(all.count { if case .event(let event) = $0 { event.kind == UInt8(kind.rawValue) } else { false } })
  }

  // MARK: Where the thread is

  /// rule: a wake-up tells about the halt before it, or about waiting inside KVM_RUN; elsewhere it tells nothing. Kinds
  /// that are not known tell nothing.
  private func saysSomething(_ happening: Happening) -> Bool {
    guard case .event(let event) = happening else { return true }
    switch kt_kind(UInt32(event.kind)) {
    case KT_EXIT, KT_ENTRY, KT_USERSPACE_EXIT: return true
    case KT_VCPU_WAKEUP:
      let state = whereabouts(after: marks.count)
      return state == .haltWait || state == .qemu
    default: return false
    }
  }

  /// Where the thread is after the first `count` marks: the last mark that is no wake-up tells.
  private func whereabouts(after count: Int) -> State {
    guard let last = marks[..<count].lastIndex(where: { $0.kind != KT_VCPU_WAKEUP }) else { return .unknown }
    switch marks[last].kind {
    case KT_ENTRY: return .guest
    case KT_USERSPACE_EXIT:
      // rule: a halt that KVM hands to user space goes on there, until a wake-up or the entry ends it
      guard whereabouts(after: last) == .haltWait else { return .qemu }
      return last + 1 < count ? .kernel : .haltWait
    case KT_EXIT:
      // rule: HLT asks to sleep until it is woken; the rest is handling
      let wasWoken = last + 1 < count
      return marks[last].event.map(History.isHalt) == true && !wasWoken ? .haltWait : .kernel
    default: return .unknown
    }
  }

  /// Whether an exit waits for its entry after the first `count` marks.
  private func isExitOpen(after count: Int) -> Bool {
    let last = marks[..<count].last { $0.kind == KT_EXIT || $0.kind == KT_ENTRY || $0.kind == nil }
    return last?.kind == KT_EXIT
  }

  /// HLT is VMX's reason 12 and SVM's 0x78; SVM's idle HLT is 0xa6.
  private static func isHalt(_ event: kt_event) -> Bool {
    switch (event.isa, event.reason) {
    case (1, 12), (2, 0x78), (2, 0xa6): true
    default: false
    }
  }

  // MARK: The pieces

  private mutating func cut() {
    var start = firstTime
    for (index, mark) in marks.enumerated() {
      add(start, mark.time, index)
      start = mark.time
    }
  }

  /// The time between mark `index` and the one before it.
  private mutating func add(_ start: UInt64, _ end: UInt64, _ index: Int) {
    let state = whereabouts(after: index)
    switch marks[index].what {
    case .gap(let from, _):
      let known = min(max(from, start), end)
      pieces.append(Piece(start: start, end: known, state: state))
      pieces.append(Piece(start: known, end: end, state: .unknown))
    case .event(let event):
      switch kt_kind(UInt32(event.kind)) {
      case KT_VCPU_WAKEUP:
        // rule: the halt lasted `ns` up to the wake-up; before it, HLT was being handled, or user space ran
        let asleep = min(event.arg, end - start)
        pieces.append(Piece(start: start, end: end - asleep, state: state == .haltWait ? .kernel : state))
        pieces.append(Piece(start: end - asleep, end: end, state: event.reason != 0 ? .haltWait : .haltPoll))
      case KT_ENTRY, KT_USERSPACE_EXIT:
        // rule: in guest mode neither can come; an exit was missed, nobody knows when
        pieces.append(Piece(start: start, end: end, state: state == .guest ? .unknown : state))
      default:
        // rule: an exit needs an entry before it, or an open exit that it supersedes
        let isExplained = state == .guest || isExitOpen(after: index)
        pieces.append(Piece(start: start, end: end, state: isExplained ? state : .unknown))
      }
    }
  }

  /// An exit and how it ended.
  private struct Exit {
    var event: kt_event
    var start: UInt64
    var end: UInt64
    var isFinished: Bool
    var isOpen: Bool
  }

  private var exits: [Exit] {
    marks.indices.filter { marks[$0].kind == KT_EXIT }.compactMap { index in
      guard let event = marks[index].event else { return nil }
      let next = marks[(index + 1)...].first { $0.kind == KT_EXIT || $0.kind == KT_ENTRY || $0.kind == nil }
      return Exit(
        event: event, start: marks[index].time, end: next?.time ?? .max, isFinished: next?.kind == KT_ENTRY,
        isOpen: next == nil)
    }
  }

  /// rule: an exit that another exit or a gap follows has no known length; guest time may hide in it.
  private mutating func forgetUnpairedExits() {
    // pieces of zero length at the borders do not matter: they carry no time
    for exit in exits where !exit.isFinished && !exit.isOpen {
      for index in pieces.indices where pieces[index].start >= exit.start && pieces[index].end <= exit.end {
        pieces[index].state = .unknown
      }
    }
  }

  // MARK: The result

  func describe(_ vcpu: inout VCPU) {
    vcpu.firstNanoseconds = firstTime
    vcpu.lastNanoseconds = lastTime
    for piece in pieces { vcpu.states[piece.state] += piece.end - piece.start }
    vcpu.exits = count(of: KT_EXIT)
    vcpu.entries = count(of: KT_ENTRY)
    vcpu.backwards = backwards
    vcpu.unpairedEntries = UInt64(
      marks.indices.count { marks[$0].kind == KT_ENTRY && whereabouts(after: $0) == .guest })
    vcpu.features = [.wakeup, .userspaceExit]
    for case .event(let event) in all where event.vcpu != UInt16(KT_NO_VCPU) { vcpu.index = Int(event.vcpu) }
    for exit in exits {
      let (isa, reason) = (exit.event.isa, exit.event.reason)
      let known = vcpu.accounts.firstIndex { $0.isa == isa && $0.reason == reason }
      if known == nil { vcpu.accounts.append(ExitAccount(isa: isa, reason: reason)) }
      count(exit, in: &vcpu.accounts[known ?? vcpu.accounts.count - 1])
    }
  }

  private func count(_ exit: Exit, in account: inout ExitAccount) {
    if exit.isOpen { account.open += 1 }
    guard exit.isFinished else {
      if !exit.isOpen { account.unpaired += 1 }
      return
    }
    let total = exit.end - exit.start
    account.minNanoseconds = account.finished == 0 ? total : min(account.minNanoseconds, total)
    account.maxNanoseconds = max(account.maxNanoseconds, total)
    account.finished += 1
    account.totalNanoseconds += total
    for piece in pieces where piece.start >= exit.start && piece.end <= exit.end {
      account.states[piece.state] += piece.end - piece.start
    }
    let bucket = OracleBuckets.bucket(of: total)
    account.histogram.set(bucket: bucket, count: account.histogram.counts[bucket] + 1)
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
  public static func bucket(of nanoseconds: UInt64) -> Int { bounds.count { $0 <= nanoseconds } }
}
