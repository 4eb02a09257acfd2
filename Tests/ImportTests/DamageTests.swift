import Attribution
import Files
import Foundation
import Import
import TestSupport
import Testing

/// A file of the test's own that goes away with it.
final class TemporaryFile {
  let path = NSTemporaryDirectory() + "kvmtax-import-\(UUID().uuidString)"

  init(_ bytes: some Sequence<UInt8>) throws { try Data(bytes).write(to: URL(filePath: path)) }

  deinit { unlink(path) }
}

/// Imports bytes; nil stands for an InputError, which must say something.
func imported(_ bytes: [UInt8]) throws -> Evidence? {
  let file = try TemporaryFile(bytes)
  do throws(InputError) {
    return try importTrace(try MappedFile(path: file.path))
  } catch {
    #expect(error.file == file.path && !error.found.isEmpty)
    return nil
  }
}

@Suite struct DamageTests {
  static let samples = Samples.names(".dat").filter { $0.contains("tiny") } + Samples.names(".perf.data")

  @Test(arguments: samples) func everyCutIsReadOrRefused(name: String) throws {
    let bytes = Array(try Data(contentsOf: URL(filePath: Samples.path(name))))
    let whole = try #require(try imported(bytes))
    var random = SeededGenerator(state: UInt64(bytes.count))
    for _ in 0..<100 {
      let cut = Int.random(in: 0..<bytes.count, using: &random)
      guard cut > 0 else { continue }
      guard let evidence = try imported(Array(bytes[..<cut])) else { continue }
      #expect(evidence.ledger.vcpus.reduce(0) { $0 + $1.exits } <= whole.ledger.vcpus.reduce(0) { $0 + $1.exits })
      #expect(!evidence.trust.isComplete || !evidence.trust.damage.isEmpty, "cut at \(cut)")
    }
  }

  @Test(arguments: samples) func everyFlippedBitIsReadOrRefused(name: String) throws {
    var bytes = Array(try Data(contentsOf: URL(filePath: Samples.path(name))))
    var random = SeededGenerator(state: UInt64(bytes.count) + 1)
    for _ in 0..<100 {
      let place = Int.random(in: 0..<bytes.count, using: &random)
      let bit = UInt8(1) << UInt8.random(in: 0..<8, using: &random)
      bytes[place] ^= bit
      if let evidence = try imported(bytes) {
        for vcpu in evidence.ledger.vcpus { #expect(vcpu.states.total == vcpu.wallNanoseconds) }
      }
      bytes[place] ^= bit
    }
  }
}
