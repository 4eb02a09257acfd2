import Glibc

/// No line of ours is wider: it must fit a mail, a ticket and half a screen.
public let maximumColumns = 100

/// Columns to use for text on standard output: the terminal's, at most 100; 100 where there is no terminal.
public func outputColumns() -> Int { columns(of: STDOUT_FILENO) }

/// Columns of the terminal behind a descriptor, between 40 and 100.
func columns(of descriptor: Int32) -> Int {
  var size = winsize()
  guard ioctl(descriptor, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else { return maximumColumns }
  return min(max(Int(size.ws_col), 40), maximumColumns)
}

/// How many columns a terminal gives a text: two for East Asian wide characters and emoji, none for combining marks.
public func displayWidth(_ text: some StringProtocol) -> Int {
  if text.utf8.allSatisfy({ $0 < 0x80 }) { return text.utf8.count }
  return text.unicodeScalars.reduce(0) { $0 + width(of: $1) }
}

private func width(of scalar: Unicode.Scalar) -> Int {
  switch scalar.value {
  case 0..<0x300: return 1
  case 0x1100...0x115f, 0x2e80...0x303e, 0x3041...0xa4cf, 0xa960...0xa97f, 0xac00...0xd7a3, 0xf900...0xfaff,
    0xfe10...0xfe19, 0xfe30...0xfe6f, 0xff00...0xff60, 0xffe0...0xffe6, 0x1b000...0x1b2ff, 0x20000...0x3fffd:
    return 2
  default:
    switch scalar.properties.generalCategory {
    case .nonspacingMark, .enclosingMark: return 0
    default: return scalar.properties.isEmojiPresentation || (0x1f300...0x1faff).contains(scalar.value) ? 2 : 1
    }
  }
}

/// The text cut to so many columns; a cut shows as "…".
public func truncated(_ text: String, width limit: Int) -> String {
  guard displayWidth(text) > limit else { return text }
  var kept = String.UnicodeScalarView()
  var used = 0
  for scalar in text.unicodeScalars {
    let next = width(of: scalar)
    if used + next > limit - 1 { break }
    used += next
    kept.append(scalar)
  }
  return limit > 0 ? String(kept) + "…" : ""
}

/// Which side of a cell its text stands on.
public enum Alignment: Sendable {
  /// Words.
  case left
  /// Numbers.
  case right
}

/// The text cut or filled with spaces to exactly so many columns.
public func padded(_ text: String, width: Int, _ alignment: Alignment = .left) -> String {
  let text = truncated(text, width: width)
  let space = String(repeating: " ", count: max(0, width - displayWidth(text)))
  return alignment == .left ? text + space : space + text
}

/// Breaks a text at spaces into lines of at most `width` columns, each indented; a longer word is cut into pieces.
public func wrapped(_ text: String, width: Int, indent: Int = 0) -> [String] {
  let margin = String(repeating: " ", count: indent)
  var lines: [String] = []
  var line = ""
  for word in text.split(separator: " ") {
    for piece in pieces(String(word), width: max(1, width - indent)) {
      if line.isEmpty {
        line = piece
      } else if indent + displayWidth(line) + 1 + displayWidth(piece) <= width {
        line += " " + piece
      } else {
        lines.append(margin + line)
        line = piece
      }
    }
  }
  if !line.isEmpty { lines.append(margin + line) }
  return lines
}

private func pieces(_ word: String, width limit: Int) -> [String] {
  if displayWidth(word) <= limit { return [word] }
  var pieces: [String] = []
  var piece = ""
  var used = 0
  for scalar in word.unicodeScalars {
    let next = width(of: scalar)
    if used + next > limit, used > 0 {
      pieces.append(piece)
      piece = ""
      used = 0
    }
    piece.unicodeScalars.append(scalar)
    used += next
  }
  return piece.isEmpty ? pieces : pieces + [piece]
}
