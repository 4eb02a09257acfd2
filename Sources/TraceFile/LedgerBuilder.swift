import Attribution
import CKvmtax

/// Makes the ledger from the last totals of threads and rows.
struct LedgerBuilder {
  private(set) var ledger = Ledger()
  private(set) var notes: [String] = []
  /// When the programs went quiet, in order.
  private let quietGaps: [UInt64]
  private let endNanoseconds: UInt64
  /// A process: a pid can come again with another start time.
  private struct Process: Hashable {
    var pid: UInt32
    var startNanoseconds: UInt64
  }

  private var vmIndex: [Process: Int] = [:]
  private var tgids: [UInt32: UInt32] = [:]
  private var vcpus: [(pid: UInt32, vcpu: VCPU)] = []
  private var partialHistograms: UInt64 = 0
  /// vCPUs whose states did not sum to their wall time.
  private var unbalanced: UInt64 = 0
  private var coveredExits: UInt64 = 0
  private var partialExits: UInt64 = 0
  private var finishedExits: UInt64 = 0
  private var recordedExits: UInt64 = 0
  /// Rows of keys, each under the serial of one of its VM's threads, and exits without such a row.
  private var keys: [kt_key_row] = []
  private var keyOverflow: [UInt32: KeyTable.Overflow] = [:]
  private let looks: [UInt32: KVMCounts]

  init(quietGaps: [TraceGap], endNanoseconds: UInt64, looks: [TracedLooks] = []) {
    self.looks = Dictionary(looks.map { ($0.thread, $0.counts) }) { $1 }
    self.quietGaps = quietGaps.map(\.fromNanoseconds).sorted()
    self.endNanoseconds = endNanoseconds
  }

  /// Everything from the snapshots.
  mutating func build(_ snapshots: borrowing SnapshotAccounts) {
    for number in 0..<snapshots.table.slotCount {
      let slot = snapshots.table.slots[number]
      let accounts = self.accounts(snapshots.table, slot: slot)
      for account in accounts {
        let covered = account.histogram.total
        guard covered < account.finished else { continue }
        partialHistograms &+= 1
        coveredExits &+= covered
        partialExits &+= account.finished
      }
      add(slot, accounts, holes: snapshots.holes)
    }
    if partialHistograms > 0 {
      notes.append(
        "the percentiles of \(grouped(partialHistograms)) reasons of vCPUs cover only \(grouped(coveredExits)) of their "
          + "\(grouped(partialExits)) exits")
    }
  }

  /// States from the snapshots; accounts from the records, which the unpaired exits were added to.
  mutating func build(_ snapshots: borrowing SnapshotAccounts, records: borrowing AccountTable) {
    var rowsOfThread: [UInt32: UInt32] = [:]
    for number in 0..<records.slotCount { rowsOfThread[records.slots[number].thread] = UInt32(number) }
    for number in 0..<snapshots.table.slotCount {
      let slot = snapshots.table.slots[number]
      finishedExits &+= slot.finished
      let other = rowsOfThread.removeValue(forKey: slot.thread)
      let accounts = other.map { self.accounts(records, slot: records.slots[Int($0)]) } ?? []
      add(slot, accounts, holes: snapshots.holes)
    }
    // threads that are in no readable snapshot
    for number in rowsOfThread.values.sorted() {
      let slot = records.slots[Int(number)]
      add(slot, accounts(records, slot: slot), holes: [])
    }
    for number in 0..<records.rowCount { recordedExits &+= records.rows[number].finished }
    if recordedExits < finishedExits {
      notes.append(
        "exit records cover \(grouped(recordedExits)) of the \(grouped(finishedExits)) finished exits that were counted"
      )
    }
  }

  /// Takes the keys, whatever the accounts come from.
  mutating func take(_ table: borrowing KeyTable) {
    keys += UnsafeBufferPointer(start: table.rows, count: table.count)
    keyOverflow.merge(table.overflow) { $1 }
  }

