import CKvmtax
import Glibc

/// Where events come from: a file's events, in the order in which the machine is to see them.
public protocol EventSource {
  /// Replaces `batch` by the next events, oldest first; leaves it empty at the end.
  mutating func read(into batch: inout [kt_event]) throws(InputError)
}

/// The state machine in user space: events in, a ledger out. It runs the same C functions as the BPF programs
/// (BPF/include/machine.h) over slots and rows of its own.
public struct Replay: ~Copyable {
  private var slots: UnsafeMutablePointer<kt_slot>
  private var slotCapacity = 64
  /// Number of threads seen.
  public private(set) var threadCount = 0
  private var rows: UnsafeMutablePointer<kt_row>
  private var rowCapacity = 256
  private var rowCount = 1  // row 0 ends a chain
  /// Per slot, 256 row numbers by the reason's low byte: a guess that is checked against the row.
  private var rowOfReason: UnsafeMutablePointer<UInt32>
  private var keys: UnsafeMutablePointer<kt_key_row>
  private var keyCapacity = 256
  private var keyCount = 1
  /// Per slot, 256 numbers of key rows by a hash of the key, and the rest.
  private var rowOfKey: UnsafeMutablePointer<UInt32>
  private struct SlotKey: Hashable {
    var slot: Int
    var words: SIMD3<UInt64>
  }
  private var moreKeys: [SlotKey: UInt32] = [:]
  /// `enum kt_feature`: which events the stream can hold.
  private let features: UInt8
  /// Per kind of event, how many came.
  public private(set) var eventsByKind = [UInt64](repeating: 0, count: Int(KT_KINDS.rawValue))
  /// Per slot, where and when it was last seen: not every event moves the machine.
  private var placeOfSlot: UnsafeMutablePointer<Place>
  /// Per CPU, its last loss; empty as long as there was none.
  private var losses: [Loss] = []
  /// tid / 4096 -> page of slot numbers plus one.
  private let pages: UnsafeMutablePointer<UnsafeMutablePointer<UInt32>?>
  /// Which of them are allocated.
  private var usedPages: [Int] = []
  /// When the recorder's programs went quiet, in order. A slot's `epoch` is the number of those that it knows of.
  private var quietTimes: [UInt64] = []
  private struct Place {
    var cpu: UInt32 = 0
    var nanoseconds: UInt64 = 0
  }
  private struct Loss {
    var startNanoseconds: UInt64 = 0
    var endNanoseconds: UInt64 = 0
  }

  /// The `kind` of an event that says: the recorder lost events of `cpu` between `arg` and `time_ns`. Threads that were
  /// on that CPU, and those that come to it, are unknown for that time, and their open exits are cut.
  public static let lossKind = UInt8.max
  /// Losses of CPUs beyond this one are not followed.
  private static let maximumCpu: UInt32 = 65_535
  /// Reasons of one thread, and rows of all: a damaged input must not take memory and time without end. What finds no
  /// row is counted in `overflowExits`.
  private static let maximumReasons = 2048
  private static let maximumRows = 1 << 17
  /// Threads of one stream. Events of more are passed over and counted.
  private static let maximumThreads = 1 << 15
  /// Events of threads beyond these.
  public private(set) var refusedEvents: UInt64 = 0
  private static let maximumKeys = 1 << 17
  private static let pageCount = 1 << 20
  private static let pageSize = 1 << 12
  /// The first and last time seen, ns.
  public private(set) var firstNanoseconds: UInt64 = .max
  /// The last time seen, ns.
  public private(set) var lastNanoseconds: UInt64 = 0
  /// Events fed.
  public private(set) var eventCount: UInt64 = 0
  private var timeline = TimelineBuilder()
  /// When the timeline's open interval ends; 0 before the first event.
  private var intervalEnd: UInt64 = 0
  /// Length of its intervals, ns; longer ones where there would be too many.
  private var intervalNanoseconds: UInt64 = 1_000_000_000

  /// What a recording of everything feeds (`enum kt_feature`); sched events say what run_delay says, and more.
  public static let allFeatures = UInt8(
    KT_HAS_WAKEUP.rawValue | KT_HAS_USERSPACE_EXIT.rawValue | KT_HAS_FPU.rawValue | KT_HAS_SWITCH.rawValue
      | KT_HAS_WAKING.rawValue | KT_HAS_IRQ.rawValue)

