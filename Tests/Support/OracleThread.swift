import Attribution
import CKvmtax

/// One thread's events, taken as statements about where it is. What an interval was is kept with it, not where it is
/// booked: that is worked out from the whole list once the exit is over.
struct OracleThread {
  /// Where the thread's own work is, as the last event told.
  enum Place { case unseen, guest, unnamed, kernel, user, userHalt, resumed }

  /// What it did meanwhile.
  enum Nature { case running, handler, asleep, latency, preempted, stopped, delayed, doubtful, polled, waited }

  /// A stretch of time between two events that told something.
  struct Piece {
    var length: UInt64
    var place: Place
    var nature: Nature
    /// How many wake-ups of the open HLT came before it.
    var round = 0
  }

  /// A wake-up of a HLT in the kernel: which of the halt's rounds it ends.
  struct Wakeup {
    var roundStart: UInt64
    var time: UInt64
    var nanoseconds: UInt64
    var waited: Bool
  }

  /// A wake-up in user space or on the way from it, and how many pieces came before it.
  struct LateWakeup {
    var nanoseconds: UInt64
    var place: Place
    var pieceCount: Int
  }

  /// An exit that waits for its entry; without a name while only an interrupt or a switch told of it.
  struct Exit {
    var start: UInt64
    var event: kt_event?
    var roundStart: UInt64 = 0
    var pieces: [Piece] = []
    var wakeups: [Wakeup] = []
    var lateWakeups: [LateWakeup] = []
    var wasInUserspace = false
    var evidence = OracleEvidence()
    var isHalt: Bool { event.map(OracleReasons.isHalt) ?? false }
  }

  /// An exit's reason on its ISA.
  struct Reason: Hashable {
    var isa: UInt8
    var reason: UInt32
    init(_ event: kt_event) { (isa, reason) = (event.isa, event.reason) }
  }

  /// What the events add up to.
  struct Counts: Equatable {
    var steps: UInt64 = 0
    var exits: UInt64 = 0
    var entries: UInt64 = 0
    var finished: UInt64 = 0
    var unpairedExits: UInt64 = 0
    var unpairedEntries: UInt64 = 0
    var userspaceExits: UInt64 = 0
    var wakeups: UInt64 = 0
    var halts: UInt64 = 0
    var interrupts: UInt64 = 0
    var windows: UInt64 = 0
    var ports: UInt64 = 0
    var switches: UInt64 = 0
    var missedSwitches: UInt64 = 0
    var missedWakings: UInt64 = 0
    var backwards: UInt64 = 0
    var firstRunDelay: UInt64 = 0
    var runDelay: UInt64 = 0
  }

  let tid: UInt32
  let tgid: UInt32
  let features: UInt32
  let firstTime: UInt64
  private(set) var lastTime: UInt64
  /// The time of its last event, whether it told where the thread is or not.
  var lastEvent: UInt64 = 0
  var lastSeen: UInt64 { max(lastTime, lastEvent) }
  private(set) var place = Place.unseen
  private(set) var counts = Counts()
  private(set) var times = StateTimes()
  private(set) var accounts: [Reason: ExitAccount] = [:]
  private(set) var keys: [OracleKey: OracleKeyAccount] = [:]
  private(set) var exit: Exit?
  private(set) var index: Int?
  private(set) var hasEnded = false
  var cpu: UInt32 = 0
  private var absence: Nature?
  private var handlers = 0
  private var lastWake: UInt64?
  private var onSince: UInt64
  private var isImmediate = false
  private(set) var timerVector: UInt8 = 0
  private(set) var timerSource: UInt8 = 0
  private var delay: UInt64 = 0
  private var delayIsStale = false

  init(_ first: kt_event, features: UInt8) {
    tid = first.tid
    tgid = first.tgid
    self.features = UInt32(features)
    firstTime = first.time_ns
    lastTime = first.time_ns
    onSince = first.time_ns
  }

