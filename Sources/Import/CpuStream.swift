import Attribution
import CKvmtax

/// The events of one CPU that move the machine, in the order in which its ring buffer holds them.
///
/// A page begins with its time and the number of its bytes in use; records follow, each with a 27-bit time difference
/// to the one before (include/linux/ring_buffer.h). A damaged record costs the rest of its page.
struct CpuStream {
  private let cpu: UInt32
  private var pages: RingBufferPages
  private let commit: FieldPlaceOfCommit
  private let tickConversion: TraceDatHeader.TickConversion?
  /// The records of the current page.
  private var records = UnsafeRawBufferPointer(start: nil, count: 0)
  private var position = 0
  private var now: UInt64 = 0
  /// When the next page begins: no record of this one is younger.
  private var nextPageTime = UInt64.max
  private var hasSeenPage = false
  /// The time of the last record that was believed.
  private var believed: UInt64 = 0
  /// Since when events are missing, until the next page tells when that ended.
  private var lossStart: UInt64?
  private var pageOffset = 0
  /// The next event; valid until `advance` says there is none.
  private(set) var head = kt_event()
  /// The one behind it, where one record gave both.
  private var second = kt_event()
  private var hasSecond = false

  /// Where a page's head keeps the number of bytes in use.
  struct FieldPlaceOfCommit {
    var offset: Int
    var size: Int
    var dataOffset: Int
  }

  /// What the streams of a file found besides events.
  struct Findings {
    var damage = DamageLog()
    /// Events that pages say were lost before them.
    var lost: UInt64 = 0
    /// Pages that say that events were lost and not how many.
    var lossesOfUnknownSize: UInt64 = 0
    /// Bytes of the file taken.
    var bytesTaken: UInt64 = 0
  }

  init(
    _ header: borrowing TraceDatHeader, _ buffer: TraceDatHeader.Buffer, _ data: TraceDatHeader.CpuData,
    chunkBudget: Int
  ) {
    cpu = data.cpu
    pages = RingBufferPages(header.bytes, data, buffer, chunkBudget: chunkBudget)
    commit = FieldPlaceOfCommit(
      offset: header.formats.commit.offset, size: header.formats.commit.size, dataOffset: header.formats.pageDataOffset)
    tickConversion = header.tickConversion
  }

  /// Goes to the next event that matters, or to a loss of events; false when there is none.
  mutating func advance(_ table: borrowing KvmEventTable, _ findings: inout Findings) -> Bool {
    if hasSecond {
      hasSecond = false
      head = second
      return true
    }
    while true {
      while position < records.count {
        guard let body = nextRecord(&findings) else { break }
        // the record's number, then flags, preempt count and the thread's id: the same in every event
        guard body.count >= 8 else { continue }
        guard now <= nextPageTime else {
          reject("a record is younger than the next page", &findings)
          break
        }
        believed = now
        let slot = table.slotOfType[Int(body.loadUnaligned(as: UInt16.self))]
        guard slot != 0 else { continue }
        let tid = body.loadUnaligned(fromByteOffset: 4, as: UInt32.self)
        let yield = table.read(
          body, slot: slot, nanoseconds: nanoseconds(now), tid: tid, tgid: 0, cpu: cpu, into: &head, and: &second)
        if yield == .nothing { continue }
        guard yield != .damaged else {
          reject("a record is shorter than its format says or names an impossible thread", &findings)
          break
        }
        hasSecond = yield == .two
        return true
      }
      let isLoaded = loadPage(&findings)
      if let start = lossStart, isLoaded ? !records.isEmpty : true {
        lossStart = nil
        head = kt_event()
        head.kind = Replay.lossKind
        head.cpu = cpu
        head.arg = nanoseconds(start)
        head.time_ns = nanoseconds(isLoaded ? max(now, start) : start)
        return true
      }
      guard isLoaded else { return false }
    }
  }

  @inline(__always) private func nanoseconds(_ time: UInt64) -> UInt64 {
    tickConversion.map { $0.nanoseconds(time) } ?? time
  }

