import Attribution
import CKvmtax
import Files
import Foundation
import Import
import TraceFile

/// Prints exits/s and ns per exit of each way in, and what perf and trace-cmd take for the same file beside it.
@main struct Bench {
  static func main() throws {
    let samples = CommandLine.arguments.count > 1 ? CommandLine.arguments[1] : "../Samples"
    print("what                                        exits    ns/exit     exits/s")
    if !FileManager.default.fileExists(atPath: "\(samples)/README.md") {
      let tool = samples.hasSuffix(".dat") ? ["trace-cmd", "report", "-i"] : ["perf", "kvm", "-i"]
      return try imported(samples, URL(filePath: samples).lastPathComponent, tool)
    }
    try replay(pairs: 20_000_000)
    try exitRecords(count: 10_000_000)
    for (name, tool) in [
      ("svm-qemu-guest.dat", ["trace-cmd", "report", "-i"]), ("vmx-qemu-guest.dat", ["trace-cmd", "report", "-i"]),
      ("svm-qemu-guest.perf.data", ["perf", "kvm", "-i"]), ("vmx-qemu-guest.perf.data", ["perf", "kvm", "-i"]),
    ] { try imported("\(samples)/\(name)", name, tool) }
  }

  /// The best of several runs: what the code can do, with the least of what else the machine does.
  static func best(of runs: Int, _ body: () throws -> Void) rethrows -> Double {
    var least = Double.infinity
    for _ in 0..<runs {
      let start = DispatchTime.now().uptimeNanoseconds
      try body()
      least = min(least, Double(DispatchTime.now().uptimeNanoseconds - start))
    }
    return least
  }

  static func show(_ what: String, exits: Int, nanoseconds: Double, beside: String = "") {
    func right(_ text: String, _ width: Int) -> String {
      String(repeating: " ", count: max(0, width - text.count)) + text
    }
    let name = what + String(repeating: " ", count: max(0, 38 - what.count))
    let each = nanoseconds / Double(max(exits, 1))
    let columns = [
      right("\(exits)", 11), right(String(format: "%.1f", each), 11), right(String(format: "%.0f", 1e9 / each), 12),
    ]
    print(name + columns.joined() + beside)
  }

  /// Events of 64 vCPU threads through the machine.
  static func replay(pairs: Int) throws {
    var events: [kt_event] = []
    events.reserveCapacity(1 << 16)
    var random: UInt64 = 88_172_645_463_325_252
    var time: UInt64 = 1_000_000
    for index in 0..<1 << 16 {
      random ^= random << 13
      random ^= random >> 7
      random ^= random << 17
      time += 300 + random % 700
      var event = kt_event()
      event.time_ns = time
      event.tid = 1000 + UInt32(index / 2 % 64)
      event.tgid = 1000
      event.vcpu = UInt16(index / 2 % 64)
      event.isa = 1
      event.kind = UInt8(index % 2 == 0 ? KT_EXIT.rawValue : KT_ENTRY.rawValue)
      event.reason = UInt32(random >> 32) % 60
      events.append(event)
    }
    let rounds = pairs * 2 / events.count
    let nanoseconds = best(of: 3) {
      var replay = Replay()
      for _ in 0..<rounds {
        replay.step(events.span)
        for index in events.indices { events[index].time_ns &+= 60_000_000 }
      }
    }
    show("machine, kvm_exit + kvm_entry", exits: rounds * events.count / 2, nanoseconds: nanoseconds)
  }

  /// A trace of our own with a record per exit.
  static func exitRecords(count: Int) throws {
    let path = NSTemporaryDirectory() + "/kvmtax-bench-\(getpid()).kvmtax"
    defer { unlink(path) }
    let descriptor = open(path, O_RDWR | O_CREAT | O_TRUNC, 0o600)
    var writer = try TraceWriter(descriptor: descriptor)
    var record = kt_exit_record()
    var records = [kt_exit_record](repeating: record, count: 1 << 14)
    for index in 0..<count / records.count * records.count {
      record.start_ns = UInt64(index) * 1000
      record.total_ns = 500 + UInt64(index % 997)
      record.kernel_ns = record.total_ns
      record.thread = UInt32(1 + index % 64)
      record.reason = UInt32(index % 53)
      record.isa = 1
      records[index % records.count] = record
      if index % records.count == records.count - 1 { try records.withUnsafeBufferPointer { try writer.append($0) } }
    }
    try writer.append((1...64).map { TracedThread(thread: $0, tid: 1000 + $0, tgid: 1000) })
    close(descriptor)
    let nanoseconds = try best(of: 3) { _ = try readTrace(try MappedFile(path: path), using: .exits) }
    show("kvmtax trace, exit records", exits: count, nanoseconds: nanoseconds)
  }

  /// An import, with the tool that wrote the file beside it.
  static func imported(_ path: String, _ name: String, _ tool: [String]) throws {
    var exits = 0
    let nanoseconds = try best(of: 5) {
      let evidence = try importTrace(try MappedFile(path: path))
      exits = evidence.ledger.vcpus.reduce(0) { $0 + Int($1.exits) }
    }
    let command = tool + [path] + (tool[0] == "perf" ? ["stat", "report"] : [])
    let theirs = best(of: 1) { _ = try? run(command) }
    let ratio = String(format: "   %@ takes %.0f times as long", tool[0], theirs / nanoseconds)
    show(name, exits: exits, nanoseconds: nanoseconds, beside: ratio)
  }

  static func run(_ command: [String]) throws {
    let process = Process()
    process.executableURL = URL(filePath: "/usr/bin/env")
    process.arguments = command
    process.standardOutput = FileHandle.nullDevice
    process.standardError = FileHandle.nullDevice
    try process.run()
    process.waitUntilExit()
  }
}
