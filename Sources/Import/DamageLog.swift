import Attribution

/// Damaged places, at most so many by name: a hostile file can have millions.
struct DamageLog {
  private(set) var places: [Damage] = []
  private(set) var unnamed: UInt64 = 0
  private static let limit = 100

  mutating func add(offset: UInt64, length: UInt64 = 0, _ found: @autoclosure () -> String) {
    guard places.count < DamageLog.limit else {
      unnamed &+= 1
      return
    }
    places.append(Damage(offset: offset, length: length, found: found()))
  }

  /// Puts the places into file order and into the trust.
  func report(in trust: inout Trust) {
    trust.damage += places.sorted { $0.offset < $1.offset }
    if unnamed > 0 { trust.notes.append("\(grouped(unnamed)) more damaged places are not listed.") }
  }
}
