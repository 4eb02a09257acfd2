import Foundation

/// One of the built programs, or any other, started by a test.
public final class Program {
  /// What it left behind.
  public struct Outcome {
    /// Exit status; negative: the signal that ended it.
    public var status: Int32
    /// Standard output.
    public var output: String
    /// Standard error.
    public var errors: String
  }

  private let process = Process()
  private let outputFile: URL
  private let errorFile: URL

  /// Where `swift build` put the programs: beside the running tests.
  public static var folder: String {
    URL(filePath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent().path
  }

  /// Starts `name` (a built program) or a path.
  public init(
    _ name: String, _ arguments: [String], in folder: URL? = nil, environment: [String: String] = [:]
  ) throws {
    process.executableURL = URL(filePath: name.contains("/") ? name : "\(Program.folder)/\(name)")
    process.arguments = arguments
    if let folder { process.currentDirectoryURL = folder }
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    let scratch = FileManager.default.temporaryDirectory
    let stem = "kvmtax-test-\(getpid())-\(UInt32.random(in: 0...UInt32.max))"
    outputFile = scratch.appending(path: "\(stem).out")
    errorFile = scratch.appending(path: "\(stem).err")
    for file in [outputFile, errorFile] { _ = FileManager.default.createFile(atPath: file.path, contents: nil) }
    process.standardOutput = try FileHandle(forWritingTo: outputFile)
    process.standardError = try FileHandle(forWritingTo: errorFile)
    process.standardInput = FileHandle.nullDevice
    try process.run()
  }

  deinit {
    if process.isRunning { kill(process.processIdentifier, SIGKILL) }
    try? FileManager.default.removeItem(at: outputFile)
    try? FileManager.default.removeItem(at: errorFile)
  }

  /// Its process id.
  public var pid: Int32 { process.processIdentifier }
  /// Whether it still runs.
  public var isRunning: Bool { process.isRunning }

  /// Sends a signal.
  public func signal(_ number: Int32) { kill(process.processIdentifier, number) }

  /// What it wrote to standard error so far.
  public var errorsSoFar: String { (try? String(contentsOf: errorFile, encoding: .utf8)) ?? "" }

  /// Waits until a condition holds, at most so many seconds; whether it does.
  public static func wait(seconds: Double, until condition: () -> Bool) -> Bool {
    let end = Date().addingTimeInterval(seconds)
    while Date() < end {
      if condition() { return true }
      usleep(20_000)
    }
    return condition()
  }

  /// Waits for the end; a program that takes longer than its limit is killed, which the status shows.
  public func finish(limitSeconds: Double = 60) -> Outcome {
    if !Program.wait(seconds: limitSeconds, until: { !process.isRunning }) { kill(pid, SIGKILL) }
    process.waitUntilExit()
    let status = process.terminationReason == .exit ? process.terminationStatus : -process.terminationStatus
    let output = (try? Data(contentsOf: outputFile)).map { String(decoding: $0, as: UTF8.self) } ?? ""
    let errors = (try? Data(contentsOf: errorFile)).map { String(decoding: $0, as: UTF8.self) } ?? ""
    return Outcome(status: status, output: output, errors: errors)
  }

  /// Runs to the end.
  public static func run(
    _ name: String, _ arguments: [String], in folder: URL? = nil, environment: [String: String] = [:],
    limitSeconds: Double = 60
  ) throws -> Outcome {
    try Program(name, arguments, in: folder, environment: environment).finish(limitSeconds: limitSeconds)
  }
}
