import Attribution
import CKvmtax
import Testing

/// What a calibration takes out of which state, and that no time is lost or made up.
@Suite struct CalibrationTests {
  static let mode = Calibration.Mode(attach: "tp_btf", tier: "full", keys: true, records: false)

  static func cost(inside: Double, outside: Double) -> Calibration.TracerCost {
    func bounded(_ value: Double) -> Bounded { Bounded(low: value * 0.5, mid: value, high: value * 2) }
    return Calibration.TracerCost(
      total: bounded(inside + outside), inside: bounded(inside), outside: bounded(outside), roundTrip: bounded(5000))
  }

  static func calibration() -> Calibration {
    var calibration = Calibration(date: "2026-11-03 09:22:00 UTC", host: ["microcode": "0x1", "kernel": "6.12 x"])
    for (path, kind, ws) in [(Calibration.Path.kernel, "cpuid", 400.0), (.userspace, "out", 500)] {
      var one = Calibration.Measurement(
        path: path, kind: kind, roundTrip: Bounded(low: 1000, mid: 1100, high: 1300),
        worldSwitch: Bounded(low: ws - 100, mid: ws, high: ws + 200))
      one.tracer[mode] = cost(inside: path == .kernel ? 200 : 300, outside: 100)
      calibration.measurements.append(one)
    }
    calibration.absent[.fast] = "KVM has none here."
    return calibration
  }

  static func times(_ values: [State: UInt64]) -> StateTimes {
    var states = StateTimes()
    for (state, value) in values { states[state] = value }
    return states
  }