  /// An empty machine, for a stream that can hold the events of these features.
  public init(
    features: UInt8 = UInt8(KT_HAS_WAKEUP.rawValue | KT_HAS_USERSPACE_EXIT.rawValue)
  ) {
    self.features = features
    keys = .allocate(capacity: keyCapacity)
    keys.initialize(repeating: kt_key_row(), count: keyCapacity)
    rowOfKey = .allocate(capacity: slotCapacity * 256)
    rowOfKey.initialize(repeating: 0, count: slotCapacity * 256)
    slots = .allocate(capacity: slotCapacity)
    slots.initialize(repeating: kt_slot(), count: slotCapacity)
    rows = .allocate(capacity: rowCapacity)
    rows.initialize(repeating: kt_row(), count: rowCapacity)
    rowOfReason = .allocate(capacity: slotCapacity * 256)
    rowOfReason.initialize(repeating: 0, count: slotCapacity * 256)
    placeOfSlot = .allocate(capacity: slotCapacity)
    placeOfSlot.initialize(repeating: Place(), count: slotCapacity)
    // 8 MiB of which a trace uses a few entries: the kernel gives zeroed pages as they are touched
    if let zeroed = calloc(Replay.pageCount, MemoryLayout<UnsafeMutablePointer<UInt32>?>.stride) {
      pages = zeroed.bindMemory(to: UnsafeMutablePointer<UInt32>?.self, capacity: Replay.pageCount)
    } else {
      pages = .allocate(capacity: Replay.pageCount)
      pages.initialize(repeating: nil, count: Replay.pageCount)
    }
  }

  deinit {
    slots.deallocate()
    rows.deallocate()
    rowOfReason.deallocate()
    keys.deallocate()
    rowOfKey.deallocate()
    placeOfSlot.deallocate()
    for page in usedPages { pages[page]?.deallocate() }
    free(pages)
  }

  /// Takes events in order.
  public mutating func step(_ events: Span<kt_event>) {
    for index in events.indices { step(events[index]) }
  }

  /// Drains a source.
  public mutating func drain<Source: EventSource>(_ source: inout Source) throws(InputError) {
    var batch: [kt_event] = []
    batch.reserveCapacity(4096)
    while true {
      try source.read(into: &batch)
      if batch.isEmpty { return }
      step(batch.span)
    }
  }

  @inline(__always) private mutating func step(_ event: kt_event) {
    if event.kind == Replay.lossKind { return lose(event) }
    eventCount &+= 1
    if event.time_ns >= intervalEnd { closeIntervals(before: event.time_ns) }
    if event.time_ns < firstNanoseconds { firstNanoseconds = event.time_ns }
    if event.time_ns > lastNanoseconds { lastNanoseconds = event.time_ns }
    if event.kind < UInt8(KT_KINDS.rawValue) { eventsByKind[Int(event.kind)] &+= 1 }
    guard let number = slotNumber(of: event) else { return }
    if event.kind == UInt8(KT_WAKING.rawValue) {
      // on the waker's CPU and time
      slots[number].wake_ns = event.time_ns
      return
    }
    if Int(slots[number].epoch) != quietTimes.count { endQuiet(number, atNanoseconds: event.time_ns) }
    if !losses.isEmpty { cutByLoss(number, cpu: event.cpu) }
    placeOfSlot[number] = Place(cpu: event.cpu, nanoseconds: event.time_ns)
    let slot = slots + number
    var isa: UInt8 = 0
    var reason: UInt32 = 0
    var event = event
    let outcome = kt_step(slot, &event, &isa, &reason)
    if outcome == 1 {
      let row = rowNumber(slot: number, isa: slot.pointee.isa, reason: slot.pointee.reason)
      if row != 0 {
        kt_account(rows + row, slots + number)
      } else {
        slot.pointee.overflow_exits &+= 1
        slot.pointee.overflow_ns &+= slot.pointee.since_ns &- slot.pointee.exit_ns
      }
      if let key = keyRow(slot: number) {
        kt_account_key(keys + key, slots + number)
      } else {
        slots[number].overflow_keys &+= 1
        slots[number].overflow_keys_ns &+= slots[number].since_ns &- slots[number].exit_ns
      }
      kt_clear_exit(slots + number)
    } else if outcome == 2 {
      let row = rowNumber(slot: number, isa: isa, reason: reason)
      rows[row].unpaired &+= 1
    }
  }

