/// An input that cannot be used as it is: what, where, what was found and what to do. The one error of every reader.
public struct InputError: Error, Equatable, Sendable, CustomStringConvertible {
  /// The file as the user named it.
  public var file: String
  /// Byte offset in the file, where there is one.
  public var offset: UInt64?
  /// What is wrong, in a few words.
  public var found: String
  /// What should have been there.
  public var expected: String?
  /// What the user can do.
  public var remedy: String?

  /// Describes one unusable input.
  public init(file: String, offset: UInt64? = nil, found: String, expected: String? = nil, remedy: String? = nil) {
    self.file = file
    self.offset = offset
    self.found = found
    self.expected = expected
    self.remedy = remedy
  }

  /// One line of what and where, then indented lines of what was expected and what to do.
  public var description: String {
    var text = "\(file): \(found)"
    if let offset { text += " at byte \(grouped(offset))" }
    if let expected { text += "\n  \(expected)" }
    if let remedy { text += "\n  \(remedy)" }
    return text
  }
}

/// A number with thousands separated by commas, as every message and table prints it.
public func grouped(_ number: UInt64) -> String {
  let digits = String(number)
  var text = ""
  for (index, digit) in digits.enumerated() {
    if index > 0, (digits.count - index) % 3 == 0 { text.append(",") }
    text.append(digit)
  }
  return text
}
