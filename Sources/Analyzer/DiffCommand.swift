import ArgumentParser
import Attribution
import Glibc
import Reports
import Terminal
import TraceFile

/// `kvmtax diff`.
struct DiffCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "diff",
    abstract: "Show what differs between two recordings of a VM, beyond chance.",
    usage: "kvmtax diff BEFORE AFTER [OPTIONS]",
    discussion: """
      Reads what 'report' reads. VMs are matched by VMID, then by name. Rates are per second in guest mode, so that \
      a different load does not show as a difference; you are told if it differed by more than 10 %. Record for a \
      minute or longer: fewer than 6 blocks of 10 s are weak evidence, fewer than 6 of 1 s are none.

      EXAMPLES
        kvmtax diff before.kvmtax after.kvmtax
        kvmtax diff --vm 104 monday.kvmtax friday.kvmtax
        kvmtax diff --fail-on difference old.kvmtax new.kvmtax     status 1 if they differ, 3 if too short to tell
      """)

  enum Gate: String, CaseIterable, ExpressibleByArgument { case difference }

  @Argument(help: ArgumentHelp("The first recording.", valueName: "before")) var before: String
  @Argument(help: ArgumentHelp("The second one.", valueName: "after")) var after: String
  @Option(help: ArgumentHelp("Only this VM: its name, VMID or pid.", valueName: "vm")) var vm: String?
  @Option(help: ArgumentHelp("The least difference that matters, of running time.", valueName: "percent")) var least:
    Percent = Percent(fraction: 0.01)
  @Option(help: ArgumentHelp("End with status 1 on this.", valueName: "what")) var failOn: Gate?
  @OptionGroup var rung: RungOption
  @Flag(name: [.short, .long], help: "Every row, whether it differs or not.") var verbose = false
  @OptionGroup var output: OutputOptions

  func run() throws {
    let destination = try output.destination()
    let report = try DiffBuilder(
      readEvidence(before, using: rung.rung), readEvidence(after, using: rung.rung), vm: vm, least: least.fraction
    ).report()
    let text =
      try output.isJSON()
      ? JSONDiff().render(report) : TextDiff(style: output.style, isVerbose: verbose).render(report)
    if let destination { try destination.write(text) } else { try standardOutput(text) }
    guard failOn == .difference else { return }
    if report.isDifferent { throw ExitStatus.gate }
    if report.isTooShort {
      throw InputError(
        file: "\(before) and \(after)", found: "too short to tell whether they differ",
        remedy: "Record for a minute or longer: sudo kvmtax record -d 60")
    }
  }
}

/// A part of a whole on the command line: "1%", "0.5 %", "2".
struct Percent: ExpressibleByArgument {
  /// 1 % is 0.01.
  var fraction: Double

  var defaultValueDescription: String { percentage(fraction) }

  init(fraction: Double) { self.fraction = fraction }

  init?(argument: String) {
    let number = argument.hasSuffix("%") ? argument.dropLast() : argument[...]
    guard let value = Double(number.filter { $0 != " " }), (0...100).contains(value) else { return nil }
    fraction = value / 100
  }
}
