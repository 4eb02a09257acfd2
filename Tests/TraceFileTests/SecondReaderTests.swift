import Attribution
import CKvmtax
import Foundation
import Testing

@testable import TraceFile

/// The format's description is enough to write a reader from: one in another language reads the same.
@Suite struct SecondReaderTests {
  private static let blocker: String? = {
    for tool in ["python3", "zstd"] where (try? run(["/usr/bin/env", tool, "--version"])) == nil {
      return "\(tool) is not installed"
    }
    return nil
  }()

  private struct Failure: Error {
    var status: Int32
    var message: String
  }

  private static func run(_ command: [String]) throws -> String {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: command[0])
    process.arguments = Array(command.dropFirst())
    let (output, errors) = (Pipe(), Pipe())
    process.standardOutput = output
    process.standardError = errors
    try process.run()
    let text = output.fileHandleForReading.readDataToEndOfFile()
    let message = errors.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    guard process.terminationStatus == 0 else {
      throw Failure(status: process.terminationStatus, message: String(decoding: message, as: UTF8.self))
    }
    return String(decoding: text, as: UTF8.self)
  }

  /// The same lines from our own reader.
  private static func lines(_ contents: TraceContents) -> [String] {
    var lines = ["records \(contents.exitRecordCount)"]
    var vcpus: [(pid: UInt32, vcpu: VCPU)] = []
    for vm in contents.evidence.ledger.vms { vcpus += vm.vcpus.map { (vm.pid, $0) } }
    for (pid, vcpu) in vcpus.sorted(by: { $0.vcpu.thread < $1.vcpu.thread }) {
      let numbers: [UInt64] =
        [
          UInt64(vcpu.thread), UInt64(vcpu.tid), UInt64(pid), vcpu.firstNanoseconds, vcpu.lastNanoseconds, vcpu.exits,
          vcpu.entries,
        ] + vcpu.states.nanoseconds
      lines.append("thread " + numbers.map(String.init).joined(separator: " "))
      for account in vcpu.accounts where account.finished + account.unpaired > 0 {
        let numbers: [UInt64] = [
          UInt64(account.isa), UInt64(account.reason), account.finished, account.unpaired, account.totalNanoseconds,
          account.minNanoseconds, account.maxNanoseconds,
        ]
        let buckets = account.histogram.counts.enumerated().filter { $0.element > 0 }.map {
          "\($0.offset):\($0.element)"
        }
        lines.append("row " + (numbers.map(String.init) + buckets).joined(separator: " "))
      }
    }
    for vm in contents.evidence.ledger.vms.sorted(by: { $0.pid < $1.pid }) {
      for account in vm.keys {
        let key = account.key.record
        let numbers: [UInt64] =
          [
            UInt64(vm.pid), UInt64(key.isa), UInt64(key.reason), UInt64(key.kind), key.subject, UInt64(key.traits),
            UInt64(key.size), UInt64(key.userspace), account.finished, account.totalNanoseconds,
            account.maxNanoseconds,
          ] + account.states.nanoseconds
        lines.append("key " + numbers.map(String.init).joined(separator: " "))
      }
    }
    return lines
  }

  @Test(.enabled(if: blocker == nil, Comment(rawValue: blocker ?? "")))
  func aReaderWrittenFromTheDescriptionReadsTheSame() throws {
    let trace = try RecoveryTests.trace.get()
    let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("reader.py").path
    var random = Random(state: 11)
    for round in 0..<12 {
      var bytes = trace.bytes
      if round > 0 { bytes.removeLast(Int.random(in: 0..<bytes.count / 2, using: &random)) }
      for _ in 0..<round / 3 {
        bytes[Int.random(in: 64..<bytes.count, using: &random)] ^= 1 << UInt8.random(in: 0..<8, using: &random)
      }
      let file = try ScratchFile()
      let written = bytes.withUnsafeBytes { write(file.descriptor, $0.baseAddress, $0.count) }
      try #require(written == bytes.count)
      let theirs = try SecondReaderTests.run(["/usr/bin/env", "python3", script, file.path])
      let ours = SecondReaderTests.lines(try bytes.trace(.accounts))
      #expect(theirs.split(separator: "\n").map(String.init) == ours, "round \(round)")
      #expect(ours.count > 6)
    }
  }
}
