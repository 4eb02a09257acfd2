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

/// Replays a file's events with the features that its formats promise. Where the events then show that some did not
/// come although they should have, it is replayed once more without them: what waits for them would be wrong.
///
/// `run` drains a new source for the table and puts the evidence together.
func replayed(
  _ formats: KvmEventTable, file: String, isRecorded: (UInt64) -> Bool = { _ in true },
  run: (KvmEventTable, inout Replay) throws(InputError) -> Evidence
) throws(InputError) -> Evidence {
  var missing: StateFeatures = []
  var notes: [String] = []
  while true {
    let table = formats.chosen(without: missing, isRecorded: isRecorded)
    var replay = Replay(features: table.features.subtracting(missing).rawValue)
    var evidence = try run(table, &replay)
    let check = replay.checkFeatures()
    // at most one round for each feature
    guard !check.missing.isEmpty else {
      evidence.trust.notes += notes
      return evidence
    }
    missing.formUnion(check.missing)
    if check.hasHalvesOnly {
      notes.append(
        "Of \(grouped(check.switches)) switches of vCPU threads, \(grouped(check.halfSwitches)) lack a half: the "
          + "scheduler's events are of some threads or CPUs only and were not used.")
    }
  }
}

extension Replay {
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
      guard refusedEvents == 0 else {
        throw InputError(
          file: file, found: "names more than \(grouped(UInt64(threadCount))) vCPU threads: it is damaged",
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
