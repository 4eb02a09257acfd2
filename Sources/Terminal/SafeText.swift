/// Untrusted text made harmless for a terminal and a mail: control characters, direction overrides, invisible and
/// unassigned characters become `\u{202e}`. Everything that has a shape of its own stays as it is.
public func sanitized(_ text: some StringProtocol) -> String {
  if text.utf8.allSatisfy({ 0x20 <= $0 && $0 < 0x7f }) { return String(text) }
  var safe = String.UnicodeScalarView()
  for scalar in text.unicodeScalars {
    if isHarmless(scalar) {
      safe.append(scalar)
    } else {
      safe.append(contentsOf: escape(scalar).unicodeScalars)
    }
  }
  return String(safe)
}

/// A word fit for a shell, as a user would type it; the text must be harmless already.
public func shellWord(_ text: String) -> String {
  let isPlain = text.unicodeScalars.allSatisfy {
    $0.properties.isAlphabetic || $0.properties.numericType != nil || "/._-+:@%,".unicodeScalars.contains($0)
  }
  return isPlain && !text.isEmpty
    ? text : "'" + text.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "'\\''") + "'"
}

/// Untrusted bytes as text: each byte that is not part of valid UTF-8 becomes `\xff`, the rest as above.
public func sanitized(bytes: some Collection<UInt8>) -> String {
  var safe = ""
  var rest = Array(bytes)[...]
  while let first = rest.first {
    let length = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4
    if let character = String(validating: rest.prefix(length), as: UTF8.self),
      let scalar = character.unicodeScalars.first, character.unicodeScalars.count == 1
    {
      safe += isHarmless(scalar) ? character : escape(scalar)
      rest = rest.dropFirst(length)
    } else {
      safe += hexEscape(first)
      rest = rest.dropFirst()
    }
  }
  return safe
}

/// Whether a character has a shape of its own and moves nothing: no control, direction, invisible or unassigned one.
public func isHarmless(_ scalar: Unicode.Scalar) -> Bool {
  if scalar.isASCII { return 0x20 <= scalar.value && scalar.value < 0x7f }
  switch scalar.properties.generalCategory {
  case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator, .paragraphSeparator: return false
  case .spaceSeparator: return false
  default: return !scalar.properties.isDefaultIgnorableCodePoint
  }
}

private func escape(_ scalar: Unicode.Scalar) -> String { "\\u{\(String(scalar.value, radix: 16))}" }

private func hexEscape(_ byte: UInt8) -> String { "\\x" + (byte < 16 ? "0" : "") + String(byte, radix: 16) }

/// The glyphs that our own text uses, one ASCII character for each, so that columns stay where they are.
func asciiGlyphs(_ text: String) -> String {
  if text.utf8.allSatisfy({ $0 < 0x80 }) { return text }
  var plain = String.UnicodeScalarView()
  for scalar in text.unicodeScalars {
    switch scalar {
    case _ where scalar.isASCII: plain.append(scalar)
    case "µ": plain.append("u")
    case "█": plain.append("#")
    case "▓": plain.append("x")
    case "░": plain.append("-")
    case "·": plain.append(".")
    case "–", "—": plain.append("-")
    case "…": plain.append("~")
    case "→": plain.append(">")
    case "×": plain.append("x")
    case "’": plain.append("'")
    // a name that nobody escaped
    default: plain.append(contentsOf: escape(scalar).unicodeScalars)
    }
  }
  return String(plain)
}

/// Untrusted text for a terminal that shows ASCII only: harmless, and every other character by its number.
func asciiName(_ text: String) -> String {
  var plain = ""
  for scalar in text.unicodeScalars { plain += scalar.isASCII ? String(scalar) : escape(scalar) }
  return plain
}
