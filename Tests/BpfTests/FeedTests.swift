import Bpf
import CKvmtax
import Glibc
import TestSupport
import Testing

/// One stream through the machine three times: as bytecode in the kernel, in Swift, and through the oracle.
@Suite(.needsBpf, .needsKernel(5, 14)) struct FeedTests {
  static let eventCount = 16_384

  @Test(arguments: UInt64(101)...124) func bytecodeSwiftAndOracleAgree(seed: UInt64) throws {
    let features = FeatureSets.of(seed)
    var random = RandomEvents(seed: seed, features: features)
    var plausible = PlausibleEvents(seed: seed, features: features)
    let events = random.next(FeedTests.eventCount / 2) + plausible.next(FeedTests.eventCount / 2)
    let inKernel = try KernelMachine(features: features)
    try inKernel.feed(events)
    var reference = ReferenceMachine(features: features)
    for event in events { reference.step(event) }
    try inKernel.expectSame(reference)
    try Oracle(events, features: features).expectSame(reference)
  }
}

extension MappedArray {
  /// An element that must be there; `#require` cannot ask a value that is not copyable.
  func place(_ index: Int) throws -> UnsafeMutablePointer<Element> {
    let pointer = pointer(at: index)
    return try #require(pointer, "element \(index)")
  }
}

/// The bytecode, fed in batches, and the memory that it leaves.
struct KernelMachine: ~Copyable {
  private let object: BpfObject
  private let slots: MappedArray<kt_slot>
  private let input: MappedArray<kt_event>

  init(features: UInt8) throws {
    let object = try BpfObject(base64: feedObject, name: "feed")
    try object.setConstant("features", features)
    try object.load()
    // a value that is not copyable is initialised in one go, after everything that can fail
    let input = try MappedArray<kt_event>(try object.map("events"))
    slots = try MappedArray<kt_slot>(try object.map("slots"))
    self.input = input
    self.object = object
  }

  func feed(_ events: [kt_event]) throws {
    let globals = try object.globals()
    for start in stride(from: 0, to: events.count, by: FeedTests.eventCount) {
      let batch = events[start..<min(start + FeedTests.eventCount, events.count)]
      let first = try input.place(0)
      for (index, event) in batch.enumerated() { first[index] = event }
      try globals.set("steps", UInt32(batch.count))
      _ = try object.run("feed")
      #expect(try globals.value("failures", like: UInt32(0)) == 0)
    }
  }

  /// Every byte of the slots, of the rows and of the key rows.
  func expectSame(_ reference: borrowing ReferenceMachine) throws {
    try #require(try object.globals().value("slot_count", like: UInt32(0)) == UInt32(reference.slotCount))
    for number in 0..<reference.slotCount {
      let slot = try slots.place(number)
      #expect(memcmp(slot, reference.slots + number, MemoryLayout<kt_slot>.size) == 0, "slot \(number)")
    }
    let rows = try object.map("rows")
    for (key, row) in reference.rows {
      let found = try #require(try rows.lookup(key, like: kt_row()), "row \(key)")
      #expect(isSame(found, row), "row \(key)")
    }
    let keyRows = try object.map("key_rows")
    for (key, row) in reference.keyRows {
      let found = try #require(try keyRows.lookup(key, like: kt_key_row()), "key row \(key)")
      #expect(isSame(found, row), "key row \(key)")
    }
  }

  private func isSame<Value: BitwiseCopyable>(_ one: Value, _ other: Value) -> Bool {
    withUnsafeBytes(of: one) { left in withUnsafeBytes(of: other) { left.elementsEqual($0) } }
  }
}
