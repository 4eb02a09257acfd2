import Foundation

/// One reason of one instruction set.
public struct ReasonKey: Hashable, Comparable, Sendable, CustomStringConvertible {
  /// kvm_exit's `isa`.
  public var isa: UInt8
  /// kvm_exit's `exit_reason`.
  public var reason: UInt32

  /// A key.
  public init(isa: UInt8, reason: UInt32) {
    self.isa = isa
    self.reason = reason
  }

  /// By instruction set, then by number.
  public static func < (left: ReasonKey, right: ReasonKey) -> Bool {
    (left.isa, left.reason) < (right.isa, right.reason)
  }
  /// For messages.
  public var description: String { "isa \(isa) reason 0x\(String(reason, radix: 16))" }
}

/// What pairing makes of one thread's exits of one reason.
public struct PairedExits: Equatable, Sendable {
  /// All kvm_exit events.
  public var exits: UInt64 = 0
  /// Those that a kvm_entry followed before the next kvm_exit.
  public var finished: UInt64 = 0
  /// Their time in ns.
  public var totalNanoseconds: UInt64 = 0
  /// The shortest, in ns; 0 without any.
  public var minNanoseconds: UInt64 = 0
  /// The longest, in ns.
  public var maxNanoseconds: UInt64 = 0

  /// Nothing.
  public init() {}

  /// One finished exit more.
  public mutating func finish(_ nanoseconds: UInt64) {
    minNanoseconds = finished == 0 ? nanoseconds : min(minNanoseconds, nanoseconds)
    maxNanoseconds = max(maxNanoseconds, nanoseconds)
    totalNanoseconds += nanoseconds
    finished += 1
  }

  /// Both together.
  public mutating func add(_ other: PairedExits) {
    if other.finished > 0 {
      minNanoseconds = finished == 0 ? other.minNanoseconds : min(minNanoseconds, other.minNanoseconds)
    }
    maxNanoseconds = max(maxNanoseconds, other.maxNanoseconds)
    exits += other.exits
    finished += other.finished
    totalNanoseconds += other.totalNanoseconds
  }
}

/// Exits as `trace-cmd report` prints them, paired line by line: the last kvm_exit of a thread before its kvm_entry.
/// Where the ring buffer of a CPU lost events ("CPU:1 [13 EVENTS DROPPED]"), threads that were last seen on it and those
/// that come to it next have no exit open any more.
public struct TraceCmdReport: Sendable {
  /// By thread and reason.
  public private(set) var threads: [UInt32: [ReasonKey: PairedExits]] = [:]
  /// All lines that are events.
  public private(set) var lineCount = 0
  /// Events that the program says were dropped.
  public private(set) var droppedCount: UInt64 = 0
  private var open: [UInt32: (key: ReasonKey, nanoseconds: UInt64)] = [:]
  private var lastPlaces: [UInt32: (cpu: UInt64, line: Int)] = [:]
  private var lastLosses: [UInt64: Int] = [:]

  /// Over all threads.
  public var reasons: [ReasonKey: PairedExits] {
    var sum: [ReasonKey: PairedExits] = [:]
    for thread in threads.values {
      for (key, exits) in thread { sum[key, default: PairedExits()].add(exits) }
    }
    return sum
  }

  /// Runs the program: all fields by name (-R), time in ns (-t), none of its plugins (-N).
  public init(of path: String) throws {
    let output = try CountingTool.traceCmd.run(["report", "-R", "-t", "-N", "-i", path])
    guard output.status == 0 else { throw SampleError(text: "trace-cmd report: \(output.errors)") }
    try self.init(lines: output.bytes)
  }

  init(lines: [UInt8]) throws {
    for line in lines.split(separator: UInt8(ascii: "\n")) {
      if let loss = TraceCmdLoss(line) {
        lose(loss)
        continue
      }
      guard let event = try TraceCmdLine(line) else { continue }
      lineCount += 1
      if event.kind == .other { continue }
      move(event)
      switch event.kind {
      case .exit(let key):
        open[event.thread] = (key, event.nanoseconds)
        threads[event.thread, default: [:]][key, default: PairedExits()].exits += 1
      case .entry:
        guard let exit = open.removeValue(forKey: event.thread) else { continue }
        threads[event.thread]?[exit.key]?.finish(event.nanoseconds - exit.nanoseconds)
      case .neighbour, .other:
        continue
      }
    }
  }

  private mutating func lose(_ loss: TraceCmdLoss) {
    droppedCount += loss.count
    lastLosses[loss.cpu] = lineCount
    for (thread, place) in lastPlaces where place.cpu == loss.cpu { open[thread] = nil }
  }

