/// Writes a perf.data file.
extension PerfDataFile {
  /// The file with these records, which must be in the order of time, instead of its own samples. As perf does, each
  /// round of about `roundSize` records writes one CPU's samples after the other's. `describesEvents` keeps the section
  /// that repeats the attributes with names; without it, names come from the formats. `ids` maps the ids of events
  /// that were renumbered.
  public func encoded(
    _ records: [TracepointRecord], ids: [Int: Int], roundSize: Int, describesEvents: Bool
  ) -> [UInt8] {
    let headerSize = 104
    var changed = attributes
    for index in changed.indices { changed[index].bytes = renamed(changed[index].bytes, ids) }
    let kept = features.filter { describesEvents || $0.bit != PerfDataFile.descriptionBit }
    let idsSize = changed.reduce(0) { $0 + $1.ids.count * 8 }
    let attributeSize = (changed.first?.bytes.count ?? 128) + 16
    let attributesAt = headerSize + idsSize
    let data = preface + encodedRounds(records, roundSize: roundSize)

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
    let sections = kept.map { section($0, ids) }
    for section in sections {
      out.append(number: UInt64(at))
      out.append(number: UInt64(section.count))
      at += section.count
    }
    for section in sections { out += section }
    return out
  }

  private func renamed(_ attribute: [UInt8], _ ids: [Int: Int]) -> [UInt8] {
    var result = attribute
    let config = attribute.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: 8, as: UInt64.self) }
    guard let id = ids[Int(truncatingIfNeeded: config)] else { return result }
    result.withUnsafeMutableBytes { $0.storeBytes(of: UInt64(id), toByteOffset: 8, as: UInt64.self) }
    return result
  }

  private func section(_ feature: Feature, _ ids: [Int: Int]) -> [UInt8] {
    switch feature.bit {
    case PerfDataFile.tracingDataBit: return encodedTracingData()
    case PerfDataFile.descriptionBit: return renamedDescription(feature.bytes, ids)
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
  private func renamedDescription(_ bytes: [UInt8], _ ids: [Int: Int]) -> [UInt8] {
    var reader = PartReader(bytes: bytes, position: 0)
    var out: [UInt8] = []
    do {
      let count = try reader.number(UInt32.self)
      let size = try reader.number(UInt32.self)
      out.append(number: count)
      out.append(number: size)
      for _ in 0..<count {
        out += renamed(try reader.take(Int(size)), ids)
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
  private func encodedRounds(_ records: [TracepointRecord], roundSize: Int) -> [UInt8] {
    var out: [UInt8] = []
    let size = max(roundSize, 2)
    let cpus = Set(records.map(\.cpu)).sorted(by: >)
    var next = [Int](repeating: 0, count: cpus.count)
    for round in 0...records.count / size {
      for (number, cpu) in cpus.enumerated() {
        let end = min((round + 1) * size + number * 7919 % (size / 2), records.count)
        for record in records[min(next[number], end)..<end] where record.cpu == cpu { append(record, to: &out) }
        next[number] = end
      }
      out.append(number: UInt32(68))
      out.append(number: UInt16(0))
      out.append(number: UInt16(8))
    }
    return out
  }

  /// One sample: all as it was but for the time, the CPU and the raw record.
  private func append(_ record: TracepointRecord, to out: inout [UInt8]) {
    if record.discarded { return }
    let sample = samples[record.origin]
    // the raw record and its u32 of size fill a multiple of 8 bytes
    let rawSize = (record.bytes.count + 4 + 7) & ~7 - 4
    out.append(number: PerfDataFile.sampleRecord)
    out += bytes[sample.start + 4..<sample.start + 6]
    out.append(number: UInt16(60 + rawSize))
    out += bytes[sample.start + 8..<sample.start + 24]  // ip, pid, tid
    out.append(number: record.nanoseconds)
    out += bytes[sample.start + 32..<sample.start + 40]  // id
    out.append(number: UInt32(record.cpu))
    out.append(number: UInt32(0))
    out += bytes[sample.start + 48..<sample.start + 56]  // period
    out.append(number: UInt32(rawSize))
    out += record.bytes + [UInt8](repeating: 0, count: rawSize - record.bytes.count)
  }
}