  /// The data of the next record of the current page; nil at the page's end.
  @inline(__always) private mutating func nextRecord(_ findings: inout Findings) -> UnsafeRawBufferPointer? {
    while records.count - position >= 4 {
      let word = records.loadUnaligned(fromByteOffset: position, as: UInt32.self)
      let delta = UInt64(word >> 5)
      var body = position + 4
      var length = Int(word & 31) * 4
      switch word & 31 {
      case 1...28: break
      case 29 where delta == 0:
        position = records.count
        return nil
      default:
        guard records.count - body >= 4 else {
          reject("a record is cut short", &findings)
          return nil
        }
        let extra = records.loadUnaligned(fromByteOffset: body, as: UInt32.self)
        switch word & 31 {
        case 0:
          body += 4
          length = extra >= 4 ? Int((extra - 4 + 3) & ~3) : -1
        case 29:  // discarded: its time counts
          now &+= delta
          guard extra <= records.count - body else {
            reject("padding is longer than its page", &findings)
            return nil
          }
          position = body + max(Int(extra), 4)
          continue
        case 30:
          now &+= UInt64(extra) << 27 &+ delta
          position = body + 4
          continue
        default:  // 31, an absolute time but for the highest 5 bits
          now = (now & 0xf800_0000_0000_0000) | (UInt64(extra) << 27 &+ delta)
          position = body + 4
          continue
        }
      }
      guard length >= 0, length <= records.count - body else {
        reject("a record is longer than its page", &findings)
        return nil
      }
      now &+= delta
      position = body + length
      return UnsafeRawBufferPointer(rebasing: records[body..<(body + length)])
    }
    position = records.count
    return nil
  }

  private mutating func loadPage(_ findings: inout Findings) -> Bool {
    let before = pages.fileOffset
    let chunksBefore = pages.damagedChunks
    let loaded = pages.next(&findings.damage)
    if pages.damagedChunks != chunksBefore { noteLoss() }
    guard let (page, offset) = loaded else { return false }
    findings.bytesTaken &+= UInt64(pages.fileOffset &- before)
    pageOffset = offset
    position = 0
    records = UnsafeRawBufferPointer(start: nil, count: 0)
    guard page.count >= commit.dataOffset else {
      findings.damage.add(offset: UInt64(offset), length: UInt64(page.count), "a ring-buffer page is cut short")
      noteLoss()
      return true
    }
    guard isTimeCredible(page.loadUnaligned(as: UInt64.self)) else {
      findings.damage.add(
        offset: UInt64(offset), length: UInt64(page.count), "a ring-buffer page has an impossible time")
      noteLoss()
      return true
    }
    let word = page.loadUnaligned(fromByteOffset: commit.offset, as: UInt32.self)
    let used = Int(word & 0x7ff_ffff)
    let room = page.count - commit.dataOffset
    if word & 1 << 31 != 0 { noteLoss() }
    now = page.loadUnaligned(as: UInt64.self)
    hasSeenPage = true
    believed = now
    nextPageTime = pages.nextTimes.first.flatMap { $0 >= now ? $0 : nil } ?? .max
    countLosses(word, page, used: used, &findings)
    if used > room {
      findings.damage.add(
        offset: UInt64(offset), length: UInt64(page.count),
        "a ring-buffer page claims \(used) bytes and has \(room)")
    }
    let start = commit.dataOffset
    records = UnsafeRawBufferPointer(rebasing: page[start..<(start + min(used, room))])
    return true
  }

  /// A page is older than the two after it and no older than the one before it. Where one of them breaks that, it is the
  /// one that does not fit between the others.
  private func isTimeCredible(_ time: UInt64) -> Bool {
    let (first, second) = pages.nextTimes
    if let first, let second, first < time, second < time { return false }
    if hasSeenPage, time < believed, let first, first >= believed { return false }
    return true
  }

  /// From the last event on, until the next page begins, events are missing.
  private mutating func noteLoss() {
    if hasSeenPage, lossStart == nil { lossStart = believed }
  }

  /// Bit 31 says that events were lost before this page, bit 30 that their number stands behind its data.
  private func countLosses(_ word: UInt32, _ page: UnsafeRawBufferPointer, used: Int, _ findings: inout Findings) {
    guard word & 1 << 31 != 0 else { return }
    let place = commit.dataOffset + used
    guard word & 1 << 30 != 0, place <= page.count - commit.size else {
      findings.lossesOfUnknownSize &+= 1
      return
    }
    findings.lost &+=
      commit.size == 8
      ? page.loadUnaligned(fromByteOffset: place, as: UInt64.self)
      : UInt64(page.loadUnaligned(fromByteOffset: place, as: UInt32.self))
  }

  private mutating func reject(_ found: @autoclosure () -> String, _ findings: inout Findings) {
    findings.damage.add(offset: UInt64(pageOffset), length: UInt64(records.count &- position), found())
    noteLoss()
    position = records.count
  }
}
