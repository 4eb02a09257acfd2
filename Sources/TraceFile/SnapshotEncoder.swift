import Attribution
import CKvmtax

/// Builds snapshots: absolute totals of the threads and rows that changed since they were last written, and of the VMs'
/// keys.
///
/// For each snapshot: `begin`, then for every slot `add(slot)`, followed, where that says so, by `add(row)` for each of
/// its rows, and, if `wantsKeys` or the thread has ended, by `add(key:)` for each of its key rows; then `write`. The
/// caller passes copies and the numbers that slots and rows have in its tables; a number may later be given to another
/// thread, once what its last one held has been written. Nothing is looked up but the key of a new key row: memory is 32
/// bytes per slot, 24 per row, 168 per key row, and about 300 per key of a VM.
public struct SnapshotEncoder: ~Copyable {
  /// How much a snapshot holds.
  public enum Detail: Sendable {
    /// Threads and rows that changed; rows without their histograms, unless the thread ended; keys of VMs that ended.
    case changes
    /// Also the histogram of each row that changed since its histogram was last written, and the keys that changed.
    case histograms
    /// Everything, changed or not: the last snapshot of a recording, so that no block lost before it costs totals.
    case complete
  }

  private struct WrittenThread {
    var thread: UInt32 = 0
    var changes: UInt64 = 0
    /// Its VM among `keys`.
    var vm = 0
    var hasEnded = false
  }

  private struct WrittenRow {
    var thread: UInt32 = 0
    var exits: UInt64 = 0
    var histogramExits: UInt64 = 0
  }

  private var threads: [WrittenThread]
  private var rows: [WrittenRow]
  private var keys = KeyTotals()
  /// The VM of the thread added last.
  private var currentVM = 0
  private var parts: [ByteWriter] = []
  private var part = ByteWriter()
  private var entry = ByteWriter()
  private var serial = ByteWriter()
  private var clocks = Clocks(monotonicNanoseconds: 0, boottimeNanoseconds: 0, realtimeNanoseconds: 0, tsc: 0)
  private var detail = Detail.changes
  private var number: UInt64 = 0
  /// The serial that the next entry's is a difference to; 0 at the start of a part.
  private var previousThread: UInt32 = 0
  /// Threads in the snapshot that was begun last.
  public private(set) var threadCount = 0
  /// Rows in the snapshot that was begun last.
  public private(set) var rowCount = 0
  /// Keys of VMs in the snapshot that was written last.
  public private(set) var keyCount = 0

  /// A part that grows beyond this is continued in another block.
  static let partLimit = 192 << 10

  /// Room for so many slots and rows; more is taken when greater numbers come.
  public init(slotCapacity: Int = 0, rowCapacity: Int = 0) {
    threads = [WrittenThread](repeating: WrittenThread(), count: max(0, slotCapacity))
    rows = [WrittenRow](repeating: WrittenRow(), count: max(0, rowCapacity))
  }

  /// Starts a snapshot of the moment `clocks`, which is to be read before the first slot is copied.
  public mutating func begin(at clocks: Clocks, detail: Detail) {
    self.clocks = clocks
    self.detail = detail
    parts.removeAll()
    part.removeAll()
    threadCount = 0
    rowCount = 0
    previousThread = 0
  }

  /// Adds a thread if it changed. True: its rows may have changed (or are wanted anyway) and should be added now.
  @discardableResult public mutating func add(_ slot: UnsafePointer<kt_slot>, number: Int) -> Bool {
    let value = slot.pointee
    guard value.thread != 0, number >= 0 else { return false }
    if number >= threads.count {
      threads.append(contentsOf: repeatElement(WrittenThread(), count: number + 1 - threads.count))
    }
    // each of the three only grows
    let changes = value.steps &+ value.missed &+ (value.ended != 0 ? 1 : 0)
    if threads[number].thread != value.thread {
      // the one before it ended unseen
      if threads[number].thread != 0, !threads[number].hasEnded { keys.end(vm: threads[number].vm) }
      threads[number] = WrittenThread(
        thread: value.thread, changes: changes &+ 1, vm: keys.begin(thread: value.thread, tgid: value.tgid))
    }
    currentVM = threads[number].vm
    if value.ended != 0, !threads[number].hasEnded {
      threads[number].hasEnded = true
      keys.end(vm: currentVM)
    }
    let isChanged = threads[number].changes != changes
    guard isChanged || detail == .complete else { return detail == .histograms }
    threads[number].changes = changes
    encode(slot)
    finishEntry(of: value.thread)
    threadCount += 1
    return true
  }

  /// Adds a row of the thread added last, if it changed. `ended`: the thread has ended, so that this is the last time.
  public mutating func add(_ row: UnsafePointer<kt_row>, number: Int, ended: Bool) {
    let thread = row.pointee.thread
    guard thread != 0, number >= 0 else { return }
    if number >= rows.count { rows.append(contentsOf: repeatElement(WrittenRow(), count: number + 1 - rows.count)) }
    var written = rows[number]
    if written.thread != thread { written = WrittenRow(thread: thread) }
    let finished = row.pointee.finished
    let exits = finished &+ row.pointee.unpaired
    let wantsHistogram = finished > 0 && (detail != .changes || ended)
    let hasHistogram = wantsHistogram && (detail == .complete || written.histogramExits != finished)
    guard exits > 0, hasHistogram || exits != written.exits || detail == .complete else { return }
    written.exits = exits
    if hasHistogram { written.histogramExits = finished }
    rows[number] = written
    encode(row, histogram: hasHistogram)
    finishEntry(of: thread)
    rowCount += 1
  }

