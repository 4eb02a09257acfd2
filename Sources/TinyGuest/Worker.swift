import CTinyGuest
import Glibc

/// A thread with a name, which takes no signal but SIGUSR1. To be joined.
final class Worker {
  private let thread: pthread_t

  private final class Task {
    let name: String
    let body: (Int32) -> Void

    init(name: String, body: @escaping (Int32) -> Void) {
      self.name = name
      self.body = body
    }
  }

  /// Starts it; the body is given the thread's id.
  init(_ name: String, _ body: @escaping @Sendable (Int32) -> Void) throws(TinyGuestError) {
    let task = Unmanaged.passRetained(Task(name: name, body: body))
    var thread = pthread_t()
    let code = pthread_create(&thread, nil, { Worker.main($0) }, task.toOpaque())
    guard code == 0 else {
      task.release()
      throw TinyGuestError("a thread for \(name)", errno: code)
    }
    self.thread = thread
  }

  private static func main(_ context: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    guard let context else { return nil }
    let task = Unmanaged<Task>.fromOpaque(context).takeRetainedValue()
    // Threads inherit their creator's mask, and libdispatch's block everything: without the one signal that interrupts
    // KVM_RUN, a guest that does not end could not be stopped. The others are for the program's own threads.
    var mask = sigset_t()
    sigfillset(&mask)
    sigdelset(&mask, SIGUSR1)
    pthread_sigmask(SIG_SETMASK, &mask, nil)
    task.body(kt_guest_name_thread(task.name))
    return nil
  }

  func interrupt() { pthread_kill(thread, SIGUSR1) }
  func join() { pthread_join(thread, nil) }
}
