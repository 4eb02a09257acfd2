import Terminal

/// Lines of at most 100 columns, styled a whole line at a time, so that colour never enters a width.
struct Page {
  /// How a line stands out.
  enum Emphasis { case none, bold, dim, alarm }

  private let style: Style
  private(set) var result = ""
  private var endsInGap = true

  init(style: Style) { self.style = style }

  /// An empty line, never two.
  mutating func gap() {
    if !endsInGap { result += "\n" }
    endsInGap = true
  }

  /// A line, wrapped where it is too long; its indentation is kept.
  mutating func text(_ text: String, _ emphasis: Emphasis = .none) {
    if displayWidth(text) <= maximumColumns { return line(text, emphasis) }
    let indent = text.prefix { $0 == " " }.count
    for part in wrapped(text, width: maximumColumns, indent: indent) { line(part, emphasis) }
  }

  /// Items side by side, on as many lines as they need.
  mutating func items(_ items: [String]) {
    var current = ""
    for item in items {
      if current.isEmpty {
        current = item
      } else if displayWidth(current) + 3 + displayWidth(item) <= maximumColumns {
        current += "   " + item
      } else {
        text(current, .bold)
        current = item
      }
    }
    text(current, .bold)
  }

  /// A keyword at the margin and paragraphs beside it.
  mutating func hanging(_ keyword: String, _ paragraphs: [String]) {
    var keyword = keyword
    for paragraph in paragraphs {
      for part in wrapped(paragraph, width: maximumColumns - 8) {
        line(padded(keyword, width: 8) + part, .none)
        keyword = ""
      }
    }
  }

  /// A table's lines, its headings bold.
  mutating func table(_ lines: [String]) {
    for (number, text) in lines.enumerated() { line(text, number == 0 ? .bold : .none) }
  }

  private mutating func line(_ text: String, _ emphasis: Emphasis) {
    let shown = style.shown(truncated(text, width: maximumColumns))
    switch emphasis {
    case .none: result += shown
    case .bold: result += style.bold(shown)
    case .dim: result += style.dim(shown)
    case .alarm: result += style.alarm(shown)
    }
    result += "\n"
    endsInGap = false
  }
}
