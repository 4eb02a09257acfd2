import CKvmtax
import Glibc

/// One moment on the four clocks; the file header, every snapshot and the end carry it, so that a suspend or a step of
/// the wall clock can be told from time that was measured.
public struct Clocks: Equatable, Sendable {
  /// CLOCK_MONOTONIC, ns: the clock of every other time in the file.
  public var monotonicNanoseconds: UInt64
  /// CLOCK_BOOTTIME, ns: goes on while the host is suspended.
  public var boottimeNanoseconds: UInt64
  /// CLOCK_REALTIME, ns since 1970.
  public var realtimeNanoseconds: UInt64
  /// The time stamp counter, in its own ticks; 0 where there is none.
  public var tsc: UInt64

  /// A moment as it was read from somewhere.
  public init(monotonicNanoseconds: UInt64, boottimeNanoseconds: UInt64, realtimeNanoseconds: UInt64, tsc: UInt64) {
    self.monotonicNanoseconds = monotonicNanoseconds
    self.boottimeNanoseconds = boottimeNanoseconds
    self.realtimeNanoseconds = realtimeNanoseconds
    self.tsc = tsc
  }

  /// All four now. A reading that was interrupted for longer than 20 µs is repeated, four times at most.
  public static func now() -> Clocks {
    var clocks = Clocks(monotonicNanoseconds: 0, boottimeNanoseconds: 0, realtimeNanoseconds: 0, tsc: 0)
    for _ in 0..<5 {
      let before = read(CLOCK_MONOTONIC)
      clocks.boottimeNanoseconds = read(CLOCK_BOOTTIME)
      clocks.realtimeNanoseconds = read(CLOCK_REALTIME)
      clocks.tsc = kt_tsc()
      let length = read(CLOCK_MONOTONIC) &- before
      clocks.monotonicNanoseconds = before &+ length / 2
      if length <= 20_000 { break }
    }
    return clocks
  }

  private static func read(_ clock: clockid_t) -> UInt64 {
    var time = timespec()
    guard clock_gettime(clock, &time) == 0 else { return 0 }
    return UInt64(truncatingIfNeeded: time.tv_sec) &* 1_000_000_000 &+ UInt64(truncatingIfNeeded: time.tv_nsec)
  }
}
