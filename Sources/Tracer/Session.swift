import Bpf
import BpfImages
import CKvmtax
import Glibc
import TraceFile

/// The BPF programs of one recording: loaded, attached, and the memory they share with us. Everything is bound to this
/// process: when it ends, in whatever way, nothing stays attached.
final class Session {
  let attach: AttachPath
  let capacity: Capacity
  let table: SlotTable
  let control: UnsafeMutablePointer<kt_control>
  private let object: BpfObject
  private var links = BpfLinks()
  private var keyLinks = BpfLinks()
  private var schedulerLinks = BpfLinks()
  /// The programs of this recording.
  private(set) var plan: ProgramPlan
  // the mappings behind the pointers above
  private let controlMap: MappedArray<kt_control>
  private let slotMap: MappedArray<kt_slot>
  private let rowMap: MappedArray<kt_row>
  private let rowOfReasonMap: MappedArray<RowsOfReasons>
  private let threadMap: MappedArray<UInt64>
  private let freeSlots: BpfMap
  private let freeRows: BpfMap
  private let moreRows: BpfMap
  private let keyMap: MappedArray<kt_key_row>
  private let rowOfKeyMap: MappedArray<RowsOfReasons>
  private let looksMap: MappedArray<kt_looks>
  private let freeKeys: BpfMap
  private let moreKeys: BpfMap
  private let losses: BpfMap
  private let notices: RingBuffer
  private let rings: RingBuffer?
  /// Number of the next vCPU thread.
  private var nextThread: UInt32 = 1

  /// 256 row numbers: the value of `row_of_reason` and `row_of_key`. Never instantiated.
  private struct RowsOfReasons: BitwiseCopyable {
    var numbers: (KibiByte, KibiByte, KibiByte, KibiByte, KibiByte, KibiByte, KibiByte, KibiByte)
    typealias KibiByte = (
      UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64,
      UInt64, UInt64
    )
  }

  /// Loads everything; nothing is attached yet.
  /// - Parameters:
  ///   - onNotice: called when a vCPU thread was first seen or ended.
  ///   - onRecord: takes an event record as it lies in a ring, and the ring's number.
  init(
    attach: AttachPath, plan: ProgramPlan, layouts: Layouts, capacity: Capacity, groups: RingGroups,
    processes: [UInt32], records: kt_records = KT_NO_RECORDS, onNotice: @escaping (kt_notice) -> Void,
    onRecord: @escaping (UnsafeRawBufferPointer, Int) -> Void
  ) throws(BpfError) {
    self.attach = attach
    self.capacity = capacity
    object = try BpfObject(base64: kvmObject, name: "kvmtax")
    self.plan = plan
    let programs = plan.programs
    for program in object.programs { try object.setAutoload(program, programs.contains(program)) }
    for program in programs {
      try object.patchFields(program: program) { layouts.placement(of: kt_field($0)) }
    }
    try object.setMaxEntries("threads", (capacity.threads + 1) / 2)
    try object.setMaxEntries("slots", capacity.slots)
    try object.setMaxEntries("row_of_reason", capacity.slots)
    try object.setMaxEntries("free_slots", capacity.slots)
    try object.setMaxEntries("rows", capacity.rows)
    try object.setMaxEntries("free_rows", capacity.rows)
    try object.setMaxEntries("looks", capacity.slots)
    try object.setMaxEntries("row_of_key", plan.keepsKeys ? capacity.slots : 1)
    try object.setMaxEntries("keys", plan.keepsKeys ? capacity.keys : 2)
    try object.setMaxEntries("free_keys", plan.keepsKeys ? capacity.keys : 2)
    try object.setMaxEntries("more_keys", plan.keepsKeys ? capacity.moreKeys : 1)
    if !plan.keepsIoeventfds { try object.setMaxEntries("ioeventfds", 1) }
    try object.setConstant("immediate_exits", UInt8(plan.hasImmediateExits ? 1 : 0))
    try object.setConstant("keeps_ioeventfds", UInt8(plan.keepsIoeventfds ? 1 : 0))
    try object.load()

    controlMap = try MappedArray(try object.map("control"))
    slotMap = try MappedArray(try object.map("slots"))
    rowMap = try MappedArray(try object.map("rows"))
    rowOfReasonMap = try MappedArray(try object.map("row_of_reason"))
    threadMap = try MappedArray(try object.map("threads"))
    freeSlots = try object.map("free_slots")
    freeRows = try object.map("free_rows")
    moreRows = try object.map("more_rows")
    keyMap = try MappedArray(try object.map("keys"))
    rowOfKeyMap = try MappedArray(try object.map("row_of_key"))
    looksMap = try MappedArray(try object.map("looks"))
    freeKeys = try object.map("free_keys")
    moreKeys = try object.map("more_keys")
    losses = try object.map("losses")
    guard let control = controlMap.pointer(at: 0), let slots = slotMap.pointer(at: 0), let rows = rowMap.pointer(at: 0),
      let rowOfReason = rowOfReasonMap.pointer(at: 0), let keys = keyMap.pointer(at: 0),
      let rowOfKey = rowOfKeyMap.pointer(at: 0), let looks = looksMap.pointer(at: 0)
    else { throw BpfError(call: "map the accounts", code: EINVAL) }
    self.control = control
    table = SlotTable(
      slots: slots, slotCount: slotMap.count, rows: rows, rowCount: rowMap.count,
      rowOfReason: UnsafeMutableRawPointer(rowOfReason).assumingMemoryBound(to: UInt32.self),
      keys: keys, keyCount: keyMap.count,
      rowOfKey: plan.keepsKeys ? UnsafeMutableRawPointer(rowOfKey).assumingMemoryBound(to: UInt32.self) : nil,
      looks: looks)

    notices = RingBuffer { bytes, _ in
      guard bytes.count >= MemoryLayout<kt_notice>.size else { return }
      onNotice(bytes.loadUnaligned(as: kt_notice.self))
    }
    try notices.add(try object.map("notices"))
    rings = try Session.rings(object: object, capacity: capacity, groups: groups, onRecord: onRecord)
    try fillPools()
    control.pointee.own_tgid = UInt32(getpid())
    control.pointee.events = capacity.rings > 0 ? records.rawValue : KT_NO_RECORDS.rawValue
    control.pointee.features = plan.features
    control.pointee.keys = plan.keepsKeys ? 1 : 0
    control.pointee.delay_offset = plan.delayOffset
    control.pointee.delay_everywhere = plan.features & KT_HAS_RUN_DELAY.rawValue != 0 ? 1 : 0
    control.pointee.look = 1
    if !processes.isEmpty {
      let map = try object.map("processes")
      for process in processes { try map.update(process, UInt32(1)) }
      control.pointee.filtered = 1
    }
  }

