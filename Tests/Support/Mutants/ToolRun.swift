import Foundation

/// A program that counts exits in its own way and serves as an oracle.
public enum CountingTool: String, Sendable {
  case perf
  case traceCmd = "trace-cmd"

  /// Where it is installed; nil where it is not.
  public var path: String? {
    let folders = (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":").map(String.init)
    return (folders + ["/usr/bin", "/usr/sbin"]).map { "\($0)/\(rawValue)" }
      .first { FileManager.default.isExecutableFile(atPath: $0) }
  }

  /// What keeps a test that needs both a sample and this program from running; nil when nothing does. Where `CI` is
  /// "true" nothing may: the test then runs and fails.
  public func blocker(needing samples: [String]) -> String? {
    if ProcessInfo.processInfo.environment["CI"] == "true" { return nil }
    if samples.isEmpty { return "no samples" }
    return path == nil ? "\(rawValue) is not installed" : nil
  }

  /// What one run printed and how it ended.
  public struct Output: Sendable {
    /// Standard output.
    public var bytes: [UInt8]
    /// Standard error; perf prints its report there.
    public var errors: String
    /// The exit status.
    public var status: Int32
  }

  /// Runs it to its end.
  public func run(_ arguments: [String]) throws -> Output {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: path ?? "/nonexistent/\(rawValue)")
    process.arguments = arguments
    process.standardInput = FileHandle.nullDevice
    // both to files: two pipes that nobody empties at once can block the child for ever
    let folder = try ScratchFolder()
    let outputs = ["out", "err"].map { folder.file($0) }
    for output in outputs { try Data().write(to: URL(fileURLWithPath: output)) }
    let handles = try outputs.map { try FileHandle(forWritingTo: URL(fileURLWithPath: $0)) }
    process.standardOutput = handles[0]
    process.standardError = handles[1]
    try process.run()
    // some formats send these programs into endless loops; SIGTERM does not reach perf there
    let identifier = process.processIdentifier
    let stop = DispatchWorkItem { kill(identifier, SIGKILL) }
    DispatchQueue.global().asyncAfter(deadline: .now() + 30, execute: stop)
    process.waitUntilExit()
    stop.cancel()
    for handle in handles { try handle.close() }
    return Output(
      bytes: try [UInt8](Data(contentsOf: URL(fileURLWithPath: outputs[0]))),
      errors: String(decoding: try Data(contentsOf: URL(fileURLWithPath: outputs[1])), as: UTF8.self),
      status: process.terminationStatus)
  }
}

/// A folder that goes when the last one who holds it is gone.
public final class ScratchFolder: Sendable {
  /// The folder's path.
  public let path: String

  /// Makes one in the system's place for temporary files.
  public init() throws {
    path = NSTemporaryDirectory() + "/kvmtax-test-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  /// A file's path inside.
  public func file(_ name: String) -> String { path + "/" + name }

  /// Writes a file and gives its path.
  public func write(_ bytes: [UInt8], to name: String) throws -> String {
    try Data(bytes).write(to: URL(fileURLWithPath: file(name)))
    return file(name)
  }
}
