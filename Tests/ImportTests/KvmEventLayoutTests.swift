import CKvmtax
import Formats
import TestSupport
import Testing

@testable import Import

@Suite struct KvmEventLayoutTests {
  /// A record with every named field set, by the layout that the format itself gives.
  private func record(_ format: EventFormat, _ values: [String: UInt64]) throws -> [UInt8] {
    var bytes = [UInt8](repeating: 0xee, count: format.fields.map { $0.offset + $0.size }.max() ?? 0)
    for (name, value) in values {
      guard let field = format.field(named: name) else { continue }
      for byte in 0..<field.size { bytes[field.offset + byte] = UInt8(truncatingIfNeeded: value >> UInt64(8 * byte)) }
    }
    return bytes
  }

  private func event(_ format: EventFormat, _ record: [UInt8]) throws -> kt_event? {
    let events = try events(format, record)
    #expect((events?.count ?? 1) == 1)
    return events?.first
  }

  /// Nil for a damaged record.
  private func events(_ format: EventFormat, _ record: [UInt8]) throws -> [kt_event]? {
    let layout = try #require(try KvmEventLayout(format))
    var (first, second) = (kt_event(), kt_event())
    let yield = record.withUnsafeBytes {
      layout.read($0, nanoseconds: 1, tid: 2, tgid: 3, cpu: 4, into: &first, and: &second)
    }
    return switch yield {
    case .damaged: nil
    case .nothing: []
    case .one: [first]
    case .two: [first, second]
    }
  }

  @Test(arguments: FormatText.kvmExits.map(\.kernel)) func anExitIsReadByNameInEveryKernelsLayout(kernel: String) throws
  {
    let fields = try #require(FormatText.kvmExits.first { $0.kernel == kernel }).fields
    for order in [fields, fields.reversed()] {
      let format = try EventFormat(text: FormatText.make(name: "kvm_exit", id: 7, fields: order), system: "kvm")
      let bytes = try record(format, ["exit_reason": 0x8000_0021, "esr_ec": 0x24, "isa": 1, "vcpu_id": 5])
      let event = try #require(try event(format, bytes))
      #expect(event.kind == UInt8(KT_EXIT.rawValue))
      let names = fields.map(\.name)
      #expect(event.reason == (names.contains("exit_reason") ? 0x8000_0021 : 0x24))
      #expect(event.isa == (names.contains("isa") ? 1 : UInt8(KT_ISA_NONE.rawValue)))
      #expect(event.vcpu == (names.contains("vcpu_id") ? 5 : UInt16(KT_NO_VCPU)))
      #expect(try self.event(format, bytes.dropLast(bytes.count - 9)) == nil)
    }
  }

  @Test func anExitWithoutAReasonIsUnusable() throws {
    let text = FormatText.make(name: "kvm_exit", id: 7, fields: [("u32", "isa", 4)])
    #expect(throws: FormatError.self) { try KvmEventLayout(try EventFormat(text: text, system: "kvm")) }
  }

  @Test func otherEventsAndOtherSystemsMoveNothing() throws {
    let text = FormatText.make(name: "kvm_exit", id: 7, fields: [("u32", "exit_reason", 4)])
    #expect(try KvmEventLayout(try EventFormat(text: text, system: "other")) == nil)
    let other = FormatText.make(name: "kvm_pio", id: 8, fields: [("u32", "rw", 4)])
    #expect(try KvmEventLayout(try EventFormat(text: other, system: "kvm")) == nil)
  }

  @Test func aWakeupTellsHowLongAndWhetherItSlept() throws {
    let text = FormatText.make(
      name: "kvm_vcpu_wakeup", id: 9, fields: [("bool", "waited", 1), ("__u64", "ns", 8), ("bool", "valid", 1)])
    let format = try EventFormat(text: text, system: "kvm")
    let wakeup = try #require(try event(format, try record(format, ["ns": 1 << 40, "waited": 1])))
    #expect(wakeup.arg == 1 << 40 && wakeup.reason == 1 && wakeup.kind == UInt8(KT_VCPU_WAKEUP.rawValue))
  }

  @Test func aVcpuNumberBeyondSixteenBitsIsNoVcpu() throws {
    let text = FormatText.make(name: "kvm_entry", id: 9, fields: [("u32", "vcpu_id", 4)])
    let format = try EventFormat(text: text, system: "kvm")
    let entry = try #require(try event(format, try record(format, ["vcpu_id": 0x1_0003])))
    #expect(entry.vcpu == UInt16(KT_NO_VCPU))
  }

  /// An event of each kind: its format, the record's values, and what it must become.
  struct Case: Sendable {
    var event: String
    var fields: [FormatText.Field]
    var values: [String: UInt64] = [:]
    /// kind, arg, reason, extra and tid of each event.
    var expected: [Expected]
  }
  struct Expected: Equatable, Sendable {
    var kind: kt_kind
    var arg: UInt64 = 0
    var reason: UInt32 = 0
    var extra: UInt32 = 0
    var tid: UInt32 = 2
    var tgid: UInt32 = 3
  }

