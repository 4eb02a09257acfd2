import Bpf
import BpfImages
import TinyGuest

/// Runs a guest of a few exits under programs that only count, to learn whether this kernel fires its tracepoints at all.
/// A kernel can have the tracepoint and no call to it in its run path; a recording there would show nothing.
struct FiringProbe {
  var exits: UInt64 = 0
  var userspaceExits: UInt64 = 0
  var guestRan = false
  /// Why the guest did not run.
  var guestProblem = ""

  static func run() throws(Obstacle) -> FiringProbe {
    do {
      return try measured()
    } catch {
      throw Obstacle(bpf: error)
    }
  }

  private static func measured() throws(BpfError) -> FiringProbe {
    let object = try BpfObject(base64: kvmObject, name: "kvmtax_probe")
    let counting = ["count_exit", "count_userspace_exit"]
    for program in object.programs { try object.setAutoload(program, counting.contains(program)) }
    try object.load()
    var links = BpfLinks()
    for program in counting { links.add(try object.attach(program)) }
    var result = FiringProbe()
    do {
      _ = try TinyGuest.probe()
      result.guestRan = true
    } catch {
      result.guestProblem = "\(error)"
    }
    links.detach()
    let globals = try object.globals()
    result.exits = try globals.pointer(to: "fired_exits", as: UInt64.self).pointee
    result.userspaceExits = try globals.pointer(to: "fired_userspace_exits", as: UInt64.self).pointee
    return result
  }
}

extension Obstacle: CustomStringConvertible {
  var description: String { found }

  /// A refusal by the kernel, with what is known to help.
  init(bpf error: BpfError) {
    found = error.description
    remedy =
      switch error.code {
      case 1:
        "run it with sudo; a kernel in lockdown, a container or kernel.unprivileged_bpf_disabled can refuse it too"
      case 7, 12: "free some memory, or raise the limit on locked memory (ulimit -l unlimited)"
      default: "report it with the lines above and the kernel's release"
      }
  }
}
