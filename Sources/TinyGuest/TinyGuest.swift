/// A VM of known behaviour, driven straight through /dev/kvm in this process: it does exactly so many of each thing and
/// counts itself what it did. No files, no firmware, no QEMU.
public enum TinyGuest {
  /// Runs a VM to its end.
  ///
  /// `onReady` is called with the threads of the virtual CPUs, in order, when all exist and have run their first
  /// instructions; the guest goes on when it returns.
  public static func run(
    _ workload: Workload, onReady: ([Int32]) -> Void = { _ in }
  ) throws(TinyGuestError) -> Result {
    try workload.check()
    let session = try Session(workload)
    return try session.run(onReady)
  }

  /// Creates a VM, lets it exit a handful of times (8 CPUID, 8 port writes, 2 HLT) and destroys it: some milliseconds.
  /// For those who want to see whether exits are traced on this kernel at all.
  public static func probe() throws(TinyGuestError) -> Result {
    var workload = Workload([.cpuid: 8, .portOut: 8])
    workload.timeLimitSeconds = 10
    return try run(workload)
  }
}
