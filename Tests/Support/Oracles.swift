import Foundation

/// Runs another tool and takes its output: what other programs count in the same file is the measure of ours.
public enum Tool {
  /// A tool that failed.
  public struct Failure: Error, CustomStringConvertible {
    /// The command and what it said.
    public var description: String
  }

  /// Standard output and standard error of a command together, as text; throws if it is missing or fails.
  public static func output(_ arguments: [String]) throws -> String {
    String(decoding: try data(arguments), as: UTF8.self)
  }

  /// The same as bytes.
  public static func data(_ arguments: [String]) throws -> Data {
    let process = Process()
    process.executableURL = URL(filePath: "/usr/bin/env")
    process.arguments = arguments
    var environment = ProcessInfo.processInfo.environment
    environment["LC_ALL"] = "C"
    environment["PAGER"] = "cat"
    process.environment = environment
    let pipe = Pipe()
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = pipe
    process.standardError = pipe
    try process.run()
    let data = pipe.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    guard process.terminationStatus == 0 else {
      let end = String(decoding: data.suffix(1000), as: UTF8.self)
      throw Failure(description: "\(arguments.joined(separator: " ")): \(end)")
    }
    return data
  }
}

/// One event as a tool printed it.
public struct PrintedEvent: Equatable, Sendable {
  /// Host thread id.
  public var tid: UInt32
  /// CPU number.
  public var cpu: Int
  /// The printed time in ns.
  public var nanoseconds: UInt64
  /// Without the subsystem, as "kvm_exit".
  public var name: String
  /// What was printed after the name.
  public var text: String

  /// Parses "comm-TID [CPU] S.NNNNNNNNN: name: text" (trace-cmd) and "comm TID [CPU] S.NNNNNNNNN: sys:name: text" (perf);
  /// nil for other lines.
  public init?(line: String) {
    var line = line
    guard let event = line.withUTF8({ PrintedEvent(bytes: UnsafeRawBufferPointer($0)) }) else { return nil }
    self = event
  }

  /// All event lines of a tool's output. It is large and this is a debug build: the C library does the searching.
  static func all(in output: Data) -> [PrintedEvent] {
    output.withUnsafeBytes { bytes in
      var events: [PrintedEvent] = []
      var start = 0
      while start < bytes.count, let base = bytes.baseAddress {
        let end = memchr(base + start, 10, bytes.count - start).map { UnsafeRawPointer($0) - base } ?? bytes.count
        if let event = PrintedEvent(bytes: UnsafeRawBufferPointer(rebasing: bytes[start..<end])) {
          events.append(event)
        }
        start = end + 1
      }
      return events
    }
  }

  private init?(bytes line: UnsafeRawBufferPointer) {
    guard let base = line.baseAddress else { return nil }
    func isDigit(_ place: Int) -> Bool { place < line.count && line[place] >= 48 && line[place] <= 57 }
    func find(_ byte: Unicode.Scalar, from start: Int) -> Int? {
      start > line.count
        ? nil : memchr(base + start, Int32(byte.value), line.count - start).map { UnsafeRawPointer($0) - base }
    }
    func number(at start: Int) -> (value: UInt64, end: Int) {
      var value: UInt64 = 0
      var place = start
      while isDigit(place) {
        value = value &* 10 &+ UInt64(line[place] - 48)
        place += 1
      }
      return (value, place)
    }
    func skipBlanks(_ start: Int) -> Int {
      var place = start
      while place < line.count, line[place] == 32 { place += 1 }
      return place
    }
    // a thread's name may hold brackets too: the CPU's hold digits
    guard var bracket = find("[", from: 0) else { return nil }
    while true {
      let (_, end) = number(at: bracket + 1)
      if bracket > 0, line[bracket - 1] == 32, end > bracket + 1, end < line.count, line[end] == UInt8(ascii: "]") {
        break
      }
      guard let next = find("[", from: bracket + 1) else { return nil }
      bracket = next
    }
    var tidEnd = bracket
    while tidEnd > 0, line[tidEnd - 1] == 32 { tidEnd -= 1 }
    var tidStart = tidEnd
    while tidStart > 0, isDigit(tidStart - 1) { tidStart -= 1 }
    guard tidStart < tidEnd, let tid = UInt32(exactly: number(at: tidStart).value) else { return nil }
    let (cpu, cpuEnd) = number(at: bracket + 1)
    // newer versions of trace-cmd print flags beside the CPU: "[001]-0x1"
    var flagsEnd = cpuEnd + 1
    while flagsEnd < line.count, line[flagsEnd] != 32 { flagsEnd += 1 }
    let (seconds, point) = number(at: skipBlanks(flagsEnd))
    let (fraction, colon) = number(at: point + 1)
    guard colon == point + 10, colon < line.count, line[colon] == UInt8(ascii: ":") else { return nil }
    var start = skipBlanks(colon + 1)
    guard var end = find(":", from: start) else { return nil }
    if end + 1 < line.count, line[end + 1] != 32 {
      start = end + 1  // perf prints the subsystem before the name
      guard let next = find(":", from: start) else { return nil }
      end = next
    }
    self.tid = tid
    self.cpu = Int(cpu)
    nanoseconds = seconds * 1_000_000_000 + fraction
    name = String(decoding: line[start..<end], as: UTF8.self)
    text = String(decoding: line[skipBlanks(end + 1)...], as: UTF8.self)
  }
}

