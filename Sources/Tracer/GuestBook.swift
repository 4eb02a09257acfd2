import CKvmtax
import Glibc
import TraceFile

/// Which threads and processes the file already knows by name.
struct GuestBook {
  /// By pid; a pid that comes again with another start time is another process.
  private(set) var guests: [UInt32: GuestProcess]
  /// Start times of the processes that were named.
  private var named: [UInt32: UInt64] = [:]
  /// By slot number: the thread that was last seen there.
  private var threadInSlot: [UInt32]
  /// Named, but not written yet; the writer empties them.
  var newThreads: [TracedThread] = []
  var newProcesses: [TracedProcess] = []

  init(known: [GuestProcess], slotCount: Int) {
    guests = Dictionary(known.map { ($0.pid, $0) }, uniquingKeysWith: { first, _ in first })
    threadInSlot = [UInt32](repeating: 0, count: slotCount)
  }

  /// Looks at slots for threads that are new, and names them and their processes.
  mutating func look(at numbers: some Sequence<Int>, in table: SlotTable) {
    for number in numbers where number >= 0 && number < table.slotCount {
      let serial = table.slots[number].thread
      guard serial != 0, threadInSlot[number] != serial else { continue }
      threadInSlot[number] = serial
      let slot = table.slots[number]
      if let process = process(slot.tgid) { newProcesses.append(process) }
      newThreads.append(
        TracedThread(
          thread: serial, tid: slot.tid, tgid: slot.tgid,
          vcpu: slot.vcpu == UInt16(KT_NO_VCPU) ? nil : UInt32(slot.vcpu), comm: text(of: slot.comm),
          processStartNanoseconds: guests[slot.tgid]?.startNanoseconds ?? 0))
    }
  }

  /// Forgets processes that nobody will ask about, so that VMs may come and go for days.
  mutating func forget(unless isWanted: (UInt32) -> Bool) {
    guests = guests.filter { isWanted($0.key) }
    named = named.filter { isWanted($0.key) }
  }

  private mutating func process(_ pid: UInt32) -> TracedProcess? {
    let start = GuestProcess.startTicks(of: pid)
    // one that is gone already is not asked again
    if let before = named[pid], start == nil || start == before { return nil }
    if let start, guests[pid]?.startTicks != start { guests[pid] = GuestProcess(pid: pid) }
    named[pid] = start ?? 0
    guard let guest = guests[pid] else { return TracedProcess(pid: pid) }
    return TracedProcess(
      pid: pid, startNanoseconds: guest.startNanoseconds,
      name: guest.name, vmid: guest.vmid.flatMap { UInt32(exactly: $0) })
  }
}

/// A NUL-padded name of 16 bytes as text.
private func text<Name>(of name: Name) -> String {
  withUnsafeBytes(of: name) { bytes in String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self) }
}
