import Glibc

/// A thing that the guest does and counts, in the order in which it does them.
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
  /// The first write to a page that neither guest nor host has touched before.
  case touch
  /// HLT. Comes to user space, because the VM has no interrupt controller; the guest is resumed at once.
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
    case .touch: "touch"
    case .halt: "hlt"
    }
  }
}

/// What a tiny VM shall do: exactly so many of each thing on every virtual CPU.
public struct Workload: Sendable {
  /// How often each deed is done in a lap. A deed that is absent is not done, but for HLT: the first one says "ready",
  /// the last one ends the lap, so there are at least two in the first lap, and one less in each that follows.
  public var times: [Deed: Int]
  /// Virtual CPUs, each on a thread of its own.
  public var vcpus = 1
  /// How often the guest does it all.
  public var laps = 1
  /// Instead of a fixed number of laps: laps (or turns of `KVM_RUN`) begin until this time has passed.
  public var seconds: Double?
  /// KVM_RUN is called so often with `immediate_exit` set, after the laps: no guest code runs, but the kernel loads and
  /// saves the guest's state and fires `kvm_fpu` and `kvm_userspace_exit`.
  public var immediateExits = 0
  /// Turns of KVM_RUN with `immediate_exit` per second and virtual CPU; nil: as fast as it goes.
  public var immediateExitsPerSecond: Double?
  /// The VM is given up when it has not finished by then.
  public var timeLimitSeconds: Double = 60

  /// A workload of so many deeds on one virtual CPU.
  public init(_ times: [Deed: Int] = [:], vcpus: Int = 1, laps: Int = 1) {
    self.times = times
    self.vcpus = vcpus
    self.laps = laps
  }

  func count(_ deed: Deed) -> Int {
    deed == .halt ? max(2, times[.halt] ?? 2) : times[deed] ?? 0
  }

  /// Pages that one virtual CPU touches in all; with a time limit instead of laps, touching is not bounded.
  var freshPages: Int { count(.touch) * laps }

  func check() throws(TinyGuestError) {
    guard (1...Layout.mostVCPUs).contains(vcpus) else {
      throw TinyGuestError("a tiny VM has 1 to \(Layout.mostVCPUs) virtual CPUs, not \(vcpus)")
    }
    let most = 1_000_000_000
    for deed in Deed.allCases {
      let asked = times[deed] ?? 2
      guard asked >= (deed == .halt ? 2 : 0), asked <= most else {
        throw TinyGuestError(
          deed == .halt
            ? "a guest halts at least twice: when it is ready and when it is done (asked: \(asked))"
            : "\(deed.name): \(asked) is not between 0 and \(most)")
      }
    }
    guard (1...most).contains(laps), (0...most).contains(immediateExits) else {
      throw TinyGuestError("laps are 1 to \(most), immediate exits 0 to \(most)")
    }
    if seconds != nil, count(.touch) > 0 {
      throw TinyGuestError("fresh pages are a number, not a duration: give laps instead of seconds")
    }
  }
}

/// What one virtual CPU did, as counted by its guest code, and what came to user space.
public struct VCPUResult: Sendable {
  /// Index within the VM.
  public let index: Int
  /// The thread that ran it.
  public let tid: Int32
  /// How often the guest did each thing, counted by the guest itself.
  public let did: [Deed: Int]
  /// Pages of the guest's own (code, counters) that faulted once each before it was ready: nested page faults beyond
  /// those of `did`.
  public let ownPages: Int
  /// Returns of KVM_RUN by reason: io, mmio, hlt, intr.
  public let kvmRun: [String: Int]
}

/// What a tiny VM did.
public struct Result: Sendable {
  /// In the order of the virtual CPUs.
  public let vcpus: [VCPUResult]

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
