import Attribution
import Diagnosis
import Foundation
import TestSupport

/// A VM's seconds, made up: twelve reasons whose rates wander around their means, together and each by itself, and a load
/// that wanders too. Each second remembers the one before (an autoregressive process of the first order).
struct SimulatedLoad {
  /// How much of a deviation is still there a second later.
  var memory = 0.8
  /// The same of every other reason, where it differs.
  var otherMemory: Double?
  /// Length of the recording.
  var seconds = 60
  /// Handling time of the first reason, in QEMU, against what it usually is.
  var factor = 1.0
  /// Share of the time in which the VM runs.
  var busy = 0.6
  /// Deviation of the rates, relative.
  var spread = 0.15

  /// Exits per guest-second and ns each; 13 % overhead together.
  static let reasons: [(rate: Double, nanoseconds: Double, isQemu: Bool)] = [
    (14_000, 4_600, true), (6_100, 6_900, true), (6_900, 1_500, false), (4_800, 1_800, false), (2_000, 1_800, false),
    (900, 2_500, false), (300, 9_000, true), (250, 1_200, false), (120, 2_000, false), (60, 1_500, false),
    (20, 30_000, true), (3, 1_000, false),
  ]

  /// Overhead without deviations.
  var overhead: Double {
    let handled = SimulatedLoad.reasons.enumerated().reduce(0.0) { sum, reason in
      sum + reason.element.rate * reason.element.nanoseconds / 1e9 * (reason.offset == 0 ? factor : 1)
    }
    return handled / (1 + handled)
  }

  /// One recording of it, with deviations of its own for each seed.
  func recording(seed: UInt64) -> Blocks {
    let (timeline, vcpu) = timeline(seed: seed)
    return Blocks(timeline, vcpus: [vcpu], pids: [3])
  }

  func timeline(seed: UInt64) -> (Timeline, VCPU) {
    var random = SeededNumbers(seed: seed)
    func normal() -> Double {
      let radius = sqrt(-2 * log(Double.random(in: .leastNonzeroMagnitude...1, using: &random)))
      return radius * cos(2 * .pi * Double.random(in: 0..<1, using: &random))
    }
    // stationary from the first second on
    var deviations = (0..<SimulatedLoad.reasons.count + 2).map { _ in normal() }
    var thread = ThreadTimeline(thread: 1, startNanoseconds: 0)
    var points = [[ReasonTimeline.Point]](repeating: [], count: SimulatedLoad.reasons.count)
    var ends: [UInt64] = []
    for second in 0..<seconds {
      for index in deviations.indices {
        let memory = index % 2 == 1 ? otherMemory ?? memory : memory
        deviations[index] = memory * deviations[index] + sqrt(1 - memory * memory) * normal()
      }
      let common = deviations[points.count]
      let guest = max(0.001, busy * (1 + 0.1 * deviations[points.count + 1]) * 0.87)
      var states = StateTimes()
      states[.guest] = UInt64(guest * 1e9)
      for (index, reason) in SimulatedLoad.reasons.enumerated() {
        let rate = reason.rate * exp(spread * (0.6 * common + 0.8 * deviations[index]) - spread * spread / 2)
        let handled = UInt64(rate * guest * reason.nanoseconds * (index == 0 ? factor : 1))
        states[reason.isQemu ? .qemu : .kernel] += handled
        points[index].append(.init(place: second, exits: UInt64(rate * guest), handledNanoseconds: handled))
      }
      let end = UInt64(second + 1) * 1_000_000_000
      if states.total < 1_000_000_000 { states[.haltWait] = 1_000_000_000 - states.total }
      thread.append(until: end, place: second, states: states, exits: 0)
      ends.append(end)
    }
    let reasons = points.enumerated().map { ReasonTimeline(pid: 3, isa: 1, reason: UInt32($0), points: $1) }
    return (Timeline(ends: ends, threads: [thread], reasons: reasons), VCPU(thread: 1, tid: 1))
  }
}
