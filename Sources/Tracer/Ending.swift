import TraceFile

/// Why a recording ended.
enum Ending {
  case duration, interrupted, command, size, diskLow, overhead, failure
  case diskFull(TraceWriteError)

  /// The word in the trace file.
  var word: String {
    switch self {
    case .duration: "duration"
    case .interrupted: "interrupted"
    case .command: "command"
    case .size: "size"
    case .diskLow: "disk-low"
    case .overhead: "overhead"
    case .failure: "failure"
    case .diskFull: "disk-full"
    }
  }

  /// What the user must know, where it is not what was asked for.
  var remark: String? {
    switch self {
    case .duration, .interrupted, .command, .failure: nil
    case .size: "Stopped early: the file reached its limit (--max-size)."
    case .diskLow: "Stopped early: the disk is nearly full (less than 5 % left, at most 1 GiB)."
    case .overhead: "Stopped early: tracing cost more than --max-overhead allows, with everything shed."
    case .diskFull(let error): "Stopped early: \(error). What was written before is whole."
    }
  }
}
