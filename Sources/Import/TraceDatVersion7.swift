import Attribution

extension TraceDatHeader {
  private struct Section {
    var id: UInt16
    /// The offset of the content in the file.
    var offset: Int
    var content: UnsafeRawBufferPointer
    /// Where the next section begins.
    var end: Int
  }

  /// Sections hold texts, of which the largest (kallsyms) is not read.
  private static let maximumSectionSize: UInt32 = 64 << 20

  /// Version 7: a chain of option sections that point at all others.
  mutating func readVersion7(_ start: ByteCursor) throws(InputError) {
    var cursor = start
    guard let name = cursor.text(limit: 64)?.text, cursor.text(limit: 256) != nil, var offset = cursor.u64() else {
      throw damaged("trace.dat header", at: cursor.position)
    }
    guard let compression = Compression(name: name) else {
      throw InputError(
        file: file, offset: UInt64(start.position), found: "is compressed with \(name.debugDescription)",
        expected: "zstd and zlib can be read.", remedy: "trace-cmd convert --compression none makes a plain file.")
    }
    guard offset < UInt64(bytes.count) else {
      throw InputError(
        file: file, offset: UInt64(bytes.count),
        found: "cut short; its options would begin at byte \(grouped(offset)), and the file ends",
        expected:
          "trace-cmd writes the places of all parts behind the event formats; without them nothing is readable.",
        remedy: "Copy or record it again.")
    }
    var seen: Set<UInt64> = []
    var end: Int?
    while offset != 0 {
      guard seen.count < 1000, seen.insert(offset).inserted else {
        throw damaged("the chain of trace.dat options", at: Int(clamping: offset))
      }
      guard let section = section(at: offset, compression), section.id == 0 else {
        guard buffers.isEmpty, let end, try recoverBuffer(behind: end, compression, missing: offset) else {
          throw damaged("trace.dat options", at: Int(clamping: offset))
        }
        return
      }
      end = section.end
      offset = try readOptions(section, compression)
    }
  }

  /// The offset of the next options section, 0 at the end.
  private mutating func readOptions(_ section: Section, _ compression: Compression) throws(InputError) -> UInt64 {
    guard var cursor = ByteCursor(section.content) else { return 0 }
    while cursor.remaining > 0 {
      let place = section.offset + cursor.position
      guard let id = cursor.u16(), let size = cursor.u32(), let content = cursor.take(size) else {
        throw damaged("trace.dat options", at: place)
      }
      if id == 0 {
        var done = ByteCursor(content)
        return done?.u64() ?? 0
      }
      if id == 3 {
        try readBuffer(content, at: place, compression)
      } else if [16, 18, 21].contains(id), var pointer = ByteCursor(content), let target = pointer.u64() {
        try readSection(id, at: target, compression)
      } else if !readOption(id, content) {
        notes.append("Option \(id) of the trace is damaged.")
      }
    }
    return 0
  }

  /// Page format, event formats or thread names.
  private mutating func readSection(_ id: UInt16, at offset: UInt64, _ compression: Compression) throws(InputError) {
    let section = section(at: offset, compression)
    var cursor = section.flatMap { ByteCursor($0.content) }
    switch id {
    case 16:
      guard section?.id == id, var text = cursor, formats.readPageFormat(&text) else {
        // the layout has not changed in years, and longSize tells the rest
        notes.append("The page format in the trace is damaged; the usual one was taken.")
        return
      }
    case 18:
      guard section?.id == id, var text = cursor else {
        throw damaged("the event formats", at: Int(clamping: offset))
      }
      if !formats.readEventFormats(&text) {
        damage.add(offset: offset, "the event formats are damaged in part")
      }
    default:
      guard section?.id == id, let size = cursor?.u64(), let names = cursor?.take(size) else {
        damage.add(offset: offset, "the thread names are damaged")
        return
      }
      readThreadNames(names)
    }
  }

