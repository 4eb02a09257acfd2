import Foundation
import TestSupport

/// One page of ftrace's ring buffer, written record by record.
struct RingBufferPage {
  static let size = 4096
  private(set) var data: [UInt8] = []
  let time: UInt64
  /// The flags of the commit count, bits 30 and 31, and what follows the data if bit 30 is set.
  var flags: UInt32 = 0
  var lost: UInt64 = 0
  /// Overrides the number of bytes in use.
  var claimed: UInt32?

  init(time: UInt64) { self.time = time }

  var bytes: [UInt8] {
    var page = little(time) + little(UInt64((claimed ?? UInt32(data.count)) | flags)) + data
    if flags & 1 << 30 != 0 { page += little(lost) }
    return page + [UInt8](repeating: 0, count: RingBufferPage.size - page.count)
  }

  var room: Int { RingBufferPage.size - 16 - data.count }

  mutating func word(_ typeLength: UInt32, _ delta: UInt32) { data += little(typeLength | delta << 5) }

  /// A record of kvm_exit or kvm_entry in the layout of `TraceDatBuilder.formats`.
  mutating func exit(_ delta: UInt32, tid: UInt32, reason: UInt32, isLong: Bool = false) {
    let body = little(UInt16(101)) + [0, 0] + little(tid) + little(reason) + little(UInt32(1))
    append(delta, body, isLong: isLong)
  }

  mutating func entry(_ delta: UInt32, tid: UInt32) {
    append(delta, little(UInt16(102)) + [0, 0] + little(tid) + little(UInt32(0)), isLong: false)
  }

  /// A record of the layouts in `TraceDatBuilder.addScheduler`.
  mutating func exchange(_ delta: UInt32, from: UInt32, state: UInt32, to: UInt32) {
    append(
      delta, little(UInt16(201)) + [0, 0] + little(from) + little(from) + little(state) + little(to), isLong: false)
  }

  mutating func waking(_ delta: UInt32, by: UInt32, of tid: UInt32) {
    append(delta, little(UInt16(202)) + [0, 0] + little(by) + little(tid), isLong: false)
  }

  mutating func irq(_ delta: UInt32, tid: UInt32, isEntry: Bool) {
    append(delta, little(UInt16(isEntry ? 203 : 204)) + [0, 0] + little(tid) + little(UInt32(236)), isLong: false)
  }

  mutating func ended(_ delta: UInt32, tid: UInt32) {
    append(delta, little(UInt16(205)) + [0, 0] + little(tid) + little(tid), isLong: false)
  }

  mutating func wakeup(_ delta: UInt32, tid: UInt32, nanoseconds: UInt32, waited: Bool) {
    append(
      delta, little(UInt16(103)) + [0, 0] + little(tid) + little(nanoseconds) + little(UInt32(waited ? 1 : 0)),
      isLong: false)
  }

  mutating func load(_ delta: UInt32, tid: UInt32) {
    append(delta, little(UInt16(104)) + [0, 0] + little(tid) + little(UInt32(1)), isLong: false)
  }

  mutating func userspaceExit(_ delta: UInt32, tid: UInt32) {
    append(delta, little(UInt16(105)) + [0, 0] + little(tid) + little(UInt32(2)) + little(UInt32(0)), isLong: false)
  }

  /// Anything else.
  mutating func other(_ delta: UInt32) {
    append(delta, little(UInt16(999)) + [UInt8](repeating: 0xff, count: 14), isLong: false)
  }

  mutating func append(_ bytes: [UInt8]) { data += bytes }

  private mutating func append(_ delta: UInt32, _ body: [UInt8], isLong: Bool) {
    if isLong {
      word(0, delta)
      data += little(UInt32(body.count + 4))
    } else {
      word(UInt32(body.count / 4), delta)
    }
    data += body
  }
}

func little(_ value: some FixedWidthInteger) -> [UInt8] { withUnsafeBytes(of: value.littleEndian) { Array($0) } }

/// A trace.dat of version 6, uncompressed, out of given pages.
struct TraceDatBuilder {
  /// Per CPU.
  var cpus: [[[UInt8]]]
  var options: [(id: UInt16, content: [UInt8])] = []
  var names = "7 CPU 0/KVM\n"
  /// By name.
  var formats = [
    FormatText.make(name: "kvm_exit", id: 101, fields: [("u32", "exit_reason", 4), ("u32", "isa", 4)]),
    FormatText.make(name: "kvm_entry", id: 102, fields: [("u32", "vcpu_id", 4)]),
  ]

  /// Of other systems.
  var otherFormats: [(system: String, texts: [String])] = []

  init(_ pages: [[RingBufferPage]]) { cpus = pages.map { $0.map(\.bytes) } }

  /// The formats of the scheduler, of interrupts and of the other events of kvm that `RingBufferPage` writes.
  mutating func addScheduler() {
    otherFormats = [
      (
        "sched",
        [
          FormatText.make(
            name: "sched_switch", id: 201,
            fields: [("pid_t", "prev_pid", 4), ("int", "prev_state", 4), ("pid_t", "next_pid", 4)]),
          FormatText.make(name: "sched_waking", id: 202, fields: [("pid_t", "pid", 4)]),
          FormatText.make(name: "sched_process_exit", id: 205, fields: [("pid_t", "pid", 4)]),
        ]
      ),
      (
        "irq_vectors",
        [
          FormatText.make(name: "local_timer_entry", id: 203, fields: [("int", "vector", 4)]),
          FormatText.make(name: "local_timer_exit", id: 204, fields: [("int", "vector", 4)]),
        ]
      ),
    ]
    formats += [
      FormatText.make(name: "kvm_vcpu_wakeup", id: 103, fields: [("u32", "ns", 4), ("u32", "waited", 4)]),
      FormatText.make(name: "kvm_fpu", id: 104, fields: [("u32", "load", 4)]),
      FormatText.make(name: "kvm_userspace_exit", id: 105, fields: [("u32", "reason", 4), ("int", "errno", 4)]),
    ]
  }

  private static let pageText = """
    \tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;
    \tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;
    \tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;
    \tfield: char data;\toffset:16;\tsize:4080;\tsigned:1;

    """

  /// The file, and where its first page begins.
  var file: (bytes: [UInt8], dataOffset: Int) {
    func sized(_ text: String) -> [UInt8] { little(UInt64(text.utf8.count)) + Array(text.utf8) }
    var head: [UInt8] = [0x17, 0x08, 0x44] + Array("tracing6\0".utf8) + [0, 8] + little(UInt32(4096))
    head += Array("header_page\0".utf8) + sized(TraceDatBuilder.pageText) + Array("header_event\0".utf8) + sized("")
    let systems = [("kvm", formats)] + otherFormats
    head += little(UInt32(0)) + little(UInt32(systems.count))
    for (system, texts) in systems {
      head += Array(system.utf8) + [0] + little(UInt32(texts.count))
      for text in texts { head += sized(text) }
    }
    head += little(UInt32(0)) + little(UInt32(0)) + sized(names) + little(UInt32(cpus.count))
    head += Array("options  \0".utf8)
    for option in options { head += little(option.id) + little(UInt32(option.content.count)) + option.content }
    head += little(UInt16(0)) + Array("flyrecord\0".utf8)
    var offset = (head.count + cpus.count * 16 + 4095) / 4096 * 4096
    let dataOffset = offset
    for pages in cpus {
      head += little(UInt64(offset)) + little(UInt64(pages.count * 4096))
      offset += pages.count * 4096
    }
    head += [UInt8](repeating: 0, count: dataOffset - head.count)
    return (head + cpus.joined().joined(), dataOffset)
  }
}
