/// perf's own names of exit reasons, learned from perf: it has a table per CPU vendor, spelled differently from the
/// kernel's in the formats ("npf" for NPF, "interrupt" for INTR), and other versions of perf spell some otherwise. A
/// file with one exit of each number, each of a duration of its own, makes the installed perf print all of them.
public struct PerfReasonNames: Sendable {
  private var names: [UInt32: String] = [:]

  /// perf's name; numbers that it does not know share one.
  public func name(_ reason: UInt32) -> String { names[reason] ?? "UNKNOWN" }

  /// Asks perf for the names in files that are recorded where this one was.
  public init(like file: PerfDataFile) throws {
    guard let exit = file.events.first(where: { $0.name == "kvm_exit" }),
      let entry = file.events.first(where: { $0.name == "kvm_entry" }),
      let reason = exit.fields.first(where: { $0.name == "exit_reason" })
    else { throw SampleError(text: "a format is missing") }
    let some = file.records(0..<1000)
    guard var left = some.first(where: { $0.id == exit.id }),
      var entered = some.first(where: { $0.id == entry.id && $0.thread == left.thread })
    else { throw SampleError(text: "no exit and entry of one thread in the first events") }
    // SVM's and VMX's numbers with room for more, SVM's nested page fault and its neighbours, software's own, invalid
    let numbers = (Array(0..<0x200) + Array(0x400..<0x420) + Array(0x8000_0000..<0x8000_0020) + [UInt32.max])
      .map { UInt32($0) }
    var records = [entered]
    var time = max(left.nanoseconds, entered.nanoseconds)
    for (index, number) in numbers.enumerated() {
      time += 1000
      left.nanoseconds = time
      left[reason] = UInt64(number)
      time += 1000 * UInt64(index + 1)
      entered.nanoseconds = time
      records += [left, entered]
    }
    let scratch = try ScratchFolder()
    let report = try PerfReport(
      of: scratch.write(
        file.encoded(records, ids: [:], roundSize: 1_000_000, describesEvents: true), to: "names.data"))
    for row in report.rows {
      let index = Int(row.minMicroseconds.rounded()) - 1
      if numbers.indices.contains(index) { names[numbers[index]] = row.name }
    }
    guard names.count == numbers.count else { throw SampleError(text: "perf named \(names.count) reasons") }
  }
}
