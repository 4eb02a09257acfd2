import Attribution

/// What perf.data says besides its records: the attributes of its events, their formats, where it was recorded.
/// In a file this is its head and its tail; in what perf wrote to a pipe it comes as records.
struct PerfHeader {
  let file: String
  let bytes: UnsafeRawBufferPointer
  /// Where the records lie.
  private(set) var dataOffset: UInt64
  private(set) var dataSize: UInt64
  /// Written to a pipe: everything is a record.
  let isPipe: Bool
  private(set) var attributes: [PerfAttribute] = []
  private(set) var samples: [PerfSampleLayout] = []
  private(set) var ids = PerfIdTable()
  private(set) var formats: TracingFormats?
  private(set) var host: String?
  private(set) var kernel: String?
  var notes: [String] = []
  var damage = DamageLog()
  /// Where the records end by what the header says; perf's formats come behind.
  private(set) var promisedSize: UInt64 = 0
  /// The file ends before its records do.
  private(set) var isCutShort = false
  /// perf did not write the size of the data: it was killed.
  private(set) var wasKilled = false

  private static let maximumAttributes = 65_535

  /// Reads the head and, where the file has one, the tail.
  init(_ bytes: UnsafeRawBufferPointer, file: String) throws(InputError) {
    self.file = file
    self.bytes = bytes
    guard var cursor = ByteCursor(bytes, at: 8), let size = cursor.u64() else {
      throw PerfHeader.cut(file, bytes)
    }
    isPipe = size == 16
    dataOffset = 16
    dataSize = UInt64(bytes.count) - 16
    if isPipe { return }
    guard size >= 72, let attributeSize = cursor.u64(), let attributesOffset = cursor.u64(),
      let attributesSize = cursor.u64(), let dataOffset = cursor.u64(), let dataSize = cursor.u64(),
      cursor.u64() != nil, cursor.u64() != nil
    else { throw PerfHeader.cut(file, bytes) }
    var features: [UInt64] = []
    for _ in 0..<4 {
      guard let word = cursor.u64() else { throw PerfHeader.cut(file, bytes) }
      features.append(word)
    }
    self.dataOffset = dataOffset
    self.dataSize = dataSize
    guard dataOffset >= 104, dataOffset < UInt64(bytes.count) else {
      throw InputError(
        file: file, offset: 40,
        found: "perf.data header damaged: its records would begin at byte \(grouped(dataOffset))",
        remedy: "Copy or record it again.")
    }
    let present = UInt64(bytes.count) - dataOffset
    promisedSize = dataOffset &+ dataSize
    wasKilled = dataSize == 0
    isCutShort = dataSize > present
    if wasKilled || isCutShort { self.dataSize = present }
    try readAttributes(attributesOffset, attributesSize, each: attributeSize)
    // without its tail a file ends exactly where its records do
    if formatsArePromised(features), promisedSize == UInt64(bytes.count) { isCutShort = true }
    if !wasKilled, !isCutShort { readFeatures(features, at: dataOffset + dataSize) }
  }

  private func formatsArePromised(_ features: [UInt64]) -> Bool { (features.first ?? 0) & 2 != 0 }

  private static func cut(_ file: String, _ bytes: UnsafeRawBufferPointer) -> InputError {
    InputError(
      file: file, offset: UInt64(bytes.count), found: "perf.data cut short in its header",
      remedy: "Copy or record it again.")
  }

  private mutating func readAttributes(_ offset: UInt64, _ size: UInt64, each: UInt64) throws(InputError) {
    guard each >= 80, each <= 4096, let table = bytes.part(at: offset, size: size), var cursor = ByteCursor(table),
      size / each <= UInt64(PerfHeader.maximumAttributes)
    else {
      throw InputError(
        file: file, offset: 16, found: "perf.data header damaged: table of events", remedy: "Copy or record it again.")
    }
    var idBytes: UInt64 = 0
    while let entry = cursor.take(each), let attribute = PerfAttribute(entry) {
      var place = ByteCursor(entry, at: each - 16)
      guard let idOffset = place?.u64(), let idSize = place?.u64(), let ids = bytes.part(at: idOffset, size: idSize),
        idBytes + idSize <= UInt64(bytes.count)
      else {
        throw InputError(
          file: file, offset: offset, found: "perf.data header damaged: ids of an event",
          remedy: "Copy or record it again.")
      }
      idBytes += idSize  // overlapping tables would cost time without end
      add(attribute, ids: ids)
    }
  }

  /// Takes an attribute and the ids that its samples carry.
  mutating func add(_ attribute: PerfAttribute, ids list: UnsafeRawBufferPointer) {
    guard attributes.count < PerfHeader.maximumAttributes, var cursor = ByteCursor(list) else { return }
    while let id = cursor.u64() { ids.insert(id, attributes.count) }
    attributes.append(attribute)
    samples.append(PerfSampleLayout(attribute))
  }

  /// A table of places, one for each bit that is set, behind the records.
  private mutating func readFeatures(_ bits: [UInt64], at offset: UInt64) {
    guard var cursor = ByteCursor(bytes, at: offset) else { return }
    for feature in 0..<256 where bits[feature / 64] & 1 << UInt64(feature % 64) != 0 {
      guard let offset = cursor.u64(), let size = cursor.u64() else {
        damage.add(offset: UInt64(bytes.count), "the table of features is cut short")
        return
      }
      guard let content = bytes.part(at: offset, size: size) else {
        damage.add(offset: offset, "feature \(feature) lies outside the file")
        continue
      }
      readFeature(UInt64(feature), content, at: offset)
    }
  }

  /// One of perf's HEADER_* features.
  mutating func readFeature(_ feature: UInt64, _ content: UnsafeRawBufferPointer, at offset: UInt64) {
    switch feature {
    case 1: readFormats(content, at: offset)
    case 3: host = PerfHeader.string(content) ?? host
    case 4: kernel = PerfHeader.string(content) ?? kernel
    default: break
    }
  }

  /// The event formats.
  mutating func readFormats(_ content: UnsafeRawBufferPointer, at offset: UInt64) {
    formats = TracingFormats(perfTracingData: content)
    if formats == nil { damage.add(offset: offset, length: UInt64(content.count), "the event formats are damaged") }
  }

  private static func string(_ content: UnsafeRawBufferPointer) -> String? {
    guard var cursor = ByteCursor(content), let size = cursor.u32(), let text = cursor.take(size) else { return nil }
    return String(text.text.prefix(256))
  }
}
