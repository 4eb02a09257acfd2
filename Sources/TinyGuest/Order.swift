import Glibc

/// What the command line asks for.
struct Order: Sendable {
  var workload = Workload()
  var vms = 1
  /// VMs one after the other.
  var churn: Int?
  var waits = false

  init(_ arguments: [String]) throws(TinyGuestError) {
    var rest = arguments[...]
    while let option = rest.popFirst() {
      if option == "--wait" {
        waits = true
        continue
      }
      guard option.hasPrefix("--") else { throw TinyGuestError("unknown argument \(option)") }
      guard let value = rest.popFirst() else { throw TinyGuestError("\(option) wants a value") }
      try set(option, value)
    }
    guard (1...500).contains(vms) else { throw TinyGuestError("--vms takes 1 to 500") }
    guard (1...100_000).contains(churn ?? 1) else { throw TinyGuestError("--churn takes 1 to 100000") }
    guard churn == nil || vms == 1 else { throw TinyGuestError("--vms and --churn exclude each other") }
  }

  private mutating func set(_ option: String, _ value: String) throws(TinyGuestError) {
    switch option {
    case "--vcpus": workload.vcpus = try Self.whole(option, value)
    case "--vms": vms = try Self.whole(option, value)
    case "--churn": churn = try Self.whole(option, value)
    case "--repeat": workload.laps = try Self.whole(option, value)
    case "--seconds": workload.seconds = try Self.positive(option, value)
    case "--immediate-exit": workload.immediateExits = try Self.whole(option, value)
    case "--rate": workload.immediateExitsPerSecond = try Self.positive(option, value)
    case "--time-limit": workload.timeLimitSeconds = try Self.positive(option, value)
    case "--stop-ms": workload.stopMilliseconds = try Self.whole(option, value)
    case "--pin": workload.pinnedCPU = try Self.whole(option, value)
    case "--competitor": workload.competitorCPU = try Self.whole(option, value)
    case "--timer-us": workload.spans.timer = try Self.whole(option, value)
    case "--spin-us": workload.spans.inSpin = try Self.whole(option, value)
    case "--sleep-us": workload.spans.inSleep = try Self.whole(option, value)
    case "--guest-spin-us": workload.spans.guestSpin = try Self.whole(option, value)
    case "--fault-us": workload.spans.fault = try Self.whole(option, value)
    default:
      guard let deed = Deed.allCases.first(where: { "--\($0.name)" == option }) else {
        throw TinyGuestError("unknown option \(option)")
      }
      workload.times[deed] = try Self.whole(option, value)
    }
  }

  private static func whole(_ option: String, _ value: String) throws(TinyGuestError) -> Int {
    guard let number = Int(value), number >= 0 else { throw TinyGuestError("\(option) takes a number, not \(value)") }
    return number
  }

  private static func positive(_ option: String, _ value: String) throws(TinyGuestError) -> Double {
    guard let number = Double(value), number > 0, number <= 1e9 else {
      throw TinyGuestError("\(option) takes a number above 0, not \(value)")
    }
    return number
  }
}
