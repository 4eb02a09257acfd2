import Attribution
import CKvmtax
import Testing

@testable import TraceFile

/// Reproducible random numbers (SplitMix64).
struct Random: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var value = state
    value = (value ^ value >> 30) &* 0xbf58_476d_1ce4_e5b9
    value = (value ^ value >> 27) &* 0x94d0_49bb_1331_11eb
    return value ^ value >> 31
  }
}

/// vCPU threads that run guests: their events go through the machine, so that slots, rows, keys and records are what a
/// tracer would have.
final class FakeHost {
  static let reasons: [(reason: UInt32, nanoseconds: UInt64, userspace: Bool)] = [
    (48, 2_400, false), (30, 7_800, true), (12, 900_000, false), (1, 1_100, false), (32, 700, false),
    (10, 1_500, false), (40, 600, false),
  ]
  let threads: Int
  let rowsPerThread: Int
  var slots: [kt_slot]
  var rows: [kt_row]
  /// Number 0 is none, as in the programs' table.
  var keys = [kt_key_row()]
  private var keyNumbers: [KeyName: Int] = [:]
  struct KeyName: Hashable {
    var thread: UInt32
    var words: SIMD3<UInt64>
  }
  var records: [kt_exit_record] = []
  var keepsRecords = true
  /// Each thread's in its order, if they are to be kept.
  var events: [kt_event] = []
  var keepsEvents = false
  /// Ports that reason 30 is about.
  var ports: UInt64 = 3
  private(set) var now: UInt64
  private var random: Random

  init(
    threads: Int, rowsPerThread: Int = 5, seed: UInt64 = 1, now: UInt64 = 86_400_000_000_000, features: UInt8 = 3,
    threadsPerVM: Int = 4
  ) {
    self.threads = threads
    self.rowsPerThread = min(rowsPerThread, FakeHost.reasons.count)
    self.now = now
    random = Random(state: seed)
    slots = [kt_slot](repeating: kt_slot(), count: threads)
    rows = [kt_row](repeating: kt_row(), count: threads * self.rowsPerThread + 1)
    for number in 0..<threads {
      slots[number].thread = UInt32(number + 1)
      kt_start(&slots[number], now, UInt32(40_000 + number), UInt32(30_000 + number / threadsPerVM), features)
      slots[number].vcpu = UInt16(number % threadsPerVM)
    }
  }

  /// A moment on this host's clocks: it was booted 5 s before CLOCK_MONOTONIC began, in November 2026.
  var clocks: Clocks {
    Clocks(
      monotonicNanoseconds: now, boottimeNanoseconds: now + 5_000_000_000,
      realtimeNanoseconds: 1_795_000_000_000_000_000 + now, tsc: now * 3)
  }

  /// Time passes; the threads that `isBusy` names take exits, about `exits` each.
  func run(nanoseconds: UInt64, exits: Int, isBusy: (Int) -> Bool = { _ in true }) {
    let end = now + nanoseconds
    for number in 0..<threads where isBusy(number) && slots[number].ended == 0 {
      var time = now
      for _ in 0..<exits {
        time += UInt64.random(in: 1...max(2, nanoseconds / UInt64(exits + 1) / 2), using: &random)
        guard time < end else { break }
        // the first reasons are the frequent ones
        let choice = min(
          Int.random(in: 0..<rowsPerThread, using: &random), Int.random(in: 0..<rowsPerThread, using: &random))
        time = takeExit(number, choice, at: time)
      }
    }
    now = max(end, slots.map(\.since_ns).max() ?? end)
  }

  private func takeExit(_ number: Int, _ choice: Int, at start: UInt64) -> UInt64 {
    let kind = FakeHost.reasons[choice]
    var time = start
    var length = UInt64(Double(kind.nanoseconds) * Double.random(in: 0.5...3, using: &random))
    // a tail over three more octaves
    if Int.random(in: 0..<10, using: &random) == 0 { length <<= UInt64.random(in: 1...3, using: &random) }
    var info: UInt64 = 0
    // a write of one byte to a port
    if kind.reason == 30 { info = (0x3f8 + UInt64.random(in: 0..<ports, using: &random)) << 16 }
    feed(number, KT_EXIT, time, reason: kind.reason, arg: info)
    // one in 500 exits is followed by another exit
    if Int.random(in: 0..<500, using: &random) == 0 { return time + 10 }
    if kind.reason == 32 { feed(number, KT_MSR, time + 1, reason: 1, arg: 0x6e0 + UInt64(number % 2)) }
    if kind.userspace { feed(number, KT_USERSPACE_EXIT, time + length / 3, reason: 2) }
    if slots[number].features & UInt8(KT_HAS_SWITCH.rawValue) != 0, length > 100 {
      // off the CPU for a third of the exit: asleep, woken after half of that, or preempted
      let sleeps = Bool.random(using: &random)
      feed(number, KT_SCHED_OUT, time + length / 3, reason: sleeps ? 1 : 0)
      if sleeps { feed(number, KT_WAKING, time + length / 2) }
      feed(number, KT_SCHED_IN, time + length * 2 / 3)
      feed(number, KT_IRQ_ENTRY, time + length * 2 / 3 + 3, reason: KT_HOST_IRQ_TIMER.rawValue, arg: 236)
      feed(number, KT_IRQ_EXIT, time + length * 2 / 3 + 9)
    }
    time += length
    feed(number, KT_ENTRY, time, reason: 0)
    return time
  }

