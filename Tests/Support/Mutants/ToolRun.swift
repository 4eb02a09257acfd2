import Foundation

/// A program that counts exits in its own way and serves as an oracle.
public enum CountingTool: String, Sendable {
  case perf
  case traceCmd = "trace-cmd"

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
    process.executableURL = URL(filePath: toolPath(rawValue) ?? rawValue)
    process.arguments = arguments
    process.standardInput = FileHandle.nullDevice
    // both to files: two pipes that nobody empties at once can block the child for ever
    let folder = try ScratchFolder()
    let outputs = ["out", "err"].map { folder.file($0) }
    for output in outputs { try Data().write(to: URL(filePath: output)) }
    let handles = try outputs.map { try FileHandle(forWritingTo: URL(filePath: $0)) }
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
      bytes: try [UInt8](Data(contentsOf: URL(filePath: outputs[0]))),
      errors: String(decoding: try Data(contentsOf: URL(filePath: outputs[1])), as: UTF8.self),
      status: process.terminationStatus)
  }
}
