import CTinyGuest
import Glibc

/// A thread, "userfault", that provides the missing pages of a range of memory, each after a known time.
final class Pager: @unchecked Sendable {
  private let descriptor: Int32
  private let stopPipe: (reading: Int32, writing: Int32)
  private let delayMicroseconds: Int
  // The thread's own until it is joined.
  private var measured = Measured()
  private var failure: TinyGuestError?
  private var worker: Worker?

  init(_ start: UnsafeMutableRawPointer, bytes: Int, delayMicroseconds: Int) throws(TinyGuestError) {
    let descriptor = kt_guest_userfault_open(start, bytes)
    guard descriptor >= 0 else { throw Self.unavailable(-descriptor) }
    var ends: [Int32] = [-1, -1]
    guard pipe(&ends) == 0 else {
      let code = errno
      close(descriptor)
      throw TinyGuestError("pipe", errno: code)
    }
    self.descriptor = descriptor
    stopPipe = (ends[0], ends[1])
    self.delayMicroseconds = delayMicroseconds
    worker = try Worker("userfault") { [self] in serve($0) }
  }

  // The thread holds this object: it has ended by now.
  deinit {
    if worker != nil { close(stopPipe.writing) }
    close(stopPipe.reading)
    close(descriptor)
  }

  private static func unavailable(_ code: Int32) -> TinyGuestError {
    switch code {
    case ENOSYS: TinyGuestError("touch-delayed: this kernel has no userfaultfd")
    case EPERM: TinyGuestError("touch-delayed: userfaultfd is not allowed: run as root")
    default: TinyGuestError("touch-delayed: userfaultfd", errno: code)
    }
  }

  /// From an event's arrival until the page is there.
  private func serve(_ tid: Int32) {
    measured.tid = tid
    var waiting = [
      pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0),
      pollfd(fd: stopPipe.reading, events: Int16(POLLIN), revents: 0),
    ]
    while failure == nil {
      guard poll(&waiting, 2, -1) >= 0 || errno == EINTR else {
        failure = TinyGuestError("poll", errno: errno)
        return
      }
      guard waiting[1].revents == 0 else { return }
      let address = kt_guest_userfault_next(descriptor)
      guard address != 0 else { continue }
      measured.add {
        sleep(microseconds: delayMicroseconds)
        let code = kt_guest_userfault_fill(descriptor, address)
        if code != 0 { failure = TinyGuestError("UFFDIO_COPY", errno: code) }
      }
    }
  }

  private func stop() {
    guard let worker else { return }
    close(stopPipe.writing)
    worker.join()
    self.worker = nil
  }

  /// Ends the thread, which nothing else ends; what it did.
  func finish() throws(TinyGuestError) -> Measured {
    stop()
    if let failure { throw failure }
    return measured
  }
}
