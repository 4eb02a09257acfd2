import CKvmtax

/// What an exit was about (`struct kt_key`, BPF/include/record.h): facts only. Its class is `classify(_:)` of this alone.
public struct Key: Hashable, Sendable {
  /// kvm_exit's `isa`: 1 VMX, 2 SVM; anything else is kept and shown by number.
  public var isa: UInt8
  /// kvm_exit's `exit_reason`, all 32 bits.
  public var reason: UInt32
  /// What `subject` is.
  public var kind: Kind
  /// Index, port, page address, offset, vector, leaf or number, as `kind` says; nil: not seen.
  public var subject: UInt64?
  /// What else is known of the exit.
  public var traits: Traits
  /// Bytes accessed; 0: not known, or none.
  public var size: UInt8
  /// `KVM_EXIT_...` (linux/kvm.h) of the last return to user space; nil: the exit stayed in the kernel.
  public var userspace: Int?

  /// What the subject of a key is (`enum kt_key_kind`).
  public enum Kind: UInt8, CaseIterable, Sendable {
    /// The reason says all there is.
    case none
    /// Model-specific register: index.
    case msr
    /// I/O port.
    case port
    /// Guest-physical address of a device's page.
    case mmio
    /// Offset in the local APIC's page.
    case apic
    /// Fault on memory; no subject.
    case fault
    /// Vector of an exception, of the host's interrupt, or of what is injected.
    case vector
    /// The host's IRQ number.
    case irq
    /// CPUID leaf.
    case cpuid
    /// Control register.
    case cr
    /// Debug register.
    case dr
    /// KVM's hypercall number.
    case hypercall
    /// Hyper-V's call code.
    case hypervHypercall
    /// Exit code of a protected guest.
    case vmgexit
    /// A kind that this version does not know; its subject has no name.
    case unknown = 255

    /// Its one name in JSON.
    public var name: String { self == .hypervHypercall ? "hyperv_hypercall" : "\(self)" }
  }

  /// Facts about an exit that its class needs (`enum kt_trait`).
  public struct Traits: OptionSet, Hashable, Sendable {
    /// Bits of `enum kt_trait`; those that this version does not know are kept.
    public let rawValue: UInt32

    /// Any bits.
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    init(_ trait: kt_trait) { rawValue = trait.rawValue }

    /// A write, of whatever the subject is.
    public static let write = Traits(KT_WRITE)
    /// A fault on a page that is mapped.
    public static let present = Traits(KT_PRESENT)
    /// A fault of fetching instructions.
    public static let fetch = Traits(KT_FETCH)
    /// A fault in which the kernel slept for more than 50 us.
    public static let blocked = Traits(KT_BLOCKED)
    /// An interrupt exit that ended with an injection.
    public static let injected = Traits(KT_INJECTED)
    /// The same, of the guest's timer vector.
    public static let injectedTimer = Traits(KT_INJECTED_TIMER)
    /// An interrupt exit with the host's timer interrupt.
    public static let hostTimer = Traits(KT_HOST_TIMER)
    /// With an IPI between the host's CPUs.
    public static let hostIpi = Traits(KT_HOST_IPI)
    /// With a device's interrupt.
    public static let hostDevice = Traits(KT_HOST_DEVICE)
    /// The entry before asked for an immediate exit.
    public static let immediate = Traits(KT_IMMEDIATE)
    /// An ioeventfd took the access.
    public static let inIoeventfd = Traits(KT_IN_IOEVENTFD)
    /// The guest's guest exited.
    public static let fromL2 = Traits(KT_FROM_L2)
    /// And the guest has to handle it.
    public static let reflected = Traits(KT_REFLECTED)
    /// Registers are encrypted: the subject cannot be known.
    public static let hidden = Traits(KT_HIDDEN)
    /// VMX: bit 26 of the exit reason.
    public static let busLock = Traits(KT_BUS_LOCK)
    /// VMX: bit 31 of the exit reason.
    public static let entryFailed = Traits(KT_ENTRY_FAILED)
    /// An interrupt exit while the guest's timer vector was known.
    public static let timerKnown = Traits(KT_TIMER_KNOWN)

    private static let words: [(Traits, String)] = [
      (.write, "write"), (.present, "present"), (.fetch, "fetch"), (.blocked, "blocked"), (.injected, "injected"),
      (.injectedTimer, "injected_timer"), (.hostTimer, "host_timer"), (.hostIpi, "host_ipi"),
      (.hostDevice, "host_device"), (.immediate, "immediate"), (.inIoeventfd, "in_ioeventfd"), (.fromL2, "from_l2"),
      (.reflected, "reflected"), (.hidden, "hidden"), (.busLock, "bus_lock"), (.entryFailed, "entry_failed"),
      (.timerKnown, "timer_known"),
    ]

    /// Their names in JSON, in the order of the bits; bits that this version does not know have none.
    public var names: [String] { Traits.words.filter { contains($0.0) }.map(\.1) }
  }

  /// The key of an exit's record.
  public init(_ record: kt_exit_record) {
    var key = kt_key()
    (key.subject, key.reason, key.traits) = (record.subject, record.reason, record.traits)
    (key.isa, key.kind, key.size, key.userspace) = (record.isa, record.key_kind, record.size, record.userspace)
    self.init(key)
  }

  /// A key of its parts.
  public init(
    isa: UInt8, reason: UInt32, kind: Kind = .none, subject: UInt64? = nil, traits: Traits = [], size: UInt8 = 0,
    userspace: Int? = nil
  ) {
    self.isa = isa
    self.reason = reason
    self.kind = kind
    self.subject = subject
    self.traits = traits
    self.size = size
    self.userspace = userspace
  }

  /// Copies a record, whatever it holds.
  public init(_ record: kt_key) {
    self.init(
      isa: record.isa, reason: record.reason, kind: Kind(rawValue: record.kind) ?? .unknown,
      subject: record.subject == UInt64(KT_NO_SUBJECT) ? nil : record.subject, traits: Traits(rawValue: record.traits),
      size: record.size, userspace: record.userspace == 0 ? nil : Int(record.userspace) - 1)
  }

  /// The key as a record.
  public var record: kt_key {
    kt_key(
      subject: subject ?? UInt64(KT_NO_SUBJECT), reason: reason, traits: traits.rawValue, isa: isa, kind: kind.rawValue,
      size: size, userspace: userspace.map { UInt8(min(max($0, 0), 254) + 1) } ?? 0, reserved: 0)
  }
}

extension Key: Comparable {
  /// By ISA, reason, kind, subject (those not seen last), traits, size and user space: reports list equal times so.
  public static func < (left: Key, right: Key) -> Bool {
    if left.isa != right.isa { return left.isa < right.isa }
    if left.reason != right.reason { return left.reason < right.reason }
    if left.kind != right.kind { return left.kind.rawValue < right.kind.rawValue }
    if left.subject != right.subject {
      guard let subject = left.subject else { return false }
      return right.subject.map { subject < $0 } ?? true
    }
    if left.traits != right.traits { return left.traits.rawValue < right.traits.rawValue }
    if left.size != right.size { return left.size < right.size }
    return (left.userspace ?? .min) < (right.userspace ?? .min)
  }
}
