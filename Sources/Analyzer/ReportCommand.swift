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

  @Argument(help: ArgumentHelp("Traces; several are reported one after the other.", valueName: "file")) var files:
    [String] = []
  @Option(help: ArgumentHelp("Only this VM: its name, VMID or pid.", valueName: "vm")) var vm: String?
  @OptionGroup var rung: RungOption
  @Flag(name: [.short, .long], help: "Every reason, every VM and every vCPU.") var verbose = false
  @OptionGroup var output: OutputOptions

  func run() throws {
    let paths = try files.isEmpty ? [NewestTrace.find()] : files
    let destination = try output.destination()
    let renderer: any Renderer =
      try output.isJSON() ? JSONReport() : TextReport(style: output.style, isVerbose: verbose)
    var text = ""
    var failures = 0
    for path in paths {
      do throws(InputError) {
        let report = try ReportBuilder(readEvidence(path, using: rung.rung), vm: vm).report()
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
}
