import Bpf
import Glibc
import TestSupport
import Testing

@Suite(.needsBpf, .needsKernel(5, 14)) struct MapTests {
  struct Element: BitwiseCopyable, Equatable {
    var first: UInt64 = 0
    var second: UInt32 = 0
  }
  struct Odd: BitwiseCopyable, Equatable {
    var words: (UInt32, UInt32, UInt32) = (0, 0, 0)
    static func == (left: Odd, right: Odd) -> Bool { left.words == right.words }
  }

  func loaded() throws -> BpfObject {
    let object = try BpfObject.fixture(loading: "shovel")
    try object.load()
    return object
  }

  @Test func mappedArraysAreTheMapsMemory() throws {
    let object = try loaded()
    let map = try object.map("odds")
    // 12 bytes each, 16 apart
    let odds = try MappedArray<Odd>(map)
    #expect(odds.count == 5)
    for index in 0..<5 { try odds.place(index).pointee.words = (UInt32(index), 7, UInt32(index) * 9) }
    for index in UInt32(0)..<5 {
      #expect(try map.lookup(index, like: Odd()) == Odd(words: (index, 7, index * 9)))
    }
    try map.update(UInt32(2), Odd(words: (1, 2, 3)))
    #expect(odds.pointer(at: 2)?.pointee == Odd(words: (1, 2, 3)))
  }

  @Test(arguments: [-1, 3, 4, Int.max, Int.min]) func mappedArraysHaveBounds(index: Int) throws {
    let elements = try MappedArray<UInt128>(try loaded().map("elements"))
    #expect(elements.pointer(at: index) == nil)
  }

  @Test func mappedArraysOutliveTheirObject() throws {
    let elements = try MappedArray<Element>(try loaded().map("elements"))
    try elements.place(1).pointee.first = 5
    #expect(elements.pointer(at: 1)?.pointee.first == 5)
  }

  @Test func refusesToMapWhatHasAnotherShape() throws {
    let object = try loaded()
    #expect(throws: BpfError.self) { _ = try MappedArray<UInt32>(try object.map("elements")) }
    #expect(throws: BpfError.self) { _ = try MappedArray<UInt64>(try object.map("table")) }
    #expect(throws: BpfError.self) { _ = try object.globals().pointer(to: "matches", as: UInt32.self) }
    #expect(throws: BpfError.self) { _ = try object.globals().pointer(to: "absent", as: UInt64.self) }
  }

  @Test func sizesAreChosenBeforeLoad() throws {
    let object = try BpfObject.fixture(loading: "shovel")
    try object.setMaxEntries("elements", 1000)
    try object.load()
    let map = try object.map("elements")
    #expect(map.maxEntries == 1000 && map.valueSize == 16 && map.keySize == 4)
    #expect(try MappedArray<Element>(map).pointer(at: 999) != nil)
  }

  @Test func tablesTakeAndForget() throws {
    let table = try loaded().map("table")
    #expect(try table.lookup(UInt32(4), like: UInt64(0)) == nil)
    try table.update(UInt32(4), UInt64(44))
    #expect(try table.lookup(UInt32(4), like: UInt64(0)) == 44)
    #expect(try table.remove(UInt32(4)))
    #expect(try !table.remove(UInt32(4)))
    #expect(try table.lookup(UInt32(4), like: UInt64(0)) == nil)
  }

  @Test func refusesKeysAndValuesOfAnotherSize() throws {
    let table = try loaded().map("table")
    #expect(throws: BpfError.self) { try table.update(UInt64(4), UInt64(44)) }
    #expect(throws: BpfError.self) { try table.update(UInt32(4), UInt32(44)) }
    #expect(throws: BpfError.self) { _ = try table.lookup(UInt32(4), like: UInt8(0)) }
    #expect(throws: BpfError.self) { try table.push(UInt32(1)) }
  }

  @Test func tellsItsMemory() throws {
    let ring = try BpfMap.ring(name: "ring", byteCount: 1 << 20)
    #expect(ring.memoryBytes >= 1 << 20)
    #expect(ring.memoryBytes < 2 << 20)
    let object = try BpfObject.fixture(loading: "shovel")
    try object.setMaxEntries("elements", 1 << 16)
    try object.load()
    #expect(try object.map("elements").memoryBytes >= 16 << 16)
  }

  /// Numbers through a queue into rings of an array of maps, and out of all rings together.
  @Test func queuesAndRingsCarryRecords() throws {
    let object = try loaded()
    let outer = try object.map("rings")
    var found: [[UInt64]] = [[], [], []]
    let rings = RingBuffer { record, ring in found[ring].append(record.loadUnaligned(as: UInt64.self)) }
    #expect(try rings.consume() == 0 && rings.epollDescriptor == nil)
    for index in UInt32(0)..<3 {
      // three rings of the four that there may be
      let ring = try BpfMap.ring(name: "ring\(index)", byteCount: 8192)
      try outer.insert(ring, at: index)
      try rings.add(ring)
    }
    #expect(rings.ringCount == 3)
    let queue = try object.map("queue")
    for number in [4, 9, 5, 7] as [UInt32] { try queue.push(number) }
    #expect(throws: BpfError.self) { try queue.push(UInt32(1)) }  // four places
    #expect(try object.run("shovel") == 7)
    #expect(try rings.poll(milliseconds: 0) == 3)
    #expect(found == [[12], [27, 15], []])
    let globals = try object.globals()
    #expect(try globals.value("popped", like: UInt32(0)) == 4)
    #expect(try globals.value("lost", like: UInt64(0)) == 1)  // 7 % 4: no ring there
    let counters = try object.map("counters")
    #expect(try counters.perCpuSum(1) == 4)
    #expect(try counters.perCpuSum(0) == 0)
    #expect(try counters.perCpu(1).count >= sysconf(Int32(_SC_NPROCESSORS_ONLN)))
  }

  @Test func aFullRingLosesVisibly() throws {
    let object = try loaded()
    let ring = try BpfMap.ring(name: "small", byteCount: 4096)
    try object.map("rings").insert(ring, at: 0)
    let queue = try object.map("queue")
    var records = 0
    let rings = RingBuffer { _, _ in records += 1 }
    try rings.add(ring)
    // 16 bytes each with its header: 256 fill the page
    for _ in 0..<300 {
      try queue.push(UInt32(8))
      try object.run("shovel")
    }
    let lost = try object.globals().value("lost", like: UInt64(0))
    #expect(try rings.consume() == records)
    #expect(UInt64(records) + lost == 300)
    #expect(lost >= 300 - 256)
  }
}
