import CKvmtax

/// What an exit was about (`struct kt_key`, BPF/include/record.h).
public struct Key: Hashable, Sendable {
  /// kvm_exit's `isa`.
  public var isa: UInt8
  /// kvm_exit's `exit_reason`.
  public var reason: UInt32
  /// `enum kt_key_kind`: what the subject is.
  public var kind: UInt8
  /// MSR, port, page, vector…; nil: not seen.
  public var subject: UInt64?
  /// `enum kt_trait`.
  public var traits: UInt32
  /// Bytes accessed; 0: not known or none.
  public var size: UInt8
  /// KVM_EXIT_…; nil: it stayed in the kernel.
  public var userspace: UInt8?

  /// Copies a key.
  public init(_ key: kt_key) {
    isa = key.isa
    reason = key.reason
    kind = key.kind
    subject = key.subject == UInt64.max ? nil : key.subject
    traits = key.traits
    size = key.size
    userspace = key.userspace == 0 ? nil : key.userspace - 1
  }
}

/// Exits of one key: a count and ns per state.
public struct KeyAccount: Equatable, Sendable {
  /// What they were about.
  public var key: Key
  /// Exits followed by an entry.
  public var finished: UInt64 = 0
  /// Their time in ns.
  public var totalNanoseconds: UInt64 = 0
  /// The longest one in ns.
  public var maxNanoseconds: UInt64 = 0
  /// Their ns per state.
  public var states = StateTimes()

  /// Copies a row.
  public init(_ row: UnsafePointer<kt_key_row>) {
    key = Key(row.pointee.key)
    finished = row.pointee.finished
    totalNanoseconds = row.pointee.total_ns
    maxNanoseconds = row.pointee.max_ns
    states = StateTimes(copying: kt_key_row_state_ns(row))
  }

  /// Adds another account of the same key.
  public mutating func add(_ other: KeyAccount) {
    finished &+= other.finished
    totalNanoseconds &+= other.totalNanoseconds
    maxNanoseconds = max(maxNanoseconds, other.maxNanoseconds)
    states.add(other.states)
  }
}