  func has(_ feature: kt_feature) -> Bool { features & feature.rawValue != 0 }

  // MARK: Events

  mutating func wake(at time: UInt64) { lastWake = time }

  mutating func take(_ event: kt_event) {
    if event.vcpu != UInt16(KT_NO_VCPU) { index = Int(event.vcpu) }
    readDelay(event.run_delay_ns)
    guard event.kind < UInt8(KT_KINDS.rawValue) else { return }
    let kind = kt_kind(UInt32(event.kind))
    if kind == KT_TIMER_VECTOR {
      timerVector = UInt8(truncatingIfNeeded: event.reason)
      timerSource = UInt8(truncatingIfNeeded: event.extra)
      return
    }
    counts.steps += 1
    // rule: a time before the last one counts as zero length
    if event.time_ns < lastTime { counts.backwards += 1 }
    let time = max(event.time_ns, lastTime)
    switch kind {
    case KT_SCHED_IN: comeOn(at: time)
    case KT_IRQ_ENTRY: beginHandler(event, at: time)
    case KT_IRQ_EXIT: endHandler(at: time)
    default:
      // rule: a task's own event is made on CPU and outside of handlers, whatever was seen of their ends
      returnUnseen(at: time)
      endHandlers(at: time)
      takeOwn(event, kind, at: time)
    }
  }

  private mutating func takeOwn(_ event: kt_event, _ kind: kt_kind, at time: UInt64) {
    switch kind {
    case KT_EXIT: leaveGuest(event, at: time)
    case KT_ENTRY: enterGuest(event, at: time)
    case KT_USERSPACE_EXIT: goToUserspace(event, at: time)
    case KT_FPU_LOAD:
      guard place == .user || place == .userHalt else { return }
      close(at: time)
      place = .resumed
    case KT_VCPU_WAKEUP: wakeUp(event, at: time)
    case KT_SCHED_OUT:
      // rule: a switch in guest mode ends guest time; kvm_exit is still to come
      if place == .guest { beginUnnamed(at: time) }
      close(at: time)
      absence = event.reason & 0x0c != 0 ? .stopped : event.reason & 0xff == 0 ? .preempted : .asleep
    case KT_THREAD_END:
      close(at: time)
      hasEnded = true
    default:
      if exit?.event != nil { exit?.evidence.append(event, timerVector) }
    }
  }

  /// rule: nothing is known of a gap, and an exit that it cuts has no known length.
  mutating func gap(from start: UInt64, to end: UInt64) {
    close(at: max(start, lastTime))
    drop()
    place = .unseen
    absence = nil
    handlers = 0
    isImmediate = false
    delay = 0
    delayIsStale = true
    close(at: max(end, lastTime))
    onSince = lastTime
  }

  private mutating func leaveGuest(_ event: kt_event, at time: UInt64) {
    counts.exits += 1
    count(event)
    let wasUnnamed = exit != nil && exit?.event == nil
    let isFirst = wasUnnamed || place == .guest
    if wasUnnamed {
      close(at: time)
    } else {
      // rule: an exit needs an entry before it, or an open exit that it supersedes
      close(at: time, as: exit == nil && place != .guest ? .doubtful : nil)
      drop()
      exit = Exit(start: time)
    }
    exit?.event = event
    exit?.roundStart = time
    exit?.evidence.isImmediate = isImmediate && isFirst
    isImmediate = false
    place = .kernel
  }

  private mutating func enterGuest(_ event: kt_event, at time: UInt64) {
    counts.entries += 1
    // rule: an entry in guest mode, or after an interrupt in it: the exit between was not seen
    if place == .guest || place == .unnamed { counts.unpairedEntries += 1 }
    close(at: time, as: place == .guest ? .doubtful : nil)
    if exit?.event != nil { finish() } else { drop() }
    place = .guest
    isImmediate = event.reason != 0
  }