  /// Ends the timeline's intervals that a time is behind.
  @inline(never) private mutating func closeIntervals(before time: UInt64) {
    if intervalEnd == 0 { intervalEnd = time }
    while intervalEnd <= time, intervalEnd != .max {
      // far apart: longer intervals rather than millions of them
      while (time - intervalEnd) / intervalNanoseconds > UInt64(TimelineBuilder.intervalLimit) {
        intervalNanoseconds &*= 2
      }
      if threadCount > 0 {
        timeline.close(
          at: intervalEnd, slots: slots, slotCount: threadCount, rows: rows, rowNumbers: 1..<rowCount)
        while intervalNanoseconds < timeline.leastNanoseconds { intervalNanoseconds &*= 2 }
      }
      let (next, overflow) = intervalEnd.addingReportingOverflow(intervalNanoseconds)
      intervalEnd = overflow ? .max : next
    }
  }

  /// A recorder lost events between the two times on every thread: unknown, and open exits are cut.
  public mutating func gap(from startNanoseconds: UInt64, to endNanoseconds: UInt64) {
    for number in 0..<threadCount { cut(number, from: startNanoseconds, to: endNanoseconds) }
  }

  /// The recorder's programs went quiet: each thread is unknown from then on until its next event, as in the kernel.
  public mutating func goQuiet(atNanoseconds time: UInt64) { quietTimes.append(time) }

  @inline(never) private mutating func endQuiet(_ number: Int, atNanoseconds time: UInt64) {
    let known = Int(slots[number].epoch)
    // of several quiet periods only the last is known to the programs: they begin with the thread's last event
    let start = quietTimes.count - known == 1 ? quietTimes[known] : slots[number].since_ns
    cut(number, from: start, to: time)
    slots[number].epoch = UInt32(quietTimes.count)
  }

  private mutating func cut(_ number: Int, from startNanoseconds: UInt64, to endNanoseconds: UInt64) {
    var isa: UInt8 = 0
    var reason: UInt32 = 0
    if kt_gap(slots + number, startNanoseconds, endNanoseconds, &isa, &reason) != 0 {
      let row = rowNumber(slot: number, isa: isa, reason: reason)
      rows[row].unpaired &+= 1
    }
  }

  @inline(never) private mutating func lose(_ event: kt_event) {
    guard event.cpu <= Replay.maximumCpu else { return }
    let cpu = Int(event.cpu)
    if losses.count <= cpu { losses.append(contentsOf: repeatElement(Loss(), count: cpu + 1 - losses.count)) }
    losses[cpu] = Loss(startNanoseconds: event.arg, endNanoseconds: event.time_ns)
    for number in 0..<threadCount where placeOfSlot[number].cpu == event.cpu && lastSeen(number) <= event.time_ns {
      cut(number, from: event.arg, to: event.time_ns)
    }
  }

  private func lastSeen(_ number: Int) -> UInt64 { max(placeOfSlot[number].nanoseconds, slots[number].since_ns) }

  /// A thread's next event is on a CPU that lost events after the thread's last one elsewhere.
  @inline(never) private mutating func cutByLoss(_ number: Int, cpu: UInt32) {
    guard Int(cpu) < losses.count, placeOfSlot[number].cpu != cpu else { return }
    let loss = losses[Int(cpu)]
    if lastSeen(number) < loss.endNanoseconds {
      cut(number, from: loss.startNanoseconds, to: loss.endNanoseconds)
    }
  }

  /// The slot of the event's thread; threads get one with their first exit or entry, as in the kernel.
  @inline(__always) private mutating func slotNumber(of event: kt_event) -> Int? {
    let page = Int(event.tid) / Replay.pageSize
    let entry = Int(event.tid) % Replay.pageSize
    if let entries = pages[page] {
      let number = Int(entries[entry])
      if number != 0 {
        let known = slots[number - 1].tgid
        let isSame = known == event.tgid || known == 0 || event.tgid == 0
        if isSame, slots[number - 1].ended == 0 { return number - 1 }
      }
    }
    guard event.kind == UInt8(KT_EXIT.rawValue) || event.kind == UInt8(KT_ENTRY.rawValue) else { return nil }
    guard threadCount < Replay.maximumThreads else {
      refusedEvents &+= 1
      return nil
    }
    return takeSlot(for: event, page: page, entry: entry)
  }

