import CKvmtax

/// The finished exits of one key: their count and ns per state.
public struct KeyAccount: Equatable, Sendable {
  /// What the exits were about.
  public var key: Key
  /// Exits followed by an entry.
  public var finished: UInt64 = 0
  /// kvm_exit to kvm_entry, summed, in ns.
  public var totalNanoseconds: UInt64 = 0
  /// The longest one in ns.
  public var maxNanoseconds: UInt64 = 0
  /// Their ns per state; sums to `totalNanoseconds`.
  public var states = StateTimes()

  /// An empty account.
  public init(_ key: Key) { self.key = key }

  /// Copies a row.
  public init(_ row: UnsafePointer<kt_key_row>) {
    key = Key(row.pointee.key)
    finished = row.pointee.finished
    totalNanoseconds = row.pointee.total_ns
    maxNanoseconds = row.pointee.max_ns
    states = withUnsafeBytes(of: row.pointee.state_ns) {
      StateTimes(copying: $0.baseAddress!.assumingMemoryBound(to: UInt64.self))
    }
  }

  /// Adds another account of the same key, wrapping: a damaged input must not trap.
  public mutating func add(_ other: KeyAccount) {
    finished &+= other.finished
    totalNanoseconds &+= other.totalNanoseconds
    maxNanoseconds = max(maxNanoseconds, other.maxNanoseconds)
    states.add(other.states)
  }
}
