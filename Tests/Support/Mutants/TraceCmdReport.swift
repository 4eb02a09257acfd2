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

/// Exits as `trace-cmd report` prints them, paired line by line: the last kvm_exit of a thread before its kvm_entry. Where
/// a handler of the host's or a switch came between the entry before and the exit, the exit begins with that. Where the ring buffer of a CPU lost events ("CPU:1 [13 EVENTS DROPPED]"), threads that were last seen on it and those
/// that come to it next have no exit open any more.
public struct TraceCmdReport: Sendable {
  /// By thread and reason.
  public private(set) var threads: [UInt32: [ReasonKey: PairedExits]] = [:]
  /// All lines that are events.
  public private(set) var lineCount = 0
  /// Events that the program says were dropped.
  public private(set) var droppedCount: UInt64 = 0
  private var open: [UInt32: (key: ReasonKey, nanoseconds: UInt64)] = [:]
  private let interruptions: Set<String>
  private var guests = GuestStays()
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
  /// `interruptions`: names of the events that begin an exit.
  public init(of path: String, interruptions: Set<String> = []) throws {
    self.interruptions = interruptions
    let output = try CountingTool.traceCmd.run(["report", "-R", "-t", "-N", "-i", path])
    guard output.status == 0 else { throw SampleError(text: "trace-cmd report: \(output.errors)") }
    try read(output.bytes)
  }

  private mutating func read(_ lines: [UInt8]) throws {
    for line in lines.split(separator: UInt8(ascii: "\n")) {
      if let loss = TraceCmdLoss(line) {
        lose(loss)
        continue
      }
      guard let event = try TraceCmdLine(line) else { continue }
      lineCount += 1
      if event.kind == .other || !isUsed(event.kind) { continue }
      move(event.thread, event.cpu)
      switch event.kind {
      case .exit(let key):
        open[event.thread] = (key, guests.exit(event.thread, event.nanoseconds))
        threads[event.thread, default: [:]][key, default: PairedExits()].exits += 1
      case .entry:
        guests.enter(event.thread)
        guard let exit = open.removeValue(forKey: event.thread) else { continue }
        threads[event.thread]?[exit.key]?.finish(event.nanoseconds - exit.nanoseconds)
      case .userspaceExit: guests.leave(event.thread)
      case .handler: guests.interrupt(event.thread, event.nanoseconds)
      case .exchange(let next):
        guests.interrupt(event.thread, event.nanoseconds)
        move(next, event.cpu)
        guests.interrupt(next, event.nanoseconds)
      case .neighbour, .other: continue
      }
    }
  }

  private func isUsed(_ kind: TraceCmdLine.Kind) -> Bool {
    switch kind {
    case .handler(let name): interruptions.contains(name)
    case .exchange: interruptions.contains("sched_switch")
    default: true
    }
  }

  private mutating func lose(_ loss: TraceCmdLoss) {
    droppedCount += loss.count
    lastLosses[loss.cpu] = lineCount
    for (thread, place) in lastPlaces where place.cpu == loss.cpu { cut(thread) }
  }

  private mutating func cut(_ thread: UInt32) {
    open[thread] = nil
    guests.leave(thread)
  }

  private mutating func move(_ thread: UInt32, _ cpu: UInt64) {
    if let last = lastPlaces[thread], last.cpu != cpu, let loss = lastLosses[cpu], last.line <= loss { cut(thread) }
    lastPlaces[thread] = (cpu, lineCount)
  }
}

/// Which threads are in their guests, and when what comes between an entry and an exit began.
struct GuestStays {
  private var inside: Set<UInt32> = []
  private var interrupted: [UInt32: UInt64] = [:]

  mutating func enter(_ thread: UInt32) {
    inside.insert(thread)
    interrupted[thread] = nil
  }

  /// Not by an exit that was seen.
  mutating func leave(_ thread: UInt32) {
    inside.remove(thread)
    interrupted[thread] = nil
  }

  mutating func interrupt(_ thread: UInt32, _ nanoseconds: UInt64) {
    if inside.remove(thread) != nil { interrupted[thread] = nanoseconds }
  }

  /// When the exit began.
  mutating func exit(_ thread: UInt32, _ nanoseconds: UInt64) -> UInt64 {
    inside.remove(thread)
    return interrupted.removeValue(forKey: thread) ?? nanoseconds
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
    case userspaceExit
    /// Of the host's own interrupts.
    case handler(String)
    /// The running thread gives its CPU to another.
    case exchange(UInt32)
    /// Shows on which CPU the thread is.
    case neighbour
    case other
  }
  var kind: Kind
  var thread: UInt32 = 0
  var cpu: UInt64 = 0
  var nanoseconds: UInt64 = 0

  private static let beginnings = [
    "kvm_", "sched_switch", "local_timer_", "call_function_", "reschedule_", "irq_work_",
  ]
  .map { Array(": \($0)".utf8) }
  private static let neighbours: Set<String> = [
    "kvm_vcpu_wakeup", "kvm_msr", "kvm_mmio", "kvm_fast_mmio", "kvm_cpuid", "kvm_hypercall", "kvm_hv_hypercall",
    "kvm_inj_virq", "kvm_apic_accept_irq", "kvm_nested_vmexit", "kvm_nested_vmexit_inject",
  ]

  /// nil for lines that are no events, such as "cpus=2".
  init?(_ line: ArraySlice<UInt8>) throws {
    guard let at = TraceCmdLine.beginnings.lazy.compactMap({ TraceCmdLine.find($0, in: line) }).first else {
      guard line.contains(UInt8(ascii: "[")) else { return nil }
      kind = .other
      return
    }
    let words = line[..<at].split(separator: UInt8(ascii: " "))
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
    let name = String(decoding: line[(at + 2)...].prefix { $0 != UInt8(ascii: ":") }, as: UTF8.self)
    kind = .other
    kind = try TraceCmdLine.kind(name, line[at...])
  }

  private static func kind(_ name: String, _ text: ArraySlice<UInt8>) throws -> Kind {
    func number(_ field: String) throws -> UInt64 {
      guard let value = TraceCmdLine.field(" \(field)=", in: text) else {
        throw SampleError(text: "\(name) without its fields: \(String(decoding: text, as: UTF8.self))")
      }
      return value
    }
    switch name {
    case "kvm_exit":
      return .exit(
        ReasonKey(
          isa: UInt8(truncatingIfNeeded: try number("isa")),
          reason: UInt32(truncatingIfNeeded: try number("exit_reason"))))
    case "kvm_entry": return .entry
    case "kvm_userspace_exit": return .userspaceExit
    case "kvm_fpu": return try number("load") != 0 ? .neighbour : .other
    case "kvm_apic": return try number("rw") == 1 && number("reg") == 0x320 ? .neighbour : .other
    case "sched_switch": return .exchange(UInt32(truncatingIfNeeded: try number("next_pid")))
    default:
      if neighbours.contains(name) { return .neighbour }
      if name.hasPrefix("kvm_") { return .other }
      return name.hasSuffix("_entry") || name.hasSuffix("_exit") ? .handler(name) : .other
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
