import Foundation
import Synchronization

/// The real traces that tests run on: all in the folder `Samples` of the sources, or in `KVMTAX_SAMPLES`.
public enum SampleTraces {
  /// The folder.
  public static let folder: String = {
    if let folder = ProcessInfo.processInfo.environment["KVMTAX_SAMPLES"] { return folder }
    return URL(filePath: #filePath).appendingPathComponent("../../../../Samples").standardizedFileURL.path
  }()

  /// trace-cmd's files, as paths inside the folder.
  public static let traceDat = files(suffix: ".dat")
  /// perf's files, as paths inside the folder.
  public static let perfData = files(suffix: ".perf.data")

  private static func files(suffix: String) -> [String] {
    guard let walk = FileManager.default.enumerator(atPath: folder) else { return [] }
    return walk.compactMap { $0 as? String }.filter { $0.hasSuffix(suffix) }.sorted()
  }

  /// The full path of a sample.
  public static func path(_ name: String) -> String { folder + "/" + name }

  private static let traceDatFiles = Mutex<[String: TraceDatFile]>([:])
  private static let perfDataFiles = Mutex<[String: PerfDataFile]>([:])
  private static let perfNamesOfFiles = Mutex<[String: PerfReasonNames]>([:])

  /// A trace.dat taken apart, once per run of the tests; trace-cmd itself makes version 6 of it first.
  public static func traceDat(_ name: String) throws -> TraceDatFile {
    try traceDatFiles.withLock { known in
      if let file = known[name] { return file }
      let scratch = try ScratchFolder()
      let flat = scratch.file("v6.dat")
      let converted = try CountingTool.traceCmd.run([
        "convert", "-i", path(name), "-o", flat, "--file-version", "6", "--compression", "none",
      ])
      guard converted.status == 0 else { throw SampleError(text: "\(name): \(converted.errors)") }
      let file = try TraceDatFile([UInt8](Data(contentsOf: URL(filePath: flat))))
      known[name] = file
      return file
    }
  }

  /// A perf.data taken apart, once per run of the tests.
  public static func perfData(_ name: String) throws -> PerfDataFile {
    try perfDataFiles.withLock { known in
      if let file = known[name] { return file }
      let file = try PerfDataFile([UInt8](Data(contentsOf: URL(filePath: path(name)))))
      known[name] = file
      return file
    }
  }

  /// How perf names the reasons in a perf.data; asked once per run of the tests.
  public static func perfNames(_ name: String) throws -> PerfReasonNames {
    let file = try perfData(name)
    return try perfNamesOfFiles.withLock { known in
      if let names = known[name] { return names }
      let names = try PerfReasonNames(like: file)
      known[name] = names
      return names
    }
  }
}

/// A sample or an oracle that cannot be used.
public struct SampleError: Error, CustomStringConvertible {
  /// What is wrong.
  public let description: String

  /// An error of these words.
  public init(text: String) { description = text }
}
