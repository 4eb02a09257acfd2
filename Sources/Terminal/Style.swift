import ArgumentParser
import Glibc

/// What `--color` says.
public enum ColorChoice: String, CaseIterable, ExpressibleByArgument, Sendable {
  /// On a terminal that can, unless NO_COLOR is set.
  case auto
  /// In any case.
  case always
  /// In no case.
  case never
}

/// What a reader's screen can show.
public struct Style: Equatable, Sendable {
  /// Whether bold, dim and red may be used.
  public var color: Bool
  /// Whether anything but ASCII may be used.
  public var unicode: Bool

  /// No colour; all characters unless told otherwise.
  public init(color: Bool = false, unicode: Bool = true) {
    self.color = color
    self.unicode = unicode
  }

  /// What standard output can show, by the environment (`NO_COLOR`, `TERM`, the locale) and the user's choice.
  public static func ofStandardOutput(_ choice: ColorChoice) -> Style {
    Style(choice, isTerminal: isatty(STDOUT_FILENO) == 1) { name in getenv(name).map { String(cString: $0) } }
  }

  /// The rules themselves, over any environment.
  public init(_ choice: ColorChoice, isTerminal: Bool, environment: (String) -> String?) {
    let refused = environment("NO_COLOR") ?? "" != "" || environment("TERM") == "dumb"
    switch choice {
    case .auto: color = isTerminal && !refused
    case .always: color = true
    case .never: color = false
    }
    unicode = localeIsUnicode(environment)
  }

  /// Untrusted text, harmless and showable.
  public func name(_ text: String) -> String { unicode ? sanitized(text) : asciiName(sanitized(text)) }

  /// Our own text, with every glyph replaced where only ASCII can be shown; keeps each column in its place.
  public func shown(_ text: String) -> String { unicode ? text : asciiGlyphs(text) }

  /// Headings and the verdict.
  public func bold(_ text: String) -> String { wrap(text, "1") }

  /// What is there for completeness.
  public func dim(_ text: String) -> String { wrap(text, "2") }

  /// What must not be overlooked.
  public func alarm(_ text: String) -> String { wrap(text, "1;31") }

  private func wrap(_ text: String, _ code: String) -> String {
    color && !text.isEmpty ? "\u{1b}[\(code)m\(text)\u{1b}[0m" : text
  }
}

/// The first of LC_ALL, LC_CTYPE and LANG that is set decides, as in every other program; none: the C locale.
private func localeIsUnicode(_ environment: (String) -> String?) -> Bool {
  for name in ["LC_ALL", "LC_CTYPE", "LANG"] {
    guard let value = environment(name), !value.isEmpty else { continue }
    let upper = value.uppercased()
    return upper.contains("UTF-8") || upper.contains("UTF8")
  }
  return false
}

/// Whether messages on standard error may use anything but ASCII.
func usesUnicode() -> Bool { localeIsUnicode { name in getenv(name).map { String(cString: $0) } } }
