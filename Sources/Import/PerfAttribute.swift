/// What one `perf_event_attr` says about the records of its event (include/uapi/linux/perf_event.h).
struct PerfAttribute: Equatable {
  var type: UInt32
  var config: UInt64
  var samplePeriod: UInt64
  var sampleType: UInt64
  var readFormat: UInt64
  var flags: UInt64
  var clockId: Int32

  private static let smallestSize = 64

  /// Reads the attribute at the start of `bytes`, which may be of any version of the structure.
  init?(_ bytes: UnsafeRawBufferPointer) {
    guard bytes.count >= PerfAttribute.smallestSize else { return nil }
    func word(_ offset: Int) -> UInt64 { bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self) }
    type = bytes.loadUnaligned(as: UInt32.self)
    config = word(8)
    samplePeriod = word(16)
    sampleType = word(24)
    readFormat = word(32)
    flags = word(40)
    clockId = bytes.count >= 96 ? bytes.loadUnaligned(fromByteOffset: 92, as: Int32.self) : 0
  }

  var isTracepoint: Bool { type == 2 }
  /// True when samples were taken so many times a second instead of at each event.
  var isFrequency: Bool { flags & 1 << 10 != 0 }
  /// Each event of a tracepoint came, with its time and its fields.
  var isWhole: Bool {
    isTracepoint && sampleType & 1 << 2 != 0 && sampleType & 1 << 10 != 0 && !isFrequency && samplePeriod <= 1
  }
  var hasSampleIdAll: Bool { flags & 1 << 18 != 0 }

  /// The clock of the records' times.
  var clock: String {
    guard flags & 1 << 25 != 0 else { return "perf" }
    return switch clockId {
    case 0: "realtime"
    case 1: "monotonic"
    case 4: "monotonic_raw"
    case 7: "boottime"
    case 11: "tai"
    default: "clock \(clockId)"
    }
  }
}

/// Where the parts of a sample lie, counted from behind the record's header; nil for those that are not there.
struct PerfSampleLayout: Equatable {
  private(set) var id: Int?
  private(set) var tid: Int?
  private(set) var time: Int?
  private(set) var cpu: Int?
  /// What precedes the parts of variable size.
  private(set) var fixedSize = 0
  private var hasRead: Bool
  private var hasCallchain: Bool
  private var hasRaw: Bool
  private var readFormat: UInt64

  init(_ attribute: PerfAttribute) {
    let type = attribute.sampleType
    hasRead = type & 1 << 4 != 0
    hasCallchain = type & 1 << 5 != 0
    hasRaw = type & 1 << 10 != 0
    readFormat = attribute.readFormat
    var offset = 0
    func take(_ bit: Int) -> Int? {
      guard type & 1 << UInt64(bit) != 0 else { return nil }
      defer { offset += 8 }
      return offset
    }
    id = take(16)
    _ = take(0)  // instruction pointer
    tid = take(1)
    time = take(2)
    _ = take(3)  // address
    if let plain = take(6) { id = id ?? plain }
    _ = take(9)  // stream
    cpu = take(7)
    _ = take(8)  // period
    fixedSize = offset
  }

  /// The tracepoint's own record in a sample; nil if there is none or the sample is too short.
  @inline(__always) func raw(in sample: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
    guard hasRaw, var cursor = ByteCursor(sample, at: UInt64(fixedSize)) else { return nil }
    if hasRead || hasCallchain {
      guard skipVariable(&cursor) else { return nil }
    }
    guard let size = cursor.u32() else { return nil }
    return cursor.take(size)
  }

  private func skipVariable(_ cursor: inout ByteCursor) -> Bool {
    if hasRead {
      let times = (readFormat & 1) + (readFormat >> 1 & 1)
      let perValue = 1 + (readFormat >> 2 & 1) + (readFormat >> 4 & 1)
      var words = times + perValue
      if readFormat & 8 != 0 {
        guard let count = cursor.u64(), count <= 65_536 else { return false }
        words = times + count * perValue
      }
      guard cursor.take(words * 8) != nil else { return false }
    }
    if hasCallchain {
      guard let count = cursor.u64(), count <= 65_536, cursor.take(count * 8) != nil else { return false }
    }
    return true
  }
}

/// Where the parts of the trailer lie that `sample_id_all` puts behind every record, counted back from its end.
struct PerfTrailerLayout: Equatable {
  private(set) var time: Int?
  private(set) var cpu: Int?
  private(set) var size = 0

  init(_ attribute: PerfAttribute) {
    guard attribute.hasSampleIdAll else { return }
    func take(_ bit: Int) -> Int? {
      guard attribute.sampleType & 1 << UInt64(bit) != 0 else { return nil }
      size += 8
      return size
    }
    // the last one first
    _ = take(16)
    cpu = take(7)
    _ = take(9)
    _ = take(6)
    time = take(2)
    _ = take(1)
  }
}

/// Which attribute a sample's id belongs to: open addressing, so that a look-up costs a load or two.
struct PerfIdTable {
  private var keys: [UInt64] = [UInt64](repeating: 0, count: 64)
  private var values: [UInt16] = [UInt16](repeating: 0, count: 64)
  private var count = 0
  /// Drawn anew each time, so that no file can be made to collide.
  private let multiplier = UInt64.random(in: 0...UInt64.max) | 1

  /// Id 0 is perf's own; it is never entered.
  mutating func insert(_ id: UInt64, _ attribute: Int) {
    guard id != 0, let value = UInt16(exactly: attribute) else { return }
    if count * 2 >= keys.count {
      let old = zip(keys, values)
      keys = [UInt64](repeating: 0, count: keys.count * 2)
      values = [UInt16](repeating: 0, count: keys.count)
      count = 0
      for (key, value) in old where key != 0 { insert(key, Int(value)) }
    }
    let place = place(of: id)
    if keys[place] == 0 { count += 1 }
    keys[place] = id
    values[place] = value
  }

  @inline(__always) func attribute(_ id: UInt64) -> Int? {
    let place = place(of: id)
    return id != 0 && keys[place] == id ? Int(values[place]) : nil
  }

  @inline(__always) private func place(of id: UInt64) -> Int {
    var place = Int(truncatingIfNeeded: (id &* multiplier) >> 32) & (keys.count - 1)
    while keys[place] != 0, keys[place] != id { place = (place + 1) & (keys.count - 1) }
    return place
  }
}
