import CBpf
import Glibc
import Synchronization

/// What libbpf has to say, kept instead of being written to stderr. libbpf prints on the thread that called it, so
/// messages are kept per thread: two objects loaded at once do not mix theirs.
public enum LibbpfMessages {
  /// Of a longer message the end is kept.
  private static let longestMessage = 256 << 10
  private static let mostMessages = 64

  private struct Kept {
    var forgotten = 0
    var texts: [String] = []
  }
  private static let kept = Mutex<[UInt: Kept]>([:])

  /// Directs libbpf's messages here; every entry into libbpf calls it first.
  static let capture: Void = {
    _ = libbpf_set_print { level, format, arguments in
      guard level.rawValue <= LIBBPF_WARN.rawValue, let format, let arguments else { return 0 }
      // a log may have megabytes; vsnprintf would keep its beginning, and the end is what matters
      var text: UnsafeMutablePointer<CChar>?
      var length = 0
      guard let stream = open_memstream(&text, &length) else { return 0 }
      vfprintf(stream, format, arguments)
      fclose(stream)
      guard let text else { return 0 }
      defer { free(text) }
      let bytes = UnsafeRawBufferPointer(start: text, count: length)
      LibbpfMessages.keep(String(decoding: bytes.suffix(LibbpfMessages.longestMessage), as: UTF8.self))
      return 0
    }
  }()

  private static func keep(_ text: String) {
    let thread = pthread_self()
    kept.withLock { all in
      var mine = all[thread] ?? Kept()
      mine.texts.append(text)
      if mine.texts.count > mostMessages {
        mine.texts.removeFirst()
        mine.forgotten += 1
      }
      all[thread] = mine
    }
  }

  /// How many messages this thread has had since its last `take()`: where the messages of the next call begin.
  static var mark: Int {
    capture
    return kept.withLock { all in all[pthread_self()].map { $0.forgotten + $0.texts.count } ?? 0 }
  }

  static func since(_ mark: Int) -> [String] {
    kept.withLock { all in
      guard let mine = all[pthread_self()] else { return [] }
      return Array(mine.texts.dropFirst(max(0, mark - mine.forgotten)))
    }
  }

  /// This thread's warnings so far, oldest first (the last 64), and forgets them.
  public static func take() -> [String] { kept.withLock { $0.removeValue(forKey: pthread_self())?.texts ?? [] } }
}
