/// How a mutant of a perf.data is written.
public struct PerfDataForm: Sendable {
  /// New ids of events by their old ones.
  public var ids: [Int: Int] = [:]
  /// Records per round.
  public var roundSize = 10_000
  /// Whether the header repeats the attributes with names; else names come from the formats.
  public var describesEvents = true
  /// What a sample holds: bits of PERF_SAMPLE_*; TID, TIME, CPU and RAW always, and ID or IDENTIFIER.
  public var sampleType = PerfDataFile.sampleType

  /// As the sample was written.
  public init() {}

  /// Bits that can come and go: IP, PERIOD; ADDR, CALLCHAIN, STREAM_ID, WEIGHT, IDENTIFIER.
  private static let optional: [UInt64] = [1 << 0, 1 << 8, 1 << 3, 1 << 5, 1 << 9, 1 << 14, 1 << 16]

  /// Some other form that perf reads as well.
  public init(ids: [Int: Int], using random: inout MutantRandom) {
    self.ids = ids
    roundSize = 50 + random.below(1000)
    describesEvents = random.oneIn(2)
    if random.oneIn(2) {
      for bit in PerfDataForm.optional where random.oneIn(2) { sampleType ^= bit }
      // with IDENTIFIER in front, ID inside is a second copy
      if sampleType & 1 << 16 != 0, random.oneIn(2) { sampleType &= ~(1 << 6) }
    }
  }
}

/// Writes a perf.data file.
extension PerfDataFile {
  /// The file with these records, which must be in the order of time, instead of its own samples. As perf does, each
  /// round writes one CPU's samples after the other's. Marks of losses are for samples of the original type.
  public func encoded(_ records: [TracepointRecord], as form: PerfDataForm = PerfDataForm()) -> [UInt8] {
    let headerSize = 104
    var changed = attributes
    for index in changed.indices { changed[index].bytes = adapted(changed[index].bytes, form) }
    let kept = features.filter { form.describesEvents || $0.bit != PerfDataFile.descriptionBit }
    let idsSize = changed.reduce(0) { $0 + $1.ids.count * 8 }
    let attributeSize = (changed.first?.bytes.count ?? 128) + 16
    let attributesAt = headerSize + idsSize
    let data = preface + encodedRounds(records, form)

    var out = Array("PERFILE2".utf8)
    out.append(number: UInt64(headerSize))
    out.append(number: UInt64(attributeSize))
    out.append(number: UInt64(attributesAt))
    out.append(number: UInt64(attributeSize * changed.count))
    let dataAt = attributesAt + attributeSize * changed.count
    out.append(number: UInt64(dataAt))
    out.append(number: UInt64(data.count))
    out += [UInt8](repeating: 0, count: 16)
    out.append(number: kept.reduce(UInt64(0)) { $0 | 1 << UInt64($1.bit) })
    out += [UInt8](repeating: 0, count: 24)
    for attribute in changed { for id in attribute.ids { out.append(number: id) } }
    var idsAt = headerSize
    for attribute in changed {
      out += attribute.bytes
      out.append(number: UInt64(idsAt))
      out.append(number: UInt64(attribute.ids.count * 8))
      idsAt += attribute.ids.count * 8
    }
    out += data
    var at = out.count + kept.count * 16
    let sections = kept.map { section($0, form) }
    for section in sections {
      out.append(number: UInt64(at))
      out.append(number: UInt64(section.count))
      at += section.count
    }
    for section in sections { out += section }
    return out
  }