  @inline(never) private mutating func takeSlot(for event: kt_event, page: Int, entry: Int) -> Int {
    if threadCount == slotCapacity { growSlots() }
    let entries: UnsafeMutablePointer<UInt32>
    if let known = pages[page] {
      entries = known
    } else {
      entries = .allocate(capacity: Replay.pageSize)
      entries.initialize(repeating: 0, count: Replay.pageSize)
      pages[page] = entries
      usedPages.append(page)
    }
    let number = threadCount
    threadCount += 1
    slots[number].thread = UInt32(threadCount)
    kt_start(slots + number, event.time_ns, event.tid, event.tgid, features)
    slots[number].epoch = UInt32(quietTimes.count)
    placeOfSlot[number] = Place(cpu: event.cpu, nanoseconds: event.time_ns)
    entries[entry] = UInt32(threadCount)
    return number
  }

  private mutating func growSlots() {
    let capacity = slotCapacity
    slots = Replay.doubled(slots, capacity, filling: kt_slot())
    rowOfReason = Replay.doubled(rowOfReason, capacity * 256, filling: 0)
    rowOfKey = Replay.doubled(rowOfKey, capacity * 256, filling: 0)
    placeOfSlot = Replay.doubled(placeOfSlot, capacity, filling: Place())
    slotCapacity = capacity * 2
  }

  /// Twice the room, the first half moved, the second filled.
  private static func doubled<Element>(
    _ old: UnsafeMutablePointer<Element>, _ count: Int, filling blank: Element
  ) -> UnsafeMutablePointer<Element> {
    let larger = UnsafeMutablePointer<Element>.allocate(capacity: count * 2)
    larger.moveInitialize(from: old, count: count)
    (larger + count).initialize(repeating: blank, count: count)
    old.deallocate()
    return larger
  }

  @inline(__always) private mutating func rowNumber(slot: Int, isa: UInt8, reason: UInt32) -> Int {
    let guess = Int(rowOfReason[slot * 256 + Int(reason & 255)])
    if guess != 0, rows[guess].reason == reason, rows[guess].isa == UInt32(isa) { return guess }
    return findRow(slot: slot, isa: isa, reason: reason)
  }

  /// The row of a reason, a new one on its first use; 0, which ends a chain and is never read, where there are too many.
  @inline(never) private mutating func findRow(slot: Int, isa: UInt8, reason: UInt32) -> Int {
    var number = slots[slot].first_row
    var length = 0
    while number != 0 {
      length += 1
      if rows[Int(number)].reason == reason, rows[Int(number)].isa == UInt32(isa) { return Int(number) }
      number = rows[Int(number)].next
    }
    guard length < Replay.maximumReasons, rowCount < Replay.maximumRows else { return 0 }
    if rowCount == rowCapacity {
      rows = Replay.doubled(rows, rowCapacity, filling: kt_row())
      rowCapacity *= 2
    }
    let row = rowCount
    rowCount += 1
    rows[row].thread = slots[slot].thread
    rows[row].slot = UInt32(slot)
    rows[row].reason = reason
    rows[row].isa = UInt32(isa)
    rows[row].next = slots[slot].first_row
    slots[slot].first_row = UInt32(row)
    rowOfReason[slot * 256 + Int(reason & 255)] = UInt32(row)
    return row
  }

  /// When everything taken so far happened; `ledger` is what `ledger()` gave.
  public func timeline(of ledger: Ledger) -> Timeline {
    let builder = timeline
    return builder.finish(ledger, slots: slots, rows: rows, rowNumbers: 1..<rowCount)
  }

  /// The row of the open exit's key; nil where there are too many.
  @inline(__always) private mutating func keyRow(slot: Int) -> Int? {
    let place = slot * 256 + Int(kt_key_hash(&slots[slot].key))
    let guess = Int(rowOfKey[place])
    if guess != 0, kt_key_equal(&keys[guess].key, &slots[slot].key) != 0 { return guess }
    return findKey(slot: slot, place: place)
  }