  static let cases: [Case] = {
    let msr: [FormatText.Field] = [
      ("unsigned", "write", 4), ("u32", "ecx", 4), ("u64", "data", 8), ("u8", "exception", 1),
    ]
    let apic: [FormatText.Field] = [("unsigned int", "rw", 4), ("unsigned int", "reg", 4), ("u64", "val", 8)]
    let written = KT_VECTOR_WRITTEN.rawValue
    let pid: [FormatText.Field] = [("pid_t", "pid", 4)]
    return [
      Case(
        event: "kvm:kvm_userspace_exit", fields: [("__u32", "reason", 4), ("int", "errno", 4)],
        values: ["reason": 2, "errno": 0xffff_fffc],
        expected: [Expected(kind: KT_USERSPACE_EXIT, reason: 2, extra: 0xffff_fffc)]),
      Case(
        event: "kvm:kvm_fpu", fields: [("u32", "load", 4)], values: ["load": 1], expected: [Expected(kind: KT_FPU_LOAD)]
      ),
      Case(event: "kvm:kvm_fpu", fields: [("u32", "load", 4)], values: ["load": 0], expected: []),
      Case(
        event: "kvm:kvm_msr", fields: msr, values: ["write": 0, "ecx": 0x832, "data": 0xec],
        expected: [Expected(kind: KT_MSR, arg: 0x832)]),
      Case(
        event: "kvm:kvm_msr", fields: msr, values: ["write": 1, "ecx": 0x6e0, "data": 0xec],
        expected: [Expected(kind: KT_MSR, arg: 0x6e0, reason: 1)]),
      Case(
        event: "kvm:kvm_msr", fields: msr, values: ["write": 1, "ecx": 0x832, "data": 0x4_00ec],
        expected: [
          Expected(kind: KT_MSR, arg: 0x832, reason: 1), Expected(kind: KT_TIMER_VECTOR, reason: 0xec, extra: written),
        ]),
      Case(
        event: "kvm:kvm_apic", fields: apic, values: ["rw": 1, "reg": 0x320, "val": 0x2_00ef],
        expected: [Expected(kind: KT_TIMER_VECTOR, reason: 0xef, extra: written)]),
      Case(event: "kvm:kvm_apic", fields: apic, values: ["rw": 0, "reg": 0x320, "val": 0xef], expected: []),
      Case(event: "kvm:kvm_apic", fields: apic, values: ["rw": 1, "reg": 0x380, "val": 0xef], expected: []),
      Case(
        event: "kvm:kvm_mmio", fields: [("u32", "type", 4), ("u32", "len", 4), ("u64", "gpa", 8), ("u64", "val", 8)],
        values: ["type": 2, "len": 4, "gpa": 0xfeb0_0010, "val": 9],
        expected: [Expected(kind: KT_MMIO, arg: 0xfeb0_0010, reason: 2, extra: 4)]),
      Case(
        event: "kvm:kvm_fast_mmio", fields: [("u64", "gpa", 8)], values: ["gpa": 0xfeb0_0000],
        expected: [Expected(kind: KT_FAST_MMIO, arg: 0xfeb0_0000)]),
      Case(
        event: "kvm:kvm_cpuid", fields: [("unsigned int", "function", 4), ("unsigned long", "rax", 8)],
        values: ["function": 0x4000_0001], expected: [Expected(kind: KT_CPUID, arg: 0x4000_0001)]),
      Case(
        event: "kvm:kvm_hypercall", fields: [("unsigned long", "nr", 8)], values: ["nr": 10],
        expected: [Expected(kind: KT_HYPERCALL, arg: 10)]),
      Case(
        event: "kvm:kvm_hv_hypercall", fields: [("__u16", "rep_cnt", 2), ("__u16", "code", 2)], values: ["code": 0x5c],
        expected: [Expected(kind: KT_HYPERCALL, arg: 0x5c, reason: 1)]),
      Case(
        event: "kvm:kvm_inj_virq", fields: [("unsigned int", "irq", 4)], values: ["irq": 0xec],
        expected: [Expected(kind: KT_INJECT, reason: 0xec)]),
      Case(
        event: "kvm:kvm_inj_virq", fields: [("unsigned int", "vector", 4), ("bool", "soft", 1)],
        values: ["vector": 0x31],
        expected: [Expected(kind: KT_INJECT, reason: 0x31)]),
      Case(
        event: "kvm:kvm_apic_accept_irq", fields: [("__u32", "apicid", 4), ("__u16", "dm", 2), ("__u8", "vec", 1)],
        values: ["vec": 0xfd], expected: [Expected(kind: KT_ACCEPT_IRQ, reason: 0xfd)]),
      Case(
        event: "kvm:kvm_vmgexit_enter", fields: [("unsigned int", "vcpu_id", 4), ("u64", "exit_reason", 8)],
        values: ["exit_reason": 0x8000_0001], expected: [Expected(kind: KT_VMGEXIT, arg: 0x8000_0001)]),
      Case(
        event: "kvm:kvm_nested_vmexit", fields: [("u32", "exit_code", 4)], expected: [Expected(kind: KT_NESTED_EXIT)]),
      Case(
        event: "kvm:kvm_nested_vmexit_inject", fields: [("u32", "exit_code", 4)],
        expected: [Expected(kind: KT_NESTED_INJECT)]),
      Case(
        event: "sched:sched_switch",
        fields: [("pid_t", "prev_pid", 4), ("long", "prev_state", 8), ("pid_t", "next_pid", 4)],
        values: ["prev_pid": 2, "prev_state": 0x102, "next_pid": 77],
        expected: [
          Expected(kind: KT_SCHED_OUT, reason: 0x102), Expected(kind: KT_SCHED_IN, tid: 77, tgid: 0),
        ]),
      Case(
        event: "sched:sched_waking", fields: pid, values: ["pid": 9],
        expected: [Expected(kind: KT_WAKING, tid: 9, tgid: 0)]),
      Case(
        event: "sched:sched_wakeup", fields: pid, values: ["pid": 9],
        expected: [Expected(kind: KT_WAKING, tid: 9, tgid: 0)]),
      Case(
        event: "sched:sched_process_exit", fields: pid, values: ["pid": 2], expected: [Expected(kind: KT_THREAD_END)]),
    ]
      + [
        ("irq_vectors:local_timer_entry", "vector", KT_HOST_IRQ_TIMER),
        ("irq_vectors:reschedule_entry", "vector", KT_HOST_IRQ_IPI),
        ("irq_vectors:call_function_single_entry", "vector", KT_HOST_IRQ_IPI),
        ("irq_vectors:irq_work_entry", "vector", KT_HOST_IRQ_IPI),
        ("irq_vectors:thermal_apic_entry", "vector", KT_HOST_IRQ_OTHER),
        ("irq:irq_handler_entry", "irq", KT_HOST_IRQ_DEVICE),
        ("irq:softirq_entry", "vec", KT_HOST_IRQ_SOFT),
      ].map { event, field, which in
        Case(
          event: event, fields: [("int", field, 4)], values: [field: 236],
          expected: [Expected(kind: KT_IRQ_ENTRY, arg: 236, reason: which.rawValue)])
      }
      + ["irq_vectors:local_timer_exit", "irq:irq_handler_exit", "irq:softirq_exit"].map {
        Case(event: $0, fields: [("int", "vector", 4)], expected: [Expected(kind: KT_IRQ_EXIT)])
      }
  }()