  /// An event of a thread, through the machine and into its accounts.
  func feed(_ number: Int, _ kind: kt_kind, _ time: UInt64, reason: UInt32 = 0, arg: UInt64 = 0) {
    var event = kt_event()
    event.time_ns = time
    event.kind = UInt8(kind.rawValue)
    event.isa = kind == KT_EXIT ? 1 : 0
    event.reason = reason
    event.arg = arg
    event.vcpu = kind == KT_ENTRY ? slots[number].vcpu : UInt16(KT_NO_VCPU)
    event.tid = slots[number].tid
    event.tgid = slots[number].tgid
    event.cpu = UInt32(number % 8)
    if kind == KT_ENTRY { event.run_delay_ns = 1000 + slots[number].state_ns.10 }
    if keepsEvents {
      events.append(event)
      if slots[number].steps == 0 {
        // as in the kernel: a slot begins with its first event
        slots[number].first_ns = time
        slots[number].since_ns = time
        slots[number].on_ns = time
      }
    }
    var isa: UInt8 = 0
    var superseded: UInt32 = 0
    let outcome = kt_step(&slots[number], &event, &isa, &superseded)
    if outcome == 2 { rows[row(number, isa, superseded)].unpaired += 1 }
    guard outcome == 1 else { return }
    kt_account(&rows[row(number, slots[number].isa, slots[number].reason)], &slots[number])
    kt_account_key(&keys[key(number)], &slots[number])
    if keepsRecords {
      var record = kt_exit_record()
      kt_describe(&record, &slots[number], UInt16(number % 8))
      records.append(record)
    }
    kt_clear_exit(&slots[number])
  }

  private func row(_ number: Int, _ isa: UInt8, _ reason: UInt32) -> Int {
    let row = 1 + number * rowsPerThread + (FakeHost.reasons.firstIndex { $0.reason == reason } ?? 0)
    rows[row].thread = slots[number].thread
    rows[row].slot = UInt32(number)
    rows[row].isa = UInt32(isa)
    rows[row].reason = reason
    return row
  }

  private func key(_ number: Int) -> Int {
    var row = kt_key_row()
    row.key = slots[number].key
    row.thread = slots[number].thread
    let name = KeyName(thread: row.thread, words: row.key.words)
    if let known = keyNumbers[name] { return known }
    row.slot = UInt32(number)
    row.next = slots[number].first_key
    slots[number].first_key = UInt32(keys.count)
    keyNumbers[name] = keys.count
    keys.append(row)
    return keys.count - 1
  }

  /// What the file has to say of a VM's keys.
  func keys(ofVM tgid: UInt32) -> [KeyAccount] {
    var sums: [KeyAccount] = []
    for var row in keys.dropFirst() where slots.contains(where: { $0.thread == row.thread && $0.tgid == tgid }) {
      let account = KeyAccount(&row)
      if let known = sums.firstIndex(where: { $0.key == account.key }) {
        sums[known].add(account)
      } else {
        sums.append(account)
      }
    }
    return sums.sorted { $0.key < $1.key }
  }

  /// As if what happened so far had happened so many times: counters as large as those of a long recording.
  func repeatHistory(times: UInt64) {
    for number in slots.indices {
      slots[number].exits *= times
      slots[number].entries *= times
      slots[number].finished *= times
      slots[number].userspace_exits *= times
      slots[number].unpaired_exits *= times
      slots[number].steps *= times
      withUnsafeMutablePointer(to: &slots[number]) {
        for state in State.allCases { kt_slot_mutable_state_ns($0)[Int(state.rawValue)] *= times }
      }
      slots[number].first_ns = slots[number].since_ns &- states(slots[number]).total
    }
    for number in rows.indices {
      rows[number].finished *= times
      rows[number].unpaired *= times
      rows[number].total_ns *= times
      withUnsafeMutablePointer(to: &rows[number]) {
        for state in State.allCases { kt_row_mutable_state_ns($0)[Int(state.rawValue)] *= times }
        for bucket in 0..<Histogram.bucketCount { kt_row_mutable_buckets($0)[bucket] *= UInt32(times) }
      }
    }
    for number in keys.indices {
      keys[number].finished *= times
      keys[number].total_ns *= times
      withUnsafeMutablePointer(to: &keys[number]) {
        for state in State.allCases { kt_key_row_mutable_state_ns($0)[Int(state.rawValue)] *= times }
      }
    }
  }

  /// Hands every slot and row to the encoder, as the tracer does.
  func snapshot(_ encoder: inout SnapshotEncoder, _ detail: SnapshotEncoder.Detail, withKeys: Bool = true) {
    encoder.begin(at: clocks, detail: detail)
    for number in 0..<threads where encoder.add(&slots[number], number: number) {
      for row in 1 + number * rowsPerThread..<1 + (number + 1) * rowsPerThread {
        encoder.add(&rows[row], number: row, ended: slots[number].ended != 0)
      }
      guard withKeys, encoder.wantsKeys || slots[number].ended != 0 else { continue }
      var key = Int(slots[number].first_key)
      while key != 0 {
        encoder.add(key: &keys[key], number: key)
        key = Int(keys[key].next)
      }
    }
  }
}

/// What tests compare rows and states by.
func states(_ slot: kt_slot) -> StateTimes {
  var slot = slot
  return withUnsafePointer(to: &slot) { StateTimes(copying: kt_slot_state_ns($0)) }
}

func account(_ row: kt_row) -> ExitAccount {
  var row = row
  return withUnsafePointer(to: &row) { ExitAccount($0) }
}