  /// Offset, name, clock, page size and the table of per-CPU data.
  private mutating func readBuffer(
    _ content: UnsafeRawBufferPointer, at place: Int, _ compression: Compression
  ) throws(InputError) {
    guard var cursor = ByteCursor(content), let offset = cursor.u64(), let name = cursor.text()?.text,
      let clock = cursor.text()?.text, let pageSize = cursor.u32(), let cpus = cursor.u32(),
      pageSize >= 1024, pageSize <= 1 << 24, pageSize & (pageSize - 1) == 0, cpus <= TraceDatHeader.maximumCpus
    else { throw damaged("the description of a trace.dat buffer", at: place) }
    guard var header = ByteCursor(bytes, at: offset), header.u16() == 3, let flags = header.u16() else {
      throw damaged("the section of a trace.dat buffer", at: Int(clamping: offset))
    }
    var buffer = Buffer(
      name: name, clock: clock, pageSize: Int(pageSize), compression: flags & 1 != 0 ? compression : .none)
    for _ in 0..<cpus {
      guard let cpu = cursor.u32(), let offset = cursor.u64(), let size = cursor.u64() else {
        throw damaged("the table of per-CPU data is", at: place)
      }
      buffer.cpus.append(CpuData(cpu: cpu, offset: offset, size: size))
    }
    if !clock.isEmpty, name.isEmpty || self.clock == nil { self.clock = clock }
    try add(buffer, at: place)
  }

  /// The table of per-CPU data is written last. Where it is missing, compressed data can still be told apart: it lies
  /// behind the first options, CPU by CPU, each at a page's boundary and each with the number and sizes of its chunks.
  private mutating func recoverBuffer(
    behind end: Int, _ compression: Compression, missing offset: UInt64
  ) throws(InputError) -> Bool {
    guard compression != .none, var header = ByteCursor(bytes, at: UInt64(end)), header.u16() == 3,
      let flags = header.u16(), flags & 1 != 0
    else { return false }
    var buffer = Buffer(name: "", clock: clock, pageSize: pageSize, compression: compression)
    var start = (end + 16 + pageSize - 1) & ~(pageSize - 1)
    while buffer.cpus.count < TraceDatHeader.maximumCpus, let size = chunkedSize(at: start) {
      buffer.cpus.append(
        CpuData(cpu: UInt32(buffer.cpus.count), offset: UInt64(start), size: UInt64(size - 4)))
      start = (start + size + pageSize - 1) & ~(pageSize - 1)
    }
    guard !buffer.cpus.isEmpty else { return false }
    isComplete = false
    damage.add(
      offset: min(offset, UInt64(bytes.count)), "the table of per-CPU data is missing or damaged; the data was found")
    notes.append("The CPUs' numbers are not known, and a last CPU's data may be missing.")
    try add(buffer, at: end)
    return true
  }

  /// The size of a count of chunks and the chunks behind it, as far as the file goes; nil if there is nothing like it.
  private func chunkedSize(at start: Int) -> Int? {
    guard start < bytes.count, var cursor = ByteCursor(bytes, at: UInt64(start)), let count = cursor.u32(), count > 0,
      count < 1 << 24
    else { return nil }
    for chunk in 0..<count {
      guard let packed = cursor.u32(), let plain = cursor.u32() else { return chunk > 0 ? bytes.count - start : nil }
      guard packed > 0, plain > 0, plain <= 16 << 20, plain & UInt32(pageSize - 1) == 0 else { return nil }
      guard cursor.take(packed) != nil else { return bytes.count - start }
    }
    return cursor.position - start
  }

  /// A section with its content, decompressed; nil if damaged.
  private mutating func section(at offset: UInt64, _ compression: Compression) -> Section? {
    guard var cursor = ByteCursor(bytes, at: offset), let id = cursor.u16(), let flags = cursor.u16(),
      cursor.u32() != nil, let size = cursor.u64()
    else { return nil }
    guard flags & 1 != 0 else {
      let place = cursor.position
      guard let content = cursor.take(size), content.count <= sectionBudget else { return nil }
      sectionBudget -= content.count
      return Section(id: id, offset: place, content: content, end: place + content.count)
    }
    guard let packed = cursor.u32(), let plain = cursor.u32(), plain > 0, plain <= TraceDatHeader.maximumSectionSize
    else { return nil }
    let place = cursor.position
    guard Int(plain) <= sectionBudget else { return nil }
    sectionBudget -= Int(plain)
    guard let source = cursor.take(packed),
      let content = Decompressed(source, size: Int(plain), compression: compression)
    else { return nil }
    sections.append(content)
    return Section(id: id, offset: place, content: content.bytes, end: place + source.count)
  }
}
