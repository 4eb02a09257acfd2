import Attribution
import Foundation
import Reports
import Terminal
import Testing

/// Comparisons of known scenes.
enum DiffScenes {
  /// Three points more overhead; another load; too short; idle; VMs that have no partner.
  static let all: [(name: String, before: Evidence, after: Evidence)] = [
    ("more", Scenes.steady(file: "before.kvmtax"), Scenes.steady(factor: 1.5, file: "after.kvmtax")),
    ("same", Scenes.steady(file: "before.kvmtax"), Scenes.steady(file: "after.kvmtax")),
    ("short", Scenes.steady(seconds: 4, file: "before.kvmtax"), Scenes.steady(factor: 1.5, seconds: 4)),
    ("load", Scenes.steady(file: "before.kvmtax"), Scenes.steady(file: "after.kvmtax", guest: 16_000_000)),
    ("idle", Scenes.idle(), Scenes.idle()), ("several", Scenes.several(), Scenes.busy()),
    ("hostile", Scenes.hostile(), Scenes.hostile()), ("huge", Scenes.huge(), Scenes.huge()),
    ("damaged", Scenes.damaged(), Scenes.damaged()),
  ]

  static func report(_ name: String) throws -> DiffReport {
    let scene = try #require(all.first { $0.name == name })
    return try DiffBuilder(scene.before, scene.after).report()
  }
}

@Suite struct DiffTests {
  @Test(arguments: ["more", "same", "short", "load", "several"]) func looksAsReviewed(scene: String) throws {
    let text = TextDiff().render(try DiffScenes.report(scene))
    let place = GoldenTests.directory.appending(path: "diff-\(scene).txt")
    if ProcessInfo.processInfo.environment["KVMTAX_WRITE_GOLDEN"] != nil {
      try text.write(to: place, atomically: true, encoding: .utf8)
    }
    #expect(text == (try String(contentsOf: place, encoding: .utf8)))
  }

