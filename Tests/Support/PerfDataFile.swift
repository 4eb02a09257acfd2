import Foundation

/// A perf.data file (PERFILE2, tracepoints with RAW samples) taken apart, so that a test can change it and write it
/// again with `encoded(…)`. Shares nothing with the product's reader. Layout:
/// tools/perf/Documentation/perf.data-file-format.txt and include/uapi/linux/perf_event.h.
public struct PerfDataFile: Sendable {
  struct Attribute: Sendable {
    var bytes: [UInt8]
    var ids: [UInt64]
    var config: UInt64 { bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: 8, as: UInt64.self) } }
  }
  struct Feature: Sendable {
    var bit: Int
    var bytes: [UInt8]
  }
  /// Where a sample's fields lie in the file.
  struct Sample: Sendable {
    var start: Int
    var count: Int
    var nanoseconds: UInt64
    var cpu: Int
    var rawStart: Int
    var rawCount: Int
  }

  var attributes: [Attribute] = []
  var features: [Feature] = []
  /// Formats of the recorded events.
  public var events: [EventText] = []
  /// The tracing data's bytes up to its formats.
  var tracingHead: [UInt8] = []
  var tracingTail: [UInt8] = []
  /// Records that are no samples and come before the first: maps, comms, the clock.
  var preface: [UInt8] = []
  let bytes: [UInt8]
  /// In the file's order, which is not that of time.
  private(set) var samples: [Sample] = []
  /// Indices of `samples` in the order of time.
  private var order: [Int] = []

  /// Number of samples in the file.
  public var recordCount: Int { samples.count }

  // perf.data's numbers for what this file needs
  static let sampleRecord: UInt32 = 9
  static let tracingDataBit = 1
  static let descriptionBit = 12
  // IP | TID | TIME | ID | CPU | PERIOD | RAW: what perf kvm stat record asks for
  static let sampleType: UInt64 = 0x5c7

  /// Takes a whole file apart.
  public init(_ bytes: [UInt8]) throws {
    self.bytes = bytes
    var reader = PartReader(bytes: bytes, position: 16)
    let attributeSize = Int(try reader.number(UInt64.self))
    let attributesAt = Int(try reader.number(UInt64.self))
    let attributesSize = Int(try reader.number(UInt64.self))
    let dataAt = Int(try reader.number(UInt64.self))
    let dataSize = Int(try reader.number(UInt64.self))
    reader.position = 72
    let flags = try reader.number(UInt64.self)
    for at in stride(from: attributesAt, to: attributesAt + attributesSize, by: attributeSize) {
      reader.position = at
      let attribute = try reader.take(attributeSize - 16)
      reader.position = at + attributeSize - 16
      let idsAt = Int(try reader.number(UInt64.self))
      let count = Int(try reader.number(UInt64.self)) / 8
      reader.position = idsAt
      var ids: [UInt64] = []
      for _ in 0..<count { ids.append(try reader.number(UInt64.self)) }
      attributes.append(Attribute(bytes: attribute, ids: ids))
      reader.position = at + 24
      guard try reader.number(UInt64.self) == PerfDataFile.sampleType else { throw PartReader.Short(at: at + 24) }
    }
    reader.position = dataAt + dataSize
    for bit in 0..<64 where flags & 1 << UInt64(bit) != 0 {
      let at = Int(try reader.number(UInt64.self))
      let size = Int(try reader.number(UInt64.self))
      let next = reader.position
      reader.position = at
      features.append(Feature(bit: bit, bytes: try reader.take(size)))
      reader.position = next
    }
    try readTracingData()
    readRecords(from: dataAt, to: dataAt + dataSize)
    order = samples.indices.sorted { samples[$0].nanoseconds < samples[$1].nanoseconds }
  }

  private mutating func readTracingData() throws {
    guard let tracing = features.first(where: { $0.bit == PerfDataFile.tracingDataBit }) else { return }
    var reader = PartReader(bytes: tracing.bytes, position: 10)
    _ = try reader.string()
    reader.position += 6
    for _ in 0..<2 {
      _ = try reader.string()
      _ = try reader.text(sizedBy: UInt64.self)
    }
    for _ in 0..<(try reader.number(UInt32.self)) { _ = try reader.text(sizedBy: UInt64.self) }
    tracingHead = Array(tracing.bytes[..<reader.position])
    for _ in 0..<(try reader.number(UInt32.self)) {
      let system = try reader.string()
      for _ in 0..<(try reader.number(UInt32.self)) {
        let text = try reader.text(sizedBy: UInt64.self)
        guard let event = EventText(system: system, text: text) else { throw PartReader.Short(at: reader.position) }
        events.append(event)
      }
    }
    tracingTail = Array(tracing.bytes[reader.position...])
  }

  private mutating func readRecords(from start: Int, to end: Int) {
    var found: [Sample] = []
    var others: [UInt8] = []
    bytes.withUnsafeBytes { raw in
      var at = start
      while at + 8 <= end {
        let type = raw.loadUnaligned(fromByteOffset: at, as: UInt32.self)
        let size = Int(raw.loadUnaligned(fromByteOffset: at + 6, as: UInt16.self))
        if size < 8 || at + size > end { return }
        if type == PerfDataFile.sampleRecord, size >= 64 {
          found.append(
            Sample(
              start: at, count: size, nanoseconds: raw.loadUnaligned(fromByteOffset: at + 24, as: UInt64.self),
              cpu: Int(raw.loadUnaligned(fromByteOffset: at + 40, as: UInt32.self)), rawStart: at + 60,
              rawCount: Int(raw.loadUnaligned(fromByteOffset: at + 56, as: UInt32.self))))
        } else if type != 68, found.isEmpty {  // 68: the end of a round, which mutants place anew
          others += raw[at..<at + size]
        }
        at += size
      }
    }
    samples = found
    preface = others
  }

  /// Samples by their place in the whole file's order of time.
  public func records(_ range: Range<Int>) -> [TracepointRecord] {
    range.clamped(to: 0..<order.count).map { index in
      let sample = samples[order[index]]
      return TracepointRecord(
        nanoseconds: sample.nanoseconds, cpu: sample.cpu,
        bytes: Array(bytes[sample.rawStart..<sample.rawStart + sample.rawCount]), origin: order[index])
    }
  }
}
