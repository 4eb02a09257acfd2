import CTinyGuest
import Glibc

/// A thread, "competitor", that burns a CPU from the moment that the virtual CPUs go to work until they are done.
final class Competitor: @unchecked Sendable {
  private let rendezvous: Rendezvous
  private let cpu: Int
  private let vcpus: Int
  // The thread's own until it is joined.
  private var measured = Measured()
  private var worker: Worker?

  init(_ rendezvous: Rendezvous, cpu: Int, vcpus: Int) throws(TinyGuestError) {
    self.rendezvous = rendezvous
    self.cpu = cpu
    self.vcpus = vcpus
    worker = try Worker("competitor") { [self] in burn($0) }
  }

  private func burn(_ tid: Int32) {
    measured.tid = tid
    kt_guest_pin(Int32(cpu))
    rendezvous.waitOpen()
    measured.startNanoseconds = monotonicNanoseconds()
    measured.add {
      while !rendezvous.isOver(vcpus) { spin(microseconds: 50) }
    }
    measured.endNanoseconds = monotonicNanoseconds()
  }

  /// Waits for the end of the thread, which comes with that of the virtual CPUs; what it did.
  func finish() -> Measured {
    worker?.join()
    worker = nil
    return measured
  }
}

/// A process that stops this one for a known time, soon after the virtual CPUs went to work.
final class Stopper {
  /// From the beginning of the work: long enough that it has begun.
  private static let delayNanoseconds: Int64 = 20_000_000
  private let helper: kt_guest_stopper
  private var isFinished = false

  /// To be created before there is memory of a guest's: forking makes it copy-on-write.
  init(milliseconds: Int) throws(TinyGuestError) {
    helper = kt_guest_stopper_fork(Self.delayNanoseconds, Int64(milliseconds) * 1_000_000)
    guard helper.pid > 0 else { throw TinyGuestError("a process that stops this one", errno: -helper.pid) }
  }

  func begin() { GuestCommand.write("+", to: helper.start) }

  /// Waits until this process was stopped and continued; from the one to the other.
  func finish() throws(TinyGuestError) -> Measured {
    var times: [Int64] = [0, 0]
    var count = 0
    repeat { count = read(helper.report, &times, 16) } while count < 0 && errno == EINTR
    end()
    guard count == 16 else { throw TinyGuestError("stop-ms: this process could not be stopped") }
    var measured = Measured()
    measured.count = 1
    measured.startNanoseconds = Int(times[0])
    measured.endNanoseconds = Int(times[1])
    measured.wallNanoseconds = Int(times[1] - times[0])
    return measured
  }

  private func end() {
    guard !isFinished else { return }
    isFinished = true
    close(helper.start)
    close(helper.report)
    while waitpid(helper.pid, nil, 0) < 0, errno == EINTR {}
  }

  deinit { end() }
}
