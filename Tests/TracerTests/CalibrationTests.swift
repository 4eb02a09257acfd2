import Attribution
import Foundation
import TestSupport
import Testing

@testable import Tracer

/// What follows from laps whose truth is known.
@Suite struct CalibrationSamplesTests {
  static let mode = Calibration.Mode(attach: "tp", tier: "full", keys: true, records: false)
  static let recording = Calibration.Mode(attach: "tp", tier: "full", keys: true, records: true)

  /// Rounds of a host on which everything is known: handling 1,000 ns, world switch 400; the stopwatch adds 30 on either
  /// side, the tracer 200 inside and 150 outside, a record 80 outside; and everything drifts by 5 % a round.
  static func samples(delay: Double = 0) -> CalibrationSamples {
    var samples = CalibrationSamples()
    var source = SystemRandomNumberGenerator()
    func visit(inside: Double, outside: Double, round: Int) -> CalibrationSamples.Visit {
      var visit = CalibrationSamples.Visit()
      for _ in 0..<200 {
        let handling = (1000 + Double.random(in: -40...40, using: &source)) * (1 + 0.05 * Double(round))
        visit.roundTrips.append(400 + handling + inside + outside)
        visit.outside.append(400 + outside)
      }
      return visit
    }
    for round in 0..<11 {
      func add(_ mode: CalibrationSamples.Mode, _ inside: Double, _ outside: Double) {
        samples.add(visit(inside: inside, outside: outside, round: round), kind: "cpuid", mode: mode)
      }
      add(.untraced, 0, 0)
      add(.stopwatch, 30, 30)
      add(.traced(mode), 200, 150)
      add(.traced(recording), 200, 230)
      if delay > 0 {
        add(.delayed(steps: 0), 220, 250)
        add(.delayed(steps: 100), 220 + delay, 250 + delay)
        samples.delayNanoseconds.append(delay)
      }
    }
    return samples
  }

  @Test func `World switch and both sides of the tracer's cost come out as they were put in`() throws {
    let one = try #require(
      Self.samples().measurement(kind: "cpuid", path: .kernel, modes: [Self.mode, Self.recording]))
    #expect(abs(one.worldSwitch.mid - 400) < 5)
    #expect(one.worldSwitch.low <= 400 && one.worldSwitch.high >= 400)
    let plain = try #require(one.tracer[Self.mode])
    let recording = try #require(one.tracer[Self.recording])
    for (found, truth) in [
      (plain.total, 350.0), (plain.inside, 200), (plain.outside, 150), (recording.total, 430), (recording.inside, 200),
      (recording.outside, 230),
    ] {
      #expect(abs(found.mid - truth) < 15, "\(found) \(truth)")
      #expect(found.low <= truth + 10 && found.high >= truth - 10)
    }
  }

  @Test func `A sleep's handling costs what the port's does`() throws {
    let samples = Self.samples()
    let port = try #require(samples.measurement(kind: "cpuid", path: .userspace, modes: [Self.mode, Self.recording]))
    let sleep = try #require(
      samples.measurement(kind: "cpuid", path: .switched, modes: [Self.mode, Self.recording], handling: port))
    #expect(sleep.tracer[Self.mode]?.inside == port.tracer[Self.mode]?.inside)
    #expect(abs((sleep.tracer[Self.recording]?.outside.mid ?? 0) - 230) < 15)
  }

  @Test func `A known delay is found again, on both sides`() throws {
    let found = try #require(Self.samples(delay: 500).recovered(kind: "cpuid", steps: 100))
    #expect(found.injected.mid == 1000)
    #expect(abs(found.error) < 0.02)
    #expect(abs(found.inside.mid - 500) < 10 && abs(found.outside.mid - 500) < 10)
    #expect(Self.samples().recovered(kind: "cpuid", steps: 100) == nil)
  }

  @Test func `Where no record pairs, the cost may be on either side`() throws {
    var samples = CalibrationSamples()
    for _ in 0..<3 {
      for (mode, trip) in [(CalibrationSamples.Mode.untraced, 1000.0), (.stopwatch, 1040), (.traced(Self.mode), 1300)] {
        samples.add(.init(roundTrips: [trip], outside: mode == .stopwatch ? [400] : []), kind: "out", mode: mode)
      }
    }
    let one = try #require(samples.measurement(kind: "out", path: .kernel, modes: [Self.mode]))
    let cost = try #require(one.tracer[Self.mode])
    #expect(cost.total.mid == 300)
    #expect(cost.inside.low == 0 && cost.inside.high == 300 && cost.outside.high == 300)
    #expect(samples.measurement(kind: "cpuid", path: .kernel, modes: [Self.mode]) == nil)
  }

  @Test func `A deadline has a fast path with VMX's preemption timer only`() {
    let intel = CalibratedKinds.choose(isIntel: true, hasPreemptionTimer: true)
    #expect(intel.0.first?.path == .fast && intel.absent.isEmpty)
    for other in [
      CalibratedKinds.choose(isIntel: true, hasPreemptionTimer: false),
      CalibratedKinds.choose(isIntel: false, hasPreemptionTimer: true),
    ] {
      #expect(!other.0.contains { $0.path == .fast })
      #expect(other.absent[.fast] != nil)
    }
  }
}

