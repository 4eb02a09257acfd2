import Attribution
import CKvmtax
import Testing

/// The header's functions called straight from Swift, with slots and rows that a test can look at.
public struct ReferenceMachine: ~Copyable {
  /// Most threads.
  public static let capacity = 512
  /// One per thread.
  public let slots: UnsafeMutablePointer<kt_slot>
  /// Those that are taken.
  public private(set) var slotCount = 0
  /// By thread, ISA and reason.
  public private(set) var rows: [RowKey: kt_row] = [:]
  /// By thread and key.
  public private(set) var keyRows: [KeyRowKey: kt_key_row] = [:]
  private var numbers: [UInt32: Int] = [:]
  private let features: UInt8

  /// The key of a row in feed.bpf.c.
  public struct RowKey: Hashable, BitwiseCopyable {
    var slot: UInt32
    /// kvm_exit's reason.
    public var reason: UInt32
    /// kvm_exit's isa.
    public var isa: UInt32
  }

  /// The key of a key row in feed.bpf.c: the slot and the three words of `kt_key`.
  public struct KeyRowKey: Hashable, BitwiseCopyable {
    var first: UInt64
    var second: UInt64
    var third: UInt64
    var slot: UInt64

    init(slot: Int, _ key: kt_key) {
      (first, second, third) = withUnsafeBytes(of: key) {
        (
          $0.load(as: UInt64.self), $0.load(fromByteOffset: 8, as: UInt64.self),
          $0.load(fromByteOffset: 16, as: UInt64.self)
        )
      }
      self.slot = UInt64(slot)
    }
  }

  /// Without threads, for a stream of these features.
  public init(features: UInt8) {
    self.features = features
    slots = .allocate(capacity: ReferenceMachine.capacity)
    slots.initialize(repeating: kt_slot(), count: ReferenceMachine.capacity)
  }

  deinit { slots.deallocate() }

  /// Takes the next event.
  public mutating func step(_ event: kt_event) {
    guard let number = slotNumber(of: event) else { return }
    var (event, isa, reason) = (event, UInt8(0), UInt32(0))
    guard event.kind != UInt8(KT_WAKING.rawValue) else {
      slots[number].wake_ns = event.time_ns
      return
    }
    let isTaken = kt_begin(slots + number) == 1
    precondition(isTaken, "a slot that nobody holds is busy")
    switch kt_step(slots + number, &event, &isa, &reason) {
    case 1:
      withRow(number, slots[number].isa, slots[number].reason) { kt_account(&$0, $1) }
      let key = KeyRowKey(slot: number, slots[number].key)
      var row = keyRows[key] ?? kt_key_row()
      (row.key, row.thread, row.slot) = (slots[number].key, slots[number].thread, UInt32(number))
      kt_account_key(&row, slots + number)
      keyRows[key] = row
      kt_clear_exit(slots + number)
    case 2: withRow(number, isa, reason) { row, _ in row.unpaired += 1 }
    default: break
    }
    kt_finish(slots + number)
  }

  private mutating func withRow(
    _ number: Int, _ isa: UInt8, _ reason: UInt32, _ body: (inout kt_row, UnsafePointer<kt_slot>) -> Void
  ) {
    let key = RowKey(slot: UInt32(number), reason: reason, isa: UInt32(isa))
    var row = rows[key] ?? kt_row()
    (row.thread, row.slot, row.reason, row.isa) = (slots[number].thread, key.slot, reason, key.isa)
    body(&row, slots + number)
    rows[key] = row
  }

  private mutating func slotNumber(of event: kt_event) -> Int? {
    if let number = numbers[event.tid] {
      let known = slots[number].tgid
      if slots[number].ended == 0, known == event.tgid || known == 0 || event.tgid == 0 { return number }
    }
    guard event.kind == UInt8(KT_EXIT.rawValue) || event.kind == UInt8(KT_ENTRY.rawValue) else { return nil }
    precondition(slotCount < ReferenceMachine.capacity, "more threads than feed.bpf.c has slots")
    slotCount += 1
    slots[slotCount - 1].thread = UInt32(slotCount)
    kt_start(slots + slotCount - 1, event.time_ns, event.tid, event.tgid, features)
    numbers[event.tid] = slotCount - 1
    return slotCount - 1
  }
}

