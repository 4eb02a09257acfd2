import Foundation

/// A tracefs `format` text taken apart, so that it can be changed and written again. Written for the mutants alone and
/// sharing nothing with the product's own reader of these texts, which it tests.
public struct EventText: Sendable {
  /// One `field:` line.
  public struct Field: Sendable {
    /// The type as in the text, without the name: "unsigned int", "__data_loc char[]".
    public var type: String
    /// The name without brackets.
    public var name: String
    /// "[16]" for arrays that carry it after the name, else empty.
    public var brackets: String
    /// Bytes from the record's start.
    public var offset: Int
    /// Bytes.
    public var size: Int
    /// Whether a resize extends the sign.
    public var signed: Bool

    /// Whether the record holds only the place of the data: 16 bits of offset from the record's start, 16 of length.
    public var isDataLocation: Bool { type.hasPrefix("__data_loc") }
    /// A number of 1, 2, 4 or 8 bytes.
    public var isScalar: Bool {
      brackets.isEmpty && !type.contains("[") && !type.contains("struct ") && [1, 2, 4, 8].contains(size)
    }
    fileprivate var line: String {
      "\tfield:\(type) \(name)\(brackets);\toffset:\(offset);\tsize:\(size);\tsigned:\(signed ? 1 : 0);\n"
    }
  }

  /// The folder under `events/`: "kvm".
  public var system: String
  /// "kvm_exit".
  public var name: String
  /// What `common_type` says in a record.
  public var id: Int
  /// The fields that every event begins with.
  public var common: [Field]
  /// The event's own fields.
  public var fields: [Field]
  /// What follows "print fmt: ".
  public var printFormat: String

  /// Takes a text apart; nil when it does not look like one.
  public init?(system: String, text: String) {
    self.system = system
    guard let split = text.range(of: "print fmt: ") else { return nil }
    printFormat = String(text[split.upperBound...])
    name = ""
    id = -1
    common = []
    fields = []
    for line in text[..<split.lowerBound].split(separator: "\n") {
      if line.hasPrefix("name: ") { name = String(line.dropFirst(6)) }
      if line.hasPrefix("ID: "), let number = Int(line.dropFirst(4)) { id = number }
      guard line.hasPrefix("\tfield:") else { continue }
      guard let field = EventText.field(line.dropFirst(7)) else { return nil }
      if field.name.hasPrefix("common_") { common.append(field) } else { fields.append(field) }
    }
    if name.isEmpty || id < 0 || common.isEmpty { return nil }
  }

  private static func field(_ line: Substring) -> Field? {
    let parts = line.split(separator: ";").map { $0.trimmingCharacters(in: .whitespaces) }
    guard parts.count >= 3, parts[1].hasPrefix("offset:"), parts[2].hasPrefix("size:"),
      let offset = Int(parts[1].dropFirst(7)), let size = Int(parts[2].dropFirst(5)),
      let space = parts[0].lastIndex(of: " ")
    else { return nil }
    var name = parts[0][parts[0].index(after: space)...]
    var brackets = ""
    if let bracket = name.firstIndex(of: "[") {
      brackets = String(name[bracket...])
      name = name[..<bracket]
    }
    return Field(
      type: String(parts[0][..<space]), name: String(name), brackets: brackets, offset: offset, size: size,
      signed: parts.count > 3 && parts[3] == "signed:1")
  }

  /// The text again.
  public var text: String {
    var text = "name: \(name)\nID: \(id)\nformat:\n"
    for field in common { text += field.line }
    text += "\n"
    for field in fields { text += field.line }
    return text + "\nprint fmt: " + printFormat
  }

  /// Where the record's fixed part ends.
  public var fixedSize: Int { (common + fields).map { $0.offset + $0.size }.max() ?? 8 }
}