/// The file: found, refused, used.
@Suite struct CalibrationFileTests {
  static func calibration() throws -> Calibration {
    var calibration = Calibration(date: "2026-11-03 09:22:00 UTC", host: ["microcode": "0x1"])
    var one = Calibration.Measurement(
      path: .kernel, kind: "cpuid", roundTrip: Bounded(low: 1000, mid: 1100, high: 1300), worldSwitch: .zero)
    for (records, total) in [(false, 600.0), (true, 700)] {
      let value = Bounded(low: total, mid: total, high: total)
      one.tracer[Calibration.Mode(attach: "tp_btf", tier: "lite", keys: false, records: records)] =
        Calibration.TracerCost(total: value, inside: value, outside: .zero, roundTrip: value)
    }
    calibration.measurements = [one]
    return calibration
  }

  @Test func `It is found again on the same host, and refused on another with what differs`() throws {
    let folder = try ScratchFolder()
    let path = folder.file("calibration")
    #expect(CalibrationFile.find(path, host: [:]) == .none)
    let calibration = try Self.calibration()
    try CalibrationFile.write(calibration, to: path)
    // a second one takes the first one's place
    try CalibrationFile.write(calibration, to: path)
    #expect(CalibrationFile.find(path, host: ["microcode": "0x1"]) == .fits(calibration))
    let stale = CalibrationFile.find(path, host: ["microcode": "0x2"])
    #expect(stale.calibration == nil)
    #expect(stale.problem?.contains("microcode was 0x1, is 0x2") == true)
    #expect(stale.problem?.contains("gross") == true)
    try "nonsense".write(toFile: path, atomically: true, encoding: .utf8)
    #expect(CalibrationFile.find(path, host: [:]).problem?.contains("no calibration") == true)
  }

  @Test func `This host's facts name what an exit's cost depends on`() {
    let facts = CalibratedHost.facts()
    #expect(facts["kernel"] == kernelRelease())
    #expect(facts["tracer"] != nil && facts["cpu_model"] != nil)
    #expect(facts.keys.contains { $0.hasPrefix("mitigation_") })
  }
}

/// The verb as it is run.
@Suite(.serialized, .needsBpf, .needsKvm) struct CalibrateVerbTests {
  @Test func `The proxy pair is calibrated, and a recording takes it along`() throws {
    let folder = try ScratchFolder()
    let made = try Program(
      "kvmtax-tracer", ["calibrate", "--proxy", "--rounds", "3", "--inject-delay", "2000", "-o", folder.file("made")]
    ).finish()
    #expect(made.status == 0, "\(made.errors)")
    #expect(made.output.contains("userspace: out") && made.output.contains("INJECTED DELAY, out"))
    #expect(made.output.split(separator: "\n").allSatisfy { $0.count <= 100 })
    let text = try String(contentsOfFile: folder.file("made"), encoding: .utf8)
    let calibration = try #require(Calibration(parsing: text))
    #expect(Set(calibration.measurements.map(\.path)) == [.userspace, .switched])
    let port = try #require(calibration.measurements.first { $0.path == .userspace })
    #expect(port.roundTrip.mid > 0 && port.worldSwitch.high < port.roundTrip.high)
    #expect(port.tracer.count == 2)
    let found = CalibrationFile.find(folder.file("made"), host: CalibratedHost.facts())
    #expect(found == .fits(calibration))
  }

  @Test(arguments: [["--rounds", "2"], ["--inject-delay", "100000", "--proxy", "-o", "x"], ["--proxy"]])
  func `What cannot be asked for is wrong usage`(options: [String]) throws {
    let outcome = try Program("kvmtax-tracer", ["calibrate"] + options).finish()
    #expect(outcome.status == 2)
  }
}
