import Bpf
import Formats
import Glibc
import TinyGuest

/// Finds out what this host allows, before anything is written.
struct Preflight {
  /// In the order in which they are looked at; a blocked one makes the later ones moot, so the list may end there.
  private(set) var checks: [Check] = []
  /// The tracepoints' layouts, once they are known to be usable.
  private(set) var layouts: Layouts?
  /// Whether kernel and modules have the types that the tp_btf programs need.
  private(set) var canUseTyped = false

  /// Whether a recording can start.
  var isBlocked: Bool { checks.contains { $0.outcome == .blocked } }

  /// What the checks are for.
  enum Purpose {
    /// To show everything: `kvmtax doctor`.
    case doctor
    /// To record, by this way of attaching or (nil) by the best one. Ways that it will not go are not tried: each try
    /// loads all programs.
    case recording(AttachPath?)

    var triesTyped: Bool { if case .recording(.tp) = self { false } else { true } }
    func triesClassic(typedFits: Bool) -> Bool { if case .recording = self { !typedFits } else { true } }
  }

  /// Looks at everything that matters for the purpose. `proxy` accepts a kernel whose kvm_exit never fires.
  init(proxy: Bool, for purpose: Purpose) {
    checks.append(Preflight.capabilities())
    if let container = Preflight.container() { checks.append(container) }
    guard !isBlocked else { return }
    if let lockdown = Preflight.lockdown() { checks.append(lockdown) }
    guard let tracefs = Tracefs.find() else {
      checks.append(
        .blocked("tracefs", "is not mounted or not readable", "mount -t tracefs tracefs /sys/kernel/tracing"))
      return
    }
    checks.append(.fine("tracefs", tracefs.path))
    checks.append(Preflight.kvm())
    guard !isBlocked else { return }
    do {
      let found = try Layouts(tracefs: tracefs, proxy: proxy)
      layouts = found
      checks.append(.fine("tracepoints", found.summary))
    } catch {
      checks.append(.blocked("tracepoints", error.found, error.remedy))
      return
    }
    if let layouts {
      if purpose.triesTyped {
        let typed = TypedPrograms.check(layouts: layouts)
        canUseTyped = typed.outcome == .fine
        checks.append(typed)
      }
      if purpose.triesClassic(typedFits: canUseTyped) { checks.append(Preflight.loading(layouts, proxy: proxy)) }
      if case .doctor = purpose { checks.append(Preflight.kicks(layouts)) }
    }
    guard !isBlocked else { return }
    checks.append(Preflight.firing(proxy: proxy))
  }

  /// The classic programs must load everywhere.
  private static func loading(_ layouts: Layouts, proxy: Bool) -> Check {
    do {
      try Session.try(attach: .tp, layouts: layouts, proxy: proxy)
      return .fine("bpf", "programs load and attach")
    } catch {
      let obstacle = Obstacle(bpf: error)
      return .blocked("bpf", obstacle.found, obstacle.remedy)
    }
  }

  /// Whether a write that an ioeventfd takes is known as a virtio device's kick.
  private static func kicks(_ layouts: Layouts) -> Check {
    let plan = ProgramPlan(attach: .tp, layouts: layouts, proxy: false, tier: .lite, keys: true)
    if plan.keepsIoeventfds { return .fine("virtio kicks", "by KVM's own table of ioeventfds") }
    return .limited(
      "virtio kicks", "only those that kvm_fast_mmio tells: BTF does not describe KVM's table of ioeventfds",
      "others count as MMIO.fast or PIO.emul")
  }

  private static func capabilities() -> Check {
    let effective = statusMask("CapEff:")
    func has(_ bit: UInt64) -> Bool { effective >> bit & 1 == 1 }
    // CAP_SYS_ADMIN 21; CAP_PERFMON 38 and CAP_BPF 39 since 5.8; reading other users' /proc needs CAP_SYS_PTRACE 19
    if has(21) { return .fine("capabilities", "CAP_SYS_ADMIN") }
    if has(38) && has(39) { return .fine("capabilities", "CAP_BPF and CAP_PERFMON") }
    return .blocked("capabilities", "neither CAP_SYS_ADMIN nor CAP_BPF with CAP_PERFMON", "run it with sudo")
  }

  /// In a PID namespace of our own, the ids that programs see are not those of our /proc: names would be wrong.
  private static func container() -> Check? {
    // include/linux/proc_ns.h: PROC_PID_INIT_INO
    guard let namespace = linkTarget("/proc/self/ns/pid"), namespace != "pid:[4026531836]" else { return nil }
    return .blocked(
      "container", "this is a container, whose process ids are not the host's",
      "run it on the host itself, or in a container with the host's PID namespace (--pid=host)")
  }

  private static func lockdown() -> Check? {
    guard let text = readProcText("/sys/kernel/security/lockdown") else { return nil }
    guard let start = text.firstIndex(of: "["), let end = text.firstIndex(of: "]"), start < end else { return nil }
    let mode = String(text[text.index(after: start)..<end])
    guard mode == "confidentiality" else { return .fine("lockdown", mode) }
    return .limited(
      "lockdown", "confidentiality: BPF may be refused to read kernel memory",
      "if loading fails, boot without lockdown=confidentiality")
  }

  private static var modules: [String] {
    ["kvm_intel", "kvm_amd", "kvm_pvm"].filter { access("/sys/module/\($0)", F_OK) == 0 }
  }

  private static func kvm() -> Check {
    if access("/dev/kvm", F_OK) == 0 {
      return .fine("kvm", modules.isEmpty ? "/dev/kvm" : modules.joined(separator: ", "))
    }
    return .blocked(
      "kvm", "there is no /dev/kvm",
      "load kvm_intel or kvm_amd (modprobe), after enabling VT-x or AMD-V in the firmware; in a VM: nested virtualization"
    )
  }

  /// Runs a guest of a few exits under programs that only count, to see whether the tracepoints really fire.
  private static func firing(proxy: Bool) -> Check {
    let fired: FiringProbe
    do { fired = try FiringProbe.run() } catch { return .blocked("kvm_exit", error.found, error.remedy) }
    guard fired.guestRan else {
      return .limited(
        "kvm_exit", "not tried: \(fired.guestProblem)", "if a recording shows no exits, see whether VMs run here at all"
      )
    }
    if fired.exits > 0 { return .fine("kvm_exit", "fires (\(fired.exits) exits of a test guest)") }
    guard fired.userspaceExits > 0 else {
      return .blocked(
        "kvm_exit", "did not fire for a test guest, nor did any other kvm event", "see dmesg for kvm's messages")
    }
    let module = modules.isEmpty ? "" : ", module \(modules.joined(separator: ", "))"
    let found =
      "this kernel never fires it (\(kernelRelease())\(module))\n"
      + "The tracepoint exists, but the run path has no call to it: a trace would show 0 exits."
    if proxy { return .limited("kvm_exit", found, "the proxy pair is recorded instead") }
    return .blocked("kvm_exit", found, "record on a host that runs its VMs with kvm_intel or kvm_amd")
  }
}

/// The running kernel's release, as uname gives it.
func kernelRelease() -> String { readProcText("/proc/sys/kernel/osrelease", limit: 256) ?? "unknown" }
