import Attribution
import Reports
import Testing

@testable import Terminal

/// What a calibration adds to a report, and what a missing one is called.
@Suite struct CalibratedReportTests {
  private static func report(_ change: (inout Evidence) -> Void = { _ in }) throws -> Report {
    var evidence = Scenes.calibrated()
    change(&evidence)
    return try ReportBuilder(evidence).report()
  }

  private static func text(_ report: Report) -> String { TextReport(style: Style(unicode: false)).render(report) }

  @Test func `World switch and tracer's cost are those of the exits`() throws {
    let report = try Self.report()
    let calibrated = try #require(report.totals.calibrated)
    // by hand: a port's and an MMIO's exits come to QEMU, halts sleep (which was not measured and takes the costs of
    // those), all others stay in the kernel
    let toUser = report.totals.reasons.filter { [30, 49, 12].contains($0.number) }.reduce(0) { $0 + $1.exits }
    let inKernel = report.totals.exits - toUser
    let world = toUser * 480 + inKernel * 420
    let tracer = report.totals.exits * 400
    #expect(abs(Double(calibrated.worldSwitchNanoseconds) - Double(world)) < 10)
    #expect(abs(Double(calibrated.tracerNanoseconds) - Double(tracer)) < 10)
    let headline = report.totals.headline
    let virt = Double(headline.virtNanoseconds) - Double(report.totals.exits * 200) + Double(world)
    let guest = Double(headline.guestNanoseconds) - Double(report.totals.exits * 200) - Double(world)
    #expect(abs((calibrated.overhead ?? 0) - virt / (virt + guest)) < 1e-6)
    #expect((calibrated.low ?? 1) < (calibrated.overhead ?? 0) && (calibrated.overhead ?? 1) < (calibrated.high ?? 0))
  }

  @Test func `The text says when, how much and how sure`() throws {
    let text = Self.text(try Self.report())
    #expect(text.contains("calibrated 2026-11-03 09:22:00 UTC; tracer"))
    #expect(text.contains("of it world switch"))
    #expect(text.contains("Systematic"))
    #expect(!text.contains("gross"))
  }

  @Test func `Without a calibration, or with one for another way of recording, it says gross`() throws {
    let none = try Self.report { $0.capture.calibration = nil }
    #expect(Self.text(none).contains("uncalibrated: gross numbers"))
    #expect(none.totals.calibrated == nil && none.trust.calibrated == nil)
    let other = try Self.report { $0.capture.mode?.records = true }
    #expect(other.trust.calibrationProblem?.contains("tp_btf+lite+records") == true)
    #expect(Self.text(other).contains("does not cover"))
    let stale = try Self.report {
      $0.capture.calibration = nil
      $0.capture.calibrationProblem = "the calibration of 2026-11-03 does not hold: microcode was 0x1, is 0x2."
    }
    #expect(Self.text(stale).contains("microcode was 0x1, is 0x2"))
  }
}