/// What an oracle counts for one reason.
public struct OracleCount: Equatable, Sendable {
  /// All kvm_exit events.
  public var exits: UInt64 = 0
  /// Those that an entry of the same thread followed before another exit did.
  public var finished: UInt64 = 0
  /// Exit to entry, summed over the finished ones.
  public var nanoseconds: UInt64 = 0

  /// Nothing counted.
  public init() {}
}

/// Pairs printed kvm_exit and kvm_entry lines, thread by thread, in the plainest way.
public struct OraclePairing<Key: Hashable> {
  /// By reason.
  public private(set) var counts: [Key: OracleCount] = [:]
  private var open: [UInt32: (key: Key, nanoseconds: UInt64)] = [:]
  private var entered: Set<UInt32> = []
  /// True: as perf kvm does, leave out what a thread does before its first entry.
  private let ignoresThreadsBeforeFirstEntry: Bool

  /// An empty pairing.
  public init(ignoringThreadsBeforeFirstEntry: Bool = false) {
    ignoresThreadsBeforeFirstEntry = ignoringThreadsBeforeFirstEntry
  }

  /// Takes a kvm_exit line.
  public mutating func exit(tid: UInt32, key: Key, nanoseconds: UInt64) {
    if ignoresThreadsBeforeFirstEntry, !entered.contains(tid) { return }
    counts[key, default: OracleCount()].exits += 1
    open[tid] = (key, nanoseconds)
  }

  /// Takes a kvm_entry line.
  public mutating func entry(tid: UInt32, nanoseconds: UInt64) {
    entered.insert(tid)
    guard let (key, start) = open.removeValue(forKey: tid) else { return }
    counts[key, default: OracleCount()].finished += 1
    counts[key, default: OracleCount()].nanoseconds += nanoseconds > start ? nanoseconds - start : 0
  }
}

/// An ISA and a reason's number.
public struct OracleReason: Hashable, Sendable {
  /// kvm_exit's isa field, 0 where the event has none.
  public var isa: UInt8
  /// kvm_exit's exit_reason.
  public var reason: UInt32

  /// One reason.
  public init(isa: UInt8, reason: UInt32) {
    self.isa = isa
    self.reason = reason
  }
}

/// What trace-cmd sees in a trace.dat: its report, raw fields and ns times, paired line by line.
public enum TraceCmdOracle {
  /// Every event line of `trace-cmd report -t -R`.
  public static func events(_ file: String) throws -> [PrintedEvent] {
    PrintedEvent.all(in: try Tool.data(["trace-cmd", "report", "-t", "-R", "-i", file]))
  }

  /// Exits, finished exits and handled time by reason.
  public static func reasons(_ file: String) throws -> [OracleReason: OracleCount] {
    var pairing = OraclePairing<OracleReason>()
    for event in try events(file) {
      switch event.name {
      case "kvm_exit":
        guard let reason = number("exit_reason", in: event.text) else { continue }
        let isa = UInt8(truncatingIfNeeded: number("isa", in: event.text) ?? 0)
        pairing.exit(
          tid: event.tid, key: OracleReason(isa: isa, reason: UInt32(truncatingIfNeeded: reason)),
          nanoseconds: event.nanoseconds)
      case "kvm_entry": pairing.entry(tid: event.tid, nanoseconds: event.nanoseconds)
      default: continue
      }
    }
    return pairing.counts
  }

  /// The value of "name=123" or "name=0x7b"; negative numbers as two's complement.
  public static func number(_ name: String, in text: String) -> UInt64? {
    // a blank before it, so that "reason=" is not found in "exit_reason="
    (" " + text).withCString { start in
      guard let place = strstr(start, " " + name + "=") else { return nil }
      let value = place + name.utf8.count + 2
      return value.pointee == CChar(UInt8(ascii: "-"))
        ? UInt64(bitPattern: Int64(strtoll(value, nil, 0))) : strtoull(value, nil, 0)
    }
  }
}

