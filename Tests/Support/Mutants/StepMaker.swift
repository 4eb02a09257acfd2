/// One event of a made-up sequence, so long after the event before.
public enum Step: Sendable {
  /// kvm_exit with its reason.
  case exit(UInt64, afterNanoseconds: UInt64)
  /// kvm_entry with its vCPU.
  case entry(vcpu: UInt64, afterNanoseconds: UInt64)
  /// So many events of the thread's CPU lost, up to the next one.
  case lost(UInt64)
}

/// Makes records of one thread, in all but reason, vCPU and time like those of a perf.data.
public struct StepMaker: Sendable {
  /// The records so far.
  public private(set) var records: [TracepointRecord] = []
  private var exit: TracepointRecord
  private var entry: TracepointRecord
  private let reason: EventText.Field
  private let vcpu: EventText.Field
  private var nanoseconds: UInt64
  private var lostBefore: UInt64 = 0

  /// Takes an exit and an entry of one thread as models.
  public init(like file: PerfDataFile) throws {
    guard let left = file.events.first(where: { $0.name == "kvm_exit" }),
      let entered = file.events.first(where: { $0.name == "kvm_entry" }),
      let reason = left.fields.first(where: { $0.name == "exit_reason" }),
      let vcpu = entered.fields.first(where: { $0.name == "vcpu_id" })
    else { throw SampleError(text: "a format is missing") }
    let some = file.records(0..<1000)
    guard var exit = some.first(where: { $0.id == left.id }),
      let entry = some.first(where: { $0.id == entered.id && $0.thread == exit.thread })
    else { throw SampleError(text: "no exit and entry of one thread in the first events") }
    exit.cpu = entry.cpu
    (self.exit, self.entry, self.reason, self.vcpu) = (exit, entry, reason, vcpu)
    nanoseconds = max(exit.nanoseconds, entry.nanoseconds)
  }

  /// One event more.
  public mutating func add(_ step: Step) {
    switch step {
    case .lost(let count):
      lostBefore += count
    case .exit(let number, let after):
      nanoseconds += after
      exit.nanoseconds = nanoseconds
      exit[reason] = number
      append(exit)
    case .entry(let number, let after):
      nanoseconds += after
      entry.nanoseconds = nanoseconds
      entry[vcpu] = number
      append(entry)
    }
  }

  private mutating func append(_ record: TracepointRecord) {
    records.append(record)
    records[records.count - 1].lostBefore = lostBefore
    lostBefore = 0
  }
}
