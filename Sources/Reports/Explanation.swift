import Attribution
import Terminal

/// What a name of a report stands for, and how its number came about.
public struct Explanation {
  private let style: Style
  private let words: Sentences

  /// What the screen can show.
  public init(style: Style = Style()) {
    self.style = style
    words = Sentences(name: style.name)
  }

  /// What a name asks for.
  public enum Subject: Equatable, Sendable {
    /// A class of the taxonomy.
    case exitClass(ExitClass)
    /// A state of a vCPU.
    case state(State)
    /// Part of a reason's name, or of what a key is about.
    case text(String)

    /// Classes and states by their names, whatever the case; anything else is looked for in a trace.
    public init(_ name: String) {
      let lower = name.lowercased()
      if let found = ExitClass.allCases.first(where: { $0.rawValue.lowercased() == lower }) {
        self = .exitClass(found)
      } else if let found = State.allCases.first(where: { $0.name == lower.replacing("-", with: "_") }) {
        self = .state(found)
      } else {
        self = .text(name)
      }
    }
  }

  /// A finished exit of a trace with a record for each.
  public struct Exit: Equatable, Sendable {
    /// From the trace's first exit, ns.
    public var startNanoseconds: UInt64
    /// kvm_exit to kvm_entry, ns.
    public var totalNanoseconds: UInt64
    /// The thread's serial number in the trace.
    public var thread: UInt32
    /// Where the entry happened.
    public var cpu: UInt16
    /// What it was about.
    public var key: Key
    /// ns per state.
    public var states: StateTimes

    /// One exit.
    public init(
      startNanoseconds: UInt64, totalNanoseconds: UInt64, thread: UInt32, cpu: UInt16, key: Key, states: StateTimes
    ) {
      self.startNanoseconds = startNanoseconds
      self.totalNanoseconds = totalNanoseconds
      self.thread = thread
      self.cpu = cpu
      self.key = key
      self.states = states
    }
  }

  /// What the name means, without a trace; nil where only a trace can tell.
  public func meaning(_ subject: Subject) -> String? {
    var page = Page(style: style)
    switch subject {
    case .exitClass(let found):
      page.text("\(found.rawValue): \(found.summary)", .bold)
      page.text(
        "A class of exits: a function of what kvm_exit and the events up to kvm_entry say of each exit, no more.")
      page.text("Its time is part of the share '\(found.share.summary)'.")
    case .state(let found):
      page.text("\(found.name): \(found.summary)", .bold)
      page.text("A state of a vCPU thread: every nanosecond is in exactly one, and they sum to the time observed.")
    case .text: return nil
    }
    return page.result
  }

  /// Whether a key belongs to the subject.
  public static func matches(_ key: Key, _ subject: Subject, names: ReasonNames) -> Bool {
    switch subject {
    case .exitClass(let wanted): return classify(key) == wanted
    case .state: return false
    case .text(let text):
      let reason = names.name(isa: key.isa, reason: key.reason)
      return "\(reason) \(describe(key))".lowercased().contains(text.lowercased())
    }
  }

  /// From the number in the report back to the accounts it is the sum of; nil when the trace has nothing of it.
  /// `exits`: the longest of those that the trace has a record of; nil: it has no records.
  public func origin(_ subject: Subject, in report: Report, exits: [Exit]?) -> String? {
    var page = Page(style: style)
    var isFound = false
    for vm in report.vms {
      switch subject {
      case .state(let state): isFound = explain(state, vm, on: &page) || isFound
      case .exitClass, .text: isFound = explain(keysOf: vm, subject, on: &page) || isFound
      }
    }
    guard isFound else { return nil }
    page.gap()
    page.text(source(report), .dim)
    if let exits { longest(exits, report, on: &page) }
    return page.result
  }

  private func source(_ report: Report) -> String {
    switch report.capture.rung {
    case "accounts":
      "Counted in the kernel, per vCPU thread and key, and summed over the VM's threads when the trace was written."
    case "exits": "Summed over the trace's records, one per finished exit."
    default: "Worked out from the trace's events, by the same state machine that counts in the kernel."
    }
  }

  // MARK: States

