import Attribution
import Formats

/// What the head of a trace.dat says, in version 6 and 7 alike.
struct TraceDatHeader {
  /// One ring buffer of the trace: the main one or a named instance.
  struct Buffer {
    /// Empty for the main buffer.
    var name = ""
    var clock: String?
    var pageSize: Int
    var compression: Compression = .none
    var cpus: [CpuData] = []
  }

  /// Where the data of one CPU lies.
  struct CpuData {
    var cpu: UInt32
    var offset: UInt64
    var size: UInt64
  }

  /// Turns TSC ticks into ns: ticks × multiplier >> shift, plus offset.
  struct TickConversion: Equatable {
    var multiplier: UInt32
    var shift: UInt32
    var offset: UInt64

    func nanoseconds(_ ticks: UInt64) -> UInt64 {
      let product = ticks.multipliedFullWidth(by: UInt64(multiplier))
      let low = product.low >> UInt64(shift)
      let high = shift == 0 ? 0 : product.high << UInt64(64 - shift)
      return (low | high) &+ offset
    }
  }

  let version: Int
  let file: String
  let bytes: UnsafeRawBufferPointer
  var pageSize: Int
  var formats: TracingFormats
  var buffers: [Buffer] = []
  var clock: String?
  var tickConversion: TickConversion?
  var threadNames: [UInt32: String] = [:]
  var host: String?
  var kernel: String?
  /// Events that ftrace's per-CPU statistics count as overwritten or dropped.
  var lostByStatistics: UInt64 = 0
  var notes: [String] = []
  var damage = DamageLog()
  var isComplete = true
  /// Keeps decompressed sections alive.
  var sections: [Decompressed] = []
  /// Bytes that sections may still have: a file can point at one small section any number of times.
  var sectionBudget = 128 << 20

  /// No machine has more; also bounds the memory for chunks.
  static let maximumCpus = 16_384

  /// Reads the head of either version.
  init(_ bytes: UnsafeRawBufferPointer, file: String) throws(InputError) {
    self.file = file
    self.bytes = bytes
    func cut(_ cursor: ByteCursor?) -> InputError {
      InputError(
        file: file, offset: UInt64(cursor?.position ?? bytes.count), found: "trace.dat cut short in its header",
        remedy: "Copy or record it again.")
    }
    guard var cursor = ByteCursor(bytes, at: 10) else { throw cut(nil) }
    guard let name = cursor.text(limit: 8)?.text else { throw cut(cursor) }
    guard let version = Int(name), version == 6 || version == 7 else {
      throw InputError(
        file: file, offset: 10, found: "is a trace.dat of version \(name.debugDescription)",
        expected: "Versions 6 and 7 can be read.", remedy: "trace-cmd convert --file-version 7 makes one.")
    }
    self.version = version
    guard let endian = cursor.u8(), let longSize = cursor.u8(), let pageSize = cursor.u32() else { throw cut(cursor) }
    guard endian == 0 else {
      throw InputError(
        file: file, offset: 12, found: "is a trace.dat of a big-endian machine",
        remedy: "Only little-endian traces can be read.")
    }
    guard pageSize >= 1024, pageSize <= 1 << 24, pageSize & (pageSize - 1) == 0, longSize == 4 || longSize == 8 else {
      throw InputError(
        file: file, offset: 13, found: "trace.dat header damaged: \(longSize)-byte longs, \(pageSize)-byte pages",
        remedy: "Copy or record it again.")
    }
    self.pageSize = Int(pageSize)
    formats = TracingFormats(longSize: Int(longSize))
    if version == 7 { try readVersion7(cursor) } else { try readVersion6(cursor) }
    try settleClock()
  }

  func damaged(_ what: String, at offset: Int) -> InputError {
    InputError(
      file: file, offset: UInt64(max(offset, 0)), found: "\(what) damaged or cut short",
      remedy: "Copy or record it again.")
  }

  // MARK: Parts that both versions share

  /// "PID NAME" lines.
  mutating func readThreadNames(_ text: UnsafeRawBufferPointer) {
    for line in text.split(separator: UInt8(ascii: "\n"), maxSplits: 1 << 20).prefix(1 << 20) {
      let parts = line.split(separator: UInt8(ascii: " "), maxSplits: 1)
      guard parts.count == 2, let tid = UInt32(String(decoding: parts[0], as: UTF8.self)) else { continue }
      threadNames[tid] = String(decoding: parts[1].prefix(64), as: UTF8.self)
    }
  }

  /// Per-CPU regions come from the file: none may leave it, and together they cannot be larger than it.
  mutating func add(_ buffer: Buffer, at place: Int) throws(InputError) {
    var buffer = buffer
    var total: UInt64 = 0
    for index in buffer.cpus.indices {
      let size = buffer.cpus[index].size
      let start = min(buffer.cpus[index].offset, UInt64(bytes.count))
      let present = min(size, UInt64(bytes.count) - start)
      if present < size {
        damage.add(
          offset: UInt64(bytes.count), length: size - present, "the data of CPU \(buffer.cpus[index].cpu) is cut short")
        isComplete = false
      }
      buffer.cpus[index].offset = start
      buffer.cpus[index].size = present
      total &+= present
    }
    guard total <= UInt64(bytes.count), buffers.count < 256 else {
      throw damaged("the table of per-CPU data is", at: place)
    }
    buffer.cpus.removeAll { $0.size == 0 }
    buffers.append(buffer)
  }

  /// One option; false if its content is too short.
  mutating func readOption(_ id: UInt16, _ content: UnsafeRawBufferPointer) -> Bool {
    switch id {
    case 2: lostByStatistics &+= TraceDatHeader.lost(inStatistics: content.text)
    case 4: if !content.isEmpty { clock = TraceDatHeader.selectedClock(content.text) ?? clock }
    case 5:
      let words = content.text.split(separator: " ")
      host = words.count > 1 ? String(words[1].prefix(256)) : nil
      kernel = words.count > 2 ? String(words[2].prefix(256)) : nil
    case 14:
      guard var cursor = ByteCursor(content), let multiplier = cursor.u32(), let shift = cursor.u32(),
        let offset = cursor.u64(), shift < 64
      else { return false }
      tickConversion = TickConversion(multiplier: multiplier, shift: shift, offset: offset)
    default: break
    }
    return true
  }

  /// "[local] global …" names the clock in brackets.
  static func selectedClock(_ text: String) -> String? {
    guard let start = text.firstIndex(of: "["), let end = text[start...].firstIndex(of: "]") else { return nil }
    return String(text[text.index(after: start)..<end].prefix(32))
  }

  private static func lost(inStatistics text: String) -> UInt64 {
    text.split(separator: "\n").reduce(0) { sum, line in
      let parts = line.split(separator: ":")
      guard parts.count == 2, ["overrun", "commit overrun", "dropped events"].contains(parts[0]) else { return sum }
      return sum &+ (UInt64(parts[1].drop { $0 == " " }) ?? 0)
    }
  }

  /// Only times in ns can be summed.
  private mutating func settleClock() throws(InputError) {
    let clock = self.clock ?? "local"
    self.clock = clock
    if ["counter", "uptime"].contains(clock) || (["x86-tsc", "ppc-tb"].contains(clock) && tickConversion == nil) {
      throw InputError(
        file: file, found: "its clock is \(clock), which does not count time in ns",
        remedy: "Record again with: trace-cmd record -C mono -e kvm")
    }
    if !["x86-tsc", "tsc2nsec"].contains(clock) { tickConversion = nil }
  }
}
