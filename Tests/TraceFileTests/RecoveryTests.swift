import Attribution
import Testing

@testable import TraceFile

/// Damage anywhere: exactly the intact blocks are reported, and the place that is named lies in the damaged one.
@Suite struct RecoveryTests {
  static let trace = Result { try WrittenTrace() }

  @Test func theWholeFileReadsAsWritten() throws {
    let trace = try RecoveryTests.trace.get()
    #expect(trace.blocks.count > 40)
    for rung in [TraceRung.accounts, .exits] {
      let contents = try trace.bytes.trace(rung)
      #expect(Expected(trace) { _ in true }.difference(from: contents, rung) == nil)
      #expect(contents.evidence.trust.damage.isEmpty)
      #expect(contents.blockCount == trace.blocks.count)
    }
  }

  @Test func aThousandCutsKeepEveryWholeBlock() throws {
    let trace = try RecoveryTests.trace.get()
    var random = Random(state: 3)
    // all block borders and their neighbours, the rest at random
    var cuts = Set(trace.blocks.flatMap { [$0.start, $0.start + 1, $0.start + 39, $0.end - 1, $0.end, $0.end + 1] })
    cuts.insert(TraceFormat.headerLength)
    while cuts.count < 1000 { cuts.insert(Int.random(in: 64..<trace.bytes.count, using: &random)) }
    for cut in cuts.sorted() where cut <= trace.bytes.count {
      let rung: TraceRung = cut % 2 == 0 ? .accounts : .exits
      let contents = try Array(trace.bytes[..<cut]).trace(rung)
      let intact = trace.blocks.filter { $0.end <= cut }
      let difference = Expected(trace) { $0.end <= cut }.difference(from: contents, rung)
      #expect(difference == nil, "cut at \(cut)")
      #expect(contents.blockCount == intact.count, "cut at \(cut)")
      let damage = contents.evidence.trust.damage
      if let broken = trace.blocks.first(where: { $0.start < cut && cut < $0.end }) {
        #expect(damage.map { Int($0.offset) } == [broken.start], "cut at \(cut)")
        #expect(damage.allSatisfy { Int($0.offset + $0.length) == cut }, "cut at \(cut)")
      } else {
        #expect(damage.isEmpty, "cut at \(cut)")
      }
    }
  }

  @Test func aThousandBitFlipsCostOneBlockEach() throws {
    let trace = try RecoveryTests.trace.get()
    var random = Random(state: 4)
    // each bit of the file header's and of one block header's fields, the rest at random
    var bits = Set(0..<16 * 8).union(60 * 8..<64 * 8)
    bits.formUnion(trace.blocks[20].start * 8..<(trace.blocks[20].start + 40) * 8)
    while bits.count < 1000 { bits.insert(Int.random(in: 0..<trace.bytes.count * 8, using: &random)) }
    for bit in bits.sorted() {
      var bytes = trace.bytes
      bytes[bit / 8] ^= 1 << UInt8(bit % 8)
      let rung: TraceRung = bit % 2 == 0 ? .accounts : .exits
      let contents = try bytes.trace(rung)
      let broken = trace.blocks.first { $0.start <= bit / 8 && bit / 8 < $0.end }
      let difference = Expected(trace) { $0.start != broken?.start }.difference(from: contents, rung)
      #expect(difference == nil, "bit \(bit)")
      let damage = contents.evidence.trust.damage
      if let broken {
        #expect(damage.count == 1, "bit \(bit)")
        #expect(damage.allSatisfy { broken.start <= $0.offset && $0.offset < broken.end }, "bit \(bit)")
        #expect(contents.blockCount == trace.blocks.count - 1, "bit \(bit)")
      } else if bit < TraceFormat.headerLength * 8 {
        #expect(damage.map(\.offset) == [0], "bit \(bit)")
        #expect(contents.start == nil)
      } else {
        #expect(damage.isEmpty, "bit \(bit) is padding")
      }
    }
  }

  @Test func damageInSeveralPlacesAndACutCostTheirBlocksOnly() throws {
    let trace = try RecoveryTests.trace.get()
    var random = Random(state: 5)
    for round in 0..<600 {
      let cut = Int.random(in: trace.bytes.count / 4...trace.bytes.count, using: &random)
      var bytes = Array(trace.bytes[..<cut])
      var flips: [Int] = []
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        flips.append(Int.random(in: 64..<cut, using: &random))
        bytes[flips[flips.count - 1]] ^= 1 << UInt8.random(in: 0..<8, using: &random)
      }
      func isIntact(_ block: WrittenTrace.Block) -> Bool {
        block.end <= cut
          && !flips.contains { flip in
            flips.count { $0 == flip } == 1 && block.start <= flip && flip < block.end
          }
      }
      // two flips of one byte may cancel each other out
      guard Set(flips).count == flips.count else { continue }
      let rung: TraceRung = round % 2 == 0 ? .accounts : .exits
      let contents = try bytes.trace(rung)
      let difference = Expected(trace, isIntact: isIntact).difference(from: contents, rung)
      #expect(difference == nil, "round \(round): cut at \(cut), flips at \(flips)")
      let broken = trace.blocks.filter { $0.start < cut && !isIntact($0) }
      for place in contents.evidence.trust.damage {
        let isInBroken = broken.contains { $0.start <= place.offset && place.offset < $0.end }
        #expect(isInBroken, "round \(round): \(place)")
      }
      for block in broken {
        let isNamed = contents.evidence.trust.damage.contains {
          $0.offset <= block.start && block.start < $0.offset + $0.length
        }
        #expect(isNamed, "round \(round): block at \(block.start)")
      }
    }
  }

  @Test func bytesRemovedOrInsertedCostTheBlocksTheyAreIn() throws {
    let trace = try RecoveryTests.trace.get()
    var random = Random(state: 6)
    for round in 0..<200 {
      let index = Int.random(in: 0..<trace.blocks.count - 1, using: &random)
      let block = trace.blocks[index]
      let place = Int.random(in: block.start..<block.end, using: &random)
      var bytes = trace.bytes
      if round % 2 == 0 {
        bytes.removeSubrange(place..<min(block.end, place + Int.random(in: 1...9, using: &random)))
      } else {
        let extra = (0..<Int.random(in: 1...9, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }
        // at its very start they stand in front of the block, which stays whole
        bytes.insert(contentsOf: extra, at: max(place, block.start + 1))
      }
      let contents = try bytes.trace(.exits)
      let difference = Expected(trace) { $0.start != block.start }.difference(from: contents, .exits)
      #expect(difference == nil, "round \(round): block \(index) at \(block.start), changed at \(place)")
      #expect(contents.blockCount == trace.blocks.count - 1)
      #expect(!contents.evidence.trust.damage.isEmpty)
    }
  }

  @Test func aMissingBlockIsNoticedByItsNumber() throws {
    let trace = try RecoveryTests.trace.get()
    for index in [0, 7, 20] {
      let (block, next) = (trace.blocks[index], trace.blocks[index + 1])
      var bytes = trace.bytes
      bytes.removeSubrange(block.start..<next.start)
      let contents = try bytes.trace(.accounts)
      #expect(contents.evidence.trust.damage.map(\.offset) == [UInt64(block.start)])
      #expect(contents.evidence.trust.damage.allSatisfy { $0.found == "a block is missing before this one" })
      #expect(Expected(trace) { $0.start != block.start }.difference(from: contents, .accounts) == nil)
    }
  }
}
