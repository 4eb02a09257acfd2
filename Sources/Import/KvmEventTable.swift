import Attribution
import CKvmtax
import Formats

/// The layouts of one file's events by the number in `common_type`.
struct KvmEventTable: Sendable {
  private var layouts: [KvmEventLayout] = []
  /// The events' names and numbers, beside `layouts`.
  private var names: [(system: String, name: String, id: Int)] = []
  /// Layouts by common_type, plus one; 0 for an event that does not matter. 64 KiB: one load per record.
  private(set) var slotOfType = [UInt8](repeating: 0, count: 1 << 16)
  /// What could not be used, a sentence each.
  private(set) var notes: [String] = []
  /// kvm_exit's format, for its names.
  private(set) var exitFormat: EventFormat?

  /// Whether exits can be read at all.
  var hasExits: Bool { has(KT_EXIT) }

  /// Takes an event's format text: events that do not matter are ignored, one that cannot be used is noted.
  mutating func add(text: UnsafeRawBufferPointer, system: String) {
    guard layouts.count < 64 else { return }
    // most texts are of no interest, and of no consequence if they are broken
    let head = UnsafeRawBufferPointer(rebasing: text.prefix(64))
    guard head.starts(with: "name: ".utf8), let end = head.firstIndex(of: UInt8(ascii: "\n")),
      let source = KvmEventSource.of(system: system, name: String(decoding: head[6..<end], as: UTF8.self))
    else { return }
    do throws(FormatError) {
      let format = try EventFormat(text: text, system: system)
      let layout = try KvmEventLayout(format, source)
      guard format.id < slotOfType.count, slotOfType[format.id] == 0 else { return }
      layouts.append(layout)
      names.append((system, format.name, format.id))
      slotOfType[format.id] = UInt8(layouts.count)
      if format.name == "kvm_exit" { exitFormat = format }
    } catch {
      notes.append(error.found)
    }
  }

  /// The layout of the event with that number.
  func slot(id: UInt64) -> UInt8 { id < UInt64(slotOfType.count) ? slotOfType[Int(id)] : 0 }

  /// Whether events of that kind are read.
  func has(_ kind: kt_kind) -> Bool {
    names.indices.contains { slotOfType[names[$0].id] != 0 && layouts[$0].kind == UInt8(kind.rawValue) }
  }

  /// Whether a slot is that of exits.
  func isExit(slot: UInt8) -> Bool { slot != 0 && layouts[Int(slot) - 1].kind == UInt8(KT_EXIT.rawValue) }

  /// Whether a slot is that of exits or entries: without them nothing can be paired.
  func isPaired(slot: UInt8) -> Bool { slot != 0 && layouts[Int(slot) - 1].kind <= UInt8(KT_ENTRY.rawValue) }

  /// The events in a record; `slot` other than 0.
  @inline(__always) func read(
    _ record: UnsafeRawBufferPointer, slot: UInt8, nanoseconds: UInt64, tid: UInt32, tgid: UInt32, cpu: UInt32,
    into first: inout kt_event, and second: inout kt_event
  ) -> KvmEventLayout.Yield {
    layouts[Int(slot) - 1].read(
      record, nanoseconds: nanoseconds, tid: tid, tgid: tgid, cpu: cpu, into: &first, and: &second)
  }

  // MARK: Choice

  /// Which states the chosen events can tell apart.
  var features: StateFeatures {
    var features: StateFeatures = []
    let feature: [(kt_kind, StateFeatures)] = [
      (KT_VCPU_WAKEUP, .wakeup), (KT_USERSPACE_EXIT, .userspaceExit), (KT_FPU_LOAD, .fpu), (KT_SCHED_OUT, .switches),
      (KT_WAKING, .wakings), (KT_IRQ_ENTRY, .interrupts),
    ]
    for (kind, feature) in feature where has(kind) { features.insert(feature) }
    return features
  }

  /// The table for those of its events that were recorded, less those that make no sense alone and those of features that
  /// turned out to be missing.
  func chosen(without missing: StateFeatures = [], isRecorded: (UInt64) -> Bool = { _ in true }) -> KvmEventTable {
    var table = self
    for (_, _, id) in names where !isRecorded(UInt64(id)) { table.slotOfType[id] = 0 }
    if missing.contains(.switches) { table.drop("sched", "sched_switch") }
    if missing.contains(.interrupts) { table.drop { $0.system.hasPrefix("irq") } }
    if table.slot("sched", "sched_waking") != 0 { table.drop("sched", "sched_wakeup") }
    // a wake-up ends a sleep, and no sleep is seen
    if table.slot("sched", "sched_switch") == 0 || missing.contains(.wakings) {
      table.drop("sched", "sched_waking")
      table.drop("sched", "sched_wakeup")
    }
    table.dropHalves()
    return table
  }

  /// An end without its beginning would be taken for another's.
  private mutating func dropHalves() {
    let table = self
    drop { event in
      guard event.system.hasPrefix("irq") else { return false }
      let name = event.name
      if name.hasSuffix("_entry") { return table.slot(event.system, "\(name.dropLast(6))_exit") == 0 }
      if name.hasSuffix("_exit") { return table.slot(event.system, "\(name.dropLast(5))_entry") == 0 }
      return false
    }
  }

  private func slot(_ system: String, _ name: String) -> UInt8 {
    names.first { $0.system == system && $0.name == name }.map { slotOfType[$0.id] } ?? 0
  }

  private mutating func drop(_ system: String, _ name: String) { drop { $0.system == system && $0.name == name } }

  private mutating func drop(where isDropped: ((system: String, name: String, id: Int)) -> Bool) {
    for name in names where isDropped(name) { slotOfType[name.id] = 0 }
  }
}
