import Attribution
import Files
import Glibc
import Import
import Terminal
import TraceFile

/// The trace that `kvmtax report` without a file means.
enum NewestTrace {
  /// The trace file of this folder that was changed last, by name and by content; says which on standard error.
  static func find() throws(InputError) -> String {
    var newest: (path: String, time: timespec)?
    for name in names() {
      var status = stat()
      guard stat(name, &status) == 0, status.st_mode & S_IFMT == S_IFREG, looksLikeTrace(name) else { continue }
      if let known = newest, !isLater(status.st_mtim, name, than: known.time, known.path) { continue }
      newest = (name, status.st_mtim)
    }
    guard let newest else {
      throw InputError(
        file: "this folder", found: "holds no trace",
        expected: "Looked for *.kvmtax, *.dat and *.data files of kvmtax, trace-cmd or perf.",
        remedy: "Name a file, or record one: sudo kvmtax record")
    }
    standardErrorNote("Reading \(sanitized(newest.path)), the newest trace in this folder.")
    return newest.path
  }

  private static func names() -> [String] {
    guard let directory = opendir(".") else { return [] }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
        String(validating: bytes.prefix { $0 != 0 }, as: UTF8.self)
      }
      guard let name, [".kvmtax", ".dat", ".data"].contains(where: { name.hasSuffix($0) }) else { continue }
      names.append(name)
    }
    return names
  }

  /// Opens it and looks at its first bytes; a file that cannot be opened is not the one.
  private static func looksLikeTrace(_ name: String) -> Bool {
    do throws(InputError) {
      let file = try MappedFile(path: name)
      return TraceFormat.isTrace(file.bytes) || ImportedFormat.detect(file.bytes) != nil
    } catch {
      return false
    }
  }

  private static func isLater(_ time: timespec, _ name: String, than other: timespec, _ otherName: String) -> Bool {
    (time.tv_sec, time.tv_nsec, name) > (other.tv_sec, other.tv_nsec, otherName)
  }
}