/// What perf sees in a perf.data.
public enum PerfOracle {
  /// One row of `perf kvm stat report`; times in µs, rounded to 0.01 as printed.
  public struct Row: Equatable, Sendable {
    /// Exits that were paired.
    public var count: UInt64
    /// The shortest.
    public var minMicroseconds: Double
    /// The longest.
    public var maxMicroseconds: Double
    /// The mean.
    public var averageMicroseconds: Double
    /// Mean × count: off by up to 0.005 µs per exit.
    public var totalMicroseconds: Double { averageMicroseconds * Double(count) }
  }

  /// The whole of `perf kvm stat report`.
  public struct Report: Equatable, Sendable {
    /// By the name perf gives the reason; reasons that perf names alike are added up.
    public var rows: [String: Row] = [:]
    /// "Total Samples".
    public var totalCount: UInt64 = 0
    /// "Total events handled time", rounded to 0.01.
    public var totalMicroseconds: Double = 0
  }

  /// Runs `perf kvm stat report`.
  public static func report(_ file: String) throws -> Report {
    var report = Report()
    for line in try Tool.output(["perf", "kvm", "-i", file, "stat", "report", "--force"]).split(separator: "\n") {
      if line.hasPrefix("Total Samples:") {
        let parts = line.split { ":,.".contains($0) }
        report.totalCount = parts.count > 1 ? UInt64(parts[1]) ?? 0 : 0
        let time = line.split(separator: "time:").last?.prefix { $0 != "u" }
        report.totalMicroseconds = time.flatMap { Double($0) } ?? 0
        continue
      }
      // "  EPT_VIOLATION  731  1.95%  6.82%  19.22us  8012.90us  383.36us ( +- 11.08% )"; names may hold spaces
      let words = line.split(separator: " ")
      guard let first = words.firstIndex(where: { $0.hasSuffix("%") }), first >= 2, words.count > first + 4,
        let count = UInt64(words[first - 1])
      else { continue }
      let times = words[(first + 2)...(first + 4)].compactMap { Double($0.replacing("us", with: "")) }
      guard times.count == 3 else { continue }
      let name = words[..<(first - 1)].joined(separator: " ")
      let row = Row(
        count: count, minMicroseconds: times[0], maxMicroseconds: times[1], averageMicroseconds: times[2])
      report.rows[name] = report.rows[name].map { sum($0, row) } ?? row
    }
    return report
  }

  private static func sum(_ left: Row, _ right: Row) -> Row {
    Row(
      count: left.count + right.count, minMicroseconds: min(left.minMicroseconds, right.minMicroseconds),
      maxMicroseconds: max(left.maxMicroseconds, right.maxMicroseconds),
      averageMicroseconds: (left.totalMicroseconds + right.totalMicroseconds) / Double(left.count + right.count))
  }

  /// Counts and µs by reason, as `perf kvm stat report` prints them.
  public static func reasons(_ file: String) throws -> [String: (count: UInt64, totalMicroseconds: Double)] {
    try report(file).rows.mapValues { ($0.count, $0.totalMicroseconds) }
  }

  /// Every event line of `perf script --ns`, in perf's order.
  public static func events(_ file: String) throws -> [PrintedEvent] {
    PrintedEvent.all(
      in: try Tool.data(["perf", "script", "--ns", "--force", "-F", "comm,tid,cpu,time,event,trace", "-i", file]))
  }

  static func reason(in text: String) -> String? {
    text.withCString { start in
      guard let name = strstr(start, "reason ").map({ $0 + 7 }), let end = strstr(name, " rip ") else { return nil }
      return String(decoding: UnsafeRawBufferPointer(start: name, count: end - name), as: UTF8.self)
    }
  }

  /// Exits, finished exits and handled time in ns by the reason's number, from `perf script`'s lines, which print names.
  public static func pairedEvents(
    _ file: String, _ names: PerfReasonNames, ignoringThreadsBeforeFirstEntry: Bool = false
  ) throws -> [UInt32: OracleCount] {
    var pairing = OraclePairing<UInt32>(ignoringThreadsBeforeFirstEntry: ignoringThreadsBeforeFirstEntry)
    for event in try events(file) {
      switch event.name {
      case "kvm_exit":
        // "vcpu 0 reason EPT_VIOLATION rip 0x1000 …", before 5.10 "reason … rip …"
        guard let name = PerfOracle.reason(in: event.text), let reason = names.number(ofScriptName: name) else {
          throw SampleError(text: "perf printed an exit of unknown reason: \(event.text)")
        }
        pairing.exit(tid: event.tid, key: reason, nanoseconds: event.nanoseconds)
      case "kvm_entry": pairing.entry(tid: event.tid, nanoseconds: event.nanoseconds)
      default: continue
      }
    }
    return pairing.counts
  }
}