  /// Loads and attaches the programs once, with room for nobody, and lets go of them.
  static func `try`(attach: AttachPath, layouts: Layouts, proxy: Bool) throws(BpfError) {
    let plan = ProgramPlan(attach: attach, layouts: layouts, proxy: proxy, tier: .full, keys: true)
    let session = try Session(
      attach: attach, plan: plan, layouts: layouts, capacity: .none, groups: RingGroups(cpuCount: 1, nodes: []),
      processes: [], onNotice: { _ in }, onRecord: { _, _ in })
    try session.attachAll()
    session.detachAll()
  }

  private func attachAll() throws(BpfError) {
    for attachment in plan.attachments {
      let link =
        if let (system, event) = attachment.tracepoint {
          try object.attach(attachment.program, system: system, event: event)
        } else {
          try object.attach(attachment.program)
        }
      switch attachment.group {
      case .base: links.add(link)
      case .keys: keyLinks.add(link)
      case .scheduler: schedulerLinks.add(link)
      }
    }
  }

  private func detachAll() {
    schedulerLinks.detach()
    keyLinks.detach()
    links.detach()
  }

  private static func rings(
    object: borrowing BpfObject, capacity: Capacity, groups: RingGroups,
    onRecord: @escaping (UnsafeRawBufferPointer, Int) -> Void
  ) throws(BpfError) -> RingBuffer? {
    guard capacity.rings > 0 else { return nil }
    let buffer = RingBuffer(onRecord)
    let outer = try object.map("rings")
    for number in 0..<capacity.rings {
      let ring = try BpfMap.ring(name: "kvmtax_ring", byteCount: capacity.ringBytes)
      try outer.insert(ring, at: number)
      try buffer.add(ring)
    }
    let table = try object.map("ring_of_cpu")
    for cpu in 0..<min(groups.ringOfCpu.count, Int(KT_MAX_CPUS)) {
      try table.update(UInt32(cpu), groups.ringOfCpu[cpu] % capacity.rings)
    }
    return buffer
  }

  private func fillPools() throws(BpfError) {
    for slot in 0..<capacity.slots { try giveBack(slot: slot) }
    for row in 1..<capacity.rows { try freeRows.push(row) }
    if plan.keepsKeys { for key in 1..<capacity.keys { try freeKeys.push(key) } }
  }

  private func giveBack(slot: UInt32) throws(BpfError) {
    try freeSlots.push(UInt64(slot) | UInt64(nextThread) << 32)
    nextThread &+= 1
  }

  /// Attaches the programs; they all begin to count at the moment when this returns.
  func start() throws(BpfError) {
    // attaching takes milliseconds each: an exit seen by one program and not by the next would not pair
    try attachAll()
    beat()
  }

