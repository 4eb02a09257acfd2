import Attribution
import Glibc

/// The command after `--`: recorded while it runs.
struct ChildCommand {
  let pid: pid_t
  /// As waitpid gives it, once it has ended.
  private(set) var status: Int32?

  /// Starts it with the signals as a shell would give them.
  init(_ arguments: [String]) throws(InputError) {
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var none = sigset_t()
    sigemptyset(&none)
    posix_spawnattr_setsigmask(&attributes, &none)
    var usual = sigset_t()
    sigemptyset(&usual)
    // those that we ignore among them
    for signal in [SIGPIPE, SIGINT, SIGTERM, SIGCHLD, SIGXFSZ] { sigaddset(&usual, signal) }
    posix_spawnattr_setsigdefault(&attributes, &usual)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK) | Int16(POSIX_SPAWN_SETSIGDEF))
    var texts: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) } + [nil]
    defer { for text in texts { free(text) } }
    var child: pid_t = 0
    let result = posix_spawnp(&child, arguments[0], nil, &attributes, &texts, environ)
    guard result == 0 else {
      throw InputError(file: arguments[0], found: "cannot be started: \(String(cString: strerror(result)))")
    }
    pid = child
  }

  /// Whether it has ended; takes its status if so.
  mutating func hasEnded() -> Bool {
    if status != nil { return true }
    var value: Int32 = 0
    guard waitpid(pid, &value, WNOHANG) == pid else { return false }
    status = value
    return true
  }

  /// Asks it to end and waits for that, at most 2.5 s: `wasInterrupted`, the terminal has asked it already, and it gets
  /// half a second to do so in its own way. `isHurried` ends the wait: somebody presses Ctrl-C again.
  mutating func end(wasInterrupted: Bool, isHurried: () -> Bool) {
    if wasInterrupted, waits(milliseconds: 500, isHurried) { return }
    guard !hasEnded() else { return }
    kill(pid, SIGTERM)
    _ = waits(milliseconds: 2000, isHurried)
  }

  private mutating func waits(milliseconds: Int, _ isHurried: () -> Bool) -> Bool {
    for _ in 0..<milliseconds / 10 {
      if hasEnded() { return true }
      if isHurried() { return false }
      usleep(10_000)
    }
    return hasEnded()
  }

  /// "ended with status 0", "was killed by signal 9".
  var outcome: String {
    guard let status else { return "was asked to end and is still running (pid \(pid))" }
    if status & 0x7f == 0 { return "ended with status \(status >> 8 & 0xff)" }
    return "was ended by signal \(status & 0x7f)"
  }
}
