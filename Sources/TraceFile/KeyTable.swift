import Attribution
import CKvmtax

/// Key rows by thread and key: open addressing over a flat array, bounded like `AccountTable`, and for its reasons.
struct KeyTable: ~Copyable {
  static let limit = 1 << 18

  private(set) var rows: UnsafeMutablePointer<kt_key_row>
  private(set) var count = 0
  private var capacity = 256
  /// Numbers plus one; 0 is free. A power of two, at most half full.
  private var index = [UInt32](repeating: 0, count: 1024)
  private let multiplier = UInt64.random(in: 0...UInt64.max) | 1
  /// Exits by thread that belong to no row: the recorder or this table had no room for their keys.
  private(set) var overflow: [UInt32: Overflow] = [:]

  struct Overflow: Equatable {
    var exits: UInt64 = 0
    var nanoseconds: UInt64 = 0
  }

  init() { rows = .allocate(capacity: capacity) }

  deinit { rows.deallocate() }

  /// Adds a finished exit to its key's row.
  @inline(__always) mutating func book(_ record: kt_exit_record) {
    var key = kt_key()
    key.subject = record.subject
    key.reason = record.reason
    key.traits = record.traits
    key.isa = record.isa
    key.kind = record.key_kind
    key.size = record.size
    key.userspace = record.userspace
    guard let number = row(thread: record.thread, key: key) else {
      overflow(thread: record.thread, exits: 1, nanoseconds: record.total_ns)
      return
    }
    let row = rows + number
    row.pointee.finished &+= 1
    row.pointee.total_ns &+= record.total_ns
    if record.total_ns > row.pointee.max_ns { row.pointee.max_ns = record.total_ns }
    record.add(to: kt_key_row_mutable_state_ns(row)!)
  }

  /// Takes a row's totals in place of earlier ones.
  mutating func take(_ row: kt_key_row) {
    guard let number = self.row(thread: row.thread, key: row.key) else {
      overflow(thread: row.thread, exits: row.finished, nanoseconds: row.total_ns)
      return
    }
    rows[number] = row
  }

  /// Takes what a snapshot says of exits without a key's row.
  mutating func takeOverflow(thread: UInt32, exits: UInt64, nanoseconds: UInt64) {
    guard overflow[thread] != nil || overflow.count < AccountTable.limit else { return }
    overflow[thread] = Overflow(exits: exits, nanoseconds: nanoseconds)
  }

  @inline(never) private mutating func overflow(thread: UInt32, exits: UInt64, nanoseconds: UInt64) {
    var sum = overflow[thread] ?? Overflow()
    guard sum != Overflow() || overflow.count < AccountTable.limit else { return }
    sum.exits &+= exits
    sum.nanoseconds &+= nanoseconds
    overflow[thread] = sum
  }

  // MARK: Finding

  /// The number of a row, a new one for a new key; nil when the table is full.
  @inline(__always) private mutating func row(thread: UInt32, key: kt_key) -> Int? {
    var key = key
    var place = hash(thread, key) & (index.count &- 1)
    while index[place] != 0 {
      let number = Int(index[place]) &- 1
      if rows[number].thread == thread, kt_key_equal(&rows[number].key, &key) != 0 { return number }
      place = (place &+ 1) & (index.count &- 1)
    }
    return addRow(thread, key, at: place)
  }

  @inline(never) private mutating func addRow(_ thread: UInt32, _ key: kt_key, at place: Int) -> Int? {
    guard count < KeyTable.limit else { return nil }
    if count == capacity {
      let larger = UnsafeMutablePointer<kt_key_row>.allocate(capacity: capacity * 2)
      larger.moveInitialize(from: rows, count: capacity)
      rows.deallocate()
      rows = larger
      capacity *= 2
    }
    let number = count
    (rows + number).initialize(to: kt_key_row())
    rows[number].thread = thread
    rows[number].key = key
    count &+= 1
    index[place] = UInt32(count)
    if count &* 2 > index.count { rebuild() }
    return number
  }

  @inline(__always) private func hash(_ thread: UInt32, _ key: kt_key) -> Int {
    let words = withUnsafeBytes(of: key) {
      (
        $0.loadUnaligned(as: UInt64.self), $0.loadUnaligned(fromByteOffset: 8, as: UInt64.self),
        $0.loadUnaligned(fromByteOffset: 16, as: UInt64.self)
      )
    }
    // each word is spread before the next one comes, so that none can be chosen to cancel another
    var value = (words.0 ^ UInt64(thread) << 32) &* multiplier
    value = (value ^ value >> 32 ^ words.1) &* multiplier
    value = (value ^ value >> 32 ^ words.2) &* multiplier
    return Int(truncatingIfNeeded: value >> 32)
  }

  private mutating func rebuild() {
    index = [UInt32](repeating: 0, count: index.count * 2)
    for number in 0..<count {
      var place = hash(rows[number].thread, rows[number].key) & (index.count &- 1)
      while index[place] != 0 { place = (place &+ 1) & (index.count &- 1) }
      index[place] = UInt32(number + 1)
    }
  }
}
