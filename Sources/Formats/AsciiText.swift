extension UInt8 {
  var isDigit: Bool { self &- 48 < 10 }
  var isIdentifier: Bool { isDigit || (self | 32) &- 97 < 26 || self == UInt8(ascii: "_") }
  var isBlank: Bool { self == 32 || self &- 9 < 5 }
}

/// The parsers of this module look at bytes: a text out of a file need not be UTF-8.
extension Slice<UnsafeRawBufferPointer> {
  /// As a String, whatever the bytes are.
  var text: String { String(decoding: self, as: UTF8.self) }

  /// Without blanks at both ends.
  var trimmed: Self {
    var slice = drop(while: \.isBlank)
    while let last = slice.last, last.isBlank { slice.removeLast() }
    return slice
  }

  /// What follows `word`, if the slice begins with it.
  func after(_ word: StaticString) -> Self? {
    let word = UnsafeRawBufferPointer(start: word.utf8Start, count: word.utf8CodeUnitCount)
    return starts(with: word) ? dropFirst(word.count) : nil
  }

  /// The longest tail of bytes that all satisfy the condition.
  func suffix(while condition: (UInt8) -> Bool) -> Self {
    var start = endIndex
    while start > startIndex, condition(self[start - 1]) { start -= 1 }
    return self[start...]
  }

  /// A decimal number and nothing else.
  func decimal(below limit: Int) -> Int? {
    guard !isEmpty, count < 16 else { return nil }
    var value = 0
    for byte in self {
      guard byte.isDigit else { return nil }
      value = value &* 10 &+ Int(byte &- 48)
    }
    return value < limit ? value : nil
  }
}
