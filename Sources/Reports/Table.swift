import Terminal

/// Rows of cells in columns as wide as their widest cell; the first column gives way where a line would be too long.
struct Table {
  private var rows: [[String]]
  private let columnCount: Int

  /// Headings; the first column holds words, the others numbers. A heading may be empty.
  init(_ headings: [String]) {
    rows = [headings]
    columnCount = headings.count
  }

  /// Adds a row of as many cells.
  mutating func add(_ cells: [String]) { rows.append(cells) }

  /// The lines, headings first. `note` columns at the end are words, not numbers.
  func lines(notes: Int = 0, indent: Int = 2) -> [String] {
    var widths = (0..<columnCount).map { column in rows.map { displayWidth($0[column]) }.max() ?? 0 }
    let space = indent + 2 * (columnCount - 1)
    let rest = widths.dropFirst().reduce(0, +)
    widths[0] = max(8, min(widths[0], maximumColumns - space - rest))
    return rows.enumerated().map { number, cells in
      // a heading of the first column begins at the margin: it is the section's title
      let margin = number == 0 ? 0 : indent
      var line = String(repeating: " ", count: margin)
      for (column, cell) in cells.enumerated() {
        let width = column == 0 ? widths[0] + indent - margin : widths[column]
        line +=
          (column == 0 ? "" : "  ")
          + padded(cell, width: width, column > 0 && column < columnCount - notes ? .right : .left)
      }
      while line.last == " " { line.removeLast() }
      return line
    }
  }
}
