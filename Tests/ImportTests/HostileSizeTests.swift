import CKvmtax
import Testing

@testable import Import

/// What a small file must not be able to ask for: memory or time out of proportion to its size.
@Suite struct HostileSizeTests {
  private func event(at nanoseconds: UInt64) -> kt_event {
    var event = kt_event()
    event.time_ns = nanoseconds
    return event
  }

  @Test func anEventWithoutATimeDoesNotWaitBehindEveryRound() {
    var order = PerfOrder()
    var batch: [kt_event] = []
    order.see(5)
    _ = order.add(event(at: 5))
    order.see(.max)
    _ = order.add(event(at: .max))
    order.finishRound(into: &batch)
    order.finishRound(into: &batch)
    #expect(batch.map(\.time_ns) == [5, 5])
  }

  @Test(arguments: [[1], [1, 9, 9, 9], [0, 1 << 40, 1 << 60, 1 << 62], [4, 3, 2, 1]])
  func givingOutEarlyGivesAtLeastHalf(times: [UInt64]) {
    var order = PerfOrder()
    var batch: [kt_event] = []
    for time in times { _ = order.add(event(at: time)) }
    order.giveHalf(into: &batch)
    #expect(batch.count * 2 >= times.count)
    order.giveRest(into: &batch)
    #expect(batch.map(\.time_ns) == times.sorted())
  }

  @Test func aSectionThatIsPointedAtWithoutEndIsReadSoManyTimes() throws {
    var bytes: [UInt8] = [0x17, 0x08, 0x44] + Array("tracing7\0".utf8) + [0, 8] + little(UInt32(4096))
    bytes += Array("none\0\0".utf8)
    let place = UInt64(bytes.count + 8)
    let names = little(UInt64(1 << 20)) + [UInt8](repeating: 10, count: 1 << 20)
    let section = little(UInt16(21)) + little(UInt16(0)) + little(UInt32(0)) + little(UInt64(names.count)) + names
    var options: [UInt8] = []
    for _ in 0..<200 { options += little(UInt16(21)) + little(UInt32(8)) + little(place) }
    bytes += little(place + UInt64(section.count)) + section
    bytes += little(UInt16(0)) + little(UInt16(0)) + little(UInt32(0)) + little(UInt64(options.count)) + options
    try bytes.withUnsafeBytes { raw in
      let header = try TraceDatHeader(raw, file: "many.dat")
      #expect(header.sectionBudget >= 0 && header.sectionBudget < names.count)
      #expect(header.damage.places.contains { $0.found == "the thread names are damaged" })
    }
  }
}