  @Test(arguments: DiffScenes.all.map(\.name)) func theDocumentIsAsDescribed(scene: String) throws {
    let report = try DiffScenes.report(scene)
    let json = JSONDiff().render(report)
    let object = try JSONSerialization.jsonObject(with: Data(json.utf8))
    #expect(try Schema().faults(object, "Diff") == [])
    #expect(json.unicodeScalars.allSatisfy { $0 == "\n" || ($0.value >= 0x20 && $0.value != 0x7f) })
    let verdict = try #require((object as? [String: Any])?["verdict"] as? String)
    if scene != "hostile" { #expect(TextDiff().render(report).replacing("\n", with: " ").contains(verdict)) }
  }

  @Test(arguments: DiffScenes.all.map(\.name)) func theTextFitsEveryScreen(scene: String) throws {
    let report = try DiffScenes.report(scene)
    for style in [Style(), Style(unicode: false), Style(color: true)] {
      for isVerbose in [false, true] {
        let text = TextDiff(style: style, isVerbose: isVerbose).render(report)
          .replacing(#/\u{1b}\[[0-9;]*m/#, with: "")
        for line in text.split(separator: "\n") {
          #expect(line.unicodeScalars.reduce(0) { $0 + ((0x2e80...0xffdc).contains($1.value) ? 2 : 1) } <= 100)
        }
        #expect(
          text.unicodeScalars.allSatisfy { $0 == "\n" || ($0.value >= 0x20 && !(0x7f...0x9f).contains($0.value)) })
        if !style.unicode { #expect(text.utf8.allSatisfy { $0 < 0x80 }) }
      }
    }
  }

  @Test func aDifferenceIsFoundAndSameIsNot() throws {
    let more = try DiffScenes.report("more")
    #expect(more.isDifferent && !more.isTooShort)
    let overhead = try #require(more.vms[0].overhead)
    #expect(overhead.outcome == .different && overhead.effect > 0.03 && more.vms[0].blocks == [12, 12])
    let same = try DiffScenes.report("same")
    #expect(!same.isDifferent && same.vms[0].outcome == .unchanged && same.vms[0].warnings.isEmpty)
    let back = try DiffBuilder(Scenes.steady(factor: 1.5), Scenes.steady()).report()
    #expect(abs((back.vms[0].overhead?.effect ?? 0) + overhead.effect) < 1e-12)
  }

  @Test func theLeastEffectIsTheUsers() throws {
    let report = try DiffBuilder(Scenes.steady(), Scenes.steady(factor: 1.5), least: 0.2).report()
    #expect(!report.isDifferent)
  }

  @Test func calibratedRecordingsAreComparedAndVaryNet() throws {
    let (before, after) = (Scenes.calibrated(Scenes.steady()), Scenes.calibrated(Scenes.steady(factor: 1.5)))
    let report = try DiffBuilder(before, after).report()
    let overhead = try #require(report.vms[0].overhead)
    for (evidence, found) in [(before, overhead.before), (after, overhead.after)] {
      let section = try ReportBuilder(evidence).report().totals
      let net = try #require(section.calibrated?.overhead)
      #expect(net != section.headline.overhead && abs(found - net) < 1e-6)
      let variation = try #require(section.headline.variation)
      #expect((variation.low ?? 1) < net && net < (variation.high ?? 0))
    }
    let mixed = try DiffBuilder(Scenes.steady(), after).report()
    #expect(mixed.warnings.contains { $0.hasPrefix("only after is calibrated") })
    let gross = try DiffBuilder(Scenes.steady(), Scenes.steady(factor: 1.5)).report()
    #expect(mixed.vms[0].rows == gross.vms[0].rows && gross.warnings.isEmpty)
  }

  @Test func aLoadThatDiffersIsSaid() throws {
    #expect(try DiffScenes.report("load").vms[0].warnings.contains { $0.hasPrefix("the load differed: 0.80 → 0.40 s") })
  }

  @Test func differentVMsAreRefused() throws {
    let (before, after) = (Scenes.steady(file: "a.kvmtax"), Scenes.steady(file: "b.kvmtax", name: "dns", vmid: 112))
    let error = #expect(throws: InputError.self) { try DiffBuilder(before, after) }
    #expect(error?.found == "cannot be compared: different VMs")
    #expect(error?.description.contains("107 mail") == true && error?.description.contains("112 dns") == true)
    #expect(throws: InputError.self) { try DiffBuilder(before, after, vm: "107") }
    #expect(throws: InputError.self) { try DiffBuilder(before, Scenes.nothing()) }
  }

  @Test func vmsAreMatchedByNumberThenByNameThenAsTheOnlyOnes() throws {
    func name(_ report: DiffReport) -> [String] { report.vms.map { "\($0.vmid ?? 0) \($0.name ?? "-")" } }
    // renamed; without a number on one side; without any name on one side
    let steady = Scenes.steady(seconds: 10)
    #expect(name(try DiffBuilder(steady, Scenes.steady(seconds: 10, name: "post")).report()) == ["107 post"])
    #expect(name(try DiffBuilder(steady, Scenes.steady(seconds: 10, vmid: nil)).report()) == ["107 mail"])
    var nameless = steady
    nameless.ledger.vms[0].name = nil
    nameless.ledger.vms[0].vmid = nil
    #expect(name(try DiffBuilder(steady, nameless).report()) == ["107 mail"])
    let several = try DiffBuilder(Scenes.several(), Scenes.busy()).report()
    #expect(name(several) == ["104 win-erp"] && several.onlyBefore == ["107 mail", "dns"] && several.onlyAfter == [])
    let chosen = try DiffBuilder(Scenes.several(), Scenes.several(), vm: "mail").report()
    #expect(name(chosen) == ["107 mail"] && chosen.onlyBefore == [])
  }

  @Test func aVMThatWasStartedAnewIsOneVM() throws {
    var twice = Scenes.steady(seconds: 10)
    var second = twice.ledger.vms[0]
    second.pid = 200
    twice.ledger.vms.append(second)
    #expect(try DiffBuilder(twice, Scenes.steady(seconds: 10)).report().vms.count == 1)
  }

  @Test func whatWasMeasuredDifferentlyIsSaid() throws {
    var undivided = Scenes.steady(seconds: 10)
    undivided.ledger.vms[0].vcpus[0].features.remove(.wakeup)
    undivided.trust.lostEvents = 5
    undivided.trust.isComplete = false
    let report = try DiffBuilder(Scenes.steady(seconds: 10), undivided).report()
    #expect(report.vms[0].warnings.contains { $0.hasPrefix("HLT is divided") })
    #expect(report.warnings.contains("after: 5 events lost; its rates are too low"))
    #expect(report.warnings.contains("after: the recording did not end in order"))
    let text = TextDiff().render(try DiffBuilder(Scenes.wrongSum(), Scenes.busy()).report())
    #expect(text.contains("NOT TRUSTWORTHY: before: the states do not sum to the wall time"))
  }
}
