import ArgumentParser
import Attribution
import Glibc
import Reports
import Terminal
import TraceFile

/// `kvmtax report`.
struct ReportCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "report",
    abstract: "Show where the time went: verdict, trust, time by group, exits by reason.",
    usage: "kvmtax report [FILE ...] [OPTIONS]",
    discussion: """
      Reads traces of kvmtax, trace-cmd (trace.dat) and perf (perf.data), told apart by content.

      EXAMPLES
        kvmtax report                            the newest trace in this folder
        kvmtax report --vm 104 night.kvmtax      one VM, by name, VMID or pid
        kvmtax report -o report.json trace.dat   for programs
      """)

  enum Format: String, CaseIterable, ExpressibleByArgument { case text, json }
  enum Rung: String, CaseIterable, ExpressibleByArgument { case accounts, exits, events }

  @Argument(help: ArgumentHelp("Traces; several are reported one after the other.", valueName: "file")) var files:
    [String] = []
  @Option(help: ArgumentHelp("Only this VM: its name, VMID or pid.", valueName: "vm")) var vm: String?
  @Option(help: ArgumentHelp("What standard output gets.", valueName: "format")) var format: Format?
  @Option(
    name: [.short, .long], help: ArgumentHelp("Write to a file; its name decides: .json, else text.", valueName: "file")
  )
  var output: String?
  @Flag(help: "Overwrite the output file.") var force = false
  @Option(
    help: ArgumentHelp(
      "Take a kvmtax trace's numbers from the kernel's accounts, from the exits of --events, or from the events of "
        + "--events=raw.", valueName: "source"))
  var using: Rung = .accounts
  @Flag(name: [.short, .long], help: "Every reason, every VM and every vCPU.") var verbose = false
  @Option(help: ArgumentHelp("Color.", valueName: "when")) var color: ColorChoice = .auto

  func validate() throws {
    if output != nil, format != nil {
      throw ValidationError("--format is for standard output; with -o the file's name decides (.json or .txt).")
    }
    if let output { _ = try OutputFile.format(of: output) }
  }

  func run() throws {
    let paths = try files.isEmpty ? [NewestTrace.find()] : files
    let destination = try output.map { try OutputFile(path: $0, replacing: force) }
    let renderer = try renderer()
    var text = ""
    var failures = 0
    for path in paths {
      do throws(InputError) {
        let report = try ReportBuilder(readEvidence(path, using: TraceRung(using)), vm: vm).report()
        let document = renderer.render(report)
        if destination != nil {
          text += (text.isEmpty || renderer is JSONReport ? "" : "\n") + document
        } else {
          try standardOutput((path == paths.first || renderer is JSONReport ? "" : "\n") + document)
        }
      } catch {
        // the other files are still worth reading
        standardError(Terminal.message(for: error))
        failures += 1
      }
    }
    if let destination, !text.isEmpty { try destination.write(text) }
    if failures > 0 { throw ExitStatus.environment }
  }

  private func renderer() throws -> any Renderer {
    let format = try output.map(OutputFile.format(of:)) ?? self.format ?? .text
    if format == .json { return JSONReport() }
    var style = Style.ofStandardOutput(color)
    if output != nil, color == .auto { style.color = false }
    return TextReport(style: style, isVerbose: verbose)
  }
}

extension TraceRung {
  fileprivate init(_ rung: ReportCommand.Rung) {
    switch rung {
    case .accounts: self = .accounts
    case .exits: self = .exits
    case .events: self = .events
    }
  }
}
