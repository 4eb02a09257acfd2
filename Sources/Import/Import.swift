import Attribution
import CKvmtax
import Files
import Formats

/// Reads a trace of another recorder: trace-cmd's trace.dat (version 6 and 7) or perf's perf.data, told apart by
/// content. `progress` gets the part of the file that has been read, 0 to 1, every few thousand events.
///
/// Damaged places cost what lies in them and are listed in the result's `trust`; a file of which nothing can be used is
/// an InputError.
public func importTrace(
  _ file: borrowing MappedFile, progress: (Double) -> Void = { _ in }
) throws(InputError) -> Evidence {
  switch ImportedFormat.detect(file.bytes) {
  case .traceDat?: try importTraceDat(file.bytes, path: file.path, progress: progress)
  case .perfData?: try importPerfData(file.bytes, path: file.path, progress: progress)
  default: throw ImportedFormat.refusal(file.bytes, file: file.path)
  }
}

extension Replay {
  /// More threads than any host has vCPUs: the input is damaged.
  private static var maximumThreads: Int { 100_000 }

  /// Drains a source, telling after each batch.
  mutating func drain<Source: EventSource>(
    _ source: inout Source, file: String, afterEachBatch: (borrowing Source) -> Void
  ) throws(InputError) {
    var batch: [kt_event] = []
    batch.reserveCapacity(4096)
    while true {
      try source.read(into: &batch)
      if batch.isEmpty { return }
      step(batch.span)
      guard threadCount <= Replay.maximumThreads else {
        throw InputError(
          file: file, found: "names more than \(grouped(UInt64(Replay.maximumThreads))) vCPU threads: it is damaged",
          remedy: "Copy or record it again.")
      }
      afterEachBatch(source)
    }
  }
}

extension Evidence {
  /// Names the vCPU threads.
  mutating func nameThreads(_ names: [UInt32: String]) {
    for vm in ledger.vms.indices {
      for vcpu in ledger.vms[vm].vcpus.indices {
        ledger.vms[vm].vcpus[vcpu].name = names[ledger.vms[vm].vcpus[vcpu].tid]
      }
    }
  }

  /// What every import has to say about its numbers.
  mutating func noteTheUsual(cpus: Int) {
    let backwards = ledger.vcpus.reduce(0) { $0 &+ $1.backwards }
    if capture.clock == "local", cpus > 1 {
      trust.notes.append(
        "The trace's clock (local) is not synchronised across CPUs: times of a vCPU that changed its CPU can be off.")
    }
    if backwards > 0 {
      trust.notes.append(
        "\(grouped(backwards)) events are older than the one before them on their thread and were counted without time."
      )
    }
    if !ledger.vcpus.contains(where: { $0.exits > 0 }) {
      trust.notes.append("The trace holds no kvm_exit event.")
    }
  }
}