  private mutating func move(_ event: TraceCmdLine) {
    if let last = lastPlaces[event.thread], last.cpu != event.cpu, let loss = lastLosses[event.cpu], last.line <= loss {
      open[event.thread] = nil
    }
    lastPlaces[event.thread] = (event.cpu, lineCount)
  }
}

/// `CPU:1 [13 EVENTS DROPPED]`
private struct TraceCmdLoss {
  var cpu: UInt64
  var count: UInt64

  init?(_ line: ArraySlice<UInt8>) {
    guard line.starts(with: Array("CPU:".utf8)) else { return nil }
    let words = String(decoding: line, as: UTF8.self).split { " :[]".contains($0) }
    guard words.count >= 4, words.suffix(2) == ["EVENTS", "DROPPED"], let cpu = UInt64(words[1]) else { return nil }
    self.cpu = cpu
    count = UInt64(words[2]) ?? 0
  }
}

/// `   CPU 0/KVM-156   [001]    11.676631123: kvm_exit:   exit_reason=1024 … isa=2 …`
private struct TraceCmdLine {
  enum Kind: Equatable {
    case exit(ReasonKey)
    case entry
    /// Shows on which CPU the thread is.
    case neighbour
    case other
  }
  var kind: Kind
  var thread: UInt32 = 0
  var cpu: UInt64 = 0
  var nanoseconds: UInt64 = 0

  private static let names = ["kvm_exit", "kvm_entry", "kvm_userspace_exit", "kvm_vcpu_wakeup"]
    .map { Array(": \($0):".utf8) }

  /// nil for lines that are no events, such as "cpus=2".
  init?(_ line: ArraySlice<UInt8>) throws {
    let places = TraceCmdLine.names.map { TraceCmdLine.find($0, in: line) }
    guard let name = places.compactMap(\.self).first else {
      guard line.contains(UInt8(ascii: "[")) else { return nil }
      kind = .other
      return
    }
    let words = line[..<name].split(separator: UInt8(ascii: " "))
    guard words.count >= 3,
      // newer versions print flags after it: "[001]-0x1"
      let cpu = TraceCmdLine.number(words[words.count - 2].dropFirst().prefix { $0 != UInt8(ascii: "]") }),
      let time = words.last, let dash = words[words.count - 3].lastIndex(of: UInt8(ascii: "-")),
      let thread = TraceCmdLine.number(words[words.count - 3][(dash + 1)...]),
      let point = time.firstIndex(of: UInt8(ascii: ".")), time.endIndex - point == 10,
      let seconds = TraceCmdLine.number(time[..<point]), let rest = TraceCmdLine.number(time[(point + 1)...])
    else { throw SampleError(text: "trace-cmd's line is not understood: \(String(decoding: line, as: UTF8.self))") }
    self.thread = UInt32(truncatingIfNeeded: thread)
    nanoseconds = seconds * 1_000_000_000 + rest
    self.cpu = cpu
    kind = places[1] != nil ? .entry : .neighbour
    if places[0] != nil {
      guard let reason = TraceCmdLine.field(" exit_reason=", in: line[name...]),
        let isa = TraceCmdLine.field(" isa=", in: line[name...])
      else { throw SampleError(text: "kvm_exit without its fields: \(String(decoding: line, as: UTF8.self))") }
      kind = .exit(ReasonKey(isa: UInt8(truncatingIfNeeded: isa), reason: UInt32(truncatingIfNeeded: reason)))
    }
  }

  private static func find(_ text: [UInt8], in line: ArraySlice<UInt8>) -> Int? {
    line.withUnsafeBufferPointer { bytes in
      text.withUnsafeBufferPointer { text in
        var from = 0
        while let first = memchr(bytes.baseAddress! + from, Int32(text[0]), bytes.count - from) {
          let at = UnsafeRawPointer(first) - UnsafeRawPointer(bytes.baseAddress!)
          if bytes.count - at < text.count { return nil }
          if memcmp(first, text.baseAddress!, text.count) == 0 { return line.startIndex + at }
          from = at + 1
        }
        return nil
      }
    }
  }

  private static func field(_ name: String, in line: ArraySlice<UInt8>) -> UInt64? {
    let text = Array(name.utf8)
    guard let at = find(text, in: line) else { return nil }
    return number(line[(at + text.count)...].prefix { $0 != UInt8(ascii: " ") })
  }

  /// Decimal, with or without a sign, or hexadecimal after 0x.
  private static func number(_ digits: ArraySlice<UInt8>) -> UInt64? {
    let text = String(decoding: digits, as: UTF8.self)
    if text.hasPrefix("0x") { return UInt64(text.dropFirst(2), radix: 16) }
    return UInt64(text) ?? Int64(text).map { UInt64(bitPattern: $0) }
  }
}
