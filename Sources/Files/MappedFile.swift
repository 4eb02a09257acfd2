import Attribution
import Glibc

/// A regular file mapped read-only for as long as this value lives.
public struct MappedFile: ~Copyable {
  /// The file as the user named it.
  public let path: String
  /// The whole content.
  public let bytes: UnsafeRawBufferPointer

  /// Opens and maps a file; empty files, directories, pipes and unreadable files are refused with the reason.
  public init(path: String) throws(InputError) {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else {
      throw InputError(file: path, found: "cannot be opened: \(String(cString: strerror(errno)))")
    }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else {
      throw InputError(file: path, found: "cannot be examined: \(String(cString: strerror(errno)))")
    }
    guard status.st_mode & S_IFMT == S_IFREG else {
      throw InputError(
        file: path, found: status.st_mode & S_IFMT == S_IFDIR ? "is a directory" : "is not a regular file",
        remedy: "Name a trace file: one of kvmtax record, trace-cmd record or perf record.")
    }
    guard status.st_size > 0 else {
      throw InputError(file: path, found: "is empty", remedy: "Record or copy it again.")
    }
    let size = Int(status.st_size)
    guard let start = mmap(nil, size, PROT_READ, MAP_PRIVATE, descriptor, 0), start != MAP_FAILED else {
      throw InputError(file: path, found: "cannot be mapped: \(String(cString: strerror(errno)))")
    }
    _ = truncationHandler
    self.path = path
    bytes = UnsafeRawBufferPointer(start: start, count: size)
  }

  deinit { munmap(UnsafeMutableRawPointer(mutating: bytes.baseAddress!), bytes.count) }

  /// Tells the kernel that the file is read once, front to back.
  public func willReadSequentially() {
    madvise(UnsafeMutableRawPointer(mutating: bytes.baseAddress!), bytes.count, MADV_SEQUENTIAL)
  }
}

/// A file that somebody cuts while it is mapped ends the program by SIGBUS at the next touch of what is gone; there is no
/// way back into the reader from there, but a word and the right exit status. Installed with the first mapping.
private let truncationHandler: Void = {
  var action = sigaction()
  action.__sigaction_handler.sa_handler = { _ in
    let message: StaticString = """
      kvmtax: the file became shorter while it was read
        Copy it where nobody changes it, and read the copy.

      """
    // only async-signal-safe calls here
    _ = write(STDERR_FILENO, message.utf8Start, message.utf8CodeUnitCount)
    _exit(3)
  }
  sigaction(SIGBUS, &action, nil)
}()
