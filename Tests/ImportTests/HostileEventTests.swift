import Attribution
import CKvmtax
import Testing

/// Events that no kernel sends must not cost memory or time without end, and none may be lost uncounted.
@Suite struct HostileEventTests {
  @Test func reasonsWithoutEndAreCountedAsOverflow() throws {
    var pages: [RingBufferPage] = []
    var reason: UInt32 = 0
    for number in 0..<80 {
      var page = RingBufferPage(time: UInt64(1000 + number * 100_000))
      while page.room >= 36 {
        page.exit(10, tid: 7, reason: reason)
        page.entry(5, tid: 7)
        reason += 1
      }
      pages.append(page)
    }
    let evidence = try #require(try imported(TraceDatBuilder([pages]).file.bytes))
    let vcpu = try #require(evidence.ledger.vcpus.first)
    #expect(vcpu.exits == UInt64(reason) && vcpu.overflowExits > 0)
    #expect(vcpu.accounts.reduce(0) { $0 + $1.finished } + vcpu.overflowExits == vcpu.exits)
    #expect(vcpu.overflowNanoseconds == 5 * vcpu.overflowExits)
    #expect(vcpu.states.total == vcpu.wallNanoseconds)
  }

  @Test func anImpossibleThreadIsDamage() throws {
    var page = RingBufferPage(time: 1000)
    page.exit(0, tid: 7, reason: 1)
    page.exit(0, tid: 0x8000_0000, reason: 2)
    let evidence = try #require(try imported(TraceDatBuilder([[page]]).file.bytes))
    #expect(evidence.ledger.vcpus.map(\.tid) == [7])
    #expect(evidence.trust.damage.count == 1)
  }
}
