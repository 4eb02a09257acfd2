import Attribution
import Files
import Foundation
import Import
import Testing

@Suite struct BadInputTests {
  private func error(_ bytes: [UInt8]) throws -> InputError? {
    let file = try TemporaryFile(bytes)
    do throws(InputError) {
      _ = try importTrace(try MappedFile(path: file.path))
      return nil
    } catch { return error }
  }

  @Test func whatIsNoTraceIsNamed() throws {
    let cases: [([UInt8], String)] = [
      ([], "is empty"), ([UInt8](repeating: 0, count: 10), "is no trace"), (Array("0123456789".utf8), "is a text file"),
      (Array("hello\nworld\n".utf8), "is a text file"),
      (Array("  qemu-197 [000] 50.886174: kvm_exit: reason HLT rip 0x1000".utf8), "text of a report"),
      ([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0], "compressed with gzip"),
      ([0x28, 0xb5, 0x2f, 0xfd, 4], "compressed with zstd"),
      ([0xfd] + Array("7zXZ".utf8) + [0], "compressed with xz"), (Array("2ELIFREP".utf8) + [0, 0], "big-endian"),
      (Array("PERFFILE".utf8) + [0, 0], "version 1"), (Array("PERFILE2".utf8), "cut short"),
      ([0x17, 8, 0x44] + Array("tracing".utf8), "cut short"),
      ([0x17, 8, 0x44] + Array("tracing5\0".utf8), "version \"5\""),
      ([0x17, 8, 0x44] + Array("tracing6\0".utf8) + [1, 8, 0, 0, 16, 0], "big-endian"),
      ([0x17, 8, 0x44] + Array("tracing6\0".utf8) + [0, 8, 0, 0, 0, 0], "header damaged"),
      (
        [0x17, 8, 0x44] + Array("tracing7\0".utf8) + [0, 8, 0, 16, 0, 0] + Array("lzma\0".utf8) + [0]
          + little(UInt64(9)),
        "compressed with \"lzma\""
      ),
    ]
    for (bytes, found) in cases {
      let error = try #require(try error(bytes), "\(found)")
      #expect(error.found.contains(found), "\(error.found)")
      #expect(error.remedy != nil)
    }
  }

  @Test func aDirectoryIsNamed() {
    #expect { _ = try MappedFile(path: NSTemporaryDirectory()) } throws: {
      ($0 as? InputError)?.found == "is a directory"
    }
  }

  @Test func aTruncatedPerfDataTellsWhatIsLost() throws {
    let bytes = Array(try Data(contentsOf: URL(filePath: Samples.path("vmx-qemu-guest.perf.data"))))
    let error = try #require(try error(Array(bytes[..<1_000_000])))
    #expect(error.offset == 1_000_000)
    #expect(error.found.contains("cut short") && error.found.contains("the header promises 2,"))
    #expect(error.expected?.contains("samples before the cut are readable") == true)
  }

  /// Every length and count of the head claims gigabytes, one after the other; none may cost that much memory or time.
  @Test(arguments: ["vmx-qemu-guest.perf.data", "svm-tiny.dat"]) func claimsOfGigabytesAreRefused(
    name: String
  ) throws {
    let bytes = Array(try Data(contentsOf: URL(filePath: Samples.path(name))))
    for place in stride(from: 0, to: 160, by: 3) {
      for claim in [little(UInt32(0x7fff_fff0)), little(UInt64(0x7fff_ffff_ffff_fff0)), little(UInt64.max)] {
        var copy = bytes
        copy.replaceSubrange(place..<(place + claim.count), with: claim)
        guard let evidence = try imported(copy) else { continue }
        #expect(evidence.ledger.vcpus.count < 100)
      }
    }
    // the process's peak, in kB; other tests run beside this one
    let status = try String(contentsOfFile: "/proc/self/status", encoding: .utf8)
    let peak = try #require(
      status.split(separator: "\n").first { $0.hasPrefix("VmHWM:") }?.split { " \t".contains($0) })
    #expect((Int(peak[1]) ?? .max) < 2 << 20)
  }
}
