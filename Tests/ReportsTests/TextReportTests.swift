import Attribution
import Foundation
import Reports
import Terminal
import Testing

/// Reports of known scenes as files: what a reader sees, reviewed by eye. `KVMTAX_WRITE_GOLDEN=1 swift test` rewrites
/// them; the numbers in them are checked by the other tests, not by these.
@Suite struct GoldenTests {
  static let directory = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .appending(path: "Golden")

  static let variants: [(file: String, style: Style, isVerbose: Bool, scene: String)] =
    [
      "busy", "several", "idle", "damaged", "hostile", "nothing", "no-time", "overflow", "wrong-sum", "wide",
      "calibrated", "steady",
    ]
    .map { ("\($0).txt", Style(), false, $0) }
    + [
      ("busy-ascii.txt", Style(unicode: false), false, "busy"), ("several-verbose.txt", Style(), true, "several"),
    ]

  @Test(arguments: variants)
  func looksAsReviewed(file: String, style: Style, isVerbose: Bool, scene: String) throws {
    let evidence = try #require(Scenes.all.first { $0.name == scene }).evidence
    let text = TextReport(style: style, isVerbose: isVerbose).render(try ReportBuilder(evidence).report())
    let place = GoldenTests.directory.appending(path: file)
    if ProcessInfo.processInfo.environment["KVMTAX_WRITE_GOLDEN"] != nil {
      try FileManager.default.createDirectory(at: GoldenTests.directory, withIntermediateDirectories: true)
      try text.write(to: place, atomically: true, encoding: .utf8)
    }
    #expect(text == (try String(contentsOf: place, encoding: .utf8)))
  }
}

@Suite struct TextReportTests {
  private static func texts() throws -> [(String, String)] {
    var texts: [(String, String)] = []
    for (name, evidence) in Scenes.all {
      let report = try ReportBuilder(evidence).report()
      for style in [Style(), Style(unicode: false)] {
        for isVerbose in [false, true] {
          texts.append((name, TextReport(style: style, isVerbose: isVerbose).render(report)))
        }
      }
    }
    return texts
  }

  @Test func noLineIsWiderThan100Columns() throws {
    for (name, text) in try Self.texts() {
      for line in text.split(separator: "\n") {
        // counted without the product's own width: wide characters here are CJK only
        let columns = line.unicodeScalars.reduce(0) { $0 + ((0x2e80...0xffdc).contains($1.value) ? 2 : 1) }
        #expect(columns <= 100, "\(name): \(line)")
      }
    }
  }

  @Test func namesCannotControlTheTerminal() throws {
    for (name, text) in try Self.texts() {
      let bad = text.unicodeScalars.filter {
        $0 != "\n" && ($0.value < 0x20 || (0x7f...0x9f).contains($0.value) || (0x202a...0x202e).contains($0.value))
      }
      #expect(bad.isEmpty, "\(name)")
    }
  }

  @Test func asciiLocalesGetAsciiOnly() throws {
    for (name, evidence) in Scenes.all {
      let text = TextReport(style: Style(unicode: false)).render(try ReportBuilder(evidence).report())
      #expect(text.utf8.allSatisfy { $0 < 0x80 }, "\(name)")
    }
  }

  @Test func asciiKeepsEveryColumnInItsPlace() throws {
    let report = try ReportBuilder(Scenes.busy()).report()
    let unicode = TextReport().render(report).split(separator: "\n").map(\.count)
    let ascii = TextReport(style: Style(unicode: false)).render(report).split(separator: "\n").map(\.count)
    #expect(unicode == ascii)
  }

  @Test func colorOnlyAddsColor() throws {
    for (name, evidence) in Scenes.all {
      let report = try ReportBuilder(evidence).report()
      let plain = TextReport().render(report)
      let colored = TextReport(style: Style(color: true)).render(report)
      #expect(colored != plain)
      let stripped = colored.replacing(#/\u{1b}\[[0-9;]*m/#, with: "")
      #expect(stripped == plain, "\(name)")
    }
  }

  @Test func theAnswerComesFirst() throws {
    let text = TextReport().render(try ReportBuilder(Scenes.busy()).report())
    let lines = text.split(separator: "\n")
    #expect(lines.prefix(3).contains { $0.hasPrefix("VM 104 win-erp loses ") })
  }

  @Test func aFailedCrossCheckIsABannerBeforeTheVerdict() throws {
    let text = TextReport().render(try ReportBuilder(Scenes.wrongSum()).report())
    let banner = try #require(text.range(of: "NOT TRUSTWORTHY: the states do not sum to the wall time"))
    let verdict = try #require(text.range(of: " loses "))
    #expect(banner.lowerBound < verdict.lowerBound)
    #expect(!TextReport().render(try ReportBuilder(Scenes.busy()).report()).contains("NOT TRUSTWORTHY"))
  }

  @Test func anIdleVMGetsTimePerSecondAndNoShareOfRunningTime() throws {
    let report = try ReportBuilder(Scenes.idle()).report()
    #expect(report.totals.headline.kind == .idle)
    #expect(report.totals.headline.overhead == nil)
    #expect(report.totals.reasons.allSatisfy { $0.ofRunning == nil })
    #expect(report.totals.groups.allSatisfy { $0.ofRunning == nil })
    #expect(TextReport().render(report).contains("ms per second"))
  }

  @Test func damageIsNamedWithItsPlace() throws {
    let text = TextReport().render(try ReportBuilder(Scenes.damaged()).report())
    for part in ["8,388,608", "12,345,678", "incomplete", "1,234 events", "2 gaps", "2 events out of order"] {
      #expect(text.contains(part), "\(part)")
    }
    #expect(text.contains("trace.dat does not say which VM a thread belongs to"))
  }

  @Test func theNextCommandCanBePasted() throws {
    var evidence = Scenes.several()
    evidence.capture.file = "last night's trace.kvmtax"
    evidence.ledger.vms[0].name = "a b"
    let text = TextReport().render(try ReportBuilder(evidence, vm: "a b").report())
    #expect(text.contains("\nNext: kvmtax report -v --vm 'a b' 'last night'\\''s trace.kvmtax'\n"))
  }

  @Test func unknownReasonsAreShownByNumber() throws {
    let text = TextReport().render(try ReportBuilder(Scenes.damaged()).report())
    #expect(text.contains("reason 0x2a"))
  }

  @Test func everyReasonAndVCPUIsThereWhenAskedFor() throws {
    let report = try ReportBuilder(Scenes.wide()).report()
    let short = TextReport().render(report)
    let full = TextReport(isVerbose: true).render(report)
    #expect(short.contains("18 other reasons") && short.contains("24 more vCPUs"))
    for vcpu in 0..<40 { #expect(full.contains("EXITS BY TIME, vCPU \(vcpu) ")) }
    #expect(!full.contains("other reasons"))
  }
}
