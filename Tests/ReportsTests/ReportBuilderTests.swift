import Attribution
import Reports
import Terminal
import Testing

@Suite struct ReportBuilderTests {
  /// One thread whose every duration is written here.
  private static func known() throws -> Report {
    var scene = Scene()
    scene.vm(pid: 9, name: "known")
    var thread = Scene.Thread(tid: 10, pid: 9, index: 0)
    scene.entry(&thread)
    scene.exits(&thread, 100, reason: 30, guest: 10_000, kernel: 1_000, qemu: 3_000)
    scene.exits(&thread, 50, reason: 32, guest: 10_000, kernel: 2_000)
    for _ in 0..<4 { scene.halt(&thread, guest: 10_000, wait: 100_000, divided: true) }
    return try ReportBuilder(scene.evidence()).report()
  }

  @Test func theHeadlineIsVirtualizationOfRunningTime() throws {
    let headline = try Self.known().totals.headline
    let virt: UInt64 = 100 * 4_000 + 50 * 2_000 + 4 * 1_500
    let guest: UInt64 = 154 * 10_000
    #expect(headline.virtNanoseconds == virt)
    #expect(headline.guestNanoseconds == guest)
    #expect(headline.overhead == Double(virt) / Double(virt + guest))
    #expect(headline.low == headline.overhead && headline.high == headline.overhead)
  }

  @Test func waitingInHLTIsIdleAndHandlingItIsCost() throws {
    let report = try Self.known()
    let halt = try #require(report.totals.reasons.first { $0.isHalt })
    #expect(halt.handledNanoseconds == 4 * 1_500)
    #expect(halt.totalNanoseconds == 4 * 101_500)
    #expect(report.totals.groups.first { $0.id == "idle" }?.nanoseconds == 400_000)
  }

  @Test func anUndividedHaltIsOutsideOverhead() throws {
    var scene = Scene()
    var thread = Scene.Thread(tid: 10, pid: 9, index: 0)
    scene.entry(&thread)
    scene.halt(&thread, guest: 10_000, wait: 100_000)
    let report = try ReportBuilder(scene.evidence()).report()
    #expect(report.totals.headline.virtNanoseconds == 0)
    #expect(report.trust.merged.contains { $0.hasPrefix("HLT undivided") })
  }

  @Test func aHaltThatTheTableShowsAsHandledIsNotSaidToBeAllIdle() throws {
    var scene = Scene()
    var thread = Scene.Thread(tid: 10, pid: 9, index: 0)
    scene.entry(&thread)
    scene.halt(&thread, guest: 10_000, wait: 100_000)
    var evidence = scene.evidence()
    for place in evidence.ledger.vms[0].vcpus[0].accounts.indices {
      let total = evidence.ledger.vms[0].vcpus[0].accounts[place].totalNanoseconds
      evidence.ledger.vms[0].vcpus[0].accounts[place].states = StateTimes()
      evidence.ledger.vms[0].vcpus[0].accounts[place].states[.qemu] = total
    }
    let report = try ReportBuilder(evidence).report()
    #expect(!report.trust.merged.contains { $0.contains("none as overhead") })
    #expect(!report.totals.groups.contains { $0.note == "undivided: all of HLT" })
  }

  @Test func variationNeedsAMinute() throws {
    let long = try ReportBuilder(Scenes.steady()).report()
    let variation = try #require(long.totals.headline.variation)
    let (low, high) = (try #require(variation.low), try #require(variation.high))
    let overhead = try #require(long.totals.headline.overhead)
    #expect(low < overhead && overhead < high && high - low < 0.01 && variation.blocks == 12)
    #expect(long.vms[0].section.headline.variation == variation)
    #expect(long.vms[0].vcpus[0].section.headline.variation == nil)
    let short = try ReportBuilder(Scenes.steady(seconds: 30)).report()
    #expect(short.totals.headline.variation?.blocks == 3 && short.totals.headline.variation?.low == nil)
    #expect(
      TextReport(isVerbose: true).render(short).contains("Too short for variation: 3 blocks of 10 s, 6 are needed."))
    #expect(!TextReport().render(short).contains("variation"))
    #expect(try ReportBuilder(Scenes.idle()).report().totals.headline.variation == nil)
  }

  @Test func pollingDoesNotMoveTheHeadline() throws {
    func report(polled: Bool) throws -> Report {
      var scene = Scene()
      var thread = Scene.Thread(tid: 10, pid: 9, index: 0)
      scene.entry(&thread)
      scene.exits(&thread, 10, reason: 30, guest: 10_000, kernel: 1_000)
      for _ in 0..<10 { scene.halt(&thread, guest: 1_000, wait: 50_000, divided: true, polled: polled) }
      return try ReportBuilder(scene.evidence()).report()
    }
    let sleeping = try report(polled: false)
    let polling = try report(polled: true)
    #expect(sleeping.totals.headline == polling.totals.headline)
    #expect(polling.totals.groups.contains { $0.id == "poll" && $0.nanoseconds == 500_000 })
  }