  private mutating func goToUserspace(_ event: kt_event, at time: UInt64) {
    counts.userspaceExits += 1
    close(at: time, as: place == .guest ? .doubtful : nil)
    if place == .unnamed { drop() }
    let error = Int32(bitPattern: event.extra)
    // rule: KVM_EXIT_HLT hands the halt to user space
    place = exit?.isHalt == true && event.reason == 5 && error >= 0 ? .userHalt : .user
    exit?.wasInUserspace = true
    exit?.evidence.goToUserspace(event.reason, error)
  }

  private mutating func wakeUp(_ event: kt_event, at time: UInt64) {
    counts.wakeups += 1
    if place == .kernel, exit?.isHalt == true {
      close(at: time)
      let start = exit?.roundStart ?? time
      exit?.wakeups.append(
        Wakeup(roundStart: start, time: time, nanoseconds: event.arg, waited: event.reason != 0))
      exit?.roundStart = time
    } else if has(KT_HAS_SWITCH) {
      // rule: it waited for its start-up IPI: that was no blocking
      guard place == .user || place == .userHalt || place == .resumed, let count = exit?.pieces.count else { return }
      exit?.lateWakeups.append(LateWakeup(nanoseconds: event.arg, place: place, pieceCount: count))
    } else if place == .user || place == .resumed {
      close(at: time - min(event.arg, time - lastTime))
      close(at: time, as: event.reason != 0 ? .waited : .polled)
    }
  }

  private mutating func beginUnnamed(at time: UInt64) {
    close(at: time)
    exit = Exit(start: time)
    place = .unnamed
  }

  private mutating func count(_ event: kt_event) {
    let isVMX = event.isa == 1
    switch event.isa == 1 || event.isa == 2 ? OracleReasons.basic(event) : .max {
    case isVMX ? 12 : 0x78: counts.halts += 1
    case 0xa6 where !isVMX: counts.halts += 1
    case isVMX ? 1 : 0x60: counts.interrupts += 1
    case isVMX ? 7 : 0x64: counts.windows += 1
    case isVMX ? 30 : 0x7b: counts.ports += 1
    default: break
    }
  }

  // MARK: On and off CPU

  private mutating func returnUnseen(at time: UInt64) {
    guard absence != nil else { return }
    counts.missedSwitches += 1
    endAbsence(at: time)
  }

  private mutating func endAbsence(at time: UInt64) {
    if absence == .asleep, place != .unseen, has(KT_HAS_WAKING) {
      // rule: from the wake-up on it is latency; woken just before it slept (the race), all of it is
      let earliest = max(onSince, exit?.start ?? 0)
      if let lastWake, lastWake >= lastTime, lastWake <= time {
        close(at: lastWake)
        absence = .latency
      } else if let lastWake, lastWake >= earliest, lastWake < lastTime {
        absence = .latency
      } else {
        counts.missedWakings += 1
      }
    }
    close(at: time)
    absence = nil
    onSince = time
    counts.switches += 1
  }

  private mutating func comeOn(at time: UInt64) {
    guard absence == nil else { return endAbsence(at: time) }
    // rule: the switch away was missed, at some moment of the open interval; a HLT's wake-up will say more
    counts.missedSwitches += 1
    let isExplained = handlers == 0 && place == .kernel && exit?.isHalt == true
    close(at: time, as: isExplained ? nil : .doubtful)
    handlers = 0
    if place == .guest { beginUnnamed(at: time) }
    onSince = time
  }

  private mutating func beginHandler(_ event: kt_event, at time: UInt64) {
    returnUnseen(at: time)
    if place == .guest { beginUnnamed(at: time) }
    if handlers == 0 { close(at: time) }
    handlers += 1
    exit?.evidence.handlers.append((event.reason, event.arg))
  }

  private mutating func endHandler(at time: UInt64) {
    returnUnseen(at: time)
    if place == .guest { beginUnnamed(at: time) }
    if handlers == 1 { close(at: time) }
    handlers = max(0, handlers - 1)
  }