  /// Threads that the machine was fed anew, under the serials of the recording.
  mutating func build(_ threads: [Replay.Thread]) {
    for thread in threads {
      var vcpu = thread.vcpu
      vcpu.accounts.sort { ($0.isa, $0.reason) < ($1.isa, $1.reason) }
      vcpus.append((thread.pid, vcpu))
    }
  }

  /// Names VMs and vCPUs, and puts them into their order.
  mutating func name(processes: [TracedProcess], threads: [TracedThread]) {
    if unbalanced > 0 {
      notes.append("the states of \(grouped(unbalanced)) vCPUs did not sum to the time that they were observed")
    }
    var known: [UInt32: TracedThread] = [:]
    for thread in threads { known[thread.thread] = thread }
    var vmOfThread: [UInt32: Int] = [:]
    for (pid, vcpu) in vcpus {
      var vcpu = vcpu
      vcpu.kvmCounts = looks[vcpu.thread]
      var process = Process(pid: pid, startNanoseconds: 0)
      if let thread = known[vcpu.thread] {
        vcpu.name = thread.comm.isEmpty ? nil : thread.comm
        if vcpu.index == nil { vcpu.index = thread.vcpu.map(Int.init) }
        if vcpu.tid == 0 { vcpu.tid = thread.tid }
        if pid == 0 { process.pid = thread.tgid }
        process.startNanoseconds = thread.processStartNanoseconds
      }
      let index = vmIndex[process] ?? ledger.vms.count
      if index == ledger.vms.count {
        vmIndex[process] = index
        ledger.vms.append(VirtualMachine(pid: process.pid))
      }
      vmOfThread[vcpu.thread] = index
      ledger.vms[index].vcpus.append(vcpu)
      ledger.vms[index].overflowKeys &+= vcpu.overflowKeys
      ledger.vms[index].overflowKeyNanoseconds &+= vcpu.overflowKeyNanoseconds
    }
    fileKeys(vmOfThread, known)
    for process in processes {
      // threads whose process's start is not known have the name that came last
      for start in Set([process.startNanoseconds, 0]) {
        guard let index = vmIndex[Process(pid: process.pid, startNanoseconds: start)] else { continue }
        ledger.vms[index].name = process.name
        ledger.vms[index].vmid = process.vmid.map(Int.init)
      }
    }
    ledger.sort()
  }

  /// Sums the keys of each VM's threads.
  private mutating func fileKeys(_ vmOfThread: [UInt32: Int], _ known: [UInt32: TracedThread]) {
    func vm(of thread: UInt32) -> Int? {
      if let vm = vmOfThread[thread] { return vm }
      // of a thread that is in no readable snapshot the names may still tell the process
      guard let thread = known[thread] else { return nil }
      return vmIndex[Process(pid: thread.tgid, startNanoseconds: thread.processStartNanoseconds)]
    }
    var sums = KeySums()
    var unfiled: UInt64 = 0
    for row in keys {
      if let vm = vm(of: row.thread) { sums.add(row, to: vm) } else { unfiled &+= 1 }
    }
    for (vm, accounts) in sums.accounts() { ledger.vms[vm].keys = accounts }
    for (thread, overflow) in keyOverflow {
      guard let vm = vm(of: thread) else { continue }
      ledger.vms[vm].overflowKeys &+= overflow.exits
      ledger.vms[vm].overflowKeyNanoseconds &+= overflow.nanoseconds
    }
    if unfiled > 0 { notes.append("\(grouped(unfiled)) keys belong to VMs that the file does not name") }
    noteCoverage()
  }

  /// Keys are written less often than accounts: a recording that was cut has fewer of their exits.
  private mutating func noteCoverage() {
    var (finished, covered): (UInt64, UInt64) = (0, 0)
    for vm in ledger.vms where !vm.keys.isEmpty {
      covered &+= vm.keys.reduce(vm.overflowKeys) { $0 &+ $1.finished }
      for vcpu in vm.vcpus { finished &+= vcpu.accounts.reduce(vcpu.overflowExits) { $0 &+ $1.finished } }
    }
    guard covered < finished else { return }
    notes.append("keys cover \(grouped(covered)) of the \(grouped(finished)) finished exits of their VMs")
  }