  /// Whether this snapshot holds keys: if not, only those of threads that have ended need to be added.
  public var wantsKeys: Bool { detail != .changes }

  /// Adds a key row of the thread added last; it goes into the sums of the thread's VM.
  public mutating func add(key: UnsafePointer<kt_key_row>, number: Int) {
    guard key.pointee.thread != 0, number >= 0 else { return }
    keys.add(key, number: number, vm: currentVM)
  }

  /// Appends the snapshot, in blocks of at most 256 KiB. When it fails, the next snapshot holds everything that is added
  /// again. `usingReserve`: it may use the writer's reserve but for what the last notes and the end need.
  public mutating func write(to writer: inout TraceWriter, usingReserve: Bool = false) throws(TraceWriteError) {
    encodeKeys()
    parts.append(part)
    for (index, entries) in parts.enumerated() {
      var head = ByteWriter()
      head.append(number)
      head.append(UInt64(index))
      head.append(
        (index + 1 == parts.count ? SnapshotFormat.PartFlag.last : 0)
          | (detail == .complete ? SnapshotFormat.PartFlag.complete : 0))
      head.append(clocks)
      var payload = ByteWriter()
      payload.append(entry: head)
      payload.append(contentsOf: entries)
      do {
        try writer.append(payload, type: .snapshot, usingReserve: usingReserve)
      } catch {
        number &+= 1
        forget()
        throw error
      }
    }
    parts.removeAll()
    number &+= 1
    keys.dropEnded()
    writer.snapshotsWritten &+= 1
  }

  /// Takes everything as not written yet.
  public mutating func forget() {
    // whom a number belongs to stays known: the VMs' threads are counted
    for index in threads.indices { threads[index].changes = .max }
    keys.markChanged()
    for index in rows.indices { rows[index] = WrittenRow() }
    parts.removeAll()
  }

  // MARK: Entries

  private mutating func finishEntry(of thread: UInt32) {
    if part.bytes.count + entry.bytes.count > SnapshotEncoder.partLimit {
      // each part can be read without the others
      parts.append(part)
      part.removeAll()
      previousThread = 0
    }
    serial.removeAll()
    serial.append(from: UInt64(previousThread), to: UInt64(thread))
    part.append(UInt64(serial.bytes.count + entry.bytes.count))
    part.append(contentsOf: serial)
    part.append(contentsOf: entry)
    previousThread = thread
  }

  private mutating func encode(_ slot: UnsafePointer<kt_slot>) {
    let value = slot.pointee
    let states = kt_slot_state_ns(slot)!
    let fields = SnapshotFormat.fields(slot)
    let mask = SnapshotFormat.mask(states)
    entry.removeAll()
    entry.append(SnapshotFormat.threadKind)
    entry.append(fields)
    entry.append(mask)
    entry.append(UInt64(value.tid))
    entry.append(from: UInt64(value.tid), to: UInt64(value.tgid))
    entry.append(UInt64(value.state))
    entry.append(from: value.since_ns, to: clocks.monotonicNanoseconds)
    entry.append(value.exits)
    appendOptional(fields, of: value, first: value.since_ns &- SnapshotFormat.sum(states))
    appendStates(states, mask)
    appendLater(fields, of: value)
  }

  /// The fields that stand behind the states.
  private mutating func appendLater(_ fields: UInt64, of value: kt_slot) {
    typealias Field = SnapshotFormat.ThreadField
    if fields & Field.switches != 0 { entry.append(value.switches) }
    if fields & Field.missedSwitches != 0 { entry.append(value.missed_switches) }
    if fields & Field.missedWakings != 0 { entry.append(value.missed_wakings) }
    if fields & Field.runDelay != 0 {
      entry.append(value.first_run_delay_ns)
      entry.append(from: value.first_run_delay_ns, to: value.run_delay_ns)
    }
    if fields & Field.timerVector != 0 {
      entry.append(UInt64(value.timer_vector))
      entry.append(UInt64(value.timer_source))
    }
    if fields & Field.overflowKeys != 0 {
      entry.append(value.overflow_keys)
      entry.append(value.overflow_keys_ns)
    }
    if fields & Field.missedInterrupts != 0 { entry.append(value.missed_interrupts) }
  }

