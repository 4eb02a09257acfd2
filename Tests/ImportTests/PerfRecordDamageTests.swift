import Attribution
import Foundation
import Testing

/// perf.data has no marks to find the next record by: a record whose size is wrong ends what is readable, and
/// everything before it counts.
@Suite struct PerfRecordDamageTests {
  private struct Sample {
    var offset: Int
    var isExit: Bool
  }

  /// The file's samples, found by their sizes; kvm_exit's by the number in the tracepoint's own record.
  private func samples(_ bytes: [UInt8]) throws -> [Sample] {
    try bytes.withUnsafeBytes { raw in
      let start = Int(raw.loadUnaligned(fromByteOffset: 40, as: UInt64.self))
      let size = Int(raw.loadUnaligned(fromByteOffset: 48, as: UInt64.self))
      let formats = String(decoding: raw[(start + size)...], as: UTF8.self)
      let name = try #require(formats.firstRange(of: "name: kvm_exit\nID: "))
      let id = try #require(UInt16(formats[name.upperBound...].prefix { $0.isNumber }))
      var samples: [Sample] = []
      var place = start
      while place + 8 <= start + size {
        let length = Int(raw.loadUnaligned(fromByteOffset: place + 6, as: UInt16.self))
        if raw.loadUnaligned(fromByteOffset: place, as: UInt32.self) == 9 {
          // IP, TID, TIME, ID, CPU, PERIOD, then the raw record behind its size
          let type = raw.loadUnaligned(fromByteOffset: place + 8 + 6 * 8 + 4, as: UInt16.self)
          samples.append(Sample(offset: place, isExit: type == id))
        }
        place += length
      }
      return samples
    }
  }

  @Test(arguments: Samples.names(".perf.data")) func whatComesBeforeADamagedRecordCounts(name: String) throws {
    var bytes = Array(try Data(contentsOf: URL(filePath: Samples.path(name))))
    let samples = try samples(bytes)
    let all = try #require(try imported(bytes)).ledger.vcpus.reduce(0) { $0 + $1.exits }
    #expect(all == samples.count { $0.isExit })
    var random = SeededGenerator(state: 5)
    for _ in 0..<30 {
      let index = Int.random(in: 1000..<samples.count, using: &random)
      let place = samples[index].offset
      // a size of 3: no record is that short
      let old = bytes[(place + 6)..<(place + 8)]
      bytes.replaceSubrange((place + 6)..<(place + 8), with: [3, 0])
      let evidence = try #require(try imported(bytes))
      bytes.replaceSubrange((place + 6)..<(place + 8), with: old)
      #expect(evidence.ledger.vcpus.reduce(0) { $0 + $1.exits } == samples[..<index].count { $0.isExit })
      #expect(evidence.trust.damage.map(\.offset) == [UInt64(place)])
      #expect(!evidence.trust.isComplete)
    }
  }

  @Test(arguments: Samples.names(".perf.data")) func aSampleWithoutItsFieldsCostsItselfAlone(name: String) throws {
    var bytes = Array(try Data(contentsOf: URL(filePath: Samples.path(name))))
    let samples = try samples(bytes)
    let exits = UInt64(samples.count { $0.isExit })
    var random = SeededGenerator(state: 6)
    for _ in 0..<30 {
      let sample = try #require(samples.filter(\.isExit).randomElement(using: &random))
      let place = sample.offset + 8 + 6 * 8
      let old = bytes[place..<(place + 4)]
      bytes.replaceSubrange(place..<(place + 4), with: little(UInt32(0xffff_fff0)))
      let evidence = try #require(try imported(bytes))
      bytes.replaceSubrange(place..<(place + 4), with: old)
      #expect(evidence.ledger.vcpus.reduce(0) { $0 + $1.exits } == exits - 1)
      #expect(evidence.trust.damage.map(\.offset) == [UInt64(sample.offset)])
    }
  }
}
