import Glibc

/// The command line over TinyGuest, for tests, the demonstration and the lab.
public enum GuestCommand {
  static let usage = """
    usage: guest [--cpuid N] [--out N] [--in N] [--mmio-write N] [--mmio-read N] [--rdmsr N] [--wrmsr N]
                 [--touch N] [--hlt N] [--vcpus N] [--vms N] [--repeat LAPS | --seconds S]
                 [--immediate-exit N [--rate PER_SECOND]] [--wait] [--time-limit S]

    Runs tiny VMs, each in a process of its own if there are several, which do exactly N of each thing on each
    virtual CPU and lap. Prints one line of JSON per VM: what the guest counted and how KVM_RUN came back.
    A guest halts at least twice, when it is ready and when it is done; further laps halt once less.
    --wait: prints "ready" when every virtual CPU exists, and goes on at a line or end of file on standard input.

    """

  /// Runs and returns the exit status: 0 fine, 2 usage, 3 the VM could not run.
  public static func main(_ arguments: [String]) -> Int32 {
    let order: Order
    do throws(TinyGuestError) {
      if arguments.contains("--help") || arguments.contains("-h") {
        write(usage, to: 1)
        return 0
      }
      order = try Order(arguments)
      try order.workload.check()
    } catch {
      write("guest: \(error)\n\(usage)", to: 2)
      return 2
    }
    return order.vms > 1 ? Fleet(order).run() : runOne(order)
  }

  /// One VM in this process.
  private static func runOne(_ order: Order) -> Int32 {
    do throws(TinyGuestError) {
      let result = try TinyGuest.run(order.workload) { _ in
        guard order.waits else { return }
        write("ready\n", to: 1)
        var byte: UInt8 = 0
        while read(0, &byte, 1) == 1, byte != UInt8(ascii: "\n") {}
      }
      write(json(result), to: 1)
      return 0
    } catch {
      write("guest: \(error)\n", to: 2)
      return 3
    }
  }

  /// One line of JSON. Every name in it is ours: nothing to escape.
  static func json(_ result: Result) -> String {
    let vcpus = result.vcpus.map { vcpu in
      let did = Deed.allCases.map { "\"\($0.name)\":\(vcpu.did[$0] ?? 0)" }
      let kvmRun = vcpu.kvmRun.sorted { $0.key < $1.key }.map { "\"\($0.key)\":\($0.value)" }
      return "{\"tid\":\(vcpu.tid),\"did\":{\(did.joined(separator: ","))},\"own_pages\":\(vcpu.ownPages),"
        + "\"kvm_run\":{\(kvmRun.joined(separator: ","))}}"
    }
    return "{\"pid\":\(getpid()),\"vcpus\":[\(vcpus.joined(separator: ","))]}\n"
  }

  /// Writes it all, also to a pipe that takes it in pieces.
  static func write(_ text: String, to descriptor: Int32) {
    var text = text
    text.withUTF8 { bytes in
      var done = 0
      while done < bytes.count {
        let count = Glibc.write(descriptor, bytes.baseAddress! + done, bytes.count - done)
        if count < 0 && errno == EINTR { continue }
        guard count > 0 else { return }
        done += count
      }
    }
  }
}

/// What the command line asks for.
struct Order: Sendable {
  var workload = Workload()
  var vms = 1
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
  }

  private mutating func set(_ option: String, _ value: String) throws(TinyGuestError) {
    switch option {
    case "--vcpus": workload.vcpus = try Self.whole(option, value)
    case "--vms": vms = try Self.whole(option, value)
    case "--repeat": workload.laps = try Self.whole(option, value)
    case "--seconds": workload.seconds = try Self.positive(option, value)
    case "--immediate-exit": workload.immediateExits = try Self.whole(option, value)
    case "--rate": workload.immediateExitsPerSecond = try Self.positive(option, value)
    case "--time-limit": workload.timeLimitSeconds = try Self.positive(option, value)
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
