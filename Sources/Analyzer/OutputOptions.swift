import ArgumentParser
import Terminal
import TraceFile

/// Where a verb's answer goes and what it looks like.
struct OutputOptions: ParsableArguments {
  enum Format: String, CaseIterable, ExpressibleByArgument { case text, json }

  @Option(help: ArgumentHelp("What standard output gets.", valueName: "format")) var format: Format?
  @Option(
    name: [.short, .long], help: ArgumentHelp("Write to a file; its name decides: .json, else text.", valueName: "file")
  )
  var output: String?
  @Flag(help: "Overwrite the output file.") var force = false
  @Option(help: ArgumentHelp("Color.", valueName: "when")) var color: ColorChoice = .auto

  func validate() throws {
    if output != nil, format != nil {
      throw ValidationError("--format is for standard output; with -o the file's name decides (.json or .txt).")
    }
    if let output { _ = try OutputFile.format(of: output) }
  }

  /// The file, if one was named; it is not written yet.
  func destination() throws -> OutputFile? { try output.map { try OutputFile(path: $0, replacing: force) } }

  /// Whether JSON is wanted.
  func isJSON() throws -> Bool { try output.map(OutputFile.format(of:)) ?? format ?? .text == .json }

  /// How text looks; a file has no colours unless they are asked for.
  var style: Style {
    var style = Style.ofStandardOutput(color)
    if output != nil, color == .auto { style.color = false }
    return style
  }
}

/// Where a kvmtax trace's numbers are taken from.
struct RungOption: ParsableArguments {
  enum Rung: String, CaseIterable, ExpressibleByArgument { case accounts, exits, events }

  @Option(
    help: ArgumentHelp(
      "Take a kvmtax trace's numbers from the kernel's accounts, from the exits of --events, or from the events of "
        + "--events=raw.", valueName: "source"))
  var using: Rung = .accounts

  /// The same to the trace's reader.
  var rung: TraceRung {
    switch using {
    case .accounts: .accounts
    case .exits: .exits
    case .events: .events
    }
  }
}
