import CKvmtax

extension kt_key {
  /// The key as three words: equal when the words are.
  public var words: SIMD3<UInt64> {
    withUnsafeBytes(of: self) {
      SIMD3(
        $0.loadUnaligned(as: UInt64.self), $0.loadUnaligned(fromByteOffset: 8, as: UInt64.self),
        $0.loadUnaligned(fromByteOffset: 16, as: UInt64.self))
    }
  }
}

extension kt_key_row {
  /// Adds another row of the same key.
  public mutating func add(_ other: UnsafePointer<kt_key_row>) {
    finished &+= other.pointee.finished
    total_ns &+= other.pointee.total_ns
    max_ns = max(max_ns, other.pointee.max_ns)
    withUnsafeMutablePointer(to: &self) { row in
      let states = kt_key_row_mutable_state_ns(row)!
      for state in 0..<Int(KT_STATES.rawValue) { states[state] &+= kt_key_row_state_ns(other)![state] }
    }
  }

  /// The order in which keys are listed: by exit, then by what it was about.
  public func isBefore(_ other: kt_key_row) -> Bool {
    let (one, two) = (key, other.key)
    if one.isa != two.isa { return one.isa < two.isa }
    if one.reason != two.reason { return one.reason < two.reason }
    if one.kind != two.kind { return one.kind < two.kind }
    if one.subject != two.subject { return one.subject < two.subject }
    if one.traits != two.traits { return one.traits < two.traits }
    return (one.size, one.userspace, one.reserved) < (two.size, two.userspace, two.reserved)
  }
}

/// Sums rows of threads by VM and key.
public struct KeySums {
  private struct Name: Hashable {
    var vm: Int
    var words: SIMD3<UInt64>
  }

  private var rows: [kt_key_row] = []
  private var vms: [Int] = []
  private var index: [Name: Int] = [:]

  /// No row yet.
  public init() {}

  /// Adds a row of one of the VM's threads.
  public mutating func add(_ row: kt_key_row, to vm: Int) {
    let name = Name(vm: vm, words: row.key.words)
    guard let known = index[name] else {
      index[name] = rows.count
      rows.append(row)
      vms.append(vm)
      return
    }
    withUnsafePointer(to: row) { rows[known].add($0) }
  }

  /// The accounts of each VM, in their order.
  public func accounts() -> [Int: [KeyAccount]] {
    var accounts: [Int: [KeyAccount]] = [:]
    for place in rows.indices.sorted(by: { rows[$0].isBefore(rows[$1]) }) {
      accounts[vms[place], default: []].append(withUnsafePointer(to: rows[place]) { KeyAccount($0) })
    }
    return accounts
  }
}
