import Glibc

/// What was measured of one kind of occurrence: sums over all of them. What does not apply is nil.
public struct Measured: Sendable, Equatable {
  /// Occurrences.
  public var count = 0
  /// CPU time of the thread, ns of CLOCK_THREAD_CPUTIME_ID.
  public var cpuNanoseconds: Int?
  /// ns of CLOCK_MONOTONIC; of what the guest measured, ns by the frequency of its TSC.
  public var wallNanoseconds: Int?
  /// Cycles of the guest's TSC.
  public var tscCycles: UInt64?
  /// CLOCK_MONOTONIC at the beginning and the end, ns, of what happens once.
  public var startNanoseconds: Int?
  /// See `startNanoseconds`.
  public var endNanoseconds: Int?
  /// The thread that did it.
  public var tid: Int32?
}

/// Exits that the guest's instructions cause, computed from what the guest counted. Interrupts of the host, interrupt
/// windows and preemption timers come on top.
public struct ExitCounts: Sendable, Equatable {
  /// CPUID.
  public var cpuid = 0
  /// HLT, whatever for.
  public var hlt = 0
  /// IN and OUT. SVM has one reason for both, and so has VMX.
  public var io = 0
  /// RDMSR. SVM has one reason for this and WRMSR.
  public var msrRead = 0
  /// WRMSR: those asked for, the APIC's set-up, arming timers, sending and ending interrupts. With APICv or AVIC the
  /// CPU does some of it without an exit.
  public var msrWrite = 0
  /// Accesses without memory behind them. On SVM nested page faults, as `page` is; on VMX EPT misconfigurations but for
  /// the first.
  public var mmio = 0
  /// First accesses to pages, the guest's own included.
  public var page = 0
  /// VMCALL or VMMCALL.
  public var hypercall = 0
  /// PAUSE: an upper bound; see `Deed.pause`.
  public var pause = 0

  /// Names in JSON, in order.
  var named: [(String, Int)] {
    [
      ("cpuid", cpuid), ("hlt", hlt), ("io", io), ("msr_read", msrRead), ("msr_write", msrWrite), ("mmio", mmio),
      ("page", page), ("hypercall", hypercall), ("pause", pause),
    ]
  }
}

/// What one virtual CPU did, as counted by its guest code, and what came to user space.
public struct VCPUResult: Sendable {
  /// Index within the VM.
  public let index: Int
  /// The thread that ran it.
  public let tid: Int32
  /// How often the guest did each thing, counted by the guest itself; of HLT, every one.
  public let did: [Deed: Int]
  /// Pages of the guest's own (code, counters; with interrupts also stack and tables) that faulted once each before it
  /// was ready: nested page faults beyond those of `did`.
  public let ownPages: Int
  /// Returns of KVM_RUN by reason: io, mmio, hlt, intr.
  public let kvmRun: [String: Int]
  /// Exits that its instructions caused.
  public let exits: ExitCounts
  /// Interrupts that the guest handled.
  public let interrupts: Int
  /// What lasted a known time, by name.
  public let measured: [String: Measured]
  /// CLOCK_MONOTONIC in ns when the virtual CPU went to work, after it was ready.
  public let startNanoseconds: Int
  /// CLOCK_MONOTONIC in ns when its work was done.
  public let endNanoseconds: Int
  /// KVM's own statistics of the virtual CPU: cumulative values by KVM's names. Nil before Linux 5.14.
  public let statistics: [String: UInt64]?
}

/// What a tiny VM did.
public struct Result: Sendable {
  /// In the order of the virtual CPUs.
  public let vcpus: [VCPUResult]
  /// Frequency of the guest's TSC in kHz, where KVM tells it.
  public let tscKHz: Int?
  /// Whether the VM had an interrupt controller in the kernel.
  public let hasIrqchip: Bool
  /// What lasted a known time and concerns the whole VM, by name.
  public let measured: [String: Measured]
  /// Where KVM tells nothing about a virtual CPU: its sums over the VM, from debugfs, if that is mounted.
  public let statistics: [String: UInt64]?

  /// How often all virtual CPUs together did a thing.
  public func did(_ deed: Deed) -> Int { vcpus.reduce(0) { $0 + ($1.did[deed] ?? 0) } }
}

/// Why a tiny VM could not run: one line, with the remedy where there is one.
public struct TinyGuestError: Error, CustomStringConvertible, Sendable {
  /// The line.
  public let description: String

  init(_ description: String) { self.description = description }

  /// A system call that failed.
  init(_ call: String, errno code: Int32) { self.init("\(call): \(String(cString: strerror(code)))") }
}
