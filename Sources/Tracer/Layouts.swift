import Bpf
import CKvmtax
import Formats

/// What cannot work, in a line, and its remedy.
struct Obstacle: Error {
  var found: String
  var remedy: String
}

/// The tracepoints of this kernel as their format texts describe them, and which fields the programs read.
struct Layouts {
  /// The events this recording uses, by name: "kvm/kvm_exit".
  private(set) var formats: [String: EventFormat] = [:]
  /// Their texts as the kernel gives them, for the trace file.
  private(set) var texts: [(system: String, event: String, text: [UInt8])] = []
  /// Whether kvm_vcpu_wakeup is there.
  var hasWakeup: Bool { formats["kvm/kvm_vcpu_wakeup"] != nil }
  /// Whether kvm_userspace_exit is there.
  var hasUserspaceExit: Bool { formats["kvm/kvm_userspace_exit"] != nil }

  /// Reads the formats; throws where an event without which nothing can be recorded is absent.
  init(tracefs: Tracefs, proxy: Bool) throws(Obstacle) {
    let needed = proxy ? ["kvm_userspace_exit", "kvm_fpu"] : ["kvm_exit", "kvm_entry"]
    for event in ["kvm_exit", "kvm_entry", "kvm_userspace_exit", "kvm_vcpu_wakeup", "kvm_fpu"] {
      let isNeeded = needed.contains(event)
      guard let text = tracefs.format("kvm", event) else {
        if !isNeeded { continue }
        throw Obstacle(
          found: "this kernel has no tracepoint kvm:\(event)",
          remedy: "load kvm_intel or kvm_amd; a kernel built without CONFIG_TRACEPOINTS cannot be traced")
      }
      do {
        formats["kvm/\(event)"] = try EventFormat(kernelText: text, system: "kvm")
        texts.append(("kvm", event, text))
      } catch {
        guard isNeeded else { continue }
        throw Obstacle(
          found: "the format of kvm:\(event) cannot be read: \(error.found)",
          remedy: "report it with the content of events/kvm/\(event)/format")
      }
    }
    for (event, field) in [("kvm_exit", "exit_reason")] where !proxy {
      guard
        formats["kvm/\(event)"]?.field(named: field) != nil || formats["kvm/\(event)"]?.field(named: "esr_ec") != nil
      else {
        throw Obstacle(
          found: "kvm:\(event) has no field \(field) in this kernel",
          remedy: "report it with the content of events/kvm/\(event)/format")
      }
    }
  }

  /// One line for `doctor`.
  var summary: String {
    var text = "kvm_exit, kvm_entry"
    if hasUserspaceExit { text += ", kvm_userspace_exit" }
    if hasWakeup { text += ", kvm_vcpu_wakeup" }
    return text
  }

  /// Where this kernel has a field of the classic programs; nil where it has none.
  func placement(of field: kt_field) -> FieldPlacement? {
    let names: (event: String, fields: [String])
    switch field {
    case KT_FIELD_EXIT_REASON: names = ("kvm/kvm_exit", ["exit_reason", "esr_ec"])
    case KT_FIELD_EXIT_ISA: names = ("kvm/kvm_exit", ["isa"])
    case KT_FIELD_ENTRY_VCPU: names = ("kvm/kvm_entry", ["vcpu_id"])
    case KT_FIELD_WAKEUP_NS: names = ("kvm/kvm_vcpu_wakeup", ["ns"])
    case KT_FIELD_WAKEUP_WAITED: names = ("kvm/kvm_vcpu_wakeup", ["waited"])
    case KT_FIELD_USERSPACE_REASON: names = ("kvm/kvm_userspace_exit", ["reason"])
    case KT_FIELD_FPU_LOAD: names = ("kvm/kvm_fpu", ["load"])
    default: return nil
    }
    for name in names.fields {
      if let layout = formats[names.event]?.field(named: name), [1, 2, 4, 8].contains(layout.size), layout.offset >= 0 {
        return FieldPlacement(offset: UInt32(layout.offset), size: UInt32(layout.size))
      }
    }
    return nil
  }
}
