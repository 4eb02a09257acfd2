import Attribution
import Glibc

/// Writes data to standard output. When its reader has gone away (`| head`), the process ends quietly with status 0; any
/// other failure (a full disk) is an error.
public func standardOutput(_ text: String) throws(InputError) {
  switch writeAll(text, to: STDOUT_FILENO) {
  case 0: return
  case EPIPE: exit(ExitStatus.success.rawValue)
  case let code:
    throw InputError(
      file: "standard output", found: "cannot be written: \(String(cString: strerror(code)))",
      remedy: code == ENOSPC ? "Free some space, or write elsewhere with -o." : nil)
  }
}

/// Prints one message on standard error, beginning with the program's name; further lines are printed as they are.
/// Untrusted parts must have gone through `sanitized`. A standard error that nobody reads is ignored.
public func standardError(_ message: String) {
  let text = "kvmtax: \(message)\n"
  _ = writeAll(usesUnicode() ? text : asciiGlyphs(text), to: STDERR_FILENO)
}

/// Prints a line on standard error without the program's name in front: a summary, not an error.
public func standardErrorNote(_ line: String) {
  let text = line + "\n"
  _ = writeAll(usesUnicode() ? text : asciiGlyphs(text), to: STDERR_FILENO)
}

/// Writes everything, in as few calls as the descriptor allows; 0 or the errno.
public func writeAll(_ text: String, to descriptor: Int32) -> Int32 {
  var text = text
  return text.withUTF8 { bytes in
    var rest = UnsafeRawBufferPointer(bytes)
    while rest.count > 0 {
      let count = write(descriptor, rest.baseAddress, rest.count)
      if count > 0 {
        rest = UnsafeRawBufferPointer(rebasing: rest[count...])
      } else if count < 0, errno == EAGAIN {
        // a terminal or pipe that somebody made non-blocking: wait until it takes more
        var wait = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        _ = poll(&wait, 1, -1)
      } else if count < 0, errno != EINTR {
        return errno
      }
    }
    return 0
  }
}
