import Attribution
import Testing

@testable import Import

@Suite struct RingBufferTests {
  private func read(_ builder: TraceDatBuilder) throws -> Evidence { try #require(try imported(builder.file.bytes)) }

  private func account(_ evidence: Evidence, _ reason: UInt32) -> ExitAccount? {
    evidence.ledger.vcpus.flatMap(\.accounts).first { $0.reason == reason }
  }

  @Test func timesAreSumsOfDifferencesExtensionsAndAbsoluteTimes() throws {
    var page = RingBufferPage(time: 1_000_000)
    page.exit(0, tid: 7, reason: 10)
    page.entry(500, tid: 7)
    page.exit(1000, tid: 7, reason: 11)
    page.word(30, 3)  // 5 × 2^27 + 3
    page.data(word: 5)
    page.entry(7, tid: 7)
    page.exit(100, tid: 7, reason: 12, isLong: true)
    page.word(29, 9)  // discarded: its time counts
    page.data(word: 8)
    page.data(word: 0)
    page.entry(1, tid: 7)
    page.exit(100, tid: 7, reason: 13)
    let absolute: UInt64 = 6 << 27 + 77
    page.word(31, 77)
    page.data(word: 6)
    page.entry(0, tid: 7)
    let evidence = try read(TraceDatBuilder([[page]]))
    #expect(evidence.trust.damage == [])
    #expect(account(evidence, 10)?.totalNanoseconds == 500)
    #expect(account(evidence, 11)?.totalNanoseconds == 5 << 27 + 3 + 7)
    #expect(account(evidence, 12)?.totalNanoseconds == 10)
    let start = 1_000_000 + 500 + 1000 + (5 << 27 + 3 + 7) + 100 + 10 + 100 as UInt64
    #expect(account(evidence, 13)?.totalNanoseconds == absolute - start)
    #expect(evidence.ledger.vcpus.first?.name == "CPU 0/KVM")
  }

  @Test func cpusAreMergedByTime() throws {
    // exits of one thread that changes its CPU each time
    var pages = [RingBufferPage(time: 1000), RingBufferPage(time: 1000)]
    for step in 0..<50 {
      pages[step % 2].exit(step < 2 ? UInt32(step) * 10 : 20, tid: 7, reason: UInt32(step))
    }
    let exits = try read(TraceDatBuilder([[pages[0]], [pages[1]]]))
    let order = exits.ledger.vcpus.first?.accounts.map(\.reason)
    #expect(order?.sorted() == Array(0..<50))
    // each was superseded by the next one in time, so that only the last is open
    #expect(account(exits, 49)?.open == 1)
    #expect(exits.ledger.vcpus.first?.backwards == 0)
  }

  @Test func lostEventsAreCountedAndCutTheOpenExitOfTheirCpu() throws {
    var first = RingBufferPage(time: 1000)
    first.exit(0, tid: 7, reason: 10)
    var second = RingBufferPage(time: 9000)
    second.flags = 3 << 30
    second.lost = 41
    second.entry(0, tid: 7)
    second.exit(100, tid: 7, reason: 11)
    second.entry(50, tid: 7)
    var elsewhere = RingBufferPage(time: 2000)
    elsewhere.exit(0, tid: 8, reason: 12)
    elsewhere.entry(8000, tid: 8)
    let evidence = try read(TraceDatBuilder([[first, second], [elsewhere]]))
    #expect(evidence.trust.lostEvents == 41)
    #expect(account(evidence, 10)?.finished == 0 && account(evidence, 10)?.unpaired == 1)
    #expect(account(evidence, 11)?.totalNanoseconds == 50)
    #expect(account(evidence, 12)?.totalNanoseconds == 8000)
    #expect(evidence.ledger.vcpus.first { $0.tid == 7 }?.states[.unknown] == 8000)
  }

  @Test func lossesOfUnknownSizeAreSaid() throws {
    var first = RingBufferPage(time: 1000)
    first.exit(0, tid: 7, reason: 10)
    var second = RingBufferPage(time: 9000)
    second.flags = 1 << 31
    second.entry(0, tid: 7)
    let evidence = try read(TraceDatBuilder([[first, second]]))
    #expect(evidence.trust.notes.contains { $0.contains("lost events 1 times") })
  }

  @Test func statisticsOfTheRecorderCountLossesToo() throws {
    var page = RingBufferPage(time: 1000)
    page.exit(0, tid: 7, reason: 10)
    var builder = TraceDatBuilder([[page]])
    builder.options = [(2, Array("CPU: 0\nentries: 5\noverrun: 30\ncommit overrun: 2\ndropped events: 1\n".utf8))]
    #expect(try read(builder).trust.lostEvents == 33)
  }

  @Test(arguments: ["[x86-tsc]", "local [uptime]", "[counter] local"]) func onlyClocksInNanosecondsAreTaken(
    clock: String
  ) throws {
    var page = RingBufferPage(time: 1000)
    page.exit(0, tid: 7, reason: 10)
    var builder = TraceDatBuilder([[page]])
    builder.options = [(4, Array(clock.utf8))]
    #expect(try imported(builder.file.bytes) == nil)
  }

  @Test func tscTicksAreConvertedAsTheFileSays() throws {
    var page = RingBufferPage(time: 1 << 40)
    page.exit(0, tid: 7, reason: 10)
    page.entry(3000, tid: 7)
    var builder = TraceDatBuilder([[page]])
    builder.options = [
      (4, Array("[x86-tsc]".utf8)), (14, little(UInt32(1 << 9)) + little(UInt32(10)) + little(UInt64(5))),
    ]
    #expect(account(try read(builder), 10)?.totalNanoseconds == 1500)
  }

  @Test func aPageOfAnImpossibleTimeIsLeftOut() throws {
    for bad in 0..<6 {
      var pages: [RingBufferPage] = []
      for number in 0..<6 {
        let time = UInt64(1000 + 1000 * number) + (number == bad ? 1 << 45 : 0)
        var page = RingBufferPage(time: time)
        page.exit(0, tid: 7, reason: UInt32(number))
        page.entry(500, tid: 7)
        pages.append(page)
      }
      let evidence = try read(TraceDatBuilder([pages]))
      // of the last two there is no telling which one is wrong
      guard bad < 4 else { continue }
      for number in 0..<6 where number != bad {
        #expect(account(evidence, UInt32(number))?.totalNanoseconds == 500, "page \(bad) damaged, page \(number)")
      }
      #expect(evidence.trust.damage.map(\.length) == [4096])
    }
  }
}

extension RingBufferPage {
  mutating func data(word: UInt32) { append(little(word)) }
}
