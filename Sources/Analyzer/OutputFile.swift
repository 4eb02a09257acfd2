import ArgumentParser
import Attribution
import Glibc

/// The file behind `-o`: never overwritten unasked, and written only when there is something to write.
struct OutputFile {
  private let path: String
  private let replaces: Bool

  /// Refuses what is already there, before any long work.
  init(path: String, replacing replaces: Bool) throws(InputError) {
    self.path = path
    self.replaces = replaces
    var status = stat()
    if !replaces, lstat(path, &status) == 0 { throw refusal() }
  }

  /// What a file's name says.
  static func format(of path: String) throws -> OutputOptions.Format {
    let name = path.split(separator: "/").last ?? ""
    guard let dot = name.lastIndex(of: "."), dot != name.startIndex else { return .text }
    switch name[name.index(after: dot)...].lowercased() {
    case "json": return .json
    case "txt", "text", "log": return .text
    case let other: throw ValidationError("-o: no report is written as .\(other); name a .txt or .json file.")
    }
  }

  /// Writes everything or leaves no half of it.
  func write(_ text: String) throws(InputError) {
    let flags = O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | (replaces ? O_TRUNC : O_EXCL)
    let descriptor = open(path, flags, 0o644)
    guard descriptor >= 0 else {
      let code = errno
      if code == EEXIST { throw refusal() }
      throw failure(code)
    }
    var text = text
    var code = text.withUTF8 { bytes in
      var done = 0
      while done < bytes.count {
        let count = Glibc.write(descriptor, bytes.baseAddress.map { $0 + done }, bytes.count - done)
        if count < 0, errno != EINTR { return errno }
        done += max(0, count)
      }
      return 0
    }
    if close(descriptor) != 0, code == 0 { code = errno }
    guard code == 0 else {
      unlink(path)
      throw failure(code)
    }
  }

  private func refusal() -> InputError {
    InputError(file: path, found: "exists already", remedy: "Choose another name, or overwrite it with --force.")
  }

  private func failure(_ code: Int32) -> InputError {
    InputError(file: path, found: "cannot be written: \(String(cString: strerror(code)))")
  }
}
