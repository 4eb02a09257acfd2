import Glibc

/// One line on a terminal's standard error, replaced in place and gone at the end; nothing where there is no terminal.
/// Cheap to call often: it writes ten times a second at most.
public struct ProgressLine: ~Copyable {
  /// Whether updates can show at all; when false, don't compose them.
  public let isShown: Bool
  private let startNanoseconds: UInt64
  private let delayNanoseconds: UInt64
  private var lastNanoseconds: UInt64 = 0
  private var isOnScreen = false

  /// A line that appears once `delayNanoseconds` have passed: quick work shows nothing. A live line takes 0.
  public init(delayNanoseconds: UInt64 = 1_000_000_000) {
    let term = getenv("TERM").map { String(cString: $0) }
    isShown = isatty(STDERR_FILENO) == 1 && term != "dumb"
    startNanoseconds = now()
    self.delayNanoseconds = delayNanoseconds
  }

  deinit { if isOnScreen { _ = writeAll("\r\u{1b}[K", to: STDERR_FILENO) } }

  /// Shows a text in place of the last one, cut to the terminal's width; untrusted parts must be sanitized.
  public mutating func update(_ text: @autoclosure () -> String) {
    guard isShown else { return }
    let time = now()
    guard time &- startNanoseconds >= delayNanoseconds, time &- lastNanoseconds >= 100_000_000 else { return }
    lastNanoseconds = time
    // a terminal that was stopped (Ctrl-S) must not stop the work as well
    var room = pollfd(fd: STDERR_FILENO, events: Int16(POLLOUT), revents: 0)
    guard poll(&room, 1, 0) == 1 else { return }
    isOnScreen = true
    // the last column stays free: some terminals would wrap
    let line = truncated(text(), width: columns(of: STDERR_FILENO) - 1)
    _ = writeAll("\r\(usesUnicode() ? line : asciiGlyphs(line))\u{1b}[K", to: STDERR_FILENO)
  }

  /// Takes the line off the screen, as before any other message; a later update shows it again.
  public mutating func clear() {
    guard isOnScreen else { return }
    _ = writeAll("\r\u{1b}[K", to: STDERR_FILENO)
    isOnScreen = false
    lastNanoseconds = 0
  }
}

/// CLOCK_MONOTONIC in ns.
private func now() -> UInt64 {
  var time = timespec()
  clock_gettime(CLOCK_MONOTONIC, &time)
  return UInt64(truncatingIfNeeded: time.tv_sec) &* 1_000_000_000 &+ UInt64(truncatingIfNeeded: time.tv_nsec)
}
