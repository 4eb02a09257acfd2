import Attribution
import CKvmtax

/// Keys per VM, summed over its threads as a recorder hands over their rows.
///
/// A row's growth since it was last handed over is added to its VM's sum: sums never fall, whatever becomes of the
/// thread and of its row. Memory is bounded by the recorder's rows, by `keyLimit` keys a VM and by `limit` keys of all;
/// what finds no room is summed in the VM's overflow, which is written like a key.
struct KeyTotals {
  /// Keys of one VM.
  static let keyLimit = 1024
  /// Keys of all VMs.
  static let limit = 1 << 17

  private struct Written {
    /// What the VM's sum has of this row.
    var row = kt_key_row()
    /// Its place in the VM's sums; 0: the overflow.
    var place = 0
  }

  /// One process, from its first thread to the end of its last.
  struct VM {
    /// The serial by which the file knows it: that of its first thread.
    var thread: UInt32 = 0
    var tgid: UInt32 = 0
    /// Threads that have not ended.
    var liveThreads = 0
    /// The first one is what found no room.
    var sums = [kt_key_row()]
    var index: [SIMD3<UInt64>: Int] = [:]
    /// Which sums have changed since they were last written.
    var changed: [Int] = []
    var isChanged = [false]
  }

  private var rows: [Written] = []
  private(set) var vms: [VM] = []
  private var free: [Int] = []
  private var placeOfProcess: [UInt32: Int] = [:]
  private var keyCount = 0

  /// Where the VM of a new thread is; a new one where its process has no live threads.
  mutating func begin(thread: UInt32, tgid: UInt32) -> Int {
    if let known = placeOfProcess[tgid] {
      vms[known].liveThreads += 1
      return known
    }
    let place = free.popLast() ?? vms.count
    if place == vms.count { vms.append(VM()) }
    vms[place].thread = thread
    vms[place].tgid = tgid
    vms[place].liveThreads = 1
    placeOfProcess[tgid] = place
    return place
  }

  /// One of the VM's threads has ended; its rows may still come, until `dropEnded`.
  mutating func end(vm: Int) { vms[vm].liveThreads -= 1 }

  /// Adds what a row of one of the VM's threads grew by.
  mutating func add(_ row: UnsafePointer<kt_key_row>, number: Int, vm: Int) {
    if number >= rows.count { rows.append(contentsOf: repeatElement(Written(), count: number + 1 - rows.count)) }
    if rows[number].row.thread != row.pointee.thread {
      guard row.pointee.finished > 0 else { return }
      rows[number] = Written(place: place(of: row.pointee, vm: vm))
    } else if rows[number].row.finished == row.pointee.finished {
      return
    }
    let place = rows[number].place
    vms[vm].sums[place].grow(from: rows[number].row, to: row)
    rows[number].row = row.pointee
    guard !vms[vm].isChanged[place] else { return }
    vms[vm].isChanged[place] = true
    vms[vm].changed.append(place)
  }

  private mutating func place(of row: kt_key_row, vm: Int) -> Int {
    if let known = vms[vm].index[row.key.words] { return known }
    guard vms[vm].index.count < KeyTotals.keyLimit, keyCount < KeyTotals.limit else { return 0 }
    keyCount += 1
    let place = vms[vm].sums.count
    var sum = kt_key_row()
    sum.key = row.key
    vms[vm].sums.append(sum)
    vms[vm].isChanged.append(false)
    vms[vm].index[row.key.words] = place
    return place
  }

  /// What is marked as changed has been written.
  mutating func markWritten(vm: Int) {
    for place in vms[vm].changed { vms[vm].isChanged[place] = false }
    vms[vm].changed.removeAll(keepingCapacity: true)
  }

  /// Takes everything as not written yet.
  mutating func markChanged() {
    for vm in vms.indices {
      vms[vm].changed = vms[vm].sums.indices.filter { vms[vm].sums[$0].finished > 0 }
      for place in vms[vm].changed { vms[vm].isChanged[place] = true }
    }
  }

  /// Gives up VMs whose threads have all ended and whose last sums are written.
  mutating func dropEnded() {
    for vm in vms.indices where vms[vm].thread != 0 && vms[vm].liveThreads <= 0 && vms[vm].changed.isEmpty {
      keyCount -= vms[vm].index.count
      placeOfProcess[vms[vm].tgid] = nil
      vms[vm] = VM()
      free.append(vm)
    }
  }
}

extension kt_key_row {
  /// Adds what one row grew by between two looks at it.
  fileprivate mutating func grow(from old: kt_key_row, to new: UnsafePointer<kt_key_row>) {
    var old = old
    finished &+= new.pointee.finished &- old.finished
    total_ns &+= new.pointee.total_ns &- old.total_ns
    max_ns = max(max_ns, new.pointee.max_ns)
    withUnsafeMutablePointer(to: &self) { sum in
      let states = kt_key_row_mutable_state_ns(sum)!
      let (before, now) = (kt_key_row_mutable_state_ns(&old)!, kt_key_row_state_ns(new)!)
      for state in 0..<SnapshotFormat.states { states[state] &+= now[state] &- before[state] }
    }
  }
}
