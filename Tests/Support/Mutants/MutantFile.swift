import Foundation

/// A mutant written to a file.
public struct MutantFile {
  /// The file.
  public let path: String
  /// What is in it.
  public let mutant: Mutant
  /// For the message of a failed test: where it came from, what was done, how to make it again.
  public let origin: String
  private let scratch: ScratchFolder

  /// The seed of all mutants: `KVMTAX_MUTANT_SEED`, or always the same.
  public static let seed: UInt64 =
    ProcessInfo.processInfo.environment["KVMTAX_MUTANT_SEED"].flatMap { UInt64($0) } ?? 1

  /// The `number`th mutant of a trace.dat: as version 6, or by trace-cmd's own hand as version 7, plain or compressed.
  public init(ofTraceDat sample: String, number: Int) throws {
    var file = try SampleTraces.traceDat(sample)
    let mutant = try MutantFile.mutant(ofTraceDat: sample, number: number)
    var random = mutant.random
    file.events = mutant.events
    file.cpuCount = mutant.cpuCount
    scratch = try ScratchFolder()
    let flat = try scratch.write(file.encoded(mutant.records, absoluteTimes: random.oneIn(3)), to: "v6.dat")
    let forms = [[], ["--compression", "none"], ["--compression", "zstd"]]
    let form = forms[random.below(forms.count)]
    if form.isEmpty {
      path = flat
    } else {
      path = scratch.file("v7.dat")
      let converted = try CountingTool.traceCmd.run(["convert", "-i", flat, "-o", path, "--file-version", "7"] + form)
      guard converted.status == 0 else { throw SampleError(text: "trace-cmd convert: \(converted.errors)") }
    }
    self.mutant = mutant
    origin = MutantFile.origin(sample, number, mutant.changes + [form.isEmpty ? "version 6" : "version 7 \(form[1])"])
  }

  /// The `number`th mutant of a perf.data.
  public init(ofPerfData sample: String, number: Int) throws {
    var file = try SampleTraces.perfData(sample)
    let mutant = try MutantFile.mutant(ofPerfData: sample, number: number)
    var random = mutant.random
    file.events = mutant.events
    scratch = try ScratchFolder()
    let form = PerfDataForm(ids: mutant.ids, using: &random)
    path = try scratch.write(file.encoded(mutant.records, as: form), to: "perf.data")
    self.mutant = mutant
    let type = "sample type 0x\(String(form.sampleType, radix: 16))"
    let names = form.describesEvents ? "names in the header" : "no names"
    origin = MutantFile.origin(sample, number, mutant.changes + ["rounds of \(form.roundSize)", names, type])
  }

  /// The `number`th mutant of a trace.dat, unwritten.
  public static func mutant(ofTraceDat sample: String, number: Int) throws -> Mutant {
    var random = MutantFile.random(sample, number)
    let file = try SampleTraces.traceDat(sample)
    let records = try MutantFile.slice(of: file.recordCount, events: file.events, using: &random) { file.records($0) }
    return Mutant(of: file.events, records: records, cpuCount: file.cpuCount, target: .traceDat, random: random)
  }

  /// The `number`th mutant of a perf.data, unwritten.
  public static func mutant(ofPerfData sample: String, number: Int) throws -> Mutant {
    var random = MutantFile.random(sample, number)
    let file = try SampleTraces.perfData(sample)
    let records = try MutantFile.slice(of: file.recordCount, events: file.events, using: &random) { file.records($0) }
    return Mutant(of: file.events, records: records, cpuCount: 2, target: .perfData, random: random)
  }

  private static func origin(_ sample: String, _ number: Int, _ changes: [String]) -> String {
    "mutant \(number) of \(sample), KVMTAX_MUTANT_SEED=\(seed): \(changes.joined(separator: "; "))"
  }

  private static func random(_ sample: String, _ number: Int) -> MutantRandom {
    var mixed = MutantRandom(seed: seed &+ UInt64(number) << 32)
    var state = mixed.next()
    for byte in sample.utf8 { state = (state ^ UInt64(byte)) &* 0x100_0000_01b3 }
    return MutantRandom(seed: state)
  }

  /// Up to three pieces of the trace from random places, some thousand events together.
  private static func slice(
    of count: Int, events: [EventText], using random: inout MutantRandom,
    records: (Range<Int>) -> [TracepointRecord]
  ) throws -> [TracepointRecord] {
    guard let exit = events.first(where: { $0.name == "kvm_exit" }) else { throw SampleError(text: "no kvm_exit") }
    for _ in 0..<1000 {
      let pieces = 1 + random.below(3)
      let length = (800 + random.below(1700)) / pieces
      let starts = (0..<pieces).map { _ in random.below(count - length) }.sorted()
      var taken: [TracepointRecord] = []
      for (start, next) in zip(starts, starts.dropFirst() + [count]) {
        taken += records(start..<min(start + length, next))
      }
      // some parts of a trace are all scheduler events
      if taken.count(where: { $0.id == exit.id }) >= 50 { return taken }
    }
    throw SampleError(text: "hardly any kvm_exit")
  }
}
