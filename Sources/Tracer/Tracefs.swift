import Glibc

/// Where the kernel shows its tracepoints.
struct Tracefs {
  /// The mount point.
  let path: String

  /// Finds tracefs where kernels mount it; nil when it is not mounted or not readable.
  static func find() -> Tracefs? {
    for path in ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"] where access("\(path)/events", R_OK) == 0 {
      return Tracefs(path: path)
    }
    return nil
  }

  /// The format text of a tracepoint, at most 64 KiB; nil when the kernel has no such tracepoint.
  func format(_ system: String, _ event: String) -> [UInt8]? {
    readProcFile("\(path)/events/\(system)/\(event)/format", limit: 65536)
  }
}