  @Test(arguments: cases.indices) func anEventBecomesWhatTheMachineKnows(index: Int) throws {
    let test = KvmEventLayoutTests.cases[index]
    let names = test.event.split(separator: ":").map(String.init)
    let text = FormatText.make(name: names[1], id: 9, fields: test.fields)
    let format = try EventFormat(text: text, system: names[0])
    let bytes = try record(format, test.values)
    let noise = [UInt8](repeating: 0xee, count: 8)
    // as the record's end and with something behind it: both ways of reading
    for bytes in [bytes, bytes + noise] {
      let found = try #require(try events(format, bytes)).map {
        Expected(
          kind: kt_kind(UInt32($0.kind)), arg: $0.arg, reason: $0.reason, extra: $0.extra, tid: $0.tid, tgid: $0.tgid)
      }
      #expect(found == test.expected, "\(test.event)")
    }
  }

  @Test func anExitSaysItsDetailsAndBefore510ItsInterruptionInformationElsewhere() throws {
    let values: [String: UInt64] = ["guest_rip": 1 << 40, "info1": 5, "info2": 0x8000_00ec, "intr_info": 0x8000_0031]
    for (kernel, fields) in FormatText.kvmExits where kernel != "arm64" {
      let format = try EventFormat(text: FormatText.make(name: "kvm_exit", id: 7, fields: fields), system: "kvm")
      let exit = try #require(try event(format, try record(format, values)))
      #expect(exit.rip == 1 << 40 && exit.arg == 5 && exit.arg2 == 0x8000_00ec)
      #expect(exit.extra == (kernel.contains("5.2") ? 0x8000_00ec : 0x8000_0031), "\(kernel)")
    }
  }

  @Test func anEntrySaysWhetherItWantsAnExitAtOnce() throws {
    let fields: [FormatText.Field] = [
      ("unsigned int", "vcpu_id", 4), ("unsigned long", "rip", 8), ("bool", "immediate_exit", 1),
    ]
    let format = try EventFormat(text: FormatText.make(name: "kvm_entry", id: 7, fields: fields), system: "kvm")
    let entry = try #require(try event(format, try record(format, ["vcpu_id": 3, "immediate_exit": 1])))
    #expect(entry.vcpu == 3 && entry.reason == 1)
  }
}
