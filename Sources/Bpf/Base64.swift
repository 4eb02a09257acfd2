/// The bytes that a constant of `BpfImages` stands for. Characters outside the alphabet (line ends, padding) are skipped.
public func decodeBase64(_ text: StaticString) -> [UInt8] {
  var bytes: [UInt8] = []
  bytes.reserveCapacity(text.utf8CodeUnitCount / 4 &* 3 &+ 3)
  var pending: UInt32 = 0
  var bitCount: UInt32 = 0
  text.withUTF8Buffer { characters in
    for character in characters {
      guard let value = base64Value(character) else { continue }
      pending = pending << 6 | value
      bitCount += 6
      if bitCount >= 8 {
        bitCount -= 8
        bytes.append(UInt8(truncatingIfNeeded: pending >> bitCount))
      }
    }
  }
  return bytes
}

private func base64Value(_ character: UInt8) -> UInt32? {
  switch character {
  case 0x41...0x5a: UInt32(character) - 0x41
  case 0x61...0x7a: UInt32(character) - 0x61 + 26
  case 0x30...0x39: UInt32(character) - 0x30 + 52
  case 0x2b: 62
  case 0x2f: 63
  default: nil
  }
}