extension Oracle {
  /// Expects what the machine has: each thread's states and counters, the open exit, the accounts and the keys.
  public func expectSame(_ machine: borrowing ReferenceMachine, _ comment: Comment? = nil) throws {
    try #require(machine.slotCount == threads.count, comment)
    var accountCount = 0
    var keyCount = 0
    for (number, thread) in threads.enumerated() {
      expectSame(thread, machine.slots[number], "thread \(number + 1), features \(thread.features)")
      for (reason, account) in thread.accounts {
        let key = ReferenceMachine.RowKey(slot: UInt32(number), reason: reason.reason, isa: UInt32(reason.isa))
        var row = machine.rows[key] ?? kt_row()
        let isSame = ExitAccount(&row) == account
        #expect(isSame, "thread \(number + 1), \(reason)")
      }
      for (key, account) in thread.keys {
        let row = machine.keyRows[ReferenceMachine.KeyRowKey(slot: number, key.raw)] ?? kt_key_row()
        let isSame = OracleKeyAccount(row) == account
        #expect(isSame, "thread \(number + 1), \(key): \(OracleKeyAccount(row)), not \(account)")
      }
      accountCount += thread.accounts.count
      keyCount += thread.keys.count
    }
    #expect(machine.rows.count == accountCount && machine.keyRows.count == keyCount, comment)
  }

  private func expectSame(_ thread: OracleThread, _ slot: kt_slot, _ comment: Comment) {
    var slot = slot
    let states = StateTimes(copying: kt_slot_state_ns(&slot))
    #expect(states == thread.statesSoFar, comment)
    #expect(states.total == slot.since_ns - slot.first_ns, comment)
    #expect(OracleThread.Counts(slot) == thread.counts, comment)
    #expect(slot.since_ns == thread.lastTime && slot.first_ns == thread.firstTime, comment)
    #expect((slot.in_exit != 0) == (thread.exit != nil), comment)
    #expect((slot.pending != 0) == (thread.exit != nil && thread.exit?.event == nil), comment)
    if let exit = thread.exit {
      #expect(slot.exit_ns == exit.start, comment)
      let open = withUnsafeBytes(of: slot.exit_state_ns) { $0.bindMemory(to: UInt64.self).reduce(0, &+) }
      #expect(open == slot.since_ns - slot.exit_ns, comment)
    }
  }
}

extension OracleThread.Counts {
  init(_ slot: kt_slot) {
    steps = slot.steps
    exits = slot.exits
    entries = slot.entries
    finished = slot.finished
    unpairedExits = slot.unpaired_exits
    unpairedEntries = slot.unpaired_entries
    userspaceExits = slot.userspace_exits
    wakeups = slot.wakeups
    halts = slot.halts
    interrupts = slot.interrupts
    windows = slot.windows
    ports = slot.ports
    switches = slot.switches
    missedSwitches = slot.missed_switches
    missedWakings = slot.missed_wakings
    backwards = slot.backwards
    firstRunDelay = slot.first_run_delay_ns
    runDelay = slot.run_delay_ns
  }
}

extension OracleKeyAccount {
  init(_ row: kt_key_row) {
    self.init(finished: row.finished, total: row.total_ns, longest: row.max_ns, states: StateTimes())
    withUnsafeBytes(of: row.state_ns) { states = StateTimes(copying: $0.bindMemory(to: UInt64.self).baseAddress!) }
  }
}

extension OracleKey {
  /// The same as the machine keeps it.
  var raw: kt_key {
    kt_key(
      subject: subject, reason: reason, traits: traits, isa: isa, kind: UInt8(kind), size: size, userspace: userspace,
      reserved: 0)
  }
}
