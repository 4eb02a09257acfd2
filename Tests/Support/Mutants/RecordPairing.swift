/// Exits of a list of records, paired thread by thread in the plainest way: what a file made of them should say. An exit
/// that a handler of the host's or a switch came before, with no entry between, begins with that.
public struct RecordPairing: Sendable {
  /// By thread and reason.
  public private(set) var threads: [UInt32: [ReasonKey: PairedExits]] = [:]
  /// Of these, what lies before a thread's first kvm_entry.
  public private(set) var beforeFirstEntry: [ReasonKey: PairedExits] = [:]
  /// vcpu_id of each thread's first kvm_entry.
  public private(set) var vcpus: [UInt32: Int] = [:]

  /// Pairs records, which must be in the order of time, by the formats that describe them.
  /// `interruptions`: names of the events that begin an exit.
  public init(
    _ records: [TracepointRecord], events: [EventText], interruptions names: Set<String> = []
  ) throws {
    guard let exit = events.first(where: { $0.name == "kvm_exit" }),
      let entry = events.first(where: { $0.name == "kvm_entry" }),
      let reasonField = exit.fields.first(where: { $0.name == "exit_reason" }),
      let isaField = exit.fields.first(where: { $0.name == "isa" }),
      let vcpuField = entry.fields.first(where: { $0.name == "vcpu_id" })
    else { throw SampleError(text: "a format is missing") }
    var open: [UInt32: (key: ReasonKey, nanoseconds: UInt64)] = [:]
    let userspaceExit = events.first { $0.name == "kvm_userspace_exit" }?.id
    let interruptions = Set(events.filter { names.contains($0.name) }.map(\.id))
    // a switch is of two threads
    var nextField: [Int: EventText.Field] = [:]
    for event in events { nextField[event.id] = event.fields.first { $0.name == "next_pid" } }
    var guests = GuestStays()
    for record in records where !record.discarded {
      let thread = record.thread
      if record.id == userspaceExit { guests.leave(thread) }
      if interruptions.contains(record.id) {
        guests.interrupt(thread, record.nanoseconds)
        if let next = nextField[record.id] {
          guests.interrupt(UInt32(truncatingIfNeeded: record[next]), record.nanoseconds)
        }
      }
      if record.id == exit.id {
        let key = ReasonKey(
          isa: UInt8(truncatingIfNeeded: record[isaField]), reason: UInt32(truncatingIfNeeded: record[reasonField]))
        open[thread] = (key, guests.exit(thread, record.nanoseconds))
        threads[thread, default: [:]][key, default: PairedExits()].exits += 1
        if vcpus[thread] == nil { beforeFirstEntry[key, default: PairedExits()].exits += 1 }
      } else if record.id == entry.id {
        guests.enter(thread)
        if let (key, start) = open.removeValue(forKey: thread) {
          threads[thread]?[key]?.finish(record.nanoseconds - start)
          if vcpus[thread] == nil { beforeFirstEntry[key]?.finish(record.nanoseconds - start) }
        }
        if vcpus[thread] == nil { vcpus[thread] = Int(truncatingIfNeeded: record[vcpuField]) }
      }
    }
  }
}

extension TracepointRecord {
  /// A number in the record, little-endian.
  public subscript(field: EventText.Field) -> UInt64 {
    get {
      var value: UInt64 = 0
      for byte in (0..<min(field.size, 8)).reversed() where field.offset + byte < bytes.count {
        value = value << 8 | UInt64(bytes[field.offset + byte])
      }
      return value
    }
    set {
      for byte in 0..<min(field.size, 8) where field.offset + byte < bytes.count {
        bytes[field.offset + byte] = UInt8(truncatingIfNeeded: newValue >> UInt64(8 * byte))
      }
    }
  }
}
