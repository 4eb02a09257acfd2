import Attribution
import CKvmtax

/// The events of a perf.data in the order of their times.
struct PerfSource: EventSource {
  private(set) var header: PerfHeader
  private var records: PerfRecords
  private var order = PerfOrder()
  private let table: KvmEventTable
  /// Per attribute the slot of its layout in the table, 0 for an event that does not matter.
  private var slots: [UInt8] = []
  private var trailer: PerfTrailerLayout?
  private var isAtEnd = false
  private(set) var damage = DamageLog()
  /// From perf's own records of losses.
  private(set) var lost: UInt64 = 0
  /// Per CPU, the time of its last sample.
  private var lastTimes: [UInt64] = []
  private(set) var threadNames: [UInt32: String] = [:]
  /// What the last sample gave.
  private var first = kt_event()
  private var second = kt_event()
  /// Samples of any event.
  private(set) var sampleCount: UInt64 = 0
  /// Samples whose id no event of the file has.
  private(set) var strangers: UInt64 = 0

  /// `table` says which of the events are read.
  init(_ header: PerfHeader, _ table: KvmEventTable) {
    self.header = header
    self.table = table
    records = PerfRecords(header.bytes, offset: header.dataOffset, size: header.dataSize)
    prepare()
  }

  /// Whether an event of the file is kvm_exit in a form that can be read.
  var hasExits: Bool { slots.contains { table.isExit(slot: $0) } }

  private static let maximumCpus = 65_536

  /// How much of the file has been read, in bytes.
  var position: Int { records.position }

  /// How often too many events were waiting for the end of a round.
  var earlyFlushes: UInt64 { order.earlyFlushes }

  /// Attributes and formats are known: all in a file, one after the other in a pipe.
  private mutating func prepare() {
    slots = header.attributes.map(slot)
    trailer = header.attributes.first.map { PerfTrailerLayout($0) }
  }

  private func slot(of attribute: PerfAttribute) -> UInt8 { attribute.isWhole ? table.slot(id: attribute.config) : 0 }

  mutating func read(into batch: inout [kt_event]) {
    batch.removeAll(keepingCapacity: true)
    while batch.count < 4096, !isAtEnd {
      guard let record = records.next(&damage) else {
        isAtEnd = true
        order.giveRest(into: &batch)
        return
      }
      if record.type == PerfRecordType.sample {
        take(sample: record, &batch)
      } else if record.type == PerfRecordType.finishedRound {
        order.finishRound(into: &batch)
      } else {
        take(record)
      }
    }
  }

  @inline(__always) private mutating func take(sample record: PerfRecord, _ batch: inout [kt_event]) {
    sampleCount &+= 1
    let body = record.body
    guard let attribute = attribute(of: body) else {
      strangers &+= 1
      return
    }
    let layout = header.samples[attribute]
    guard body.count >= layout.fixedSize, let timePlace = layout.time else { return }
    let time = body.loadUnaligned(fromByteOffset: timePlace, as: UInt64.self)
    order.see(time)
    guard attribute < slots.count, slots[attribute] != 0 else { return }
    var tid: UInt32 = 0
    var tgid: UInt32 = 0
    if let place = layout.tid {
      tgid = body.loadUnaligned(fromByteOffset: place, as: UInt32.self)
      tid = body.loadUnaligned(fromByteOffset: place + 4, as: UInt32.self)
    }
    let cpu = layout.cpu.map { body.loadUnaligned(fromByteOffset: $0, as: UInt32.self) } ?? 0
    note(time, cpu: cpu)
    guard let raw = layout.raw(in: body) else {
      damage.add(offset: record.offset, length: UInt64(body.count) + 8, "a sample is cut short")
      return
    }
    // perf has no number for a thread that is about to end; the tracepoint has
    if layout.tid == nil || tid == .max, raw.count >= 8 {
      tid = raw.loadUnaligned(fromByteOffset: 4, as: UInt32.self)
      tgid = 0
    }
    let yield = table.read(
      raw, slot: slots[attribute], nanoseconds: time, tid: tid, tgid: tgid, cpu: cpu, into: &first, and: &second)
    switch yield {
    case .nothing: break
    case .damaged:
      damage.add(
        offset: record.offset, length: UInt64(body.count) + 8,
        "a sample is shorter than its format says or names an impossible thread")
    case .one: if order.add(first) { order.giveHalf(into: &batch) }
    case .two:
      let isFull = order.add(first)
      if order.add(second) || isFull { order.giveHalf(into: &batch) }
    }
  }

