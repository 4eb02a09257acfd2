import Glibc
import Testing

/// What a test needs of the machine it runs on. Where it is missing, the test is skipped and says why; on a CI machine
/// (CI=true) that could have it, the test fails instead, so that skips do not rot.
public enum Requirement: Sendable {
  /// Effective user root.
  case root
  /// Root with the capabilities to load BPF programs, on a kernel that has BPF.
  case bpf
  /// A `/dev/kvm` that opens.
  case kvm
  /// A CPU that traps hypercalls.
  case hypercalls
  /// An installed program.
  case tool(String)
  /// Linux of at least this version.
  case kernel(Int, Int)

  /// What stands in the way, and whether it is the machine's nature or somebody's omission.
  enum Blocker: Equatable {
    /// Nobody can expect it here.
    case machine(String)
    /// The machine could: CI must not pass over it.
    case omission(String)

    var reason: String {
      switch self {
      case .machine(let reason), .omission(let reason): reason
      }
    }
  }

  var blocker: Blocker? {
    switch self {
    case .root: geteuid() == 0 ? nil : .machine("needs root")
    case .bpf: bpfBlocker
    case .kvm: kvmBlocker
    // KVM's emulator rewrites VMCALL and begins it anew, for ever.
    case .hypercalls:
      access("/sys/module/kvm_pvm", F_OK) == 0
        ? .machine("needs a CPU that traps hypercalls: KVM_PVM runs the guest in KVM's emulator") : nil
    case .tool(let name): toolPath(name) == nil ? .omission("needs the program \(name)") : nil
    case .kernel(let major, let minor):
      kernelVersion < (major, minor) ? .machine("needs Linux \(major).\(minor)") : nil
    }
  }

  private var bpfBlocker: Blocker? {
    if let blocker = Requirement.root.blocker { return blocker }
    guard access("/proc/sys/kernel/unprivileged_bpf_disabled", F_OK) == 0 else {
      return .machine("needs a kernel with the bpf system call")
    }
    // CAP_SYS_ADMIN (21), or CAP_BPF (39) and CAP_PERFMON (38)
    let capabilities = effectiveCapabilities
    let isAble = capabilities & 1 << 21 != 0 || capabilities >> 38 & 3 == 3
    return isAble ? nil : .machine("needs CAP_SYS_ADMIN, or CAP_BPF and CAP_PERFMON")
  }

  private var kvmBlocker: Blocker? {
    guard access("/dev/kvm", F_OK) == 0 else { return .machine("needs /dev/kvm") }
    return access("/dev/kvm", R_OK | W_OK) == 0 ? nil : .omission("needs access to /dev/kvm")
  }

  /// Whether the test runs; throws, which fails it, where CI would skip what the machine can do.
  func isMet(inCI: Bool = isContinuousIntegration) throws -> Bool {
    guard let blocker else { return true }
    if case .omission(let reason) = blocker, inCI { throw MissingRequirement(reason: reason) }
    return false
  }
}

/// A CI machine that lacks what it could have.
struct MissingRequirement: Error, CustomStringConvertible {
  var reason: String
  var description: String { "\(reason), and CI=true allows no skip" }
}

extension Trait where Self == ConditionTrait {
  /// Skips the test, with the reason, where the machine lacks something; fails it where CI=true and it could have it.
  public static func needs(_ requirement: Requirement) -> Self {
    .enabled(if: try requirement.isMet(), Comment(rawValue: requirement.blocker?.reason ?? "met"))
  }

  /// Root.
  public static var needsRoot: Self { needs(.root) }
  /// Loading BPF programs.
  public static var needsBpf: Self { needs(.bpf) }
  /// Opening /dev/kvm.
  public static var needsKvm: Self { needs(.kvm) }
  /// A CPU that traps hypercalls.
  public static var needsHypercalls: Self { needs(.hypercalls) }
  /// A program in PATH.
  public static func needsTool(_ name: String) -> Self { needs(.tool(name)) }
  /// A kernel of at least this version.
  public static func needsKernel(_ major: Int, _ minor: Int) -> Self { needs(.kernel(major, minor)) }
}

/// Where an installed program lies: in PATH, or where administrators' programs are.
public func toolPath(_ name: String) -> String? {
  let search = getenv("PATH").map { String(cString: $0) } ?? "/usr/bin:/bin"
  return (search.split(separator: ":").map(String.init) + ["/usr/sbin", "/sbin"])
    .map { "\($0)/\(name)" }
    .first { access($0, X_OK) == 0 }
}

/// The running kernel's version: 6.1.192 is (6, 1).
public var kernelVersion: (Int, Int) {
  var names = utsname()
  uname(&names)
  let release = withUnsafeBytes(of: names.release) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
  let numbers = release.split { !$0.isASCII || !$0.isNumber }.prefix(2).map { Int($0) ?? 0 }
  return (numbers.first ?? 0, numbers.count > 1 ? numbers[1] : 0)
}

private var isContinuousIntegration: Bool { getenv("CI").map { String(cString: $0) } == "true" }

private var effectiveCapabilities: UInt64 {
  let file = open("/proc/self/status", O_RDONLY | O_CLOEXEC)
  guard file >= 0 else { return 0 }
  defer { close(file) }
  var buffer = [UInt8](repeating: 0, count: 8192)
  let length = max(0, read(file, &buffer, buffer.count))
  let text = String(decoding: buffer[..<length], as: UTF8.self)
  guard let line = text.split(separator: "\n").first(where: { $0.hasPrefix("CapEff:") }) else { return 0 }
  return UInt64(line.dropFirst("CapEff:".count).drop { $0 == "\t" || $0 == " " }, radix: 16) ?? 0
}
