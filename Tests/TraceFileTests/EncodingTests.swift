import Attribution
import Testing

@testable import TraceFile

@Suite struct EncodingTests {
  @Test func numbersOfEveryLengthComeBack() {
    var random = Random(state: 7)
    var values: [UInt64] = [0, 1, 127, 128, 16_383, 16_384, .max, .max - 1, 1 << 63]
    for bits in 0..<64 { values += [1 << UInt64(bits), (1 << UInt64(bits)) - 1, random.next() >> UInt64(bits)] }
    var writer = ByteWriter()
    for value in values {
      writer.append(value)
      writer.append(signed: Int64(bitPattern: value))
      writer.append(from: value, to: values[0])
      writer.append(from: 77, to: value)
    }
    writer.bytes.withUnsafeBytes { bytes in
      var reader = ByteReader(bytes)
      for value in values {
        #expect(reader.number() == value)
        #expect(reader.signed() == Int64(bitPattern: value))
        #expect(reader.number(from: value) == values[0])
        #expect(reader.number(from: 77) == value)
      }
      #expect(reader.isAtEnd && !reader.isShort)
    }
  }

  @Test func numbersAreWrittenLowSevenBitsFirst() {
    let samples: [(value: UInt64, bytes: [UInt8])] = [(0, [0]), (127, [127]), (128, [0x80, 1]), (300, [0xac, 2])]
    for sample in samples {
      var writer = ByteWriter()
      writer.append(sample.value)
      #expect(writer.bytes == sample.bytes)
    }
  }

  @Test func readingPastTheEndGivesNothingAndSaysSo() {
    for bytes: [UInt8] in [[], [0x80], [UInt8](repeating: 0xff, count: 11), [200, 200, 1, 7]] {
      bytes.withUnsafeBytes { bytes in
        var reader = ByteReader(bytes)
        var entry = reader.entry()
        #expect(reader.isShort)
        #expect(entry.text().isEmpty && entry.number() == 0 && entry.isShort)
      }
    }
  }

  @Test func theChecksumIsCRC32C() {
    let check = Array("123456789".utf8)
    check.withUnsafeBytes {
      #expect(Checksum.crc32c($0) == 0xe306_9283)
      #expect(Checksum.byTable($0) == 0xe306_9283)
    }
    // RFC 3720, B.4: 32 bytes of zeros, and of ones
    [UInt8](repeating: 0, count: 32).withUnsafeBytes { #expect(Checksum.byTable($0) == 0x8a91_36aa) }
    [UInt8](repeating: 255, count: 32).withUnsafeBytes { #expect(Checksum.byTable($0) == 0x62a8_ab43) }
  }

  @Test func theInstructionAndTheTableAgree() {
    var random = Random(state: 8)
    let bytes = (0..<300).map { _ in UInt8.random(in: 0...255, using: &random) }
    bytes.withUnsafeBytes { bytes in
      for start in 0..<9 {
        for end in start..<bytes.count {
          let part = UnsafeRawBufferPointer(rebasing: bytes[start..<end])
          #expect(Checksum.crc32c(part, continuing: 99) == Checksum.byTable(part, continuing: 99))
        }
      }
    }
  }
}
