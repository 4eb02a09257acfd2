import Attribution

extension Report {
  /// Exits of one class of the taxonomy.
  public struct Class: Equatable, Sendable {
    /// Its stable name: "TIMER.arm".
    public var id: String
    /// What it is, in a few words.
    public var label: String
    /// Which of the four shares it belongs to.
    public var share: String
    /// Its exits and their time.
    public var time: ClassTime
    /// What they were about, most handling time first.
    public var keys: [KeyTime]
    /// The same as a reader sees them: keys that differ only in facts that no name shows are one line.
    public var lines: [Line]
    /// How many of the lines a short table shows.
    public var shortCount: Int
  }

  /// Finished exits and their time.
  public struct ClassTime: Equatable, Sendable {
    /// kvm_exit events followed by an entry.
    public var exits: UInt64
    /// Per second of the section's span.
    public var perSecond: Double?
    /// kvm_exit to kvm_entry, summed, ns.
    public var totalNanoseconds: UInt64
    /// The part of it that is virtualization, ns.
    public var handledNanoseconds: UInt64
    /// handled / exits, ns.
    public var handledMeanNanoseconds: Double?
    /// The longest, ns.
    public var maxNanoseconds: UInt64
    /// handled / running.
    public var ofRunning: Double?
    /// The total's ns per state.
    public var states: [StateTime]
  }

  /// Exits of one key.
  public struct KeyTime: Equatable, Sendable {
    /// kvm_exit's isa.
    public var isa: UInt8
    /// kvm_exit's exit_reason.
    public var number: UInt32
    /// The reason's name.
    public var reason: String
    /// "in 0x608 ACPI PM timer", "write IA32_TSC_DEADLINE"; empty where the reason says it all.
    public var about: String
    /// MSR index, port, page…; nil: none, or not seen.
    public var subject: UInt64?
    /// What the subject is: "msr", "port", "mmio"…
    public var kind: String
    /// The facts that the class was found by.
    public var traits: [String]
    /// The userspace exit reason (KVM_EXIT_…); nil: it stayed in the kernel.
    public var userspace: Int?
    /// Its exits and their time.
    public var time: ClassTime
  }

  /// Keys that read alike, together.
  public struct Line: Equatable, Sendable {
    /// The reason's name.
    public var reason: String
    /// What they were about.
    public var about: String
    /// Their exits and time.
    public var time: ClassTime
  }

  /// One of the shares that the overhead is divided into; together they are all of it but for what `rest` is.
  public struct ShareTime: Equatable, Sendable {
    /// "exit_classes", "nested_faults", "virtio", "timer_ticks"; "rest": what no class has.
    public var id: String
    /// What it is, in a few words.
    public var label: String
    /// Handling time, ns.
    public var handledNanoseconds: UInt64
    /// handled / running.
    public var ofRunning: Double?
  }

  /// Classes and shares of one VM, or of all.
  public struct ClassTree: Equatable, Sendable {
    /// Most handling time first.
    public var classes: [Class]
    /// The four, then what is in none.
    public var shares: [ShareTime]
    /// Finished exits whose key found no room; they are in no class.
    public var overflowExits: UInt64
    /// Their whole time, ns.
    public var overflowNanoseconds: UInt64
  }
}

/// Sorts keys into classes.
struct ClassTreeBuilder {
  let names: ReasonNames
  let spanNanoseconds: UInt64
  /// Running time, or 0 where shares of it would mean nothing, ns.
  let runningNanoseconds: UInt64
  /// All virtualization time of the section, ns.
  let virtNanoseconds: UInt64

  private static let shortestKeys = 4

