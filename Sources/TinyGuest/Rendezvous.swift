import Glibc

/// Where the threads of a VM and the one that started them wait for each other.
final class Rendezvous: @unchecked Sendable {
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let changed = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private var ready = 0
  private var resting = 0
  private var finished = 0
  private var open = false
  private var stopped = false
  private var failed = false
  private var lapsGranted = 0
  private var lapsClosed = false

  init() {
    pthread_mutex_init(mutex, nil)
    var attributes = pthread_condattr_t()
    pthread_condattr_init(&attributes)
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
    pthread_cond_init(changed, &attributes)
    pthread_condattr_destroy(&attributes)
  }

  deinit {
    pthread_cond_destroy(changed)
    pthread_mutex_destroy(mutex)
    changed.deallocate()
    mutex.deallocate()
  }

  private func locked<T>(_ body: () -> T) -> T {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    return body()
  }

  /// Runs the body while no other thread of the VM runs one.
  func alone<T>(_ body: () throws(TinyGuestError) -> T) throws(TinyGuestError) -> T {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    return try body()
  }

  /// A virtual CPU is ready; returns when all may go.
  func arriveAndWait() {
    locked {
      ready += 1
      pthread_cond_broadcast(changed)
      while !open { pthread_cond_wait(changed, mutex) }
    }
  }

  /// Returns when all may go.
  func waitOpen() { locked { while !open { pthread_cond_wait(changed, mutex) } } }

  /// Whether a virtual CPU may begin its lap of this number (from 0). The first to ask decides for all: those that wait
  /// for each other's interrupts have to do the same number of laps.
  func grantLap(_ lap: Int, _ mayBegin: () -> Bool) -> Bool {
    locked {
      if lap < lapsGranted { return true }
      if !lapsClosed, mayBegin() { lapsGranted = lap + 1 } else { lapsClosed = true }
      return !lapsClosed
    }
  }

  /// A virtual CPU has done its work; returns when all have, or when they are told to stop.
  func rest(_ count: Int) {
    locked {
      resting += 1
      pthread_cond_broadcast(changed)
      while resting < count, !stopped { pthread_cond_wait(changed, mutex) }
    }
  }

  func finish(failed: Bool) {
    locked {
      finished += 1
      if failed { self.failed = true }
      pthread_cond_broadcast(changed)
    }
  }

  func release() {
    locked {
      open = true
      pthread_cond_broadcast(changed)
    }
  }

  func stop() {
    locked {
      stopped = true
      pthread_cond_broadcast(changed)
    }
  }

  var isStopped: Bool { locked { stopped } }

  /// False when the deadline (CLOCK_MONOTONIC) came first.
  func waitReady(_ count: Int, until deadline: timespec) -> Bool { wait(until: deadline) { ready >= count } }
  func waitFinished(_ count: Int, until deadline: timespec) -> Bool { wait(until: deadline) { finished >= count } }
  /// The same, but also true when one of them failed: others may wait for it in vain.
  func waitFinishedOrFailed(_ count: Int, until deadline: timespec) -> Bool {
    wait(until: deadline) { failed || finished >= count }
  }
  /// Whether all are done, or told to stop.
  func isOver(_ count: Int) -> Bool { locked { stopped || finished >= count } }

  private func wait(until deadline: timespec, _ condition: () -> Bool) -> Bool {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    var limit = deadline
    while !condition() {
      if pthread_cond_timedwait(changed, mutex, &limit) == ETIMEDOUT { return condition() }
    }
    return true
  }
}
