import Glibc

/// CLOCK_MONOTONIC in ns.
func monotonicNanoseconds() -> Int { nanoseconds(CLOCK_MONOTONIC) }

/// CPU time of the calling thread in ns.
func threadCPUNanoseconds() -> Int { nanoseconds(CLOCK_THREAD_CPUTIME_ID) }

private func nanoseconds(_ clock: clockid_t) -> Int {
  var now = timespec()
  clock_gettime(clock, &now)
  return now.tv_sec * 1_000_000_000 + now.tv_nsec
}

/// CLOCK_MONOTONIC in seconds.
func monotonicSeconds() -> Double { Double(monotonicNanoseconds()) * 1e-9 }

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

/// Sleeps for at most a second; returns early when a signal comes.
func sleep(microseconds: Int) {
  let nanoseconds = microseconds * 1000
  var span = timespec(tv_sec: nanoseconds / 1_000_000_000, tv_nsec: nanoseconds % 1_000_000_000)
  nanosleep(&span, nil)
}

/// Spins until the calling thread has used so much CPU time.
func spin(microseconds: Int) {
  let end = threadCPUNanoseconds() + microseconds * 1000
  while threadCPUNanoseconds() < end {}
}

extension Measured {
  /// Adds one occurrence.
  mutating func add(wall: Int, cpu: Int) {
    cpuNanoseconds = (cpuNanoseconds ?? 0) + cpu
    wallNanoseconds = (wallNanoseconds ?? 0) + wall
    count += 1
  }

  /// Does it, and adds how long it took on both clocks.
  mutating func add(_ body: () -> Void) {
    let (wall, cpu) = (monotonicNanoseconds(), threadCPUNanoseconds())
    body()
    add(wall: monotonicNanoseconds() - wall, cpu: threadCPUNanoseconds() - cpu)
  }
}