  /// Nil where no keys were recorded.
  func tree(_ keys: [KeyAccount], overflowExits: UInt64, overflowNanoseconds: UInt64) -> Report.ClassTree? {
    guard !keys.isEmpty else { return nil }
    var members: [ExitClass: [KeyAccount]] = [:]
    for account in keys { members[classify(account.key), default: []].append(account) }
    let classes = members.map { exitClass($0, $1) }.sorted(by: ranked)
    var shares = Share.allCases.map { share in
      part(share.rawValue, share.summary, classes.filter { $0.share == share.rawValue }.map(\.time.handledNanoseconds))
    }
    let named = shares.reduce(0) { $0 &+ $1.handledNanoseconds }
    shares.append(part("rest", "in no class", [virtNanoseconds > named ? virtNanoseconds - named : 0]))
    return Report.ClassTree(
      classes: classes, shares: shares, overflowExits: overflowExits, overflowNanoseconds: overflowNanoseconds)
  }

  private func part(_ id: String, _ label: String, _ nanoseconds: [UInt64]) -> Report.ShareTime {
    let sum = nanoseconds.reduce(0, &+)
    return Report.ShareTime(id: id, label: label, handledNanoseconds: sum, ofRunning: share(sum, runningNanoseconds))
  }

  private func exitClass(_ exitClass: ExitClass, _ accounts: [KeyAccount]) -> Report.Class {
    var sum = accounts[0]
    for account in accounts.dropFirst() { sum.add(account) }
    let keys = accounts.map(key).sorted { first, second in
      if first.time.handledNanoseconds != second.time.handledNanoseconds {
        return first.time.handledNanoseconds > second.time.handledNanoseconds
      }
      if first.time.exits != second.time.exits { return first.time.exits > second.time.exits }
      return (first.isa, first.number, first.subject ?? .max, first.about)
        < (second.isa, second.number, second.subject ?? .max, second.about)
    }
    let lines = lines(accounts)
    let shortest = ClassTreeBuilder.shortestKeys
    return Report.Class(
      id: exitClass.rawValue, label: exitClass.summary, share: exitClass.share.rawValue, time: time(sum), keys: keys,
      lines: lines, shortCount: lines.count > shortest + 1 ? shortest : lines.count)
  }

  private func lines(_ accounts: [KeyAccount]) -> [Report.Line] {
    struct Words: Hashable {
      var reason: String
      var about: String
    }
    var sums: [Words: KeyAccount] = [:]
    for account in accounts {
      let key = account.key
      let words = Words(reason: names.name(isa: key.isa, reason: key.reason), about: describe(key))
      sums[words, default: KeyAccount(key)].add(account)
    }
    return sums.map { Report.Line(reason: $0.reason, about: $0.about, time: time($1)) }.sorted { first, second in
      if first.time.handledNanoseconds != second.time.handledNanoseconds {
        return first.time.handledNanoseconds > second.time.handledNanoseconds
      }
      return (second.time.exits, first.reason, first.about) < (first.time.exits, second.reason, second.about)
    }
  }

  private func key(_ account: KeyAccount) -> Report.KeyTime {
    let key = account.key
    return Report.KeyTime(
      isa: key.isa, number: key.reason, reason: names.name(isa: key.isa, reason: key.reason), about: describe(key),
      subject: key.subject, kind: key.kind.name, traits: key.traits.names, userspace: key.userspace, time: time(account)
    )
  }

  private func time(_ account: KeyAccount) -> Report.ClassTime {
    let handled = account.states.virtualization
    return Report.ClassTime(
      exits: account.finished,
      perSecond: perSecond(account.finished, spanNanoseconds),
      totalNanoseconds: account.totalNanoseconds, handledNanoseconds: handled,
      handledMeanNanoseconds: share(handled, account.finished), maxNanoseconds: account.maxNanoseconds,
      ofRunning: share(handled, runningNanoseconds),
      states: State.allCases.filter { account.states[$0] > 0 }.map {
        Report.StateTime(name: $0.name, nanoseconds: account.states[$0])
      })
  }

  private func ranked(_ first: Report.Class, _ second: Report.Class) -> Bool {
    if first.time.handledNanoseconds != second.time.handledNanoseconds {
      return first.time.handledNanoseconds > second.time.handledNanoseconds
    }
    return (second.time.exits, first.id) < (first.time.exits, second.id)
  }
}
