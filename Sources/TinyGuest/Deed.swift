/// A thing that the guest does and counts, in the order in which it does them. The numbers are those of
/// `KT_GUEST_…` in tinyguest.h.
public enum Deed: Int, CaseIterable, Sendable {
  /// CPUID, leaf 0. Handled in the kernel.
  case cpuid
  /// One byte to port 0x3f8. Comes to user space.
  case portOut
  /// One byte from port 0x3fd. Comes to user space.
  case portIn
  /// Four bytes to an address without memory behind it. Comes to user space.
  case mmioWrite
  /// Four bytes from an address without memory behind it. Comes to user space.
  case mmioRead
  /// RDMSR of IA32_PAT. Handled in the kernel.
  case rdmsr
  /// WRMSR of IA32_PAT with its value at reset. Handled in the kernel.
  case wrmsr
  /// KVM_HC_VAPIC_POLL_IRQ, by VMCALL or VMMCALL as the CPU's vendor has it. Handled in the kernel.
  case hypercall
  /// PAUSE. Whether each exits, few (through a filter that looks for loops) or none, is the CPU's and KVM's affair.
  case pause
  /// One byte from port 0x501, answered after the thread has spun for a known CPU time.
  case portInSpin
  /// One byte from port 0x502, answered after the thread has slept for a known time.
  case portInSleep
  /// Spins by RDTSC for a known time, without exits of its own.
  case rdtscSpin
  /// The first write to a page that neither guest nor host has touched before.
  case touch
  /// The same, of a page that a thread of the host's provides, through userfaultfd, after a known time.
  case touchDelayed
  /// WRMSR of IA32_TSC_DEADLINE, far ahead: the timer never fires. Handled in the kernel, on a fast path where KVM has one.
  case arm
  /// A timer by IA32_TSC_DEADLINE, and HLT until it fires.
  case deadline
  /// A one-shot timer by the APIC's initial count, and HLT until it fires.
  case oneshot
  /// A tick of a periodic APIC timer, while the guest spins without exits of its own.
  case periodic
  /// An interrupt to the other virtual CPU of the pair, after the other's to this one; the waiting is HLT.
  case ipi
  /// HLT. Comes to user space, because the VM has no interrupt controller; the guest is resumed at once. With an
  /// interrupt controller HLT waits in the kernel, and is done by those deeds only that wait for an interrupt.
  case halt

  /// The name in options and in JSON.
  public var name: String {
    switch self {
    case .cpuid: "cpuid"
    case .portOut: "out"
    case .portIn: "in"
    case .mmioWrite: "mmio-write"
    case .mmioRead: "mmio-read"
    case .rdmsr: "rdmsr"
    case .wrmsr: "wrmsr"
    case .hypercall: "hypercall"
    case .pause: "pause"
    case .portInSpin: "in-spin"
    case .portInSleep: "in-sleep"
    case .rdtscSpin: "rdtsc-spin"
    case .touch: "touch"
    case .touchDelayed: "touch-delayed"
    case .arm: "arm"
    case .deadline: "deadline"
    case .oneshot: "oneshot"
    case .periodic: "periodic"
    case .ipi: "ipi"
    case .halt: "hlt"
    }
  }

  /// Whether the VM gets an interrupt controller for it (KVM_CREATE_IRQCHIP).
  public var needsIrqchip: Bool {
    switch self {
    case .arm, .deadline, .oneshot, .periodic, .ipi: true
    default: false
    }
  }

  /// How often it is done in so many laps; nil where that depends on when interrupts come.
  func count(inLaps laps: Int, of workload: Workload) -> Int? {
    let times = workload.count(self)
    guard self == .halt else { return laps * times }
    // The first one, which says "ready", belongs to no lap.
    return workload.needsIrqchip ? nil : 1 + laps * (times - 1)
  }
}
