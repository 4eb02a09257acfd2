import Attribution
import CZstd
import Files
import Foundation
import TestSupport
import Testing

@testable import Import

/// The same trace in other wrappings is the same evidence.
@Suite struct ConversionTests {
  @Test(arguments: ["--file-version 6", "--file-version 7 --compression none"])
  func aTraceDatInAnotherVersionCountsTheSame(options: String) throws {
    for name in ["svm-tiny.dat", "vmx-tiny.dat", "svm-qemu-guest.dat"] {
      let file = try TemporaryFile([])
      let words = options.split(separator: " ").map(String.init)
      _ = try Tool.output(["trace-cmd", "convert"] + words + ["-i", Samples.path(name), "-o", file.path])
      let plain = try importTrace(try MappedFile(path: Samples.path(name)))
      let converted = try importTrace(try MappedFile(path: file.path))
      #expect(converted.ledger == plain.ledger)
      #expect(converted.trust == plain.trust)
      #expect(converted.capture.format == (options.contains("6") ? "trace.dat v6" : "trace.dat v7"))
      #expect(converted.capture.clock == plain.capture.clock && converted.capture.kernel == plain.capture.kernel)
    }
  }

  /// A perf.data file taken apart by its own header.
  private struct PerfFile {
    var bytes: [UInt8]
    var header: [UInt64]
    init(_ name: String) throws {
      bytes = Array(try Data(contentsOf: URL(filePath: Samples.path(name))))
      header = bytes.withUnsafeBytes { raw in
        (0..<13).map { raw.loadUnaligned(fromByteOffset: $0 * 8, as: UInt64.self) }
      }
    }
    func part(_ offset: UInt64, _ size: UInt64) -> [UInt8] { Array(bytes[Int(offset)..<Int(offset + size)]) }
    func word(_ offset: UInt64) -> UInt64 {
      bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: Int(offset), as: UInt64.self) }
    }
    var data: [UInt8] { part(header[5], header[6]) }
    var tracingData: [UInt8] {
      let table = header[5] + header[6]  // the first feature that is set is the formats
      return part(word(table), word(table + 8))
    }
  }

  private func record(_ type: UInt32, _ body: [UInt8]) -> [UInt8] {
    little(type) + little(UInt16(0)) + little(UInt16(8 + body.count)) + body
  }

  @Test(arguments: Samples.names(".perf.data")) func aStreamFromAPipeCountsTheSame(name: String) throws {
    let file = try PerfFile(name)
    var stream = Array("PERFILE2".utf8) + little(UInt64(16))
    for index in 0..<(file.header[4] / file.header[2]) {
      let entry = file.header[3] + index * file.header[2]
      let ids = entry + file.header[2] - 16
      stream += record(64, file.part(entry, file.header[2] - 16) + file.part(file.word(ids), file.word(ids + 8)))
    }
    let formats = file.tracingData
    stream += record(66, little(UInt32(formats.count)))
    stream += formats + [UInt8](repeating: 0, count: (8 - formats.count % 8) % 8)
    stream += file.data
    let piped = try #require(try imported(stream))
    let plain = try importTrace(try MappedFile(path: Samples.path(name)))
    #expect(piped.ledger == plain.ledger)
    #expect(piped.trust == plain.trust)
    #expect(piped.capture.format == "perf.data (pipe)")
  }

  @Test(arguments: Samples.names(".perf.data"), [UInt32(81), 83])
  func compressedRecordsCountTheSame(name: String, type: UInt32) throws {
    let file = try PerfFile(name)
    let stream = ZSTD_createCStream()
    defer { ZSTD_freeCStream(stream) }
    var packed: [UInt8] = []
    var place = 0
    let data = file.data
    var target = [UInt8](repeating: 0, count: 60_000)
    // pieces that cut records anywhere, as perf's are
    while place < data.count {
      let size = min(30_011, data.count - place)
      let written = data.withUnsafeBytes { source in
        target.withUnsafeMutableBytes { target in
          var input = ZSTD_inBuffer(src: source.baseAddress! + place, size: size, pos: 0)
          var output = ZSTD_outBuffer(dst: target.baseAddress, size: target.count, pos: 0)
          let left = ZSTD_compressStream2(stream, &output, &input, ZSTD_e_flush)
          return left == 0 && input.pos == size ? output.pos : 0
        }
      }
      try #require(written > 0)
      let body = Array(target[..<written])
      let padding = [UInt8](repeating: 0, count: (8 - written % 8) % 8)
      packed += record(type, type == 83 ? little(UInt64(written)) + body + padding : body)
      place += size
    }
    let end = Int(file.header[5])
    let shift = UInt64(bitPattern: Int64(packed.count) - Int64(data.count))
    var features: [UInt8] = []
    let count = file.header[9...12].reduce(0) { $0 + $1.nonzeroBitCount }
    let table = file.header[5] + file.header[6]
    for index in 0..<UInt64(count) {
      features += little(file.word(table + index * 16) &+ shift) + little(file.word(table + index * 16 + 8))
    }
    var whole = Array(file.bytes[..<end]) + packed + features + file.bytes[(Int(table) + features.count)...]
    whole.replaceSubrange(48..<56, with: little(UInt64(packed.count)))
    let evidence = try #require(try imported(whole))
    let plain = try importTrace(try MappedFile(path: Samples.path(name)))
    #expect(evidence.ledger == plain.ledger)
    #expect(evidence.trust == plain.trust)
  }

  @Test func zlibIsDecompressedToExactlyTheSizeThatIsSaid() {
    // "kvmtax kvmtax kvmtax kvmtax " by zlib's compress2
    let packed: [UInt8] = [
      0x78, 0x9c, 0xcb, 0x2e, 0xcb, 0x2d, 0x49, 0xac, 0x50, 0xc8, 0xc6, 0x46, 0x01, 0x00, 0xa2, 0x1e, 0x0a, 0xed,
    ]
    for size in [27, 28, 29] {
      var target = [UInt8](repeating: 0, count: size)
      let isWhole = packed.withUnsafeBytes { source in
        target.withUnsafeMutableBytes { Compression.zlib.decompress(source, into: $0) }
      }
      #expect(isWhole == (size == 28))
      if size == 28 { #expect(String(decoding: target, as: UTF8.self) == "kvmtax kvmtax kvmtax kvmtax ") }
    }
  }
}