  private mutating func appendOptional(_ fields: UInt64, of value: kt_slot, first: UInt64) {
    typealias Field = SnapshotFormat.ThreadField
    if fields & Field.vcpu != 0 { entry.append(UInt64(value.vcpu)) }
    if fields & Field.openExit != 0 {
      entry.append(UInt64(value.isa))
      entry.append(UInt64(value.reason))
      entry.append(from: value.exit_ns, to: value.since_ns)
    }
    if fields & Field.entries != 0 { entry.append(from: value.finished, to: value.entries) }
    if fields & Field.finished != 0 { entry.append(from: SnapshotFormat.finished(value), to: value.finished) }
    if fields & Field.userspaceExits != 0 { entry.append(value.userspace_exits) }
    if fields & Field.wakeups != 0 { entry.append(value.wakeups) }
    if fields & Field.unpairedExits != 0 { entry.append(value.unpaired_exits) }
    if fields & Field.unpairedEntries != 0 { entry.append(value.unpaired_entries) }
    if fields & Field.first != 0 { entry.append(from: first, to: value.first_ns) }
    if fields & Field.steps != 0 { entry.append(from: SnapshotFormat.steps(value), to: value.steps) }
    if fields & Field.missed != 0 { entry.append(value.missed) }
    if fields & Field.backwards != 0 { entry.append(value.backwards) }
    if fields & Field.overflow != 0 {
      entry.append(value.overflow_exits)
      entry.append(value.overflow_ns)
    }
    if fields & Field.features != 0 { entry.append(UInt64(value.features)) }
  }

  private mutating func encode(_ row: UnsafePointer<kt_row>, histogram: Bool) {
    typealias Field = SnapshotFormat.RowField
    let value = row.pointee
    let states = kt_row_state_ns(row)!
    let mask = SnapshotFormat.mask(states)
    var fields: UInt64 = histogram ? Field.histogram : 0
    if value.unpaired != 0 { fields |= Field.unpaired }
    if value.total_ns != SnapshotFormat.sum(states) { fields |= Field.total }
    entry.removeAll()
    entry.append(SnapshotFormat.rowKind)
    entry.append(fields)
    entry.append(mask)
    entry.append(UInt64(value.isa))
    entry.append(UInt64(value.reason))
    entry.append(value.finished)
    entry.append(value.min_ns)
    entry.append(from: value.min_ns, to: value.max_ns)
    if histogram { appendHistogram(kt_row_buckets(row)!) }
    if fields & Field.unpaired != 0 { entry.append(value.unpaired) }
    if fields & Field.total != 0 { entry.append(value.total_ns) }
    appendStates(states, mask)
  }

  /// The keys that are due; what fails to be written is marked again by `forget`.
  private mutating func encodeKeys() {
    keyCount = 0
    for vm in keys.vms.indices where keys.vms[vm].thread != 0 {
      if detail == .complete {
        for place in keys.vms[vm].sums.indices where keys.vms[vm].sums[place].finished > 0 { encodeKey(vm, place) }
      } else if detail == .histograms || keys.vms[vm].liveThreads <= 0 {
        for place in keys.vms[vm].changed { encodeKey(vm, place) }
      } else {
        continue
      }
      keys.markWritten(vm: vm)
    }
  }

  private mutating func encodeKey(_ vm: Int, _ place: Int) {
    typealias Field = SnapshotFormat.KeyField
    var row = keys.vms[vm].sums[place]
    withUnsafePointer(to: &row) { row in
      let (value, states) = (row.pointee, kt_key_row_state_ns(row)!)
      let mask = SnapshotFormat.mask(states)
      var fields: UInt64 = place == 0 ? Field.overflow : 0
      if place > 0, value.key.subject != .max { fields |= Field.subject }
      if value.key.size != 0 { fields |= Field.size }
      if value.key.userspace != 0 { fields |= Field.userspace }
      if value.total_ns != SnapshotFormat.sum(states) { fields |= Field.total }
      entry.removeAll()
      entry.append(SnapshotFormat.keyKind)
      entry.append(fields)
      entry.append(mask)
      entry.append(UInt64(value.key.isa))
      entry.append(UInt64(value.key.reason))
      entry.append(UInt64(value.key.kind))
      entry.append(UInt64(value.key.traits))
      entry.append(value.finished)
      entry.append(value.max_ns)
      if fields & Field.subject != 0 { entry.append(value.key.subject) }
      if fields & Field.size != 0 { entry.append(UInt64(value.key.size)) }
      if fields & Field.userspace != 0 { entry.append(UInt64(value.key.userspace)) }
      if fields & Field.total != 0 { entry.append(value.total_ns) }
      appendStates(states, mask)
    }
    finishEntry(of: keys.vms[vm].thread)
    keyCount += 1
  }

  private mutating func appendStates(_ states: UnsafePointer<UInt64>, _ mask: UInt64) {
    for state in 0..<SnapshotFormat.states where mask & 1 << UInt64(state) != 0 { entry.append(states[state]) }
  }

  /// The number of buckets that are not 0, then for each how many were skipped before it, and its count.
  private mutating func appendHistogram(_ buckets: UnsafePointer<UInt32>) {
    var used: UInt64 = 0
    for bucket in 0..<Histogram.bucketCount where buckets[bucket] != 0 { used &+= 1 }
    entry.append(used)
    var next = 0
    for bucket in 0..<Histogram.bucketCount where buckets[bucket] != 0 {
      entry.append(UInt64(bucket - next))
      entry.append(UInt64(buckets[bucket]))
      next = bucket + 1
    }
  }
}
