import ArgumentParser
import Glibc
import Terminal

/// The half that anyone runs anywhere: `kvmtax`.
@main struct AnalyzerCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "kvmtax",
    abstract: "Where does this VM's time go, and which part of it is virtualization overhead?",
    discussion: """
      Record on a KVM host, then read the trace anywhere:

        sudo kvmtax record -d 10        10 s of all running VMs
        kvmtax report                   the newest trace in this folder
        kvmtax report trace.dat         a trace of trace-cmd or perf
        kvmtax diff BEFORE AFTER        what a change changed

      Exit status: 0 fine, 1 a gate of yours (--fail-on), 2 wrong usage, 3 an input or this machine does not allow it.
      """,
    version: "kvmtax \(kvmtaxVersion)",
    groupedSubcommands: [
      CommandGroup(
        name: "Everyday", subcommands: [RecordCommand.self, ReportCommand.self, DiffCommand.self, ExplainCommand.self]),
      CommandGroup(name: "Occasional", subcommands: [DoctorCommand.self, CalibrateCommand.self]),
    ])

  static func main() {
    // the tracer's verbs belong to the tracer, --help included: nothing of theirs is parsed here
    if let verb = CommandLine.arguments.dropFirst().first, TracerProgram.verbs.contains(verb) {
      runToExit { try TracerProgram.run(Array(CommandLine.arguments.dropFirst())) }
    }
    runToExit(AnalyzerCommand.self)
  }
}

/// `kvmtax record`: the tracer's.
struct RecordCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "record", abstract: "Record the exits of running VMs (root; kvmtax record --help).")

  @Argument(parsing: .captureForPassthrough) var arguments: [String] = []

  func run() throws { try TracerProgram.run(["record"] + arguments) }
}

/// `kvmtax doctor`: the tracer's.
struct DoctorCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "doctor", abstract: "Show what works on this host, and what to do about the rest (root).")

  @Argument(parsing: .captureForPassthrough) var arguments: [String] = []

  func run() throws { try TracerProgram.run(["doctor"] + arguments) }
}

/// `kvmtax calibrate`: the tracer's.
struct CalibrateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "calibrate",
    abstract: "Measure the world switch and the tracer's own cost on this host (root; kvmtax calibrate --help).")

  @Argument(parsing: .captureForPassthrough) var arguments: [String] = []

  func run() throws { try TracerProgram.run(["calibrate"] + arguments) }
}
