import Attribution
import Files
import Foundation
import Import
import TestSupport
import Testing

/// What the samples' records say when they are counted in the plainest way, record by record and without a machine.
@Suite struct SampleStatesTests {
  /// One thread's sums.
  struct Sums {
    /// Off CPU, from switch to switch.
    var off: UInt64 = 0
    /// Of it, while the thread could have run.
    var preempted: UInt64 = 0
    /// From the wake-up on.
    var latency: UInt64 = 0
    /// In the outermost of the host's handlers.
    var interrupts: UInt64 = 0
    /// From an entry to what comes first: a handler, a switch, the exit.
    var guest: UInt64 = 0
    var timerVector: UInt64?
    fileprivate var wentOut: (time: UInt64, state: UInt64)?
    fileprivate var cameIn: UInt64 = 0
    fileprivate var woken: UInt64?
    fileprivate var handlers: [UInt64] = []
    fileprivate var entered: UInt64?
    fileprivate var left: UInt64?

    fileprivate mutating func leaveGuest(_ time: UInt64) {
      if let entered { guest += time - entered }
      entered = nil
    }

    fileprivate mutating func comeIn(_ time: UInt64) {
      if let out = wentOut {
        off += time - out.time
        if out.state & 0xff == 0 {
          preempted += time - out.time
        } else if let woken, woken >= out.time {
          latency += time - woken
        } else if let woken, woken >= max(cameIn, left ?? 0) {
          latency += time - out.time
        }
      }
      wentOut = nil
      cameIn = time
    }
  }

  /// A record's fields by name.
  struct Fields {
    var record: TracepointRecord
    var event: EventText
    subscript(name: String) -> UInt64 { event.fields.first { $0.name == name }.map { record[$0] } ?? 0 }
  }

  private func records(_ sample: String) throws -> [Fields] {
    let file = try SampleTraces.traceDat(sample)
    let events = Dictionary(file.events.map { ($0.id, $0) }, uniquingKeysWith: { first, _ in first })
    return file.records(0..<file.recordCount).compactMap { record in
      events[record.id].map { Fields(record: record, event: $0) }
    }
  }

  private func sums(_ sample: String) throws -> [UInt32: Sums] {
    var sums: [UInt32: Sums] = [:]
    for fields in try records(sample) {
      let (time, thread) = (fields.record.nanoseconds, fields.record.thread)
      if fields.event.name == "kvm_entry" || fields.event.name == "kvm_exit" { sums[thread] = sums[thread] ?? Sums() }
      switch fields.event.name {
      case "kvm_entry":
        sums[thread]?.entered = time
        sums[thread]?.left = nil
      case "kvm_exit":
        sums[thread]?.leaveGuest(time)
        sums[thread]?.left = time
      case "kvm_msr" where fields["ecx"] == 0x832 && fields["write"] == 1:
        sums[thread]?.timerVector = fields["data"] & 0xff
      case "sched_switch":
        let (out, into) = (UInt32(fields["prev_pid"]), UInt32(fields["next_pid"]))
        sums[out]?.leaveGuest(time)
        sums[out]?.wentOut = (time, fields["prev_state"])
        sums[into]?.comeIn(time)
      case "sched_waking": sums[UInt32(fields["pid"])]?.woken = time
      case let name where fields.event.system == "irq_vectors" && name.hasSuffix("_entry"):
        sums[thread]?.leaveGuest(time)
        sums[thread]?.handlers.append(time)
      case let name where fields.event.system == "irq_vectors" && name.hasSuffix("_exit"):
        if let start = sums[thread]?.handlers.popLast(), sums[thread]?.handlers.isEmpty == true {
          sums[thread]?.interrupts += time - start
        }
      default: break
      }
    }
    return sums
  }

  @Test(.needsTool("trace-cmd"), arguments: ["svm-interrupts.dat", "svm-qemu-guest.dat"])
  func timeOffCpuAndInHandlersIsTheRecords(sample: String) throws {
    let evidence = try importTrace(try MappedFile(path: Samples.path(sample)))
    let sums = try sums(sample)
    #expect(Set(evidence.ledger.vcpus.map(\.tid)) == Set(sums.keys) && sums.count == 2)
    for vcpu in evidence.ledger.vcpus {
      let expected = try #require(sums[vcpu.tid])
      let states = vcpu.states
      let off: [State] = [.preempted, .haltWait, .wakeLatency, .qemuBlocked, .kernelBlocked, .stopped]
      #expect(off.reduce(0) { $0 + states[$1] } == expected.off)
      #expect(states[.preempted] == expected.preempted)
      #expect(states[.wakeLatency] == expected.latency)
      #expect(states[.hostInterrupt] == expected.interrupts)
      #expect(states[.guest] == expected.guest)
      #expect(states.total == vcpu.wallNanoseconds)
      #expect(vcpu.missedSwitches == 0)
      // a guest that shuts down takes its vector back
      #expect(expected.timerVector == UInt64(vcpu.timerVector ?? 0))
      #expect(vcpu.features.contains([.switches, .wakings, .wakeup, .fpu, .userspaceExit]))
      #expect(vcpu.features.contains(.interrupts) == (sample == "svm-interrupts.dat"))
    }
  }

  /// Subject and direction of an exit.
  struct Access: Hashable {
    var kind: Key.Kind
    var subject: UInt64?
    var isWrite: Bool
  }

  @Test(.needsTool("trace-cmd"), arguments: Samples.names(".dat")) func keysAreWhatTheRecordsName(sample: String) throws
  {
    var expected: [Access: UInt64] = [:]
    var open: [UInt32: Access] = [:]
    for fields in try records(sample) {
      let thread = fields.record.thread
      switch fields.event.name {
      case "kvm_exit":
        let info = fields["info1"]
        open[thread] =
          switch (fields["isa"], fields["exit_reason"]) {
          case (1, 10), (2, 0x72): Access(kind: .cpuid, subject: nil, isWrite: false)
          case (1, 31), (1, 32), (2, 0x7c): Access(kind: .msr, subject: nil, isWrite: false)
          case (1, 30): Access(kind: .port, subject: info >> 16 & 0xffff, isWrite: info & 8 == 0)
          case (2, 0x7b): Access(kind: .port, subject: info >> 16 & 0xffff, isWrite: info & 1 == 0)
          default: nil
          }
      case "kvm_msr" where open[thread]?.kind == .msr:
        open[thread] = Access(kind: .msr, subject: fields["ecx"], isWrite: fields["write"] != 0)
      case "kvm_cpuid" where open[thread]?.kind == .cpuid: open[thread]?.subject = fields["function"]
      case "kvm_entry":
        if let access = open.removeValue(forKey: thread) { expected[access, default: 0] += 1 }
      default: break
      }
    }
    var found: [Access: UInt64] = [:]
    for vm in try importTrace(try MappedFile(path: Samples.path(sample))).ledger.vms {
      #expect(vm.overflowKeys == 0)
      for account in vm.keys where [.cpuid, .msr, .port].contains(account.key.kind) {
        let access = Access(
          kind: account.key.kind, subject: account.key.subject, isWrite: account.key.traits.contains(.write))
        found[access, default: 0] += account.finished
      }
    }
    #expect(found == expected)
    #expect(Set(expected.keys.map(\.kind)) == [.cpuid, .msr, .port])
  }
}
