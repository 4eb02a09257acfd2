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

/// vCPU threads that run guests: their events go through the machine, so that slots, rows and records are what a tracer
/// would have.
final class FakeHost {
  static let reasons: [(reason: UInt32, nanoseconds: UInt64, userspace: Bool)] = [
    (48, 2_400, false), (30, 7_800, true), (12, 900_000, false), (1, 1_100, false), (32, 700, false),
    (10, 1_500, false), (40, 600, false),
  ]
  let threads: Int
  let rowsPerThread: Int
  var slots: [kt_slot]
  var rows: [kt_row]
  var records: [kt_exit_record] = []
  var keepsRecords = true
  private(set) var now: UInt64
  private var random: Random

  init(threads: Int, rowsPerThread: Int = 5, seed: UInt64 = 1, now: UInt64 = 86_400_000_000_000) {
    self.threads = threads
    self.rowsPerThread = min(rowsPerThread, FakeHost.reasons.count)
    self.now = now
    random = Random(state: seed)
    slots = [kt_slot](repeating: kt_slot(), count: threads)
    rows = [kt_row](repeating: kt_row(), count: threads * self.rowsPerThread + 1)
    for number in 0..<threads {
      slots[number].thread = UInt32(number + 1)
      kt_start(&slots[number], now, UInt32(40_000 + number), UInt32(30_000 + number / 4), 3)
      slots[number].vcpu = UInt16(number % 4)
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
    var isa: UInt8 = 0
    var reason: UInt32 = 0
    var time = start
    var length = UInt64(Double(kind.nanoseconds) * Double.random(in: 0.5...3, using: &random))
    // a tail over three more octaves
    if Int.random(in: 0..<10, using: &random) == 0 { length <<= UInt64.random(in: 1...3, using: &random) }
    let row = 1 + number * rowsPerThread + choice
    rows[row].thread = slots[number].thread
    rows[row].slot = UInt32(number)
    rows[row].isa = 1
    rows[row].reason = kind.reason
    if kt_step_exit(&slots[number], time, 1, kind.reason, 0, 0, 0, &isa, &reason) != 0 {
      let superseded = FakeHost.reasons.firstIndex { $0.reason == reason } ?? 0
      rows[1 + number * rowsPerThread + superseded].unpaired += 1
    }
    // one in 500 exits is followed by another exit
    if Int.random(in: 0..<500, using: &random) == 0 { return time + 10 }
    if kind.userspace { kt_step_userspace_exit(&slots[number], time + length / 3, 2, 0) }
    time += length
    if kt_step_entry(&slots[number], time, 0) != 0 {
      kt_account(&rows[row], &slots[number])
      if keepsRecords {
        var record = kt_exit_record()
        kt_describe(&record, &slots[number], UInt16(number % 8))
        records.append(record)
      }
      kt_clear_exit(&slots[number])
    }
    return time
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
  }

  /// Hands every slot and row to the encoder, as the tracer does.
  func snapshot(_ encoder: inout SnapshotEncoder, _ detail: SnapshotEncoder.Detail) {
    encoder.begin(at: clocks, detail: detail)
    for number in 0..<threads where encoder.add(&slots[number], number: number) {
      for row in 1 + number * rowsPerThread..<1 + (number + 1) * rowsPerThread {
        encoder.add(&rows[row], number: row, ended: slots[number].ended != 0)
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