  /// Ends all programs at one moment, which is returned, and detaches them.
  func stop() -> Clocks {
    kt_store_heartbeat(control, 0)
    let moment = Clocks.now()
    // a step that is under way takes microseconds
    usleep(2_000)
    detachAll()
    return moment
  }

  /// Says that somebody is listening. Returns the gap that the programs were quiet for, if there was one: from, to.
  @discardableResult
  func beat() -> (startNanoseconds: UInt64, endNanoseconds: UInt64)? {
    let now = monotonicNanoseconds()
    let last = control.pointee.heartbeat_ns
    // the moment that is judged, and no later one: were we stopped between, the gap would go unseen
    defer { kt_store_heartbeat(control, now) }
    guard last != 0, now &- last > UInt64(KT_HEARTBEAT_LIMIT_NS), now > last else { return nil }
    let quiet = last + UInt64(KT_HEARTBEAT_LIMIT_NS)
    kt_store_gap(control, quiet)
    return (quiet, now)
  }

  /// Waits for notices, at most this long; a notice ends the wait.
  func wait(milliseconds: Int32) throws(BpfError) { _ = try notices.poll(milliseconds: milliseconds) }

  /// Drains the rings of event records; returns how many there were.
  func drainRecords() throws(BpfError) -> Int { try rings?.consume() ?? 0 }

  /// Stops event records for the rest of the recording.
  func shedEvents() { control.pointee.events = KT_NO_RECORDS.rawValue }

  /// Keeps no more keys: what is in their accounts stays.
  func shedKeys() {
    control.pointee.keys = 0
    keyLinks.detach()
  }

  /// Lets the scheduler's and the interrupts' events go: from here on run_delay has to do.
  func shedScheduler() {
    plan.shedScheduler()
    control.pointee.delay_everywhere = plan.features & KT_HAS_RUN_DELAY.rawValue != 0 ? 1 : 0
    control.pointee.features = plan.features
    schedulerLinks.detach()
  }

  /// Asks every vCPU for a look at its own statistics, at its next entry.
  func askForLooks() { control.pointee.look &+= 1 }

  /// What was lost so far, per CPU.
  func lossesPerCpu(_ which: kt_loss) throws(BpfError) -> [UInt64] { try losses.perCpu(which.rawValue) }

  /// Wipes an ended thread's slot and rows and gives their numbers back.
  func recycle(slot number: Int, copy: SlotTable.Copy) throws(BpfError) {
    struct RowKey: BitwiseCopyable { var slot, isa, reason: UInt32 }
    forgetThread(tid: copy.slot.tid, slot: number)
    for row in copy.rows {
      let place = table.rowOfReason[number * 256 + Int(row.reason & 255)]
      guard
        !copy.rowNumbers.contains(place) || table.rows[Int(place)].reason != row.reason
          || table.rows[Int(place)].isa != row.isa
      else { continue }
      _ = try moreRows.remove(RowKey(slot: UInt32(number), isa: row.isa, reason: row.reason))
    }
    try forgetKeys(slot: number, copy: copy)
    table.wipe(number, rowNumbers: copy.rowNumbers, keyNumbers: copy.keyNumbers)
    for row in copy.rowNumbers { try freeRows.push(row) }
    for key in copy.keyNumbers { try freeKeys.push(key) }
    try giveBack(slot: UInt32(number))
  }

  /// Takes the keys out of the hash that did not fit into the slot's table.
  private func forgetKeys(slot number: Int, copy: SlotTable.Copy) throws(BpfError) {
    struct SlotKey: BitwiseCopyable {
      var slot: UInt32
      var reserved: UInt32 = 0
      var key: kt_key
    }
    guard let rowOfKey = table.rowOfKey else { return }
    for (place, row) in zip(copy.keyNumbers, copy.keys) {
      var key = row.key
      guard rowOfKey[number * 256 + Int(kt_key_hash(&key) & 255)] != place else { continue }
      _ = try moreKeys.remove(SlotKey(slot: UInt32(number), key: key))
    }
  }

  /// Clears the table's entry of a thread whose end no program saw, if it still names this slot.
  private func forgetThread(tid: UInt32, slot: Int) {
    guard let pair = threadMap.pointer(at: Int(tid / 2)) else { return }
    kt_forget_thread(
      UnsafeMutableRawPointer(pair).assumingMemoryBound(to: UInt32.self) + Int(tid % 2), UInt32(slot) + 1)
  }
}

/// CLOCK_MONOTONIC in ns: the clock of bpf_ktime_get_ns().
func monotonicNanoseconds() -> UInt64 {
  var time = timespec()
  clock_gettime(CLOCK_MONOTONIC, &time)
  return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}