  /// The event that a sample belongs to: by its id; id 0 and files with one event mean the first.
  @inline(__always) private func attribute(of sample: UnsafeRawBufferPointer) -> Int? {
    guard header.attributes.count > 1, let first = header.samples.first, let place = first.id else {
      return header.attributes.isEmpty ? nil : 0
    }
    guard sample.count >= place + 8 else { return nil }
    let id = sample.loadUnaligned(fromByteOffset: place, as: UInt64.self)
    return id == 0 ? 0 : header.ids.attribute(id)
  }

  @inline(never) private mutating func take(_ record: PerfRecord) {
    if record.type < 64, let place = trailer?.time, record.body.count >= place {
      order.see(record.body.loadUnaligned(fromByteOffset: record.body.count - place, as: UInt64.self))
    }
    guard var cursor = ByteCursor(record.body) else { return }
    switch record.type {
    case PerfRecordType.lost:
      if cursor.u64() != nil, let count = cursor.u64() { takeLoss(count, record) }
    case PerfRecordType.lostSamples:
      if let count = cursor.u64() { takeLoss(count, record) }
    case PerfRecordType.comm:
      if cursor.u32() != nil, let tid = cursor.u32(), let name = cursor.text(limit: 64) { threadNames[tid] = name.text }
    case PerfRecordType.fork:
      if cursor.u32() != nil, cursor.u32() != nil, let tid = cursor.u32(), let parent = cursor.u32() {
        threadNames[tid] = threadNames[parent]
      }
    case PerfRecordType.attribute: takeAttribute(record.body)
    case PerfRecordType.tracingData where header.formats == nil:  // perf writes them once
      header.readFormats(record.payload, at: record.offset)
      prepare()
    case PerfRecordType.feature:
      if let feature = cursor.u64(), let content = cursor.take(cursor.remaining) {
        header.readFeature(feature, content, at: record.offset)
      }
    default: break
    }
  }

  @inline(__always) private mutating func note(_ time: UInt64, cpu: UInt32) {
    let cpu = Int(cpu)
    if cpu < lastTimes.count {
      lastTimes[cpu] = time
    } else if cpu < PerfSource.maximumCpus {
      lastTimes.append(contentsOf: repeatElement(0, count: cpu + 1 - lastTimes.count))
      lastTimes[cpu] = time
    }
  }

  /// Events of one CPU were lost between its last sample and this record.
  private mutating func takeLoss(_ count: UInt64, _ record: PerfRecord) {
    lost &+= count
    guard count > 0, let timePlace = trailer?.time, let cpuPlace = trailer?.cpu, record.body.count >= timePlace,
      record.body.count >= cpuPlace
    else { return }
    let end = record.body.count
    let time = record.body.loadUnaligned(fromByteOffset: end - timePlace, as: UInt64.self)
    let cpu = record.body.loadUnaligned(fromByteOffset: end - cpuPlace, as: UInt32.self)
    guard Int(cpu) < lastTimes.count else { return }
    var event = kt_event()
    event.kind = Replay.lossKind
    event.cpu = cpu
    event.arg = min(lastTimes[Int(cpu)], time)
    event.time_ns = time
    _ = order.add(event)
  }

  /// A pipe's stream: an attribute of the size that it says itself, then ids.
  private mutating func takeAttribute(_ body: UnsafeRawBufferPointer) {
    guard header.isPipe, body.count >= 8 else { return }
    let size = body.loadUnaligned(fromByteOffset: 4, as: UInt32.self)
    guard let whole = body.part(at: 0, size: UInt64(size)), let attribute = PerfAttribute(whole),
      let ids = body.part(at: UInt64(size), size: UInt64(body.count) - UInt64(size))
    else { return }
    header.add(attribute, ids: ids)
    // one by one: all anew for each would take time without end
    if slots.isEmpty { prepare() } else if slots.count < header.attributes.count { slots.append(slot(of: attribute)) }
  }
}