  // MARK: One thread

  private func accounts(_ table: borrowing AccountTable, slot: kt_slot) -> [ExitAccount] {
    var accounts: [ExitAccount] = []
    var row = slot.first_row
    while row != 0 {
      accounts.append(ExitAccount(table.rows + Int(row) - 1))
      row = table.rows[Int(row) - 1].next
    }
    return accounts
  }

  /// Where an account of the same reason is; a new one if there is none.
  private func index(of account: ExitAccount, in accounts: inout [ExitAccount]) -> Int {
    if let index = accounts.firstIndex(where: { $0.reason == account.reason && $0.isa == account.isa }) {
      return index
    }
    accounts.append(ExitAccount(isa: account.isa, reason: account.reason))
    return accounts.count - 1
  }

  private mutating func add(_ slot: kt_slot, _ accounts: [ExitAccount], holes: [UInt64?]) {
    var accounts = accounts
    var slot = slot
    if slot.sequence == 0 { recover(&slot, accounts) }
    balance(&slot)
    // a thread that never entered or left a guest is no vCPU
    guard slot.exits > 0 || slot.entries > 0 || !accounts.isEmpty else { return }
    if SnapshotFormat.isOpen(slot) {
      let open = ExitAccount(isa: slot.isa, reason: slot.reason)
      accounts[index(of: open, in: &accounts)].open = 1
    }
    let until = certainUntil(slot, holes: holes)
    if slot.ended == 0, until < endNanoseconds {
      kt_move(&slot, max(until, slot.since_ns), UInt8(KT_UNKNOWN.rawValue))
    }
    var vcpu = VCPU(&slot, endNanoseconds: slot.ended != 0 ? nil : endNanoseconds)
    accounts.sort { ($0.isa, $0.reason) < ($1.isa, $1.reason) }
    vcpu.accounts = accounts
    vcpus.append((slot.tgid, vcpu))
  }

  /// The time up to which a thread's open interval is known to go on: up to a hole in the snapshots behind its last entry
  /// (what happened to it may have been in there), or until the programs went quiet.
  private func certainUntil(_ slot: kt_slot, holes: [UInt64?]) -> UInt64 {
    var until = endNanoseconds
    if Int(slot.epoch) < holes.count { until = min(until, holes[Int(slot.epoch)] ?? 0) }
    // the first gap that begins at or behind the thread's last event
    var (low, high) = (0, quietGaps.count)
    while low < high {
      let middle = (low + high) / 2
      if quietGaps[middle] < slot.since_ns { low = middle + 1 } else { high = middle }
    }
    return low < quietGaps.count ? min(until, quietGaps[low]) : until
  }

  /// States that do not sum to the time the thread was observed: what is missing is unknown, what is too much was observed
  /// earlier; and the report says so.
  private mutating func balance(_ slot: inout kt_slot) {
    let sum = withUnsafePointer(to: &slot) { SnapshotFormat.sum(kt_slot_state_ns($0)) }
    let wall = slot.since_ns &- slot.first_ns
    guard sum != wall else { return }
    unbalanced &+= 1
    if slot.first_ns <= slot.since_ns, sum < wall {
      withUnsafeMutablePointer(to: &slot) { kt_slot_mutable_state_ns($0)[Int(KT_UNKNOWN.rawValue)] &+= wall &- sum }
    } else {
      slot.first_ns = slot.since_ns &- sum
    }
  }

  /// A thread of which only rows or records are left: observed for as long as these took.
  private func recover(_ slot: inout kt_slot, _ accounts: [ExitAccount]) {
    var states = StateTimes()
    for account in accounts {
      states.add(account.states)
      slot.exits &+= account.finished &+ account.unpaired
      slot.finished &+= account.finished
    }
    slot.entries = slot.finished
    slot.since_ns = endNanoseconds
    slot.first_ns = endNanoseconds &- states.total
    withUnsafeMutablePointer(to: &slot) {
      kt_slot_mutable_state_ns($0).update(from: states.nanoseconds, count: states.nanoseconds.count)
    }
  }
}
