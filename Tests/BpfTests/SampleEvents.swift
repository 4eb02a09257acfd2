import Attribution
import CKvmtax
import Files
import Foundation

@testable import Import

/// A sample's events, as its import gives them to the machine.
struct SampleEvents {
  private static let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().appending(path: "Samples")

  static let names = ((try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? [])
    .filter { $0.hasSuffix(".dat") || $0.hasSuffix(".perf.data") }
    .sorted()

  private(set) var events: [kt_event] = []
  /// Those that the file's formats promise.
  let features: UInt8

  init(_ name: String) throws {
    let file = try MappedFile(path: SampleEvents.folder.appending(path: name).path)
    if name.hasSuffix(".perf.data") {
      let header = try PerfHeader(file.bytes, file: name)
      let recorded = Set(header.attributes.filter(\.isWhole).map(\.config))
      let table = (header.formats?.events ?? KvmEventTable()).chosen { recorded.contains($0) }
      features = table.features.rawValue
      var source = PerfSource(header, table)
      try drain(&source)
    } else {
      let header = try TraceDatHeader(file.bytes, file: name)
      let table = header.formats.events.chosen()
      features = table.features.rawValue
      var source = TraceDatSource(header, header.buffers[0], table)
      try drain(&source)
    }
  }

  private mutating func drain<Source: EventSource>(_ source: inout Source) throws {
    var batch: [kt_event] = []
    repeat {
      try source.read(into: &batch)
      events += batch
    } while !batch.isEmpty
  }
}
