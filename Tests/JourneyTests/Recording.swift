import Attribution
import Files
import Foundation
import TestSupport
@testable import TraceFile

/// What a tiny guest printed about itself: per vCPU thread, how often KVM_RUN came back.
struct GuestCounts: Decodable {
  struct VirtualCPU: Decodable {
    var tid: UInt32
    var kvm_run: [String: UInt64]
    /// Every return of KVM_RUN is one kvm_userspace_exit: one proxy exit.
    var returns: UInt64 { kvm_run.values.reduce(0, +) }
  }
  var pid: UInt32
  var vcpus: [VirtualCPU]

  /// One line of JSON per VM; other lines are left out.
  static func parse(_ text: String) throws -> [GuestCounts] {
    try text.split(separator: "\n").filter { $0.hasPrefix("{") }.map {
      try JSONDecoder().decode(GuestCounts.self, from: Data($0.utf8))
    }
  }
}

/// A trace file as our own reader sees it.
struct Recording {
  var contents: TraceContents
  var evidence: Evidence { contents.evidence }

  init(_ path: String, using rung: TraceRung = .accounts) throws {
    let file = try MappedFile(path: path)
    contents = try readTrace(file, using: rung)
  }

  /// kvm_exit events by thread id; a tid that came twice is summed.
  var exitsByThread: [UInt32: UInt64] {
    Dictionary(evidence.ledger.vcpus.map { ($0.tid, $0.accounts.reduce(0) { $0 + $1.exits }) }, uniquingKeysWith: +)
  }

  /// The same of some threads.
  func exits(of threads: some Sequence<UInt32>) -> [UInt32: UInt64] {
    let wanted = Set(threads)
    return exitsByThread.filter { wanted.contains($0.key) }
  }

  /// The part of wall time that no state accounts for; 0 where the partition is exact.
  var residualNanoseconds: UInt64 {
    evidence.ledger.vcpus.reduce(0) { sum, vcpu in
      sum + (max(vcpu.wallNanoseconds, vcpu.states.total) - min(vcpu.wallNanoseconds, vcpu.states.total))
    }
  }
}

/// Runs `kvmtax-tracer record` with the proxy pair, which works where /dev/kvm does.
func record(
  _ arguments: [String], to file: String, command: [String] = [], environment: [String: String] = [:]
) throws -> Program {
  let tail = command.isEmpty ? [] : ["--"] + command
  return try Program(
    "kvmtax-tracer", ["record", "--proxy", "--max-overhead", "0", "-o", file] + arguments + tail,
    environment: environment)
}

/// The command line of a tiny guest.
func guest(_ arguments: String...) -> [String] { ["\(Program.folder)/kvmtax-tracer", "guest"] + arguments }

/// How much a trace's snapshots take, and how many threads and accounts they hold.
struct SnapshotSizes {
  var bytes = 0
  var rows = 0

  init(path: String) throws {
    let file = try MappedFile(path: path)
    let payloads = PayloadReader()
    for block in TraceBlocks(file.bytes) where block.knownType == .snapshot {
      bytes += block.length
      guard let payload = payloads.payload(of: block, in: file.bytes), var cursor = SnapshotCursor(payload) else {
        continue
      }
      while cursor.next() != nil { rows += 1 }
    }
  }
}
