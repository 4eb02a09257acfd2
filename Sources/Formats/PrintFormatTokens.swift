/// A token of a print fmt: as much of C as the kernel's TP_printk arguments need.
enum PrintToken: Equatable {
  case word(String)
  case number(Int64)
  case string(String)
  case mark(Unicode.Scalar)

  /// Cuts a print fmt into tokens, up to the first thing that is none. The input is size-capped by EventFormat.
  static func tokens(of text: [UInt8]) -> [PrintToken] {
    var tokens: [PrintToken] = []
    var position = 0
    while position < text.count {
      let byte = text[position]
      if byte.isBlank {
        position += 1
      } else if byte == UInt8(ascii: "\"") {
        guard let end = endOfString(in: text, from: position + 1) else { return tokens }
        let value = String(decoding: text[(position + 1)..<end], as: UTF8.self)
        if case .string(let left)? = tokens.last {
          tokens[tokens.count - 1] = .string(left + value)  // C joins adjacent literals
        } else {
          tokens.append(.string(value))
        }
        position = end + 1
      } else if byte.isIdentifier {
        let end = text[position...].firstIndex { !$0.isIdentifier } ?? text.count
        let word = String(decoding: text[position..<end], as: UTF8.self)
        if byte.isDigit {
          guard let number = number(word) else { return tokens }
          tokens.append(.number(number))
        } else {
          tokens.append(.word(word))
        }
        position = end
      } else {
        tokens.append(.mark(Unicode.Scalar(byte)))
        position += 1
      }
    }
    return tokens
  }

  private static func endOfString(in text: [UInt8], from start: Int) -> Int? {
    var position = start
    while position < text.count, text[position] != UInt8(ascii: "\"") {
      position += text[position] == UInt8(ascii: "\\") ? 2 : 1
    }
    return position < text.count ? position : nil
  }

  /// C's integer literals: decimal, hexadecimal and octal, with u and l suffixes; the low 64 bits as they are.
  private static func number(_ word: String) -> Int64? {
    var digits = Substring(word.lowercased())
    while let last = digits.last, last == "u" || last == "l" { digits.removeLast() }
    var radix = 10
    if digits.hasPrefix("0x") {
      digits = digits.dropFirst(2)
      radix = 16
    } else if digits.hasPrefix("0"), digits.count > 1 {
      radix = 8
    }
    return UInt64(digits, radix: radix).map { Int64(bitPattern: $0) }
  }
}
