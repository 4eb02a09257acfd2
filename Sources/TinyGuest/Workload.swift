import Glibc

/// What a tiny VM shall do: exactly so many of each thing on every virtual CPU.
public struct Workload: Sendable {
  /// How often each deed is done in a lap. A deed that is absent is not done, but for HLT: without an interrupt
  /// controller the first one says "ready", the last one ends the lap, so there are at least two in the first lap, and
  /// one less in each that follows.
  public var times: [Deed: Int]
  /// Virtual CPUs, each on a thread of its own.
  public var vcpus = 1
  /// How often the guest does it all.
  public var laps = 1
  /// Instead of a fixed number of laps: laps (or turns of `KVM_RUN`) begin until this time has passed.
  public var seconds: Double?
  /// KVM_RUN is called so often with `immediate_exit` set, after the laps: no guest code runs, but the kernel loads and
  /// saves the guest's state and fires `kvm_fpu` and `kvm_userspace_exit`.
  public var immediateExits = 0
  /// Turns of KVM_RUN with `immediate_exit` per second and virtual CPU; nil: as fast as it goes.
  public var immediateExitsPerSecond: Double?
  /// The VM is given up when it has not finished by then.
  public var timeLimitSeconds: Double = 60
  /// How long things last.
  public var spans = Spans()
  /// The process is stopped for so long (ms), once, soon after its virtual CPUs went to work.
  public var stopMilliseconds: Int?
  /// The CPU to which the threads of the virtual CPUs are bound.
  public var pinnedCPU: Int?
  /// A CPU on which another thread burns time while the virtual CPUs work.
  public var competitorCPU: Int?

  /// How long things last, in µs.
  public struct Spans: Sendable, Equatable {
    /// From arming a timer until it fires, or from tick to tick. KVM makes periods below 200 µs longer
    /// (`min_timer_period_us`).
    public var timer = 500
    /// CPU time of `Deed.portInSpin`.
    public var inSpin = 200
    /// Sleep of `Deed.portInSleep`.
    public var inSleep = 1000
    /// Guest time of `Deed.rdtscSpin`.
    public var guestSpin = 1000
    /// Sleep of the thread that provides a page for `Deed.touchDelayed`.
    public var fault = 2000
  }

  /// Each thing is clocked by the guest, in a page of samples (`ClockedGuest`).
  var isClocked = false

  /// A workload of so many deeds on one virtual CPU.
  public init(_ times: [Deed: Int] = [:], vcpus: Int = 1, laps: Int = 1) {
    self.times = times
    self.vcpus = vcpus
    self.laps = laps
  }

  func count(_ deed: Deed) -> Int {
    guard deed == .halt else { return times[deed] ?? 0 }
    return needsIrqchip ? 0 : max(2, times[.halt] ?? 2)
  }

  /// Whether any deed wants interrupts.
  var needsIrqchip: Bool { Deed.allCases.contains { $0.needsIrqchip && times[$0] ?? 0 > 0 } }

  /// Pages that one virtual CPU touches in all; with a time limit instead of laps, touching is not bounded.
  var freshPages: Int { count(.touch) * laps }
  /// The same, of pages that come late.
  var delayedPages: Int { count(.touchDelayed) * laps }

  func check() throws(TinyGuestError) {
    guard (1...Layout.mostVCPUs).contains(vcpus) else {
      throw TinyGuestError("a tiny VM has 1 to \(Layout.mostVCPUs) virtual CPUs, not \(vcpus)")
    }
    let most = 1_000_000_000
    for deed in Deed.allCases {
      let asked = times[deed] ?? 2
      guard asked >= (deed == .halt ? 2 : 0), asked <= most else {
        throw TinyGuestError(
          deed == .halt
            ? "a guest halts at least twice: when it is ready and when it is done (asked: \(asked))"
            : "\(deed.name): \(asked) is not between 0 and \(most)")
      }
    }
    guard (1...most).contains(laps), (0...most).contains(immediateExits) else {
      throw TinyGuestError("laps are 1 to \(most), immediate exits 0 to \(most)")
    }
    if seconds != nil, count(.touch) + count(.touchDelayed) > 0 {
      throw TinyGuestError("fresh pages are a number, not a duration: give laps instead of seconds")
    }
    try checkInterrupts()
    try checkSpans()
  }

  private func checkInterrupts() throws(TinyGuestError) {
    if count(.ipi) > 0, vcpus % 2 != 0 {
      throw TinyGuestError("ipi: virtual CPUs answer each other in pairs, \(vcpus) cannot")
    }
    if needsIrqchip, times[.halt] != nil {
      throw TinyGuestError("hlt: with timers or ipi, HLT waits in the kernel for an interrupt and cannot be asked for")
    }
  }

  private func checkSpans() throws(TinyGuestError) {
    let second = 1_000_000
    for (name, span, most) in [
      ("timer-us", spans.timer, second), ("spin-us", spans.inSpin, second), ("sleep-us", spans.inSleep, second),
      ("guest-spin-us", spans.guestSpin, 10 * second), ("fault-us", spans.fault, second),
      ("stop-ms", stopMilliseconds ?? 1, 60_000),
    ] {
      guard (1...most).contains(span) else { throw TinyGuestError("\(name): \(span) is not between 1 and \(most)") }
    }
  }
}
