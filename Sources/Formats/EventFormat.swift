/// Why a `format` text cannot be used.
public struct FormatError: Error, Equatable, Sendable, CustomStringConvertible {
  /// What is wrong, in a few words.
  public var found: String

  /// One unusable text.
  public init(found: String) { self.found = found }

  /// What is wrong.
  public var description: String { found }
}

/// An event's layout, from the text of its tracefs `format` file.
///
/// There are two ways in. The tracer reads its own kernel's texts through libtraceevent (`init(kernelText:system:)`). A
/// text out of a trace file may be anything, and libtraceevent crashes on some damaged ones, so the analyzer's way is
/// the small parser of this file; a test holds both to the same result.
public struct EventFormat: Equatable, Sendable {
  /// Longest text that is looked at, in bytes; kvm_exit's is about 6,000.
  public static let maximumTextSize = 65_536
  /// No event has more fields than this.
  static let maximumFieldCount = 512
  /// Records are at most a ring-buffer page or an u16 size long.
  static let maximumFieldEnd = 65_536

  /// The event's name, as "kvm_exit".
  public var name: String
  /// Its subsystem, as "kvm".
  public var system: String
  /// The number in a record's `common_type`.
  public var id: Int
  /// All fields, the common ones first.
  public var fields: [FieldLayout]
  /// What follows "print fmt:", as it stands; untrusted text.
  public var printFormat: [UInt8]

  /// The field of that name.
  public func field(named name: String) -> FieldLayout? { fields.first { $0.name == name } }

  /// Parses a text of any origin. A field line that makes no sense costs that field alone, a broken print fmt costs the
  /// names in it alone; without name or ID the text is refused.
  public init(text: UnsafeRawBufferPointer, system: String) throws(FormatError) {
    guard text.count <= EventFormat.maximumTextSize else {
      throw FormatError(found: "format text of \(text.count) bytes")
    }
    self.system = system
    var name: String?
    var id: Int?
    fields = []
    printFormat = []
    var rest = text[...]
    while !rest.isEmpty {
      let line = rest.prefix { $0 != UInt8(ascii: "\n") }
      if let value = line.after("name:") {
        name = name ?? value.trimmed.text
      } else if let value = line.after("ID:") {
        id = id ?? value.trimmed.decimal(below: 1 << 31)
      } else if line.trimmed.after("print fmt:") != nil {
        // the rest of the text, were it to hold line ends
        printFormat = Array(rest.trimmed.after("print fmt:") ?? rest)
        break
      } else if fields.count < EventFormat.maximumFieldCount, let field = FieldLayout(line: line) {
        fields.append(field)
      }
      rest = rest[line.endIndex...].dropFirst()
    }
    guard let name, !name.isEmpty, let id else { throw FormatError(found: "format text without name and ID") }
    self.name = name
    self.id = id
  }

  /// Parses a text of any origin.
  public init(text: String, system: String) throws(FormatError) {
    let bytes = Array(text.utf8)
    let result = bytes.withUnsafeBytes { buffer in
      Result { () throws(FormatError) in try EventFormat(text: buffer, system: system) }
    }
    self = try result.get()
  }

  init(name: String, system: String, id: Int, fields: [FieldLayout], printFormat: [UInt8]) {
    self.name = name
    self.system = system
    self.id = id
    self.fields = fields
    self.printFormat = printFormat
  }
}

extension FieldLayout {
  /// Parses "field:unsigned int vcpu_id;  offset:56;  size:4;  signed:0;" (`signed` came with Linux 2.6.33).
  init?(line: Slice<UnsafeRawBufferPointer>) {
    var parts = line.split(separator: UInt8(ascii: ";"), maxSplits: 8)[...]
    guard let declaration = parts.popFirst()?.trimmed.after("field:"),
      let offset = parts.popFirst()?.trimmed.after("offset:")?.trimmed.decimal(below: EventFormat.maximumFieldEnd),
      let size = parts.popFirst()?.trimmed.after("size:")?.trimmed.decimal(below: EventFormat.maximumFieldEnd),
      offset + size <= EventFormat.maximumFieldEnd
    else { return nil }
    let signed = parts.popFirst()?.trimmed.after("signed:")?.trimmed.decimal(below: 2)
    var type = declaration.trimmed
    let isDynamic = type.after("__data_loc") != nil || type.after("__rel_loc") != nil
    var isArray = isDynamic
    if type.last == UInt8(ascii: "]") {
      guard let bracket = type.firstIndex(of: UInt8(ascii: "[")) else { return nil }
      isArray = true
      type = type[..<bracket].trimmed
    }
    let name = type.suffix(while: \.isIdentifier)
    guard let first = name.first, !first.isDigit, name.count < type.count else { return nil }
    self.init(
      name: name.text, offset: offset, size: size, isSigned: signed == 1, isArray: isArray, isDynamicArray: isDynamic)
  }
}