  @Test func `Each part goes where it came from`() throws {
    let states = Self.times([.guest: 10_000_000, .kernel: 4_000_000, .qemu: 2_000_000, .haltWait: 77])
    let adjusted = try #require(
      Self.calibration().adjusted(states, exits: [.kernel: 1000, .userspace: 500], mode: Self.mode))
    #expect(adjusted.tracerNanoseconds == 1000 * 300 + 500 * 400)
    #expect(adjusted.worldSwitchNanoseconds == 1000 * 400 + 500 * 500)
    // half of what a port costs inside is QEMU's
    #expect(adjusted.states[.qemu] == 2_000_000 - 500 * 150)
    #expect(adjusted.states[.kernel] == 4_000_000 - 1000 * 200 - 500 * 150)
    #expect(adjusted.states[.guest] == 10_000_000 - 1500 * 100 - 650_000)
    #expect(adjusted.states[.haltWait] == 77)
  }

  @Test func `Overhead is least at the low edge and greatest at the high one`() throws {
    let states = Self.times([.guest: 10_000_000, .kernel: 4_000_000, .qemu: 2_000_000])
    func overhead(_ edge: Calibration.Edge) throws -> Double {
      let one = try #require(
        Self.calibration().adjusted(states, exits: [.kernel: 3000, .userspace: 100], mode: Self.mode, at: edge))
      let virt = Double(one.states[.kernel] + one.states[.qemu] + one.worldSwitchNanoseconds)
      return virt / (virt + Double(one.states[.guest]))
    }
    #expect(try overhead(.low) < overhead(.mid))
    #expect(try overhead(.mid) < overhead(.high))
  }

  @Test func `Nothing becomes negative and every sum is kept, whatever the numbers`() throws {
    var source = SystemRandomNumberGenerator()
    for _ in 0..<3000 {
      var states = StateTimes()
      let most: UInt64 = [100, 1_000_000, .max >> 8].randomElement()!
      for state in State.allCases where Bool.random() { states[state] = .random(in: 0...most, using: &source) }
      var calibration = Self.calibration()
      for index in calibration.measurements.indices {
        let large = Double.random(in: -1e3...1e12)
        calibration.measurements[index].worldSwitch = Bounded(low: -5, mid: large, high: large * 2)
        calibration.measurements[index].tracer[Self.mode]?.inside = Bounded(low: 0, mid: large, high: large)
      }
      let exits = Dictionary(
        uniqueKeysWithValues: Calibration.Path.allCases.map { ($0, UInt64.random(in: 0...UInt64.max >> 1)) })
      for edge in [Calibration.Edge.low, .mid, .high] {
        let one = try #require(calibration.adjusted(states, exits: exits, mode: Self.mode, at: edge))
        #expect(one.states.total &+ one.worldSwitchNanoseconds &+ one.tracerNanoseconds == states.total)
        for state in State.allCases { #expect(one.states[state] <= states[state]) }
      }
    }
  }

  @Test func `An unmeasured path takes its neighbour's costs, an unmeasured way of recording none`() throws {
    let calibration = Self.calibration()
    #expect(calibration.worldSwitch(.fast) == calibration.worldSwitch(.kernel))
    #expect(calibration.tracer(.switched, Self.mode) == calibration.tracer(.userspace, Self.mode))
    var other = Self.mode
    other.records = true
    #expect(calibration.adjusted(StateTimes(), exits: [.kernel: 1], mode: other) == nil)
  }

  @Test func `Each exit takes the path that its account shows`() {
    func account(_ reason: UInt32, _ exits: UInt64, _ state: State) -> ExitAccount {
      var account = ExitAccount(isa: 1, reason: reason)
      account.finished = exits
      account.states[state] = 1000
      return account
    }
    #expect(
      Calibration.exits(of: [
        account(10, 5, .kernel), account(30, 7, .qemu), account(12, 3, .haltWait), account(12, 2, .kernel),
      ])
        == [.kernel: 7, .userspace: 7, .switched: 3])
    func key(_ reason: UInt32, _ exits: UInt64, userspace: UInt8, _ state: State) -> KeyAccount {
      var record = kt_key()
      record.isa = 1
      record.reason = reason
      record.userspace = userspace
      var account = KeyAccount(Key(record))
      account.finished = exits
      account.states[state] = 1000
      return account
    }
    #expect(
      Calibration.exits(of: [
        key(30, 4, userspace: 0, .kernel), key(30, 6, userspace: 3, .qemu), key(12, 1, userspace: 0, .haltWait),
      ])
        == [.kernel: 4, .userspace: 6, .switched: 1])
  }

  @Test func `Its text says it all, and is read again`() throws {
    let calibration = Self.calibration()
    #expect(Calibration(parsing: calibration.text) == calibration)
    let later = [
      "later words", "measured", "measured kernel cpuid x y z", "measured kernel cpuid untraced round_trip nan 1 inf",
    ]
    let more = calibration.text + later.joined(separator: "\n") + "\n"
    #expect(Calibration(parsing: more) == calibration)
  }

  @Test(arguments: ["", "kvmtax-calibration 2\n", "kvmtax-calibration 1\n", "x", "kvmtax-calibration 1\nhost a b\n"])
  func `What has no measurement is none`(text: String) {
    #expect(Calibration(parsing: text) == nil)
    #expect(Calibration(parsing: Self.calibration().text + String(repeating: "x", count: Calibration.mostBytes)) == nil)
  }

  @Test func `Any bytes are taken`() {
    let words = Self.calibration().text.split(separator: " ").map(String.init) + ["\n", "-1", "1e400", "+", "é"]
    for _ in 0..<2000 {
      let text = "kvmtax-calibration 1\n" + (0..<20).map { _ in words.randomElement()! }.joined(separator: " ")
      guard let read = Calibration(parsing: text) else { continue }
      _ = read.adjusted(Self.times([.guest: 5, .kernel: 5]), exits: [.kernel: 3, .fast: 1], mode: Self.mode)
    }
  }

  @Test func `What differs is named`() {
    let calibration = Self.calibration()
    #expect(calibration.differences(from: calibration.host).isEmpty)
    #expect(
      calibration.differences(from: ["microcode": "0x2", "kernel": "6.12 x", "cpu_model": "A"])
        == ["cpu model was not there, is A", "microcode was 0x1, is 0x2"])
  }

  @Test func `Names of ways of recording are read again`() {
    #expect(Calibration.Mode(name: "tp_btf+full+keys+records")?.name == "tp_btf+full+keys+records")
    #expect(Calibration.Mode(name: Self.mode.name) == Self.mode)
    for wrong in ["", "tp", "tp+lite+other", "tp+lite+records+keys"] { #expect(Calibration.Mode(name: wrong) == nil) }
  }
}
