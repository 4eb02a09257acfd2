import Attribution
import Bpf
import CKvmtax
import Glibc
import TestSupport
import Testing

/// One random stream through the machine three times: as bytecode in the kernel, in Swift, and through the oracle.
@Suite(.needsBpf, .needsKernel(5, 14)) struct FeedTests {
  static let eventCount = 2048

  @Test(arguments: UInt64(101)...124) func bytecodeSwiftAndOracleAgree(seed: UInt64) throws {
    var random = RandomEvents(seed: seed)
    let events = random.next(FeedTests.eventCount)
    let inKernel = try KernelMachine(feeding: events)

    var reference = ReferenceMachine()
    for event in events { reference.step(event) }
    try #require(inKernel.slotCount == reference.slotCount)
    for number in 0..<reference.slotCount {
      let slot = try inKernel.slots.place(number)
      #expect(memcmp(slot, reference.slots + number, MemoryLayout<kt_slot>.size) == 0, "slot \(number)")
    }
    for (key, row) in reference.rows {
      let found = try #require(try inKernel.rows.lookup(key, like: kt_row()), "row \(key)")
      let bytes = withUnsafeBytes(of: found) { Array($0) }
      #expect(bytes == withUnsafeBytes(of: row) { Array($0) }, "row \(key)")
    }

    var replay = Replay()
    replay.step(events.span)
    let ledger = try inKernel.ledger(keys: reference.rows.keys)
    try expectSame(ledger, replay.ledger().withSortedAccounts())
    try expectSame(ledger, Oracle(events).ledger())
  }
}

extension MappedArray {
  /// An element that must be there; `#require` cannot ask a value that is not copyable.
  func place(_ index: Int) throws -> UnsafeMutablePointer<Element> {
    let pointer = pointer(at: index)
    return try #require(pointer, "element \(index)")
  }
}

/// The key of a row in feed.bpf.c.
struct RowKey: Hashable {
  var slot: UInt32
  var reason: UInt32
  var isa: UInt32
}

/// A stream taken by the bytecode, and the memory that it left.
struct KernelMachine: ~Copyable {
  let slots: MappedArray<kt_slot>
  let rows: BpfMap
  let slotCount: Int

  init(feeding events: [kt_event]) throws {
    let object = try BpfObject(base64: feedObject, name: "feed")
    try object.load()
    let input = try MappedArray<kt_event>(try object.map("events"))
    for (index, event) in events.enumerated() { try input.place(index).pointee = event }
    let globals = try object.globals()
    try globals.set("steps", UInt32(events.count))
    try object.run("feed")
    #expect(try globals.value("failures", like: UInt32(0)) == 0)
    let count = try globals.value("slot_count", like: UInt32(0))
    // a value that is not copyable is initialised in one go, after everything that can fail
    let slots = try object.map("slots")
    let rows = try object.map("rows")
    self.slots = try MappedArray<kt_slot>(slots)
    self.rows = rows
    slotCount = Int(count)
  }

  func ledger(keys: some Sequence<RowKey>) throws -> Ledger {
    var ledger = Ledger()
    for number in 0..<slotCount {
      let slot = try slots.place(number)
      guard slot.pointee.exits > 0 || slot.pointee.entries > 0 else { continue }
      var vcpu = VCPU(slot, endNanoseconds: nil)
      for key in keys where key.slot == UInt32(number) {
        var row = try #require(try rows.lookup(key, like: kt_row()))
        vcpu.accounts.append(ExitAccount(&row))
      }
      if slot.pointee.in_exit != 0 {
        let (isa, reason) = (slot.pointee.isa, slot.pointee.reason)
        let known = vcpu.accounts.firstIndex { $0.isa == isa && $0.reason == reason }
        if known == nil { vcpu.accounts.append(ExitAccount(isa: isa, reason: reason)) }
        vcpu.accounts[known ?? vcpu.accounts.count - 1].open = 1
      }
      ledger.add(vcpu, pid: slot.pointee.tgid)
    }
    ledger.sort()
    return ledger.withSortedAccounts()
  }
}

/// The header's functions called straight from Swift, with slots and rows that the test can look at.
struct ReferenceMachine: ~Copyable {
  static let capacity = 64
  let slots: UnsafeMutablePointer<kt_slot>
  private(set) var slotCount = 0
  private(set) var rows: [RowKey: kt_row] = [:]
  private var numbers: [UInt32: Int] = [:]

  init() {
    slots = .allocate(capacity: ReferenceMachine.capacity)
    slots.initialize(repeating: kt_slot(), count: ReferenceMachine.capacity)
  }

  deinit { slots.deallocate() }

  mutating func step(_ event: kt_event) {
    let number = slotNumber(of: event)
    var (event, isa, reason) = (event, UInt8(0), UInt32(0))
    #expect(kt_begin(slots + number) == 1)
    let outcome = kt_step(slots + number, &event, &isa, &reason)
    if outcome == 1 {
      withRow(number, slots[number].isa, slots[number].reason) { kt_account(&$0, $1) }
      kt_clear_exit(slots + number)
    } else if outcome == 2 {
      withRow(number, isa, reason) { row, _ in row.unpaired += 1 }
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

  private mutating func slotNumber(of event: kt_event) -> Int {
    if let number = numbers[event.tid] {
      let known = slots[number].tgid
      if known == event.tgid || known == 0 || event.tgid == 0 { return number }
    }
    precondition(slotCount < ReferenceMachine.capacity, "more threads than feed.bpf.c has slots")
    slotCount += 1
    slots[slotCount - 1].thread = UInt32(slotCount)
    kt_start(slots + slotCount - 1, event.time_ns, event.tid, event.tgid, Replay.allFeatures)
    numbers[event.tid] = slotCount - 1
    return slotCount - 1
  }
}