  @inline(never) private mutating func findKey(slot: Int, place: Int) -> Int? {
    let name = SlotKey(slot: slot, words: slots[slot].key.words)
    if let known = moreKeys[name] { return Int(known) }
    guard keyCount < Replay.maximumKeys else { return nil }
    if keyCount == keyCapacity {
      keys = Replay.doubled(keys, keyCapacity, filling: kt_key_row())
      keyCapacity *= 2
    }
    let row = keyCount
    keyCount += 1
    keys[row].key = slots[slot].key
    keys[row].thread = slots[slot].thread
    keys[row].slot = UInt32(slot)
    keys[row].next = slots[slot].first_key
    slots[slot].first_key = UInt32(row)
    if rowOfKey[place] == 0 { rowOfKey[place] = UInt32(row) } else { moreKeys[name] = UInt32(row) }
    return row
  }

  /// The ledger of everything taken so far; each thread is observed from its first event to its last.
  public func ledger() -> Ledger {
    var ledger = Ledger()
    var placeOfVM: [UInt32: Int] = [:]
    var sums = KeySums()
    for thread in threads() {
      let place = placeOfVM[thread.pid] ?? ledger.vms.count
      if place == ledger.vms.count {
        placeOfVM[thread.pid] = place
        ledger.vms.append(VirtualMachine(pid: thread.pid))
      }
      ledger.vms[place].vcpus.append(thread.vcpu)
      ledger.vms[place].overflowKeys &+= thread.vcpu.overflowKeys
      ledger.vms[place].overflowKeyNanoseconds &+= thread.vcpu.overflowKeyNanoseconds
      for row in thread.keys { sums.add(row, to: place) }
    }
    for (place, keys) in sums.accounts() { ledger.vms[place].keys = keys }
    ledger.sort()
    return ledger
  }

  /// The threads' slots, for what sums over them.
  var usedSlots: UnsafeBufferPointer<kt_slot> { UnsafeBufferPointer(start: slots, count: threadCount) }

  /// The features that the stream was said to have.
  var claimed: StateFeatures { StateFeatures(rawValue: features) }

  /// A thread as far as it was replayed.
  public struct Thread {
    /// Its process.
    public var pid: UInt32
    /// Its time and exits.
    public var vcpu: VCPU
    /// Its rows by key.
    public var keys: [kt_key_row]
  }

  /// The threads that entered or left a guest, in the order in which they came; observed up to `endNanoseconds`, or to
  /// each one's last event.
  public func threads(until endNanoseconds: UInt64? = nil) -> [Thread] {
    var threads: [Thread] = []
    for number in 0..<threadCount where slots[number].exits > 0 || slots[number].entries > 0 {
      var slot = slots[number]
      if let end = endNanoseconds, slot.ended == 0, Int(slot.epoch) < quietTimes.count,
        quietTimes[Int(slot.epoch)] < end
      {
        kt_move(&slot, max(quietTimes[Int(slot.epoch)], slot.since_ns), UInt8(KT_UNKNOWN.rawValue))
      }
      var vcpu = VCPU(&slot, endNanoseconds: slot.ended == 0 ? endNanoseconds : nil)
      vcpu.accounts = accounts(of: slot)
      var keys: [kt_key_row] = []
      var key = slot.first_key
      while key != 0 {
        keys.append(self.keys[Int(key)])
        key = self.keys[Int(key)].next
      }
      threads.append(Thread(pid: slot.tgid, vcpu: vcpu, keys: keys))
    }
    return threads
  }

  private func accounts(of slot: kt_slot) -> [ExitAccount] {
    var accounts: [ExitAccount] = []
    // an exit that kvm_exit is still to name is none yet
    let isOpen = slot.in_exit != 0 && slot.pending == 0
    var row = slot.first_row
    while row != 0 {
      var account = ExitAccount(rows + Int(row))
      if isOpen, account.reason == slot.reason, account.isa == slot.isa { account.open = 1 }
      accounts.append(account)
      row = rows[Int(row)].next
    }
    if isOpen, !accounts.contains(where: { $0.open != 0 }) {
      var account = ExitAccount(isa: slot.isa, reason: slot.reason)
      account.open = 1
      accounts.append(account)
    }
    return accounts
  }
}
