/// perf's own names of exit reasons, learned from perf: it has a table per CPU vendor, spelled differently from the
/// kernel's in the formats ("npf" for NPF, "interrupt" for INTR), and other versions of perf spell some otherwise.
/// `perf script` has the formats' names or, where libtraceevent's plugins are installed for it, those of a third table.
/// A file with one exit of each number, each of a duration of its own, makes the installed perf print all of them.
public struct PerfReasonNames: Sendable {
  private var names: [UInt32: String] = [:]
  private var scriptNumbers: [String: UInt32] = [:]

  /// perf's name; numbers that it does not know share one.
  public func name(_ reason: UInt32) -> String { names[reason] ?? "UNKNOWN" }

  /// The number of the reason that `perf script` prints so; nil where it prints none of the numbers so.
  public func number(ofScriptName name: String) -> UInt32? { scriptNumbers[name] }

  /// Asks perf for the names in files that are recorded where this one was.
  public init(like file: PerfDataFile) throws {
    var maker = try StepMaker(like: file)
    // SVM's and VMX's numbers with room for more, SVM's nested page fault and its neighbours, software's own, invalid
    let numbers = (Array(0..<0x200) + Array(0x400..<0x420) + Array(0x8000_0000..<0x8000_0020) + [UInt32.max])
      .map { UInt32($0) }
    maker.add(.entry(vcpu: 0, afterNanoseconds: 1000))
    for (index, number) in numbers.enumerated() {
      maker.add(.exit(UInt64(number), afterNanoseconds: 1000))
      maker.add(.entry(vcpu: 0, afterNanoseconds: 1000 * UInt64(index + 1)))
    }
    let scratch = try ScratchFolder()
    let path = try scratch.write(file.encoded(maker.records), to: "names.data")
    let report = try PerfReport(of: path)
    for row in report.rows {
      let index = Int(row.minMicroseconds.rounded()) - 1
      if numbers.indices.contains(index) { names[numbers[index]] = row.name }
    }
    // one row a number; newer versions of perf have one row for all that they do not know
    let known = report.rows.filter { $0.name != "UNKNOWN" }
    guard known.allSatisfy({ $0.samples == 1 }), names.count == report.rows.count,
      report.totalSamples == numbers.count
    else { throw SampleError(text: "perf named \(names.count) of \(numbers.count) reasons") }
    let printed = try PerfOracle.events(path).filter { $0.name == "kvm_exit" }.map(\.text)
    guard printed.count == numbers.count else { throw SampleError(text: "perf printed \(printed.count) exits") }
    for (number, text) in zip(numbers, printed) {
      guard let name = PerfOracle.reason(in: text), scriptNumbers.updateValue(number, forKey: name) == nil else {
        throw SampleError(text: "perf printed reason \(number) like another one: \(text)")
      }
    }
  }
}
