import CKvmtax
import Glibc
import TraceFile

/// Which threads and processes the file already knows by name.
struct GuestBook {
  /// By pid; a pid that comes again with another start time is another process.
  private(set) var guests: [UInt32: GuestProcess]
  private var written: Set<UInt32> = []
  /// By slot number: the thread that was last seen there.
  private var threadInSlot: [UInt32]

  init(known: [GuestProcess], slotCount: Int) {
    guests = Dictionary(known.map { ($0.pid, $0) }, uniquingKeysWith: { first, _ in first })
    threadInSlot = [UInt32](repeating: 0, count: slotCount)
  }

  /// Looks for threads that are new; what is to be written of them and of their processes.
  mutating func newcomers(in table: SlotTable) -> (threads: [TracedThread], processes: [TracedProcess]) {
    var threads: [TracedThread] = []
    var processes: [TracedProcess] = []
    for number in 0..<table.slotCount {
      let serial = table.slots[number].thread
      guard serial != 0, threadInSlot[number] != serial else { continue }
      threadInSlot[number] = serial
      let slot = table.slots[number]
      threads.append(
        TracedThread(
          thread: serial, tid: slot.tid, tgid: slot.tgid,
          vcpu: slot.vcpu == UInt16(KT_NO_VCPU) ? nil : UInt32(slot.vcpu), comm: text(of: slot.comm)))
      if let process = process(slot.tgid) { processes.append(process) }
    }
    return (threads, processes)
  }

  private mutating func process(_ pid: UInt32) -> TracedProcess? {
    let now = GuestProcess(pid: pid)
    if let now, guests[pid]?.startTicks != now.startTicks {
      guests[pid] = now
      written.remove(pid)
    }
    guard written.insert(pid).inserted else { return nil }
    guard let guest = guests[pid] else { return TracedProcess(pid: pid) }
    return TracedProcess(
      pid: pid, startNanoseconds: guest.startTicks &* UInt64(1_000_000_000 / max(sysconf(Int32(_SC_CLK_TCK)), 1)),
      name: guest.name, vmid: guest.vmid.flatMap { UInt32(exactly: $0) })
  }
}

/// A NUL-padded name of 16 bytes as text.
private func text<Name>(of name: Name) -> String {
  withUnsafeBytes(of: name) { bytes in String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self) }
}
