import CKvmtax
import Testing

@testable import Tracer

@Suite struct TallyTests {
  @Test func `Processes that come and go for days take bounded memory, and no exit is forgotten`() {
    var tally = Tally()
    var slot = kt_slot()
    let count = Tally.mostParts * 5
    for pid in 1...count {
      slot.tgid = UInt32(pid)
      slot.exits = pid == 7 ? 1_000_000 : 3
      tally.retire(&slot)
    }
    let slots = UnsafeMutablePointer<kt_slot>.allocate(capacity: 1)
    let rows = UnsafeMutablePointer<kt_row>.allocate(capacity: 1)
    let numbers = UnsafeMutablePointer<UInt32>.allocate(capacity: 256)
    let keys = UnsafeMutablePointer<kt_key_row>.allocate(capacity: 1)
    let looks = UnsafeMutablePointer<kt_looks>.allocate(capacity: 1)
    defer {
      slots.deallocate()
      rows.deallocate()
      numbers.deallocate()
      keys.deallocate()
      looks.deallocate()
    }
    let table = SlotTable(
      slots: slots, slotCount: 0, rows: rows, rowCount: 0, rowOfReason: numbers, keys: keys, keyCount: 0,
      rowOfKey: nil, looks: looks)
    let parts = tally.parts(table)
    #expect(parts.count <= Tally.mostParts)
    #expect(parts.count + tally.forgottenProcesses == count)
    #expect(parts[7]?.exits == 1_000_000)
    #expect(tally.totals(table).exits == 1_000_000 + 3 * UInt64(count - 1))
  }
}
