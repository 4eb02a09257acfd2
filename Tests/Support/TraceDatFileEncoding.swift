/// Writes a trace.dat of version 6.
extension TraceDatFile {
  /// The file with these records instead of its own, each CPU's in the order of the list, which must be that of time.
  /// `absoluteTimes` writes long gaps as TIME_STAMP instead of TIME_EXTEND. kallsyms is left out: symbols only make
  /// printed addresses readable, and are most of a file's size.
  public func encoded(_ records: [TracepointRecord], absoluteTimes: Bool = false) -> [UInt8] {
    var out = head
    out.append(number: UInt32(ftraceTexts.count))
    for text in ftraceTexts { out.append(text: text) }
    appendFormats(to: &out)
    let symbols = Array("0000000000000000 A fixed_percpu_data\n".utf8)
    out.append(number: UInt32(symbols.count))
    out += symbols
    out.append(number: UInt32(printk.count))
    out += printk
    out.append(number: UInt64(commands.count))
    out += commands
    out.append(number: UInt32(cpuCount))
    out += Array("options  \0".utf8)
    for option in options {
      var bytes = option.bytes
      if option.id == 8 {  // the number of CPUs once more
        bytes = []
        bytes.append(number: UInt32(cpuCount))
      }
      out.append(number: option.id)
      out.append(number: UInt32(bytes.count))
      out += bytes
    }
    out.append(number: UInt16(0))
    out += Array("flyrecord\0".utf8)
    appendData(records, absoluteTimes: absoluteTimes, to: &out)
    return out
  }

  private func appendFormats(to out: inout [UInt8]) {
    var systems: [String] = []
    for event in events where !systems.contains(event.system) { systems.append(event.system) }
    out.append(number: UInt32(systems.count))
    for system in systems {
      out += Array(system.utf8) + [0]
      let members = events.filter { $0.system == system }
      out.append(number: UInt32(members.count))
      for event in members { out.append(text: event.text) }
    }
  }

  private func appendData(_ records: [TracepointRecord], absoluteTimes: Bool, to out: inout [UInt8]) {
    var buffers: [[UInt8]] = []
    for cpu in 0..<cpuCount {
      var pages = RingPages(absoluteTimes: absoluteTimes)
      for record in records where record.cpu == cpu { pages.append(record) }
      buffers.append(pages.finished())
    }
    var offset = (out.count + 16 * cpuCount + 4095) / 4096 * 4096
    let start = offset
    for buffer in buffers {
      out.append(number: UInt64(offset))
      out.append(number: UInt64(buffer.count))
      offset += buffer.count
    }
    out += [UInt8](repeating: 0, count: start - out.count)
    for buffer in buffers { out += buffer }
  }
}

extension [UInt8] {
  fileprivate mutating func append(text: String) {
    append(number: UInt64(text.utf8.count))
    append(contentsOf: text.utf8)
  }
}

/// One CPU's ring buffer pages.
private struct RingPages {
  let absoluteTimes: Bool
  private var done: [UInt8] = []
  private var page: [UInt8] = []
  private var pageNanoseconds: UInt64 = 0
  private var lastNanoseconds: UInt64 = 0
  private var lostBeforePage: UInt64 = 0

  init(absoluteTimes: Bool) { self.absoluteTimes = absoluteTimes }

  mutating func append(_ record: TracepointRecord) {
    let length = (record.bytes.count + 3) & ~3
    if record.lostBefore > 0 {
      if !page.isEmpty { close() }
      lostBeforePage += record.lostBefore
    }
    // a time of 8 bytes, a header of up to 8, the data
    if !page.isEmpty, page.count + 16 + length > 4080 { close() }
    if page.isEmpty {
      pageNanoseconds = record.nanoseconds
      lastNanoseconds = record.nanoseconds
    }
    var delta = record.nanoseconds - lastNanoseconds
    if delta >= 1 << 27 {
      let value = absoluteTimes ? record.nanoseconds : delta
      page.append(number: UInt32(truncatingIfNeeded: value & 0x7ff_ffff) << 5 | (absoluteTimes ? 31 : 30))
      page.append(number: UInt32(truncatingIfNeeded: value >> 27))
      delta = 0
    }
    lastNanoseconds = record.nanoseconds
    // padding with no time before it means "the rest of the page"; such a record is left out altogether
    if record.discarded, delta == 0 { return }
    let header = UInt32(delta) << 5
    if record.discarded {
      page.append(number: header | 29)
      page.append(number: UInt32(length + 4))
    } else if length <= 112, length > 0 {
      page.append(number: header | UInt32(length / 4))
    } else {
      page.append(number: header)
      page.append(number: UInt32(length + 4))
    }
    page += record.bytes + [UInt8](repeating: 0, count: length - record.bytes.count)
  }

  private mutating func close() {
    done.append(number: pageNanoseconds)
    // bit 31: records were lost before this page; bit 30: their number stands behind its data, where there is room
    let isCounted = lostBeforePage > 0 && page.count + 8 <= 4080
    let flags: UInt64 = lostBeforePage == 0 ? 0 : isCounted ? 3 << 30 : 1 << 31
    done.append(number: UInt64(page.count) | flags)
    if isCounted { page.append(number: lostBeforePage) }
    done += page + [UInt8](repeating: 0, count: 4080 - page.count)
    page = []
    lostBeforePage = 0
  }

  mutating func finished() -> [UInt8] {
    if !page.isEmpty { close() }
    return done
  }
}
