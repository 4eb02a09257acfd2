import Attribution
import Foundation
import Reports
import Terminal
import Testing

/// The documented schema: a table of fields per type.
struct Schema {
  typealias Fields = [String: String]
  private(set) var types: [String: Fields] = [:]

  /// Reads docs/report-schema.md: "## Type", then rows "| field | type | meaning |".
  init() throws {
    let place = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent().appending(path: "docs/report-schema.md")
    var type = ""
    for line in try String(contentsOf: place, encoding: .utf8).split(separator: "\n") {
      if line.hasPrefix("## ") { type = String(line.dropFirst(3)) }
      let cells = line.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) }
      guard line.hasPrefix("| "), cells.count == 3, cells[0] != "Field" else { continue }
      types[type, default: [:]][cells[0]] = cells[1]
    }
    let section = types["Section"] ?? [:]
    for type in ["VM", "VCPU"] {
      types[type]?.merge(section) { own, _ in own }
    }
  }

  /// What in a document is not as described.
  func faults(_ value: Any, _ type: String, at path: String = "$") -> [String] {
    if type.hasSuffix("?") { return value is NSNull ? [] : faults(value, String(type.dropLast()), at: path) }
    if type.hasSuffix("[]") {
      guard let array = value as? [Any] else { return ["\(path): no array"] }
      return array.enumerated().flatMap { faults($1, String(type.dropLast(2)), at: "\(path)[\($0)]") }
    }
    let isBoolean = (value as? NSNumber).map { CFNumberIsBoolean($0) } ?? false
    switch type {
    case "string": return value is String ? [] : ["\(path): no string"]
    case "boolean": return isBoolean ? [] : ["\(path): no boolean"]
    case "number": return value is NSNumber && !isBoolean ? [] : ["\(path): no number"]
    case "integer":
      guard let number = value as? NSNumber, !isBoolean, Int64(exactly: number) != nil || UInt64(exactly: number) != nil
      else { return ["\(path): no integer"] }
      return []
    default:
      guard let fields = types[type], let object = value as? [String: Any] else { return ["\(path): no \(type)"] }
      var found = object.keys.filter { fields[$0] == nil }.map { "\(path).\($0): not documented" }
      for (name, fieldType) in fields {
        if let field = object[name] {
          found += faults(field, fieldType, at: "\(path).\(name)")
        } else if !(type == "States" && (path.contains("reasons") || path.contains("classes"))) {
          found.append("\(path).\(name): missing")
        }
      }
      return found
    }
  }

  private func CFNumberIsBoolean(_ number: NSNumber) -> Bool { String(cString: number.objCType) == "c" }
}

@Suite struct JSONReportTests {
  private static func object(_ evidence: Evidence) throws -> [String: Any] {
    let text = JSONReport().render(try ReportBuilder(evidence).report())
    return try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
  }

  @Test(arguments: Scenes.all.map(\.name)) func isAsDocumented(scene: String) throws {
    let evidence = try #require(Scenes.all.first { $0.name == scene }).evidence
    #expect(try Schema().faults(try Self.object(evidence), "Report") == [])
  }

  @Test func theValidatorFindsFaults() throws {
    let schema = try Schema()
    var object = try Self.object(Scenes.busy())
    object["extra"] = 1
    object["verdict"] = nil
    object["schema"] = 7
    #expect(
      Set(schema.faults(object, "Report"))
        == ["$.extra: not documented", "$.verdict: missing", "$.schema: no string"])
  }

  @Test func largeIntegersAreExact() throws {
    var evidence = Scenes.busy()
    evidence.capture.durationNanoseconds = .max
    evidence.trust.lostEvents = (1 << 53) + 1
    let text = JSONReport().render(try ReportBuilder(evidence).report())
    #expect(text.contains("\"duration_ns\": 18446744073709551615"))
    #expect(text.contains("\"lost_events\": 9007199254740993"))
  }

  @Test func namesSurviveAndCannotControlTheTerminal() throws {
    let evidence = Scenes.hostile()
    let text = JSONReport().render(try ReportBuilder(evidence).report())
    #expect(text.unicodeScalars.allSatisfy { $0 == "\n" || ($0.value >= 0x20 && $0.value != 0x7f && $0 != "\u{202e}") })
    let vms = try #require(try Self.object(evidence)["vms"] as? [[String: Any]])
    #expect(vms[0]["name"] as? String == evidence.ledger.vms[0].name)
  }

  @Test(arguments: ["busy", "several", "overflow", "damaged"]) func saysTheSameAsTheText(scene: String) throws {
    let evidence = try #require(Scenes.all.first { $0.name == scene }).evidence
    let object = try Self.object(evidence)
    let text = TextReport(isVerbose: true).render(try ReportBuilder(evidence).report())
    let flat = text.replacing("\n        ", with: " ").replacing("\n", with: " ")
    #expect(flat.contains(try #require(object["verdict"] as? String)))
    let rows = text.split(separator: "\n").map { $0.split(separator: " ").joined(separator: " ") }
    var sections = [try #require(object["totals"] as? [String: Any])]
    sections += try #require(object["vms"] as? [[String: Any]])
    for section in sections {
      for reason in try #require(section["reasons"] as? [[String: Any]]) where reason["is_halt"] as? Bool == false {
        let name = try #require(reason["name"] as? String)
        let exits = grouped(try #require(reason["exits"] as? UInt64))
        var parts: [String] = []
        if let mean = reason["mean_ns"] as? Double { parts.append(duration(nanoseconds: mean)) }
        if let longest = reason["max_ns"] as? UInt64 { parts.append(duration(nanoseconds: longest)) }
        let share = (reason["of_running"] as? Double).map(percentage) ?? "–"
        // the same name and count can stand in a VM's and in its vCPU's table
        let isThere = rows.contains { row in
          row.hasPrefix("\(name) \(exits) ") && parts.allSatisfy { row.contains(" \($0) ") }
            && row.hasSuffix(" \(share)")
        }
        #expect(isThere, "\(name) \(exits) \(parts) \(share)")
      }
      for group in try #require(section["groups"] as? [[String: Any]]) {
        let label = try #require(group["label"] as? String)
        guard let share = group["of_wall"] as? Double else { continue }
        #expect(rows.contains { $0.hasPrefix(label) && $0.contains(percentage(share)) })
      }
    }
  }
}
