import ArgumentParser
import Attribution
import Glibc
import Terminal
import TinyGuest

/// The privileged half: `kvmtax record`, `kvmtax doctor` and `kvmtax calibrate` arrive here.
@main struct TracerCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "kvmtax",
    abstract: "Records what KVM's exits cost, with BPF programs on the host.",
    version: "kvmtax-tracer \(kvmtaxVersion)",
    subcommands: [RecordCommand.self, DoctorCommand.self, CalibrateCommand.self, GuestVerb.self])

  static func main() {
    // a flag that may have a value, which the parser does not know
    let arguments = CommandLine.arguments.dropFirst().map { $0 == "--events=raw" ? "--raw-events" : $0 }
    runToExit(TracerCommand.self, arguments: arguments)
  }
}

/// `kvmtax doctor`: the checks of a recording, alone.
struct DoctorCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "doctor", abstract: "Shows what works on this host, and what to do about the rest.")

  @Flag(help: .hidden) var proxy = false

  func run() throws {
    let preflight = Preflight(proxy: proxy, for: .doctor)
    var text = ""
    for check in preflight.checks {
      let mark =
        switch check.outcome {
        case .fine: "ok      "
        case .limited: "limited "
        case .blocked: "BLOCKED "
        }
      let lines = sanitizedLines(check.found, indent: 22) + wrapped(check.remedy, width: maximumColumns, indent: 22)
      text += "\(mark) \(padded(check.name, width: 12)) \(lines.joined(separator: "\n"))\n"
    }
    if !preflight.isBlocked {
      let guests = GuestProcess.running()
      text +=
        guests.isEmpty
        ? "limited  VMs          none is running now; a recording shows those that start while it runs\n"
        : "ok       VMs          \(guests.count) running, \(guests.reduce(0) { $0 + $1.vcpuCount }) vCPUs\n"
    }
    text += preflight.isBlocked ? "Recording is not possible here.\n" : "Recording is possible: sudo kvmtax record\n"
    try standardOutput(text)
    if preflight.isBlocked { throw ExitStatus.environment }
  }
}

/// The guest of known behaviour, for the demo, the lab and tests.
struct GuestVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "guest", abstract: "Runs a tiny guest that makes a known number of exits.", shouldDisplay: false)

  @Argument(parsing: .captureForPassthrough) var arguments: [String] = []

  func run() throws {
    let status = GuestCommand.main(arguments)
    if status != 0 { throw ExitStatus(rawValue: status) ?? .environment }
  }
}
