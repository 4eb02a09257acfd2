import Attribution
import Foundation
import Testing

/// A trace.dat of version 7 names the places of its data behind the data; a copy that was cut short has lost them.
@Suite struct CutTraceDatTests {
  /// Where the data of the file's one CPU begins: behind the first options, at a page's boundary.
  private func dataOffset(_ bytes: [UInt8]) -> Int {
    bytes.withUnsafeBytes { raw in
      let options = Int(raw.loadUnaligned(fromByteOffset: 29, as: UInt64.self))
      let end = options + 16 + Int(raw.loadUnaligned(fromByteOffset: options + 8, as: UInt64.self))
      return (end + 16 + 4095) / 4096 * 4096
    }
  }

  private func word(_ bytes: [UInt8], _ place: Int) -> Int {
    Int(bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: place, as: UInt32.self) })
  }

  private func total(_ evidence: Evidence) -> [UInt64] {
    evidence.ledger.vcpus.reduce(into: [0, 0]) { sum, vcpu in
      sum[0] += vcpu.exits
      sum[1] += vcpu.accounts.reduce(0) { $0 + $1.finished }
    }
  }

  @Test(arguments: ["svm-tiny.dat", "vmx-tiny.dat", "vmx-qemu-guest.dat"])
  func everyWholeChunkBeforeTheCutCounts(name: String) throws {
    let bytes = Array(try Data(contentsOf: URL(filePath: Samples.path(name))))
    let start = dataOffset(bytes)
    var place = start + 4
    let chunks = word(bytes, start)
    for chunk in 0..<min(chunks, 12) {
      let size = 8 + word(bytes, place)
      // the same file, complete, with a count that leaves out this chunk and all after it
      var fewer = bytes
      fewer.replaceSubrange(start..<(start + 4), with: little(UInt32(chunk)))
      let expected = try imported(fewer).map(total) ?? [0, 0]
      let cut = try imported(Array(bytes[..<(place + size / 2)]))
      #expect(cut.map(total) ?? [0, 0] == expected, "chunk \(chunk)")
      if let cut {
        #expect(!cut.trust.isComplete && !cut.trust.damage.isEmpty)
        #expect(cut.trust.damage.contains { $0.offset == UInt64(place) })
      }
      place += size
    }
    #expect(chunks > 0)
  }

  @Test func aDamagedTableOfCpusLosesNothing() throws {
    let bytes = Array(try Data(contentsOf: URL(filePath: Samples.path("svm-qemu-guest.dat"))))
    let whole = try #require(try imported(bytes))
    // the second options section, which holds the table, lies at the end
    var damaged = bytes
    let table = try #require(bytes.suffix(400).firstRange(of: Array("local\0".utf8)))
    damaged.replaceSubrange(
      (table.lowerBound - 31)..<(table.lowerBound - 20), with: [UInt8](repeating: 0xff, count: 11))
    let evidence = try #require(try imported(damaged))
    #expect(evidence.ledger == whole.ledger)
    #expect(!evidence.trust.isComplete)
  }
}
