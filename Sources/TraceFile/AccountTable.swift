import Attribution
import CKvmtax

/// Threads and their rows by what names them, found without a dictionary: open addressing over flat arrays. Bounded,
/// because the numbers of threads and reasons in a file are whatever the file says.
struct AccountTable: ~Copyable {
  /// Neither threads nor rows grow beyond this.
  static let limit = 1 << 17

  private(set) var slots: UnsafeMutablePointer<kt_slot>
  private(set) var slotCount = 0
  private var slotCapacity = 64
  private(set) var rows: UnsafeMutablePointer<kt_row>
  private(set) var rowCount = 0
  private var rowCapacity = 256
  /// Numbers plus one; 0 is free. Powers of two, at most half full.
  private var slotIndex = [UInt32](repeating: 0, count: 256)
  private var rowIndex = [UInt32](repeating: 0, count: 1024)
  /// Drawn anew each time, so that no file can be made to collide.
  private let multiplier = UInt64.random(in: 0...UInt64.max) | 1
  /// Exits that found the table full.
  private(set) var refused: UInt64 = 0

  init() {
    slots = .allocate(capacity: slotCapacity)
    rows = .allocate(capacity: rowCapacity)
  }

  deinit {
    slots.deallocate()
    rows.deallocate()
  }

  /// The number of a thread's slot, a new one for a new thread; nil when the table is full.
  mutating func slot(thread: UInt32) -> Int? {
    var place = hash(UInt64(thread)) & (slotIndex.count &- 1)
    while slotIndex[place] != 0 {
      let number = Int(slotIndex[place]) &- 1
      if slots[number].thread == thread { return number }
      place = (place &+ 1) & (slotIndex.count &- 1)
    }
    guard slotCount < AccountTable.limit else { return nil }
    if slotCount == slotCapacity {
      slots = AccountTable.grow(slots, &slotCapacity)
    }
    let number = slotCount
    (slots + number).initialize(to: kt_slot())
    slots[number].thread = thread
    slots[number].vcpu = UInt16(KT_NO_VCPU)
    slotCount &+= 1
    slotIndex[place] = UInt32(slotCount)
    if slotCount &* 2 > slotIndex.count { rebuildSlotIndex() }
    return number
  }

  /// The number of a row, a new one for a new key; nil when the table is full.
  @inline(__always) mutating func row(thread: UInt32, isa: UInt8, reason: UInt32) -> Int? {
    var place = hash(thread, isa, reason) & (rowIndex.count &- 1)
    while rowIndex[place] != 0 {
      let number = Int(rowIndex[place]) &- 1
      if rows[number].thread == thread, rows[number].reason == reason, rows[number].isa == UInt32(isa) { return number }
      place = (place &+ 1) & (rowIndex.count &- 1)
    }
    return addRow(thread, isa, reason, at: place)
  }

  @inline(never) private mutating func addRow(_ thread: UInt32, _ isa: UInt8, _ reason: UInt32, at place: Int) -> Int? {
    guard rowCount < AccountTable.limit, let slot = slot(thread: thread) else { return nil }
    if rowCount == rowCapacity { rows = AccountTable.grow(rows, &rowCapacity) }
    let number = rowCount
    (rows + number).initialize(to: kt_row())
    rows[number].thread = thread
    rows[number].slot = UInt32(slot)
    rows[number].isa = UInt32(isa)
    rows[number].reason = reason
    rows[number].next = slots[slot].first_row
    rowCount &+= 1
    slots[slot].first_row = UInt32(rowCount)
    rowIndex[place] = UInt32(rowCount)
    if rowCount &* 2 > rowIndex.count { rebuildRowIndex() }
    return number
  }

  /// Adds a finished exit to its row.
  @inline(__always) mutating func book(_ record: kt_exit_record) {
    guard let number = row(thread: record.thread, isa: record.isa, reason: record.reason) else {
      refused &+= 1
      return
    }
    let row = rows + number
    let total = record.total_ns
    if row.pointee.finished == 0 || total < row.pointee.min_ns { row.pointee.min_ns = total }
    if total > row.pointee.max_ns { row.pointee.max_ns = total }
    row.pointee.finished &+= 1
    row.pointee.total_ns &+= total
    let states = kt_row_mutable_state_ns(row)!
    record.add(to: states)
    kt_row_mutable_buckets(row)![Int(kt_bucket(total))] &+= 1
  }

