import Foundation
import Testing

/// The built program, as a user runs it.
private struct Program {
  var status: Int32
  var output: String
  var errors: String

  static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()

  /// Beside the test bundle, wherever that was built to.
  static var path: String {
    let bundle = CommandLine.arguments.first { $0.hasSuffix(".xctest") || $0.contains(".xctest/") }
    let build = bundle.map { URL(filePath: $0).deletingLastPathComponent().path } ?? root.path + "/.build/debug"
    return build + "/kvmtax"
  }

  /// Runs a shell command in which `kvmtax` is the program; `set -o pipefail` style status comes from the command.
  init(_ command: String, in directory: URL = root.appending(path: "Samples"), environment: [String: String] = [:])
    throws
  {
    let process = Process()
    process.executableURL = URL(filePath: "/bin/bash")
    process.arguments = ["-c", "kvmtax() { '\(Program.path)' \"$@\"; }; \(command)"]
    process.currentDirectoryURL = directory
    process.environment = ["PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"].merging(environment) { _, given in given }
    let scratch = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString)
    let (out, err) = (scratch.appendingPathExtension("out"), scratch.appendingPathExtension("err"))
    for file in [out, err] { try Data().write(to: file) }
    defer { for file in [out, err] { try? FileManager.default.removeItem(at: file) } }
    process.standardOutput = try FileHandle(forWritingTo: out)
    process.standardError = try FileHandle(forWritingTo: err)
    process.standardInput = FileHandle.nullDevice
    try process.run()
    process.waitUntilExit()
    status = process.terminationStatus
    output = String(decoding: try Data(contentsOf: out), as: UTF8.self)
    errors = String(decoding: try Data(contentsOf: err), as: UTF8.self)
  }
}

/// A folder of its own, gone afterwards.
private func withFolder<Result>(_ body: (URL) throws -> Result) throws -> Result {
  let folder = FileManager.default.temporaryDirectory.appending(path: "kvmtax-" + UUID().uuidString)
  try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(at: folder) }
  return try body(folder)
}

@Suite struct CommandLineTests {
  @Test func aRealTraceLooksAsReviewed() throws {
    let run = try Program("kvmtax report svm-tiny.dat")
    #expect(run.status == 0 && run.errors == "")
    let place = GoldenTests.directory.appending(path: "svm-tiny.txt")
    if ProcessInfo.processInfo.environment["KVMTAX_WRITE_GOLDEN"] != nil {
      try run.output.write(to: place, atomically: true, encoding: .utf8)
    }
    #expect(run.output == (try String(contentsOf: place, encoding: .utf8)))
  }

  @Test(arguments: [
    "svm-tiny.dat", "vmx-tiny.dat", "svm-qemu-guest.dat", "vmx-qemu-guest.dat", "svm-qemu-guest.perf.data",
    "vmx-qemu-guest.perf.data",
  ])
  func everySampleGivesAReportOfBothKinds(sample: String) throws {
    let text = try Program("kvmtax report -v \(sample)")
    #expect(text.status == 0 && text.output.split(separator: "\n").allSatisfy { $0.count <= 100 })
    #expect(!text.output.contains("NOT TRUSTWORTHY"))
    let json = try Program("kvmtax report --format json \(sample)")
    let object = try JSONSerialization.jsonObject(with: Data(json.output.utf8))
    #expect(try Schema().faults(object, "Report") == [])
    let verdict = try #require((object as? [String: Any])?["verdict"] as? String)
    #expect(text.output.replacing("\n", with: " ").contains(verdict))
  }

