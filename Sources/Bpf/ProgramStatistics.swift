import CBpf
import Glibc

/// How often a program ran and how long it took, counted while a `RunTimeStatistics` lives (Linux 5.8).
public struct ProgramStatistics: Equatable, Sendable {
  /// Runs.
  public var runCount: UInt64
  /// Their time in ns, without the trampoline's.
  public var runNanoseconds: UInt64
  /// Runs that the kernel left out because another was under way on the CPU (0 where it does not count them).
  public var recursionMisses: UInt64
  /// Size of the machine code in bytes.
  public var machineCodeBytes: UInt32
}

/// Makes the kernel count runs and time of all BPF programs, as long as this value lives.
public struct RunTimeStatistics: ~Copyable {
  private let descriptor: Int32

  /// Switches the statistics on.
  public init() throws(BpfError) {
    descriptor = try check("enable statistics") { bpf_enable_stats(BPF_STATS_RUN_TIME) }
  }

  deinit { close(descriptor) }
}

extension BpfObject {
  /// A loaded program's statistics so far.
  public func statistics(of program: String) throws(BpfError) -> ProgramStatistics {
    let descriptor = try self.descriptor(of: program)
    var info = bpf_prog_info()
    var size = UInt32(MemoryLayout<bpf_prog_info>.size)
    try check("statistics of \(program)") { bpf_obj_get_info_by_fd(descriptor, &info, &size) }
    return ProgramStatistics(
      runCount: info.run_cnt, runNanoseconds: info.run_time_ns, recursionMisses: info.recursion_misses,
      machineCodeBytes: info.jited_prog_len)
  }
}
