import Foundation

/// A trace.dat of version 6 (uncompressed) taken apart, so that a test can change it and write it again with
/// `encoded()`. Shares nothing with the product's reader. Layout: trace-cmd's trace-cmd.dat.v6(5) manual page; pages:
/// the kernel's Documentation/trace/ring-buffer-map.rst and include/linux/ring_buffer.h.
public struct TraceDatFile: Sendable {
  /// One option: its number and its bytes.
  public struct Option: Sendable {
    var id: UInt16
    var bytes: [UInt8]
  }
  struct Place: Sendable {
    var nanoseconds: UInt64
    var cpu: Int
    var start: Int
    var count: Int
  }

  /// Magic up to the end of `header_event`, unchanged.
  var head: [UInt8]
  /// Formats of ftrace's own events, unchanged.
  var ftraceTexts: [String] = []
  /// Formats of all other events, in the file's order.
  public var events: [EventText] = []
  var printk: [UInt8]
  var commands: [UInt8]
  var options: [Option] = []
  /// CPUs, with or without records.
  public var cpuCount: Int
  private let bytes: [UInt8]
  private var places: [Place] = []

  /// Number of records in the file.
  public var recordCount: Int { places.count }

  /// Takes a whole file apart.
  public init(_ bytes: [UInt8]) throws {
    var reader = PartReader(bytes: bytes, position: 10)
    guard try reader.string() == "6" else { throw PartReader.Short(at: 10) }
    reader.position += 6  // byte order, size of long, page size
    for _ in 0..<2 {  // header_page, header_event
      _ = try reader.string()
      _ = try reader.text(sizedBy: UInt64.self)
    }
    head = Array(bytes[..<reader.position])
    for _ in 0..<(try reader.number(UInt32.self)) { ftraceTexts.append(try reader.text(sizedBy: UInt64.self)) }
    for _ in 0..<(try reader.number(UInt32.self)) {
      let system = try reader.string()
      for _ in 0..<(try reader.number(UInt32.self)) {
        let text = try reader.text(sizedBy: UInt64.self)
        guard let event = EventText(system: system, text: text) else { throw PartReader.Short(at: reader.position) }
        events.append(event)
      }
    }
    let symbols = Int(try reader.number(UInt32.self))
    reader.position += symbols  // kallsyms: megabytes that no count depends on
    printk = try reader.take(Int(try reader.number(UInt32.self)))
    commands = try reader.take(Int(try reader.number(UInt64.self)))
    cpuCount = Int(try reader.number(UInt32.self))
    self.bytes = bytes
    guard try reader.string() == "options  " else { throw PartReader.Short(at: reader.position) }
    while true {
      let id = try reader.number(UInt16.self)
      if id == 0 { break }
      options.append(Option(id: id, bytes: try reader.take(Int(try reader.number(UInt32.self)))))
    }
    guard try reader.string() == "flyrecord" else { throw PartReader.Short(at: reader.position) }
    var lists: [[Place]] = []
    for cpu in 0..<cpuCount {
      let offset = Int(try reader.number(UInt64.self))
      let size = Int(try reader.number(UInt64.self))
      lists.append(try TraceDatFile.places(in: bytes, from: offset, to: offset + size, cpu: cpu))
    }
    places = TraceDatFile.merged(lists)
  }

  /// Records by their place in the whole file's order of time.
  public func records(_ range: Range<Int>) -> [TracepointRecord] {
    range.clamped(to: 0..<places.count).map { index in
      let place = places[index]
      return TracepointRecord(
        nanoseconds: place.nanoseconds, cpu: place.cpu, bytes: Array(bytes[place.start..<place.start + place.count]),
        origin: index)
    }
  }

  private static let pageSize = 4096

  private static func places(in bytes: [UInt8], from start: Int, to end: Int, cpu: Int) throws -> [Place] {
    guard start <= end, end <= bytes.count else { throw PartReader.Short(at: start) }
    var places: [Place] = []
    bytes.withUnsafeBytes { raw in
      for page in stride(from: start, to: end, by: pageSize) {
        var time = raw.loadUnaligned(fromByteOffset: page, as: UInt64.self)
        let used = Int(raw.loadUnaligned(fromByteOffset: page + 8, as: UInt64.self) & 0xfffff)
        var at = page + 16
        while at < page + 16 + used {
          let header = raw.loadUnaligned(fromByteOffset: at, as: UInt32.self)
          let type = header & 31
          let delta = UInt64(header >> 5)
          let word = at + 8 <= raw.count ? raw.loadUnaligned(fromByteOffset: at + 4, as: UInt32.self) : 0
          at += 4
          switch type {
          case 29:
            if delta == 0 { at = page + pageSize }  // the rest of the page
            time += delta
            at += Int(word)
          case 30:
            time += UInt64(word) << 27 + delta
            at += 4
          case 31:
            time = UInt64(word) << 27 + delta
            at += 4
          default:
            time += delta
            let length = type == 0 ? (Int(word) - 4 + 3) & ~3 : Int(type) * 4
            if type == 0 { at += 4 }
            places.append(Place(nanoseconds: time, cpu: cpu, start: at, count: length))
            at += length
          }
        }
      }
    }
    return places
  }

  private static func merged(_ lists: [[Place]]) -> [Place] {
    var result: [Place] = []
    var next = [Int](repeating: 0, count: lists.count)
    while true {
      var best = -1
      for list in lists.indices where next[list] < lists[list].count {
        if best < 0 || lists[list][next[list]].nanoseconds < lists[best][next[best]].nanoseconds { best = list }
      }
      if best < 0 { return result }
      result.append(lists[best][next[best]])
      next[best] += 1
    }
  }
}