  /// From a number of the report back to what it is the sum of.
  @Test(arguments: [
    ("EPT.swapin", ["40 exits", "waited for", "kernel_blocked", "EPT/NPT faults"]),
    ("ept.SWAPIN", ["40 exits"]),
    ("0x3f8", ["120 exits", "io out 0x3f8 serial 1", "PIO.emul", "returned to QEMU 120"]),
    ("IA32_TSC_DEADLINE", ["120 exits", "TIMER.arm"]), ("wake_latency", ["of wake_latency", "inside exits of", "hlt"]),
    ("hypercall", ["120 exits", "HYPERCALL"]),
  ])
  func explainsWhatANumberIsTheSumOf(name: String, words: [String]) throws {
    let run = try Program("kvmtax explain \(name) svm-interrupts.dat")
    #expect(run.status == 0 && run.errors == "")
    for word in words { #expect(run.output.contains(word), "\(word)") }
    #expect(run.output.split(separator: "\n").allSatisfy { $0.count <= 100 })
  }

  @Test(arguments: [
    ("kvmtax explain TIMER.arm", 0, "the guest sets its timer"), ("kvmtax explain halt_poll", 0, "polls"),
    ("kvmtax explain NONSENSE", 3, "neither a class nor a state"),
    ("kvmtax explain NESTED svm-interrupts.dat", 3, "has no exit and no time of 'NESTED'"),
    (
      "f=$(mktemp); head -c 3000 svm-interrupts.kvmtax >$f; kvmtax explain IDLE $f; s=$?; rm $f; exit $s", 3,
      "No vCPU is in it at all."
    ),
    ("kvmtax explain stopped svm-interrupts.dat", 3, "No vCPU was in that state"),
    ("kvmtax diff --using events svm-tiny.dat svm-tiny.dat", 0, "svm-tiny.dat"),
    ("kvmtax explain", 2, "name"), ("kvmtax explain IDLE nowhere.dat", 3, "nowhere.dat"),
  ])
  func explainsNamesAndRefusesOthers(command: String, status: Int32, word: String) throws {
    let run = try Program(command)
    #expect(run.status == status)
    #expect((run.output + run.errors).contains(word))
  }

  @Test(arguments: [
    ("kvmtax --version", 0), ("kvmtax --help", 0), ("kvmtax report --help", 0), ("kvmtax help report", 0),
    ("kvmtax bogus", 2), ("kvmtax report --bogus", 2), ("kvmtax report --format xml svm-tiny.dat", 2),
    ("kvmtax report -o report.html svm-tiny.dat", 2), ("kvmtax report -o r.json --format json svm-tiny.dat", 2),
    ("kvmtax report nowhere.dat", 3), ("kvmtax report .", 3), ("kvmtax report /dev/null", 3),
    ("kvmtax report README.md", 3), ("kvmtax report --vm nobody svm-tiny.dat", 3),
    ("kvmtax report svm-tiny.dat >/dev/full", 3), ("kvmtax report svm-tiny.dat >&-", 3),
    ("kvmtax report nowhere.dat svm-tiny.dat", 3), ("kvmtax diff --help", 0), ("kvmtax diff svm-tiny.dat", 2),
    ("kvmtax diff --least x svm-tiny.dat svm-tiny.dat", 2), ("kvmtax diff --fail-on x svm-tiny.dat svm-tiny.dat", 2),
    ("kvmtax diff svm-tiny.dat svm-tiny.dat", 0), ("kvmtax diff svm-tiny.dat nowhere.dat", 3),
    ("kvmtax diff --fail-on difference svm-tiny.dat svm-tiny.dat", 3),
    ("kvmtax diff --fail-on difference svm-qemu-guest.dat svm-qemu-guest.dat", 0),
  ])
  func statusSaysWhoseFaultItIs(command: String, status: Int32) throws {
    let run = try Program(command)
    #expect(run.status == status)
    #expect((run.errors == "") == (status == 0), "\(run.errors)")
    #expect(status == 0 || run.errors.hasPrefix("kvmtax: "), "\(run.errors)")
    #expect(!run.errors.contains("Error:"))
  }

  @Test func aReaderThatGoesAwayEndsItQuietly() throws {
    for command in ["report -v vmx-qemu-guest.dat", "report --format json vmx-qemu-guest.dat", "--help"] {
      let run = try Program("kvmtax \(command) | true; exit ${PIPESTATUS[0]}")
      #expect(run.status == 0 && run.errors == "", "\(command): \(run.errors)")
    }
  }

  @Test func oneBadFileDoesNotHideTheOthers() throws {
    let run = try Program("kvmtax report svm-tiny.dat nowhere.dat vmx-tiny.dat")
    #expect(run.output.contains("svm-tiny.dat  ") && run.output.contains("\n\nvmx-tiny.dat  "))
    #expect(run.errors.hasPrefix("kvmtax: nowhere.dat: cannot be opened"))
  }

  @Test func theNewestTraceOfTheFolderIsReadAndNamed() throws {
    try withFolder { folder in
      let samples = Program.root.appending(path: "Samples").path
      let run = try Program(
        """
        cp \(samples)/svm-tiny.dat old.dat; cp \(samples)/vmx-tiny.dat new.dat; cp new.dat newer.txt; echo no > newest.dat
        mkdir folder.dat; touch -d '2 days ago' old.dat; touch -d '1 day ago' new.dat; kvmtax report
        """, in: folder)
      #expect(run.errors == "Reading new.dat, the newest trace in this folder.\n")
      #expect(run.output.hasPrefix("new.dat  "))
    }
  }

  @Test func aFolderWithoutTracesSaysSo() throws {
    let run = try withFolder { try Program("kvmtax report", in: $0) }
    #expect(run.status == 3 && run.errors.hasPrefix("kvmtax: this folder: holds no trace\n"))
  }

  @Test func anOutputFileIsNotOverwrittenUnasked() throws {
    try withFolder { folder in
      let sample = Program.root.appending(path: "Samples/svm-tiny.dat").path
      #expect(try Program("kvmtax report -o r.json \(sample)", in: folder).status == 0)
      let written = try Data(contentsOf: folder.appending(path: "r.json"))
      #expect(
        (try JSONSerialization.jsonObject(with: written) as? [String: Any])?["schema"] as? String == "kvmtax-report/1")
      let again = try Program("kvmtax report -o r.json \(sample)", in: folder)
      #expect(again.status == 3 && again.errors.contains("--force") && again.output == "")
      #expect(try Program("kvmtax report --force -o r.json \(sample)", in: folder).status == 0)
      #expect(try Program("kvmtax report -o r.txt nowhere.dat", in: folder).status == 3)
      #expect(!FileManager.default.fileExists(atPath: folder.appending(path: "r.txt").path))
      #expect(
        try Program("ln -s r.json link.json; kvmtax report --force -o link.json \(sample)", in: folder).status == 3)
    }
  }

  @Test func theEnvironmentDecidesAboutGlyphsAndColor() throws {
    let ascii = try Program("kvmtax report svm-tiny.dat", environment: ["LC_ALL": "C"])
    #expect(ascii.output.utf8.allSatisfy { $0 < 0x80 } && ascii.output.contains("#"))
    #expect(try !Program("kvmtax report svm-tiny.dat").output.contains("\u{1b}"))
    #expect(try Program("kvmtax report --color always svm-tiny.dat").output.contains("\u{1b}[1m"))
    let terminal = "script -qec \"'\(Program.path)' report svm-tiny.dat\" /dev/null"
    #expect(try Program(terminal, environment: ["TERM": "xterm"]).output.contains("\u{1b}[1m"))
    #expect(try !Program(terminal, environment: ["TERM": "xterm", "NO_COLOR": "1"]).output.contains("\u{1b}["))
  }

  @Test func theTracerIsFoundBesideTheProgramOrInLibexecAndNeverOnThePath() throws {
    try withFolder { folder in
      let fake = "printf '#!/bin/sh\\necho \"$@\"\\n'"
      let run = try Program(
        """
        mkdir -p bin libexec/kvmtax path; cp '\(Program.path)' bin/kvmtax; \(fake) > path/kvmtax-tracer
        chmod +x path/kvmtax-tracer; PATH=$PWD/path:$PATH bin/kvmtax record -d 1; echo "status $?"
        \(fake) > libexec/kvmtax/kvmtax-tracer; chmod +x libexec/kvmtax/kvmtax-tracer
        bin/kvmtax record --help -d 1 -- sleep 1; bin/kvmtax doctor --version
        """, in: folder)
      #expect(run.output == "status 3\nrecord --help -d 1 -- sleep 1\ndoctor --version\n")
      #expect(run.errors.hasPrefix("kvmtax: kvmtax-tracer: not found"))
    }
  }
}
