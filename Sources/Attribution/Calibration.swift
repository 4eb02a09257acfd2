/// A measured time in ns and the bounds between which its true value lies.
public struct Bounded: Equatable, Sendable {
  /// Not less than this.
  public var low: Double
  /// The best single value.
  public var mid: Double
  /// Not more than this.
  public var high: Double

  /// Three values, put in order around the middle one.
  public init(low: Double, mid: Double, high: Double) {
    self.low = min(low, mid)
    self.mid = mid
    self.high = max(high, mid)
  }

  /// Known exactly.
  public static let zero = Bounded(low: 0, mid: 0, high: 0)

  /// What both together are: each could be at its end when the other is.
  public static func + (first: Bounded, second: Bounded) -> Bounded {
    Bounded(low: first.low + second.low, mid: first.mid + second.mid, high: first.high + second.high)
  }

  /// One value for several measurements of the same thing: their mean, between the outermost bounds.
  static func merged(_ all: [Bounded]) -> Bounded? {
    guard let low = all.map(\.low).min(), let high = all.map(\.high).max() else { return nil }
    return Bounded(low: low, mid: all.reduce(0) { $0 + $1.mid } / Double(all.count), high: high)
  }
}

/// What `kvmtax calibrate` measured on a host (docs/calibration.md): the world switch, which no tracepoint sees, and the
/// tracer's own cost, per exit and by how far the exit goes.
public struct Calibration: Equatable, Sendable {
  /// How far an exit goes before the guest runs again.
  public enum Path: String, CaseIterable, Sendable {
    /// Handled before KVM's run loop is left.
    case fast
    /// Handled in the kernel.
    case kernel
    /// Handled in user space.
    case userspace
    /// The vCPU's thread slept in between.
    case switched

    /// Where its costs are taken from when it was not measured itself: the path that comes next to it.
    var substitute: Path? {
      switch self {
      case .fast, .userspace: .kernel
      case .kernel: nil
      case .switched: .userspace
      }
    }
  }

  /// How the tracer was attached, and what it kept.
  public struct Mode: Hashable, Sendable {
    /// "tp", "tp_btf".
    public var attach: String
    /// "full", "lite".
    public var tier: String
    /// Whether it kept an account per key.
    public var keys: Bool
    /// Whether it wrote a record per exit.
    public var records: Bool

    /// One way of recording.
    public init(attach: String, tier: String, keys: Bool, records: Bool) {
      self.attach = attach
      self.tier = tier
      self.keys = keys
      self.records = records
    }

    /// One word: "tp_btf+full+keys", "tp+lite+keys+records".
    public var name: String { "\(attach)+\(tier)\(keys ? "+keys" : "")\(records ? "+records" : "")" }

    /// Reads the word; nil when it is none.
    public init?(name: String) {
      let words = name.split(separator: "+").map(String.init)
      guard words.count >= 2 else { return nil }
      self.init(
        attach: words[0], tier: words[1], keys: words[2...].contains("keys"), records: words[2...].contains("records"))
      guard self.name == name else { return nil }
    }
  }

  /// What the tracer adds to an exit, ns per exit.
  public struct TracerCost: Equatable, Sendable {
    /// All of it: by how much the round trip grows.
    public var total: Bounded
    /// Between the two moments that are subtracted: counted as handling of the exit.
    public var inside: Bounded
    /// Before the one and after the other: counted as guest time.
    public var outside: Bounded
    /// The round trip as the guest sees it while it is traced: the 10th, 50th and 90th percentile.
    public var roundTrip: Bounded

    /// A cost, its two parts, and the round trip that has them.
    public init(total: Bounded, inside: Bounded, outside: Bounded, roundTrip: Bounded) {
      self.total = total
      self.inside = inside
      self.outside = outside
      self.roundTrip = roundTrip
    }
  }

  /// What was measured with one kind of exit, ns per exit.
  public struct Measurement: Equatable, Sendable {
    /// The path that it stands for.
    public var path: Path
    /// What the guest did: "cpuid", "out".
    public var kind: String
    /// From the instruction to the next one, as the guest sees it, untraced: the 10th, 50th and 90th percentile.
    public var roundTrip: Bounded
    /// From the guest's instruction to kvm_exit and from kvm_entry to the guest's next one.
    public var worldSwitch: Bounded
    /// The tracer's cost by how it recorded.
    public var tracer: [Mode: TracerCost] = [:]

    /// One kind of exit.
    public init(path: Path, kind: String, roundTrip: Bounded, worldSwitch: Bounded) {
      self.path = path
      self.kind = kind
      self.roundTrip = roundTrip
      self.worldSwitch = worldSwitch
    }
  }

  /// When it was measured: "2026-11-03 09:22:00 UTC".
  public var date: String
  /// What it holds for: facts of the host, by name. Where one differs, the numbers do not hold.
  public var host: [String: String]
  /// By kind of exit.
  public var measurements: [Measurement] = []
  /// Why a path was not measured, a sentence.
  public var absent: [Path: String] = [:]

  /// Nothing measured yet.
  public init(date: String, host: [String: String]) {
    self.date = date
    self.host = host
  }

  /// What differs between the host that was measured and this one, a sentence part each: "microcode was 0x1, is 0x2".
  public func differences(from other: [String: String]) -> [String] {
    Set(host.keys).union(other.keys).sorted().compactMap { key in
      guard host[key] != other[key] else { return nil }
      let name = String(key.map { $0 == "_" ? " " : $0 })
      return "\(name) was \(host[key] ?? "not there"), is \(other[key] ?? "not there")"
    }
  }

  // MARK: By path

  /// The world switch of a path, or of the one that stands in for it.
  public func worldSwitch(_ path: Path) -> Bounded? {
    Bounded.merged(measurements.filter { $0.path == path }.map(\.worldSwitch))
      ?? path.substitute.flatMap { worldSwitch($0) }
  }

  /// The tracer's cost on a path, or on the one that stands in for it; nil where this way of recording was not measured.
  public func tracer(_ path: Path, _ mode: Mode) -> TracerCost? {
    let costs = measurements.filter { $0.path == path }.compactMap { $0.tracer[mode] }
    guard let total = Bounded.merged(costs.map(\.total)), let inside = Bounded.merged(costs.map(\.inside)),
      let outside = Bounded.merged(costs.map(\.outside)),
      let roundTrip = Bounded.merged(costs.map(\.roundTrip))
    else { return path.substitute.flatMap { tracer($0, mode) } }
    return TracerCost(total: total, inside: inside, outside: outside, roundTrip: roundTrip)
  }
}
