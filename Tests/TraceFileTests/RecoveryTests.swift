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
}
