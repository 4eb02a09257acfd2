import ArgumentParser
import Attribution
import CKvmtax
import Files
import Reports
import Terminal
import TraceFile

/// `kvmtax explain`.
struct ExplainCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "explain",
    abstract: "Show what a class, state, reason or key is, and where its number in a trace comes from.",
    usage: "kvmtax explain NAME [FILE] [OPTIONS]",
    discussion: """
      NAME is a class (TIMER.arm), a state (wake_latency), or any part of a reason or of what its exits were about
      (MSR_WRITE, 0x608, IA32_TSC_DEADLINE).

      EXAMPLES
        kvmtax explain EPT.populate                  what the class is
        kvmtax explain EPT.populate night.kvmtax     which accounts its time is the sum of
        kvmtax explain 0x608 night.kvmtax            all exits of one port
      """)

  @Argument(help: ArgumentHelp("What is to be explained.", valueName: "name")) var name: String
  @Argument(help: ArgumentHelp("A trace of kvmtax, trace-cmd or perf.", valueName: "file")) var file: String?
  @Option(help: ArgumentHelp("Only this VM: its name, VMID or pid.", valueName: "vm")) var vm: String?
  @Option(help: ArgumentHelp("Color.", valueName: "when")) var color: ColorChoice = .auto

  func run() throws {
    let subject = Explanation.Subject(name)
    let explanation = Explanation(style: Style.ofStandardOutput(color))
    let meaning = explanation.meaning(subject)
    guard let file else {
      guard let meaning else {
        throw InputError(
          file: name, found: "is neither a class nor a state",
          expected: "Classes: \(ExitClass.allCases.map(\.rawValue).joined(separator: ", ")).\n"
            + "States: \(State.allCases.map(\.name).joined(separator: ", ")).",
          remedy: "Reasons and keys are looked up in a trace: kvmtax explain \(shellWord(sanitized(name))) FILE")
      }
      return try standardOutput(meaning)
    }
    let evidence = try readEvidence(file, using: .accounts)
    let report = try ReportBuilder(evidence, vm: vm).report()
    let exits = try longest(file, subject, names: evidence.capture.reasonNames)
    guard let origin = explanation.origin(subject, in: report, exits: exits) else {
      if let meaning { try standardOutput(meaning) }
      throw InputError(file: file, found: "has no exit and no time of '\(name)'", remedy: remedy(subject, report, file))
    }
    try standardOutput((meaning ?? "") + origin)
  }

  /// Why a trace can have nothing of it, and what to do.
  private func remedy(_ subject: Explanation.Subject, _ report: Report, _ file: String) -> String {
    let all = "kvmtax report -v \(shellWord(sanitized(file))) shows what it has."
    if report.vms.isEmpty { return "No vCPU is in it at all. \(all)" }
    if case .state = subject { return "No vCPU was in that state, or the trace cannot tell it apart. \(all)" }
    return report.totals.classes == nil ? "It was recorded without keys: only states can be explained from it." : all
  }

  /// The longest exits of the subject that the trace has records of; nil where it has none.
  private func longest(
    _ path: String, _ subject: Explanation.Subject, names: ReasonNames
  ) throws(InputError) -> [Explanation.Exit]? {
    let file = try MappedFile(path: path)
    guard TraceFormat.isTrace(file.bytes) else { return nil }
    var found: [kt_exit_record] = []
    var first: UInt64 = .max
    var count: UInt64 = 0
    var isMember: [Key: Bool] = [:]
    forEachExitBatch(in: file) { batch in
      for index in batch.indices {
        let record = batch[index]
        count &+= 1
        first = min(first, record.start_ns)
        // only keys that could be among the longest need to be sorted
        if found.count == 10, let shortest = found.last, record.total_ns <= shortest.total_ns { continue }
        let key = Key(record)
        let matches = isMember[key] ?? Explanation.matches(key, subject, names: names)
        isMember[key] = matches
        guard matches else { continue }
        let place = found.firstIndex { $0.total_ns < record.total_ns } ?? found.count
        found.insert(record, at: place)
        if found.count > 10 { found.removeLast() }
      }
    }
    guard count > 0 else { return nil }
    return found.map { record in
      Explanation.Exit(
        startNanoseconds: record.start_ns &- first, totalNanoseconds: record.total_ns, thread: record.thread,
        cpu: record.cpu, key: Key(record), states: StateTimes(record))
    }
  }
}
