import CKvmtax

/// The slots and rows that BPF programs write and we read, as shared memory.
///
/// A slot belongs to its vCPU thread from the first event until the thread's end; then it is read one last time, wiped
/// and returned, so that VMs may come and go for as long as the recording lasts.
struct SlotTable {
  let slots: UnsafeMutablePointer<kt_slot>
  let slotCount: Int
  let rows: UnsafeMutablePointer<kt_row>
  let rowCount: Int
  /// 256 row numbers per slot.
  let rowOfReason: UnsafeMutablePointer<UInt32>
  let keys: UnsafeMutablePointer<kt_key_row>
  let keyCount: Int
  /// 256 numbers of key rows per slot; nil where no keys are kept.
  let rowOfKey: UnsafeMutablePointer<UInt32>?
  /// What each slot's vCPU saw of its own statistics.
  let looks: UnsafeMutablePointer<kt_looks>

  /// A consistent copy of a slot and its rows.
  struct Copy {
    var slot = kt_slot()
    /// Row numbers and contents, chain order.
    var rowNumbers: [UInt32] = []
    var rows: [kt_row] = []
    /// The same of its keys.
    var keyNumbers: [UInt32] = []
    var keys: [kt_key_row] = []
  }

  /// Whether a thread holds the slot.
  func isTaken(_ number: Int) -> Bool { slots[number].thread != 0 }

  /// Copies a slot and its rows as they were at one moment. False when its thread kept changing them, or stopped inside
  /// a step; `force` then takes what is there.
  func copy(_ number: Int, into copy: inout Copy, force: Bool = false) -> Bool {
    for _ in 0..<16 {
      guard kt_copy_slot(slots + number, &copy.slot) != 0 else { continue }
      copyRows(of: copy.slot, into: &copy)
      if kt_slot_sequence(slots + number) == copy.slot.sequence { return true }
    }
    guard force else { return false }
    copy.slot = slots[number]
    copyRows(of: copy.slot, into: &copy)
    return true
  }

  private func copyRows(of slot: kt_slot, into copy: inout Copy) {
    copy.rowNumbers.removeAll(keepingCapacity: true)
    copy.rows.removeAll(keepingCapacity: true)
    var number = slot.first_row
    // a chain is at most as long as the pool: a torn read must not make us run in circles
    while number != 0, Int(number) < rowCount, copy.rows.count < rowCount {
      copy.rowNumbers.append(number)
      copy.rows.append(rows[Int(number)])
      number = rows[Int(number)].next
    }
    copyKeys(of: slot, into: &copy)
  }

  private func copyKeys(of slot: kt_slot, into copy: inout Copy) {
    copy.keyNumbers.removeAll(keepingCapacity: true)
    copy.keys.removeAll(keepingCapacity: true)
    var number = slot.first_key
    while number != 0, Int(number) < keyCount, copy.keys.count < keyCount {
      copy.keyNumbers.append(number)
      copy.keys.append(keys[Int(number)])
      number = keys[Int(number)].next
    }
  }

  /// Wipes a slot and its rows; the numbers are then free to be given back to the programs.
  func wipe(_ number: Int, rowNumbers: [UInt32], keyNumbers: [UInt32]) {
    for row in rowNumbers where Int(row) < rowCount { rows[Int(row)] = kt_row() }
    for key in keyNumbers where Int(key) < keyCount { keys[Int(key)] = kt_key_row() }
    if let rowOfKey { (rowOfKey + number * 256).update(repeating: 0, count: 256) }
    looks[number] = kt_looks()
    (rowOfReason + number * 256).update(repeating: 0, count: 256)
    slots[number] = kt_slot()
  }
}
