import Attribution
import CKvmtax
import Testing

@testable import TraceFile

/// What a reader must report when exactly the given blocks of a trace can be read; written from docs/trace-format.md.
struct Expected {
  struct Key: Hashable {
    var thread: UInt32
    var reason: UInt32
  }

  struct Row: Equatable {
    var finished: UInt64 = 0
    var unpaired: UInt64 = 0
    var total: UInt64 = 0
    var least: UInt64 = 0
    var greatest: UInt64 = 0
    var buckets: [UInt64] = []
  }

  var facts: [CaptureFact] = []
  var formats: [FormatText] = []
  var processes: [TracedProcess] = []
  var threads: [TracedThread] = []
  var losses: [UInt32: [UInt64]] = [:]
  var gaps: [TraceGap] = []
  var notes: [TraceNote] = []
  var end: TraceEnd?
  /// The accounts' rows, the records' rows, and each thread's last slot with the moment up to which its state is known.
  var rows: [Key: Row] = [:]
  var recorded: [Key: Row] = [:]
  var slots: [UInt32: (slot: kt_slot, until: UInt64)] = [:]
  var records: UInt64 = 0
  var lastTime: UInt64 = 0
  /// The VMs' keys, from the snapshots and from the records.
  var keys: [UInt32: [Attribution.Key: KeyAccount]] = [:]
  var recordedKeys: [UInt32: [Attribution.Key: KeyAccount]] = [:]
  var looks: [TracedLooks] = []

  init(_ trace: WrittenTrace, isIntact: (WrittenTrace.Block) -> Bool) {
    for block in trace.blocks {
      let intact = isIntact(block)
      if case .snapshot(let time, let slots, let rows, let keys) = block.content {
        if intact {
          take(time, slots, rows)
          for vm in keys { for key in vm.changed { self.keys[vm.tgid, default: [:]][key.key] = key } }
        } else {
          hole()
        }
      } else if intact {
        take(block.content)
      }
    }
  }

  private var isBehindHole = false

  /// Threads that are not in a later snapshot may have been in the one that is lost.
  private mutating func hole() { isBehindHole = true }

  private var uncertain: Set<UInt32> = []

  private mutating func take(_ time: UInt64, _ slots: [kt_slot], _ rows: [(row: kt_row, hasHistogram: Bool)]) {
    if isBehindHole { uncertain.formUnion(self.slots.keys) }
    isBehindHole = false
    for slot in slots {
      self.slots[slot.thread] = (slot, time)
      uncertain.remove(slot.thread)
    }
    for thread in self.slots.keys where !uncertain.contains(thread) { self.slots[thread]?.until = time }
    lastTime = time
    for (row, hasHistogram) in rows {
      let known = account(row)
      let key = Key(thread: row.thread, reason: row.reason)
      var value = self.rows[key] ?? Row()
      value.finished = row.finished
      value.unpaired = row.unpaired
      value.total = row.total_ns
      value.least = row.min_ns
      value.greatest = row.max_ns
      if hasHistogram { value.buckets = known.histogram.counts }
      self.rows[key] = value
    }
  }

  private mutating func take(_ content: WrittenTrace.Content) {
    switch content {
    case .facts(let facts): self.facts += facts
    case .formats(let formats): self.formats += formats
    case .processes(let processes): self.processes += processes
    case .threads(let threads): self.threads += threads
    case .losses(let losses): for loss in losses { self.losses[loss.cpu] = loss.counts }
    case .gap(let gap): gaps.append(gap)
    case .note(let note): notes.append(note)
    case .end(let end): self.end = end
    case .exits(let records, let keys):
      for record in records { take(record) }
      for (vm, accounts) in keys {
        for (key, account) in accounts {
          recordedKeys[vm, default: [:]][key, default: KeyAccount(key)].add(account)
        }
      }
    case .looks(let looks): self.looks += looks
    case .schema, .snapshot: break
    }
  }

  private mutating func take(_ record: kt_exit_record) {
    records += 1
    let key = Key(thread: record.thread, reason: record.reason)
    var row = recorded[key] ?? Row(least: .max, buckets: [UInt64](repeating: 0, count: Histogram.bucketCount))
    row.finished += 1
    row.total += record.total_ns
    row.least = min(row.least, record.total_ns)
    row.greatest = max(row.greatest, record.total_ns)
    row.buckets[Int(kt_bucket(record.total_ns))] += 1
    recorded[key] = row
  }

  /// The keys of some records, by VM.
  static func keys(of records: [kt_exit_record]) -> [UInt32: [Attribution.Key: KeyAccount]] {
    var keys: [UInt32: [Attribution.Key: KeyAccount]] = [:]
    for record in records { addKey(record, to: &keys) }
    return keys
  }

  private static func addKey(_ record: kt_exit_record, to keys: inout [UInt32: [Attribution.Key: KeyAccount]]) {
    var row = kt_key_row()
    row.key = kt_key(
      subject: record.subject, reason: record.reason, traits: record.traits, isa: record.isa, kind: record.key_kind,
      size: record.size, userspace: record.userspace, reserved: 0)
    row.finished = 1
    row.total_ns = record.total_ns
    row.max_ns = record.total_ns
    var account = KeyAccount(&row)
    account.states[.kernel] = record.kernel_ns
    account.states[.qemu] = record.qemu_ns
    account.states[.haltPoll] = record.halt_poll_ns
    account.states[.haltWait] = record.halt_wait_ns
    account.states[.hostInterrupt] = record.host_interrupt_ns
    account.states[.qemuBlocked] = record.qemu_blocked_ns
    account.states[.kernelBlocked] = record.kernel_blocked_ns
    account.states[.wakeLatency] = record.wake_latency_ns
    account.states[.preempted] = record.preempted_ns
    account.states[.stopped] = record.stopped_ns
    // FakeHost's threads are in VMs of four
    let tgid = 30_000 + (record.thread - 1) / 4
    keys[tgid, default: [:]][account.key, default: KeyAccount(account.key)].add(account)
  }