  private mutating func endHandlers(at time: UInt64) {
    if handlers > 0 { close(at: time) }
    handlers = 0
  }

  private mutating func readDelay(_ reading: UInt64) {
    guard reading > 0 else { return }
    if counts.runDelay == 0 { counts.firstRunDelay = reading }
    if counts.runDelay > 0, reading > counts.runDelay, !delayIsStale, !has(KT_HAS_SWITCH) {
      delay += reading - counts.runDelay
    }
    counts.runDelay = reading
    delayIsStale = false
  }

  // MARK: Pieces

  private mutating func close(at time: UInt64, as nature: Nature? = nil) {
    let length = time - lastTime
    let delayed = min(delay, length)
    delay -= delayed
    lastTime = time
    if delayed > 0 { add(Piece(length: delayed, place: place, nature: .delayed)) }
    add(
      Piece(length: length - delayed, place: place, nature: nature ?? absence ?? (handlers > 0 ? .handler : .running)))
  }

  private mutating func add(_ piece: Piece) {
    guard exit != nil else {
      times[label(piece, isHalt: false)] += piece.length
      return
    }
    var piece = piece
    piece.round = exit?.wakeups.count ?? 0
    exit?.pieces.append(piece)
  }

  private mutating func drop() {
    guard let dropped = exit else { return }
    exit = nil
    for (state, length) in amounts(of: dropped, isOver: true) { times[forgotten(state)] += length }
    guard let event = dropped.event else { return }
    counts.unpairedExits += 1
    accounts[Reason(event), default: ExitAccount(isa: event.isa, reason: event.reason)].unpaired += 1
  }

  /// rule: guest time may hide in an exit that no entry ended; what was seen to be off CPU or in handlers stays.
  private func forgotten(_ state: State) -> State {
    switch state {
    case .kernel, .qemu, .haltPoll: .unknown
    // where it is one with polling or handling
    case .haltWait where !has(KT_HAS_SWITCH) || !has(KT_HAS_WAKEUP): .unknown
    default: state
    }
  }

  private mutating func finish() {
    guard let finished = exit, let event = finished.event else { return }
    exit = nil
    counts.finished += 1
    var states = StateTimes()
    for (state, length) in amounts(of: finished, isOver: true) { states[state] += length }
    times.add(states)
    let total = lastTime - finished.start
    accounts[Reason(event), default: ExitAccount(isa: event.isa, reason: event.reason)].add(total, states)
    let key = OracleKey(event, finished.evidence, blocked: states[.kernelBlocked], isTimerKnown: timerVector != 0)
    keys[key, default: OracleKeyAccount()].add(total, states)
  }

  /// What the slot of the thread holds: closed intervals, the open exit's included.
  var statesSoFar: StateTimes {
    var states = times
    guard let exit else { return states }
    for (state, length) in amounts(of: exit, isOver: false) { states[state] += length }
    return states
  }
}

/// What finished exits of one key took.
public struct OracleKeyAccount: Equatable {
  /// How many.
  public var finished: UInt64 = 0
  /// kvm_exit to kvm_entry, ns.
  public var total: UInt64 = 0
  /// The longest, ns.
  public var longest: UInt64 = 0
  /// Their ns per state.
  public var states = StateTimes()

  mutating func add(_ nanoseconds: UInt64, _ times: StateTimes) {
    finished += 1
    total += nanoseconds
    longest = max(longest, nanoseconds)
    states.add(times)
  }
}

extension ExitAccount {
  mutating func add(_ nanoseconds: UInt64, _ times: StateTimes) {
    minNanoseconds = finished == 0 ? nanoseconds : min(minNanoseconds, nanoseconds)
    maxNanoseconds = max(maxNanoseconds, nanoseconds)
    finished += 1
    totalNanoseconds += nanoseconds
    states.add(times)
    let bucket = OracleBuckets.bucket(of: nanoseconds)
    histogram.set(bucket: bucket, count: histogram.counts[bucket] + 1)
  }
}
