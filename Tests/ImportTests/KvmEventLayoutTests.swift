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
}