  private func keyDifference(_ ledger: Ledger, _ expected: [UInt32: [Attribution.Key: KeyAccount]]) -> String? {
    for vm in ledger.vms where vm.pid != 0 {
      let known = expected[vm.pid] ?? [:]
      if vm.keys.count != known.count { return "\(vm.keys.count) keys of VM \(vm.pid), not \(known.count)" }
      for key in vm.keys where known[key.key] != key { return "a key of VM \(vm.pid)" }
    }
    return nil
  }

  // MARK: Comparison

  /// The first difference, or nil.
  func difference(from contents: TraceContents, _ rung: TraceRung) -> String? {
    if contents.facts != facts { return "facts" }
    if contents.formatTexts != formats { return "format texts" }
    if contents.processes != processes { return "processes" }
    if contents.threads != threads { return "threads" }
    if contents.gaps != gaps { return "gaps" }
    if contents.notes != notes { return "notes" }
    if contents.end != end || contents.evidence.trust.isComplete != (end != nil) { return "end" }
    if contents.losses.count != losses.count { return "losses" }
    for loss in contents.losses where losses[loss.cpu] != loss.counts { return "losses of CPU \(loss.cpu)" }
    if contents.exitRecordCount != records { return "\(contents.exitRecordCount) records, not \(records)" }
    if contents.looks != looks { return "looks" }
    for vcpu in contents.evidence.ledger.vcpus
    where vcpu.kvmCounts != looks.first(where: { $0.thread == vcpu.thread })?.counts {
      return "KVM's counts"
    }
    if rung == .accounts || records == 0 {
      return accountsDifference(contents.evidence.ledger) ?? keyDifference(contents.evidence.ledger, keys)
    }
    return recordsDifference(contents.evidence.ledger) ?? keyDifference(contents.evidence.ledger, recordedKeys)
  }

  private func accountsDifference(_ ledger: Ledger) -> String? {
    let vcpus = ledger.vcpus
    if vcpus.count != slots.count { return "\(vcpus.count) vCPUs, not \(slots.count)" }
    if let difference = slotDifference(vcpus) { return difference }
    var left = rows
    for vcpu in vcpus {
      for account in vcpu.accounts {
        guard let row = left.removeValue(forKey: Key(thread: vcpu.thread, reason: account.reason)) else {
          if account.finished + account.unpaired > 0 { return "a row that was not written" }
          continue
        }
        var found = Row(account)
        if row.buckets.isEmpty, account.histogram.total == 0 { found.buckets = [] }
        if found != row { return "row of thread \(vcpu.thread), reason \(account.reason)" }
      }
    }
    return left.isEmpty ? nil : "\(left.count) rows are missing"
  }

  private func recordsDifference(_ ledger: Ledger) -> String? {
    if let difference = slotDifference(ledger.vcpus.filter { slots[$0.thread] != nil }) { return difference }
    var left = recorded
    for vcpu in ledger.vcpus {
      for account in vcpu.accounts {
        let key = Key(thread: vcpu.thread, reason: account.reason)
        var row = left.removeValue(forKey: key) ?? Row()
        row.unpaired = rows[key]?.unpaired ?? 0
        if account.finished == 0 { row.buckets = [UInt64](repeating: 0, count: Histogram.bucketCount) }
        if Row(account) != row { return "recorded row of thread \(vcpu.thread), reason \(account.reason)" }
      }
    }
    return left.isEmpty ? nil : "\(left.count) recorded rows are missing"
  }

  private func slotDifference(_ vcpus: [VCPU]) -> String? {
    var seen = 0
    for vcpu in vcpus {
      guard let (slot, until) = slots[vcpu.thread] else { return "thread \(vcpu.thread) was not written" }
      seen += 1
      var expected = states(slot)
      let end = slot.ended != 0 ? slot.since_ns : lastTime
      if slot.ended == 0 {
        let known = max(until, slot.since_ns)
        expected[State(rawValue: slot.state) ?? .unknown] += known - slot.since_ns
        expected[.unknown] += end - known
      }
      if vcpu.states != expected { return "states of thread \(vcpu.thread)" }
      if vcpu.states.total != vcpu.wallNanoseconds || vcpu.lastNanoseconds != end { return "wall of \(vcpu.thread)" }
      if vcpu.exits != slot.exits || vcpu.entries != slot.entries || vcpu.ended != (slot.ended != 0) {
        return "counts of thread \(vcpu.thread)"
      }
      if vcpu.switches != slot.switches || vcpu.missedSwitches != slot.missed_switches
        || vcpu.missedWakings != slot.missed_wakings || vcpu.features != slot.features
        || vcpu.runDelayNanoseconds != (slot.run_delay_ns == 0 ? nil : slot.run_delay_ns - slot.first_run_delay_ns)
      {
        return "scheduling of thread \(vcpu.thread)"
      }
      if let open = vcpu.accounts.first(where: { $0.open != 0 }), slot.in_exit == 0 || open.reason != slot.reason {
        return "open exit of thread \(vcpu.thread)"
      }
    }
    return seen == slots.count ? nil : "\(slots.count - seen) threads are missing"
  }
}

extension Expected.Row {
  init(_ account: ExitAccount) {
    self.init(
      finished: account.finished, unpaired: account.unpaired, total: account.totalNanoseconds,
      least: account.minNanoseconds, greatest: account.maxNanoseconds, buckets: account.histogram.counts)
  }
}