  @Test func ratesAreOfTheVMAndSecond() throws {
    var scene = Scene()
    for index in 0..<2 {
      var thread = Scene.Thread(tid: 10 + UInt32(index), pid: 9, index: UInt16(index))
      scene.entry(&thread)
      // 1,000 exits in 0.1 s on each
      scene.exits(&thread, 1_000, reason: 30, guest: 99_000, kernel: 1_000)
    }
    let report = try ReportBuilder(scene.evidence()).report()
    #expect(report.vms[0].section.exitsPerSecond == 20_000)
    #expect(report.vms[0].vcpus[0].section.exitsPerSecond == 10_000)
    #expect(report.vms[0].section.reasons[0].perSecond == 20_000)
  }

  @Test func unknownTimeWidensTheVerdict() throws {
    let report = try ReportBuilder(Scenes.damaged()).report()
    let headline = report.totals.headline
    let (low, high, middle) = (try #require(headline.low), try #require(headline.high), try #require(headline.overhead))
    #expect(low < middle && middle < high)
  }

  @Test(arguments: ["busy", "several", "idle", "damaged", "hostile", "overflow", "wide", "no-time", "nothing"])
  func everythingSumsTo100Percent(scene: String) throws {
    let evidence = try #require(Scenes.all.first { $0.name == scene }).evidence
    let report = try ReportBuilder(evidence).report()
    var sections = [report.totals]
    for vm in report.vms { sections += [vm.section] + vm.vcpus.map(\.section) }
    for section in sections {
      let wall = section.wallNanoseconds
      #expect(section.states.reduce(0) { $0 + $1.nanoseconds } == wall)
      #expect(section.groups.reduce(0) { $0 + $1.nanoseconds } == wall)
      let virt = section.headline.virtNanoseconds
      #expect(section.reasons.reduce(0) { $0 + $1.handledNanoseconds } + section.rest.handledNanoseconds == virt)
      #expect(section.reasons.reduce(0) { $0 + $1.exits } + section.rest.overflowExits == section.exits)
      if wall > 0 {
        #expect(abs(section.groups.reduce(0) { $0 + ($1.ofWall ?? 0) } - 1) < 1e-9)
      }
      if section.headline.kind == .overhead {
        #expect(abs(section.groups.reduce(0) { $0 + ($1.ofRunning ?? 0) } - 1) < 1e-9)
      }
      for reason in section.reasons { #expect(reason.exits == reason.finished + reason.unpaired + reason.open) }
    }
    for vcpu in report.vms.flatMap(\.vcpus) where vcpu.section.wallNanoseconds > 0 {
      #expect(vcpu.bar.reduce(0) { $0 + $1.count } == Report.barWidth)
    }
    // the whole is its parts
    #expect(report.vms.reduce(0) { $0 + $1.section.exits } == report.totals.exits)
    #expect(report.vms.flatMap(\.vcpus).reduce(0) { $0 + $1.section.wallNanoseconds } == report.totals.wallNanoseconds)
  }

  @Test(arguments: [("107", "mail"), ("mail", "mail"), ("100", "mail"), ("dns", "dns"), ("200", "dns")])
  func oneVMIsChosenByNameNumberOrPid(filter: String, name: String) throws {
    let report = try ReportBuilder(Scenes.several(), vm: filter).report()
    #expect(report.vms.map(\.name) == [name])
    #expect(report.totals.exits == report.vms[0].section.exits)
  }

  @Test func aVMThatIsNotThereIsAnErrorThatListsThem() throws {
    let error = #expect(throws: InputError.self) { try ReportBuilder(Scenes.several(), vm: "web\u{1b}") }
    let text = message(for: try #require(error))
    #expect(text.contains("107 mail") && text.contains("dns pid 200"))
    #expect(!text.contains("\u{1b}"))
  }

  @Test func aNameWinsOverANumber() throws {
    var scene = Scene()
    scene.vm(pid: 1, name: "104", vmid: 7)
    scene.vm(pid: 2, name: "other", vmid: 104)
    for pid in [1, 2] {
      var thread = Scene.Thread(tid: 10 + UInt32(pid), pid: UInt32(pid), index: 0)
      scene.entry(&thread)
      scene.exits(&thread, 1, reason: 30, guest: 10, kernel: 10)
    }
    #expect(try ReportBuilder(scene.evidence(), vm: "104").report().vms.map(\.pid) == [1])
  }
}
