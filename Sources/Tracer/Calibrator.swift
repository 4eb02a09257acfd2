import Attribution
import Bpf
import CKvmtax
import Glibc
import Host
import Terminal
import TinyGuest

/// Measures what exits take with and without the tracer's programs: rounds of short laps, each round with every mode, so
/// that what changes slowly (the clock frequency, the neighbours) changes all of them alike.
final class Calibrator {
  /// A kind of exit.
  struct Kind {
    var path: Calibration.Path
    var deed: Deed
    var perLap: Int
    var laps: Int
    /// kvm_exit's reason.
    var reason: UInt32
    /// Exits of the same reason before and after those that are clocked, a lap.
    var extra = 0
  }

  /// A way of recording, each with and without event records.
  struct Way {
    var attach: AttachPath
    var tier: Tier
    var keys: Bool
  }

  private let kinds: [Kind]
  private let guests: [ClockedGuest]
  private let sessions: [Session]
  private let stopwatch: Stopwatch
  private let inbox: Inbox
  private let rounds: Int
  private let delaySteps: UInt32
  private(set) var samples = CalibrationSamples()
  /// A round trip that is all guest: TSC cycles that were measured and are to be taken off.
  private var nanosecondsPerCycle = 0.0
  /// The CPU that everything ran on.
  let cpu: Int
  /// What was measured of the tracer.
  let modes: [Calibration.Mode]

  /// Records as they come, on this thread.
  private final class Inbox {
    var records: [kt_exit_record] = []
  }

  /// Loads everything; nothing is attached yet. Binds the thread to the CPU that it is on. The first way is the one that
  /// delays are put into.
  init(kinds: [Kind], ways: [Way], layouts: Layouts, proxy: Bool, rounds: Int, delaySteps: UInt32) throws {
    self.kinds = kinds
    self.rounds = rounds
    self.delaySteps = delaySteps
    cpu = try ClockedGuest.pin()
    let inbox = Inbox()
    self.inbox = inbox
    sessions = try ways.map { try Calibrator.session($0, layouts, proxy, inbox) }
    modes = sessions.flatMap { session in
      [false, true].map { session.plan.mode(attach: session.attach, records: $0) }
    }
    stopwatch = try Stopwatch(proxy: proxy, delays: delaySteps > 0)
    guests = try kinds.map { try ClockedGuest($0.deed, perLap: $0.perLap) }
  }

  private static func session(
    _ way: Way, _ layouts: Layouts, _ proxy: Bool, _ inbox: Inbox
  ) throws(BpfError) -> Session {
    let pidMax = readProcText("/proc/sys/kernel/pid_max").flatMap { UInt32($0) } ?? 4_194_304
    var capacity = Capacity(pidMax: pidMax, memoryBytes: 0, vcpus: 1, ringGroups: 1)
    // read after each lap
    capacity.ringBytes = 1 << 19
    let plan = ProgramPlan(attach: way.attach, layouts: layouts, proxy: proxy, tier: way.tier, keys: way.keys)
    let session = try Session(
      attach: way.attach, plan: plan, layouts: layouts, capacity: capacity,
      groups: RingGroups(cpuCount: max(sysconf(Int32(_SC_NPROCESSORS_CONF)), 1), nodes: []),
      processes: [UInt32(getpid())], records: KT_EXIT_RECORDS, onNotice: { _ in },
      onRecord: { bytes, _ in
        guard bytes.count >= MemoryLayout<kt_exit_record>.size else { return }
        inbox.records.append(bytes.loadUnaligned(as: kt_exit_record.self))
      })
    // the guest runs in this very process
    session.control.pointee.own_tgid = 0
    return session
  }

  // MARK: Rounds

  /// Runs all rounds.
  func run() throws {
    var line = ProgressLine()
    nanosecondsPerCycle = Calibrator.nanosecondsPerCycle()
    for round in 0..<rounds {
      line.update("Calibrating: round \(round + 1) of \(rounds)")
      if delaySteps > 0 { samples.delayNanoseconds.append(try stopwatch.timeDelay(steps: delaySteps)) }
      // there and back again: what drifts within a round goes the other way in the next
      let turns = [nil, nil] + sessions.indices.map(Optional.some)
      for (turn, session) in round % 2 == 0 ? Array(turns.enumerated()) : turns.enumerated().reversed() {
        if let session {
          try visit(session, backwards: round % 2 != 0)
        } else {
          try visit(turn == 0 ? .untraced : .stopwatch)
        }
      }
    }
  }

  /// Without the tracer.
  private func visit(_ mode: CalibrationSamples.Mode) throws {
    if mode == .stopwatch { try stopwatch.start() }
    defer { stopwatch.stop() }
    for index in kinds.indices { try visit(index, mode, nil) }
  }

  /// A way of recording, attached once: that takes longer than the laps do.
  private func visit(_ number: Int, backwards: Bool) throws {
    let session = sessions[number]
    var turns = modes[2 * number..<2 * number + 2].map { CalibrationSamples.Mode.traced($0) }
    if number == 0, delaySteps > 0 { turns += [.delayed(steps: 0), .delayed(steps: delaySteps)] }
    try session.start()
    defer { _ = session.stop() }
    for mode in backwards ? turns.reversed() : turns {
      switch mode {
      case .traced(let one): session.control.pointee.events = (one.records ? KT_EXIT_RECORDS : KT_NO_RECORDS).rawValue
      case .delayed(let steps):
        session.control.pointee.events = KT_EXIT_RECORDS.rawValue
        try stopwatch.startDelay(steps: steps)
      case .untraced, .stopwatch: break
      }
      defer { stopwatch.stop() }
      for index in kinds.indices { try visit(index, mode, session) }
    }
  }

  /// CLOCK_MONOTONIC against the TSC, over a tenth of a second.
  private static func nanosecondsPerCycle() -> Double {
    func now() -> (nanoseconds: UInt64, cycles: UInt64) { (monotonicNanoseconds(), kt_tsc()) }
    let start = now()
    usleep(100_000)
    let end = now()
    return Double(end.nanoseconds &- start.nanoseconds) / Double(max(end.cycles &- start.cycles, 1))
  }

  private func visit(_ index: Int, _ mode: CalibrationSamples.Mode, _ session: Session?) throws {
    var visit = CalibrationSamples.Visit()
    // the first one finds cold caches
    for lap in 0...kinds[index].laps {
      session?.beat()
      try stopwatch.clear()
      let brought = try guests[index].lap()
      _ = try session?.drainRecords()
      let spans = mode == .stopwatch ? try stopwatch.read() : records(of: kinds[index])
      inbox.records.removeAll(keepingCapacity: true)
      guard lap > 0 else { continue }
      let empty = Double(brought.emptyCycles)
      let trips = brought.cycles.map { (Double($0) - empty) * nanosecondsPerCycle }
      visit.roundTrips += trips
      // an interrupt in between has a span of its own: then it is not known which span is whose
      guard let spans, spans.count == trips.count + 2 * kinds[index].extra else { continue }
      visit.outside += zip(trips, spans.dropFirst(kinds[index].extra)).map { $0 - $1 }
    }
    samples.add(visit, kind: kinds[index].deed.name, mode: mode)
  }

  private func records(of kind: Kind) -> [Double] {
    inbox.records.filter { $0.reason == kind.reason }.map { Double($0.total_ns) }
  }
}
