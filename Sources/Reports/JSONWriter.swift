import Terminal

/// Writes JSON: two spaces per level, keys in the order given, whole numbers exact, no NaN.
struct JSONWriter {
  private(set) var text = ""
  private var level = 0
  private var isFirst = true

  /// `{ … }`: the body writes fields.
  mutating func object(_ body: (inout JSONWriter) -> Void) { nested("{", "}", body) }

  /// `[ … ]`, an element per item; the body writes one value.
  mutating func array<Items: Sequence>(_ items: Items, _ body: (inout JSONWriter, Items.Element) -> Void) {
    nested("[", "]") { writer in
      for item in items {
        writer.separate()
        body(&writer, item)
      }
    }
  }

  /// `"key": …`; keys are ours and need no escaping; the body writes the value.
  mutating func field(_ key: String, _ body: (inout JSONWriter) -> Void) {
    separate()
    text += "\""
    text += key
    text += "\": "
    body(&self)
  }

  mutating func field(_ key: String, _ value: String?) {
    let value = value.map(quoted) ?? "null"
    field(key) { $0.text += value }
  }
  mutating func field(_ key: String, _ value: UInt64?) { field(key) { $0.text += value.map { String($0) } ?? "null" } }
  mutating func field(_ key: String, _ value: Int?) { field(key) { $0.text += value.map { String($0) } ?? "null" } }
  mutating func field(_ key: String, _ value: Bool) { field(key) { $0.text += value ? "true" : "false" } }

  /// Infinite values and NaN, which JSON does not have, become null.
  mutating func field(_ key: String, _ value: Double?) {
    field(key) { $0.text += value.flatMap { $0.isFinite ? String($0) : nil } ?? "null" }
  }

  mutating func field(_ key: String, _ values: [String]) {
    let values = values.map(quoted)
    field(key) { $0.array(values) { $0.text += $1 } }
  }

  private mutating func nested(_ opening: String, _ closing: String, _ body: (inout JSONWriter) -> Void) {
    text += opening
    level += 1
    isFirst = true
    body(&self)
    level -= 1
    if !isFirst { newLine() }
    text += closing
    isFirst = false
  }

  private mutating func separate() {
    if !isFirst { text += "," }
    isFirst = false
    newLine()
  }

  private mutating func newLine() {
    text += "\n"
    for _ in 0..<level { text += "  " }
  }

  /// Escapes what JSON demands, and everything that a terminal would act upon: no loss, and safe to look at.
  private func quoted(_ value: String) -> String {
    let isPlain = value.utf8.allSatisfy {
      0x20 <= $0 && $0 < 0x7f && $0 != UInt8(ascii: "\"") && $0 != UInt8(ascii: "\\")
    }
    if isPlain { return "\"\(value)\"" }
    var quoted = "\""
    for scalar in value.unicodeScalars {
      switch scalar {
      case "\"": quoted += "\\\""
      case "\\": quoted += "\\\\"
      case "\n": quoted += "\\n"
      case "\t": quoted += "\\t"
      case _ where isHarmless(scalar): quoted.unicodeScalars.append(scalar)
      default: for unit in String(scalar).utf16 { quoted += escape(unit) }
      }
    }
    return quoted + "\""
  }

  private func escape(_ unit: UInt16) -> String {
    let digits = String(unit, radix: 16)
    return "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
  }
}