  private func explain(_ state: State, _ vm: Report.Machine, on page: inout Page) -> Bool {
    func time(_ states: [Report.StateTime]) -> UInt64 { states.first { $0.name == state.name }?.nanoseconds ?? 0 }
    let total = time(vm.section.states)
    guard total > 0 else { return false }
    page.gap()
    page.text("\(words.label(vm)): \(duration(nanoseconds: total)) of \(state.name)", .bold)
    var table = Table(["vCPU", "time", "of its wall time"])
    for vcpu in vm.vcpus where time(vcpu.section.states) > 0 {
      let part = time(vcpu.section.states)
      table.add([
        "\(words.label(vcpu)) (tid \(vcpu.tid))", duration(nanoseconds: part),
        percentage(Double(part) / Double(max(vcpu.section.wallNanoseconds, 1))),
      ])
    }
    page.table(table.lines())
    let reasons = vm.section.reasons.map { ($0, time($0.states)) }.filter { $0.1 > 0 }.sorted { $0.1 > $1.1 }
    guard !reasons.isEmpty else { return true }
    page.gap()
    var byReason = Table(["inside exits of", "time", "exits"])
    for (reason, part) in reasons.prefix(12) {
      byReason.add([style.name(reason.name), duration(nanoseconds: part), grouped(reason.exits)])
    }
    page.table(byReason.lines())
    return true
  }

  // MARK: Keys

  private func explain(keysOf vm: Report.Machine, _ subject: Subject, on page: inout Page) -> Bool {
    guard let tree = vm.section.classes else { return false }
    var found: [(exitClass: Report.Class, key: Report.KeyTime)] = []
    for one in tree.classes {
      for key in one.keys where matches(key, one, subject) { found.append((one, key)) }
    }
    guard !found.isEmpty else { return false }
    let handled = found.reduce(0) { $0 &+ $1.key.time.handledNanoseconds }
    let exits = found.reduce(0) { $0 &+ $1.key.time.exits }
    let shares = found.compactMap(\.key.time.ofRunning)
    page.gap()
    var title = "\(words.label(vm)): \(counted(exits, "exit")), \(duration(nanoseconds: handled)) of handling"
    if shares.count == found.count { title += ", \(percentage(shares.reduce(0, +))) of running time" }
    page.text(title, .bold)
    page.text("That is the sum of \(counted(UInt64(found.count), "key")):")
    var table = Table(["exits of", "class", "exits", "mean", "max", "handled"])
    for (one, key) in found.prefix(40) {
      table.add([
        "\(style.name(key.reason)) \(key.about)", one.id, grouped(key.time.exits),
        cell(key.time.handledMeanNanoseconds) { duration(nanoseconds: $0) },
        duration(nanoseconds: key.time.maxNanoseconds), duration(nanoseconds: key.time.handledNanoseconds),
      ])
    }
    page.table(table.lines())
    if found.count > 40 { page.text("  and \(found.count - 40) more") }
    facts(found.map(\.key), on: &page)
    return true
  }

  private func matches(_ key: Report.KeyTime, _ one: Report.Class, _ subject: Subject) -> Bool {
    switch subject {
    case .exitClass(let wanted): one.id == wanted.rawValue
    case .text(let text): "\(key.reason) \(key.about)".lowercased().contains(text.lowercased())
    case .state: false
    }
  }

  /// By which facts they were sorted, and where their time went.
  private func facts(_ keys: [Report.KeyTime], on page: inout Page) {
    var times: [String: UInt64] = [:]
    var traits: [String: UInt64] = [:]
    var inUserspace: UInt64 = 0
    for key in keys {
      for state in key.time.states { times[state.name, default: 0] &+= state.nanoseconds }
      for trait in key.traits { traits[trait, default: 0] &+= key.time.exits }
      if key.userspace != nil { inUserspace &+= key.time.exits }
    }
    let states = State.allCases.compactMap { state in
      times[state.name].map { "\(state.name) \(duration(nanoseconds: $0))" }
    }
    page.text("Their time, kvm_exit to kvm_entry: \(states.joined(separator: ", ")).")
    var facts = traits.sorted { ($1.value, $0.key) < ($0.value, $1.key) }.map { "\($0.key) \(grouped($0.value))" }
    if inUserspace > 0 { facts.append("returned to QEMU \(grouped(inUserspace))") }
    if !facts.isEmpty { page.text("Facts seen of them: \(facts.joined(separator: ", ")).") }
  }

  // MARK: Exits

  private func longest(_ exits: [Exit], _ report: Report, on page: inout Page) {
    guard !exits.isEmpty else { return }
    var labels: [UInt32: String] = [:]
    for vm in report.vms { for vcpu in vm.vcpus { labels[vcpu.thread] = words.label(vcpu) } }
    page.gap()
    var table = Table(["THE LONGEST OF THEM", "after", "CPU", "took", "most of it"])
    for exit in exits {
      let most = State.allCases.max { exit.states[$0] < exit.states[$1] }
      table.add([
        "\(labels[exit.thread] ?? "thread \(exit.thread)"): \(describe(exit.key))",
        timeSpan(nanoseconds: exit.startNanoseconds), "\(exit.cpu)", duration(nanoseconds: exit.totalNanoseconds),
        most?.name ?? "–",
      ])
    }
    page.table(table.lines(notes: 1))
  }
}