  /// Takes a row's totals from a snapshot in place of earlier ones; without a histogram the earlier one stays.
  mutating func take(_ row: UnsafePointer<kt_row>, hasHistogram: Bool) {
    let value = row.pointee
    let isa = UInt8(truncatingIfNeeded: value.isa)
    guard let number = self.row(thread: value.thread, isa: isa, reason: value.reason) else {
      refused &+= value.finished &+ value.unpaired
      return
    }
    let known = rows + number
    if hasHistogram {
      let next = known.pointee.next
      let slot = known.pointee.slot
      known.update(from: row, count: 1)
      known.pointee.next = next
      known.pointee.slot = slot
      known.pointee.isa = UInt32(isa)
      return
    }
    known.pointee.finished = value.finished
    known.pointee.unpaired = value.unpaired
    known.pointee.total_ns = value.total_ns
    known.pointee.min_ns = value.min_ns
    known.pointee.max_ns = value.max_ns
    kt_row_mutable_state_ns(known)!.update(from: kt_row_state_ns(row)!, count: SnapshotFormat.states)
  }

  /// Takes over how many exits were unpaired: they have no records.
  mutating func takeUnpaired(from other: borrowing AccountTable) {
    for number in 0..<other.rowCount where other.rows[number].unpaired > 0 {
      let row = other.rows[number]
      guard let own = self.row(thread: row.thread, isa: UInt8(truncatingIfNeeded: row.isa), reason: row.reason) else {
        refused &+= row.unpaired
        continue
      }
      rows[own].unpaired = row.unpaired
    }
  }

  // MARK: Hashing

  @inline(__always) private func hash(_ value: UInt64) -> Int {
    Int(truncatingIfNeeded: (value &* multiplier) >> 32)
  }

  @inline(__always) private func hash(_ thread: UInt32, _ isa: UInt8, _ reason: UInt32) -> Int {
    hash(UInt64(thread) << 32 ^ UInt64(reason) ^ UInt64(isa) << 24)
  }

  private mutating func rebuildSlotIndex() {
    slotIndex = [UInt32](repeating: 0, count: slotIndex.count * 2)
    for number in 0..<slotCount {
      var place = hash(UInt64(slots[number].thread)) & (slotIndex.count &- 1)
      while slotIndex[place] != 0 { place = (place &+ 1) & (slotIndex.count &- 1) }
      slotIndex[place] = UInt32(number + 1)
    }
  }

  private mutating func rebuildRowIndex() {
    rowIndex = [UInt32](repeating: 0, count: rowIndex.count * 2)
    for number in 0..<rowCount {
      let row = rows[number]
      var place =
        hash(row.thread, UInt8(truncatingIfNeeded: row.isa), row.reason) & (rowIndex.count &- 1)
      while rowIndex[place] != 0 { place = (place &+ 1) & (rowIndex.count &- 1) }
      rowIndex[place] = UInt32(number + 1)
    }
  }

  private static func grow<Element>(
    _ old: UnsafeMutablePointer<Element>, _ capacity: inout Int
  ) -> UnsafeMutablePointer<Element> {
    let larger = UnsafeMutablePointer<Element>.allocate(capacity: capacity * 2)
    larger.moveInitialize(from: old, count: capacity)
    old.deallocate()
    capacity *= 2
    return larger
  }
}

extension kt_exit_record {
  /// Adds its time, state by state; what it does not divide (a later version's states) is unknown.
  @inline(__always) func add(to states: UnsafeMutablePointer<UInt64>) {
    states[Int(KT_KERNEL.rawValue)] &+= kernel_ns
    states[Int(KT_QEMU.rawValue)] &+= qemu_ns
    states[Int(KT_HALT_POLL.rawValue)] &+= halt_poll_ns
    states[Int(KT_HALT_WAIT.rawValue)] &+= halt_wait_ns
    states[Int(KT_HOST_INTERRUPT.rawValue)] &+= host_interrupt_ns
    states[Int(KT_QEMU_BLOCKED.rawValue)] &+= qemu_blocked_ns
    states[Int(KT_KERNEL_BLOCKED.rawValue)] &+= kernel_blocked_ns
    states[Int(KT_WAKE_LATENCY.rawValue)] &+= wake_latency_ns
    states[Int(KT_PREEMPTED.rawValue)] &+= preempted_ns
    states[Int(KT_STOPPED.rawValue)] &+= stopped_ns
    let divided = divided
    if total_ns > divided { states[Int(KT_UNKNOWN.rawValue)] &+= total_ns &- divided }
  }
}
