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
    for signal in [SIGPIPE, SIGINT, SIGTERM, SIGCHLD] { sigaddset(&usual, signal) }
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

  /// Ends it, as its terminal would.
  func terminate() { if status == nil { kill(pid, SIGTERM) } }

  /// "ended with status 0", "was killed by signal 9".
  var outcome: String {
    guard let status else { return "is still running" }
    if status & 0x7f == 0 { return "ended with status \(status >> 8 & 0xff)" }
    return "was ended by signal \(status & 0x7f)"
  }
}
