import Glibc

/// Reads a small file of procfs, sysfs or tracefs, whose sizes are not known beforehand; nil when it cannot be read.
/// At most `limit` bytes are taken.
func readProcFile(_ path: String, limit: Int = 1 << 20) -> [UInt8]? {
  let descriptor = open(path, O_RDONLY | O_CLOEXEC)
  guard descriptor >= 0 else { return nil }
  defer { close(descriptor) }
  var content: [UInt8] = []
  var chunk = [UInt8](repeating: 0, count: 16384)
  while content.count < limit {
    let count = read(descriptor, &chunk, chunk.count)
    if count < 0 && errno == EINTR { continue }
    guard count > 0 else { return count == 0 ? content : nil }
    content += chunk[0..<min(count, limit - content.count)]
  }
  return content
}

/// The same as text without surrounding white space; bytes that are not UTF-8 become replacement characters.
func readProcText(_ path: String, limit: Int = 1 << 20) -> String? {
  guard let bytes = readProcFile(path, limit: limit) else { return nil }
  return String(decoding: bytes, as: UTF8.self).trimmed
}

/// A mask of this process as /proc/self/status shows it: "CapEff:", "SigIgn:". 0 when it cannot be read.
func statusMask(_ name: String) -> UInt64 {
  let text = readProcText("/proc/self/status") ?? ""
  let line = text.split(separator: "\n").first { $0.hasPrefix(name) } ?? ""
  return UInt64(line.dropFirst(name.utf8.count).drop { $0 == "\t" || $0 == " " }, radix: 16) ?? 0
}

extension String {
  /// Without surrounding spaces, tabs and newlines.
  var trimmed: String {
    let blank: (Character) -> Bool = { $0 == " " || $0 == "\n" || $0 == "\t" }
    return String(drop(while: blank).reversed().drop(while: blank).reversed())
  }
}

/// The names in a directory, "." and ".." left out; empty when it cannot be read.
func directoryEntries(_ path: String) -> [String] {
  guard let directory = opendir(path) else { return [] }
  defer { closedir(directory) }
  var names: [String] = []
  while let entry = readdir(directory) {
    let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
      pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
    }
    if name != "." && name != ".." { names.append(name) }
  }
  return names
}

/// Where a symbolic link points; nil when it is none.
func linkTarget(_ path: String) -> String? {
  var buffer = [CChar](repeating: 0, count: 256)
  let count = readlink(path, &buffer, buffer.count)
  guard count > 0 else { return nil }
  return String(decoding: buffer[0..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
}
