import Attribution
import Foundation

/// A row of Tests/Golden/taxonomy.txt: a key, and what must come of it.
struct TaxonomyRow: CustomStringConvertible {
  var key: Key
  var kernelName: String?
  var exitClass: String
  var text: String
  var line: String

  var description: String { line }

  /// All rows; a line that is not as the head of the file says is an error.
  static func all() throws -> [TaxonomyRow] {
    let place = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .appending(path: "Golden/taxonomy.txt")
    return try String(contentsOf: place, encoding: .utf8).split(separator: "\n").filter { !$0.hasPrefix("#") }
      .map { line in
        guard let row = TaxonomyRow(line: String(line)) else { throw BadRow(line: String(line)) }
        return row
      }
  }

  struct BadRow: Error {
    var line: String
  }

  init?(line: String) {
    let columns = line.split(separator: "|", omittingEmptySubsequences: false)
      .map { $0.trimmingCharacters(in: .whitespaces) }
    guard columns.count == 6 || columns.count == 7 else { return nil }
    let reason = columns[1].split(separator: " ", maxSplits: 1).map(String.init)
    let subject = columns[2].split(separator: " ").map(String.init)
    let traits = columns[3] == "-" ? [] : columns[3].split(separator: ",").map { Self.traits[String($0)] }
    guard let isa = Self.isas[columns[0]] ?? UInt8(columns[0].dropFirst(3)), reason.count == 2,
      let number = UInt32(exactly: Self.number(reason[0]) ?? .max), let kind = Self.kinds[subject[0]],
      !traits.contains(nil)
    else { return nil }
    key = Key(
      isa: isa, reason: number, kind: kind, subject: subject.count > 1 ? Self.number(subject[1]) : nil,
      traits: traits.reduce(into: []) { $0.formUnion($1 ?? []) }, userspace: Int(columns[4]))
    guard (key.userspace == nil) == (columns[4] == "-"), (key.subject == nil) == (subject.count == 1) else {
      return nil
    }
    kernelName = reason[1] == "-" ? nil : reason[1]
    exitClass = columns[5]
    text = columns.count > 6 ? columns[6] : ""
    self.line = line
  }

  private static func number(_ text: String) -> UInt64? {
    text.hasPrefix("0x") ? UInt64(text.dropFirst(2), radix: 16) : UInt64(text)
  }

  private static let isas: [String: UInt8] = ["vmx": 1, "svm": 2]

  private static let kinds: [String: Key.Kind] = Dictionary(
    uniqueKeysWithValues: Key.Kind.allCases.map { ("\($0)", $0) })

  static let traits: [String: Key.Traits] = [
    "write": .write, "present": .present, "fetch": .fetch, "blocked": .blocked, "injected": .injected,
    "injectedTimer": .injectedTimer, "hostTimer": .hostTimer, "hostIpi": .hostIpi, "hostDevice": .hostDevice,
    "immediate": .immediate, "inIoeventfd": .inIoeventfd, "fromL2": .fromL2, "reflected": .reflected,
    "hidden": .hidden, "busLock": .busLock, "entryFailed": .entryFailed, "timerKnown": .timerKnown,
  ]
}