  private func adapted(_ attribute: [UInt8], _ form: PerfDataForm) -> [UInt8] {
    var result = attribute
    result.withUnsafeMutableBytes { bytes in
      let config = bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)
      if let id = form.ids[Int(truncatingIfNeeded: config)] {
        bytes.storeBytes(of: UInt64(id), toByteOffset: 8, as: UInt64.self)
      }
      if form.sampleType == PerfDataFile.sampleType { return }
      bytes.storeBytes(of: form.sampleType, toByteOffset: 24, as: UInt64.self)
      // sample_id_all, bit 18: what other records carry behind them no longer fits the type
      let flags = bytes.loadUnaligned(fromByteOffset: 40, as: UInt64.self)
      bytes.storeBytes(of: flags & ~(1 << 18), toByteOffset: 40, as: UInt64.self)
    }
    return result
  }

  private func section(_ feature: Feature, _ form: PerfDataForm) -> [UInt8] {
    switch feature.bit {
    case PerfDataFile.tracingDataBit: return encodedTracingData()
    case PerfDataFile.descriptionBit: return adaptedDescription(feature.bytes, form)
    default: return feature.bytes
    }
  }

  private func encodedTracingData() -> [UInt8] {
    var out = tracingHead
    var systems: [String] = []
    for event in events where !systems.contains(event.system) { systems.append(event.system) }
    out.append(number: UInt32(systems.count))
    for system in systems {
      out += Array(system.utf8) + [0]
      let members = events.filter { $0.system == system }
      out.append(number: UInt32(members.count))
      for event in members {
        out.append(number: UInt64(event.text.utf8.count))
        out += Array(event.text.utf8)
      }
    }
    return out + tracingTail
  }

  /// The section HEADER_EVENT_DESC: count, size of an attribute, then each attribute with its ids and its name.
  private func adaptedDescription(_ bytes: [UInt8], _ form: PerfDataForm) -> [UInt8] {
    var reader = PartReader(bytes: bytes, position: 0)
    var out: [UInt8] = []
    do {
      let count = try reader.number(UInt32.self)
      let size = try reader.number(UInt32.self)
      out.append(number: count)
      out.append(number: size)
      for _ in 0..<count {
        out += adapted(try reader.take(Int(size)), form)
        let idCount = try reader.number(UInt32.self)
        let nameSize = try reader.number(UInt32.self)
        out.append(number: idCount)
        out.append(number: nameSize)
        out += try reader.take(Int(nameSize) + Int(idCount) * 8)
      }
    } catch { return bytes }
    return out
  }

  /// Rounds overlap as far as perf allows: each CPU is read at another moment, but a round holds nothing older than
  /// the end of the last round but one.
  private func encodedRounds(_ records: [TracepointRecord], _ form: PerfDataForm) -> [UInt8] {
    var out: [UInt8] = []
    let size = max(form.roundSize, 2)
    let cpus = Set(records.map(\.cpu)).sorted(by: >)
    var next = [Int](repeating: 0, count: cpus.count)
    for round in 0...records.count / size {
      for (number, cpu) in cpus.enumerated() {
        let end = min((round + 1) * size + number * 7919 % (size / 2), records.count)
        for record in records[min(next[number], end)..<end] where record.cpu == cpu {
          append(record, form.sampleType, to: &out)
        }
        next[number] = end
      }
      out.append(number: UInt32(68))
      out.append(number: UInt16(0))
      out.append(number: UInt16(8))
    }
    return out
  }

  /// One sample: all as it was but for the time, the CPU, the raw record and parts that it did not have.
  private func append(_ record: TracepointRecord, _ type: UInt64, to out: inout [UInt8]) {
    if record.discarded { return }
    let sample = samples[record.origin]
    if record.lostBefore > 0 { appendLoss(before: record, sample, to: &out) }
    func has(_ bit: UInt64) -> Bool { type & 1 << bit != 0 }
    func original(_ offset: Int) -> ArraySlice<UInt8> { bytes[sample.start + offset..<sample.start + offset + 8] }
    var body: [UInt8] = []
    if has(16) { body += original(32) }
    if has(0) { body += original(8) }
    body += original(16)  // pid, tid
    body.append(number: record.nanoseconds)
    if has(3) { body.append(number: UInt64(0xadd2)) }
    if has(6) { body += original(32) }
    if has(9) { body += original(32) }
    body.append(number: UInt64(record.cpu))
    if has(8) { body += original(48) }
    if has(5) {
      body.append(number: UInt64(record.nanoseconds % 4))
      for _ in 0..<record.nanoseconds % 4 { body.append(number: UInt64.max / 2) }
    }
    // the raw record and its u32 of size fill a multiple of 8 bytes
    let rawSize = (record.bytes.count + 4 + 7) & ~7 - 4
    body.append(number: UInt32(rawSize))
    body += record.bytes + [UInt8](repeating: 0, count: rawSize - record.bytes.count)
    if has(14) { body.append(number: UInt64(7)) }
    out.append(number: PerfDataFile.sampleRecord)
    out += bytes[sample.start + 4..<sample.start + 6]
    out.append(number: UInt16(8 + body.count))
    out += body
  }

  /// A PERF_RECORD_LOST with the trailer that `sample_id_all` asks for: pid and tid, time, id, CPU.
  private func appendLoss(before record: TracepointRecord, _ sample: Sample, to out: inout [UInt8]) {
    out.append(number: UInt32(2))
    out.append(number: UInt16(0))
    out.append(number: UInt16(56))
    out += bytes[sample.start + 32..<sample.start + 40]
    out.append(number: record.lostBefore)
    out += bytes[sample.start + 16..<sample.start + 24]
    out.append(number: record.nanoseconds)
    out += bytes[sample.start + 32..<sample.start + 40]
    out.append(number: UInt64(record.cpu))
  }
}
