import Attribution
import Testing

/// The same numbers in every run: a failure can be repeated.
struct SeededGenerator: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var value = state
    value = (value ^ value >> 30) &* 0xbf58_476d_1ce4_e5b9
    value = (value ^ value >> 27) &* 0x94d0_49bb_1331_11eb
    return value ^ value >> 31
  }
}

/// What is intact around a damaged place is reported to the last event, computed from how the file was made.
@Suite struct PageDamageTests {
  private static let pageCount = 24
  private static let pairs = 30

  /// One bit does not make a reason of another page.
  private static func reason(_ page: Int) -> UInt32 { UInt32(page) << 4 | (page.nonzeroBitCount % 2 == 0 ? 0 : 8) }

  /// On two CPUs, pages that hold exits of one reason each.
  private static let file: (bytes: [UInt8], dataOffset: Int) = {
    let pages = (0..<pageCount).map { number in
      var page = RingBufferPage(time: UInt64(1_000_000 + number * 100_000))
      for pair in 0..<pairs {
        page.exit(pair == 0 ? 0 : 50, tid: 7, reason: reason(number))
        page.entry(100, tid: 7)
        page.other(3)
      }
      return page
    }
    return TraceDatBuilder([Array(pages[..<(pageCount / 2)]), Array(pages[(pageCount / 2)...])]).file
  }()

  private func exits(_ evidence: Evidence) -> [UInt32: UInt64] {
    Dictionary(evidence.ledger.vcpus.flatMap(\.accounts).map { ($0.reason, $0.exits) }, uniquingKeysWith: +)
  }

  @Test func theWholeFileIsAsItWasMade() throws {
    let evidence = try #require(try imported(PageDamageTests.file.bytes))
    let expected = (0..<PageDamageTests.pageCount).map { (PageDamageTests.reason($0), UInt64(PageDamageTests.pairs)) }
    #expect(exits(evidence) == Dictionary(uniqueKeysWithValues: expected))
    #expect(evidence.trust.isComplete && evidence.trust.damage.isEmpty && evidence.trust.lostEvents == 0)
  }

  @Test func ofACutFileAllWholePagesAreReported() throws {
    let (bytes, dataOffset) = PageDamageTests.file
    var random = SeededGenerator(state: 11)
    for _ in 0..<1000 {
      let cut = Int.random(in: dataOffset..<bytes.count, using: &random)
      guard let evidence = try imported(Array(bytes[..<cut])) else {
        #expect(cut < dataOffset + 4096)
        continue
      }
      let seen = exits(evidence)
      for page in 0..<PageDamageTests.pageCount {
        let count = seen[PageDamageTests.reason(page)] ?? 0
        let start = dataOffset + page * 4096
        if start + 4096 <= cut {
          #expect(count == PageDamageTests.pairs, "page \(page), cut at \(cut)")
        } else if start >= cut {
          #expect(count == 0, "page \(page), cut at \(cut)")
        }
      }
      #expect(!evidence.trust.isComplete)
      #expect(evidence.trust.damage.allSatisfy { $0.offset >= UInt64(cut) / 4096 * 4096 && $0.offset <= UInt64(cut) })
      #expect(!evidence.trust.damage.isEmpty)
    }
  }

  @Test func aFlippedBitCostsAtMostItsPage() throws {
    var (bytes, dataOffset) = PageDamageTests.file
    var random = SeededGenerator(state: 12)
    for _ in 0..<1000 {
      let place = Int.random(in: dataOffset..<bytes.count, using: &random)
      let bit = UInt8(1) << UInt8.random(in: 0..<8, using: &random)
      bytes[place] ^= bit
      let evidence = try #require(try imported(bytes), "byte \(place)")
      bytes[place] ^= bit
      let damaged = (place - dataOffset) / 4096
      let seen = exits(evidence)
      for page in 0..<PageDamageTests.pageCount where page != damaged {
        #expect(seen[PageDamageTests.reason(page)] == UInt64(PageDamageTests.pairs), "byte \(place), page \(page)")
      }
      let start = UInt64(dataOffset + damaged * 4096)
      // the last pages of a CPU have no successor to be judged by
      guard damaged % (PageDamageTests.pageCount / 2) < PageDamageTests.pageCount / 2 - 2 else { continue }
      #expect(evidence.trust.damage.allSatisfy { $0.offset == start }, "byte \(place)")
    }
  }
}
