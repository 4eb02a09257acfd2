import Glibc

/// Where the threads of a VM and the one that started them wait for each other.
final class Rendezvous: @unchecked Sendable {
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let changed = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private var ready = 0
  private var finished = 0
  private var open = false
  private var stopped = false

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

  func finish() {
    locked {
      finished += 1
      pthread_cond_broadcast(changed)
    }
  }

  func release() {
    locked {
      open = true
      pthread_cond_broadcast(changed)
    }
  }

  func stop() { locked { stopped = true } }
  var isStopped: Bool { locked { stopped } }

  /// False when the deadline (CLOCK_MONOTONIC) came first.
  func waitReady(_ count: Int, until deadline: timespec) -> Bool { wait(until: deadline) { ready >= count } }
  func waitFinished(_ count: Int, until deadline: timespec) -> Bool { wait(until: deadline) { finished >= count } }

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

/// CLOCK_MONOTONIC in seconds.
func monotonicSeconds() -> Double {
  var now = timespec()
  clock_gettime(CLOCK_MONOTONIC, &now)
  return Double(now.tv_sec) + Double(now.tv_nsec) * 1e-9
}

/// CLOCK_MONOTONIC in so many seconds.
func deadline(inSeconds seconds: Double) -> timespec {
  let at = monotonicSeconds() + max(0, min(seconds, 1e9))
  return timespec(tv_sec: Int(at), tv_nsec: Int((at - at.rounded(.down)) * 1e9))
}

/// Sleeps until a moment of CLOCK_MONOTONIC; returns early when a signal comes.
func sleep(untilMonotonicSeconds at: Double) {
  let left = at - monotonicSeconds()
  guard left > 0 else { return }
  var span = timespec(tv_sec: Int(left), tv_nsec: Int((left - left.rounded(.down)) * 1e9))
  nanosleep(&span, nil)
}
