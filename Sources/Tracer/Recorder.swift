import Attribution
import Bpf
import CKvmtax
import Glibc
import Host
import Terminal
import TraceFile

/// One recording, from the first block of the file to its end.
final class Recorder {
  let options: RecordOptions
  let attach: AttachPath
  let session: Session
  let interrupts: Interrupts
  /// This host's calibration, for the file and the brakes.
  let calibration: CalibrationFile.Found
  private let cost: ProgramCost
  private let layouts: Layouts
  private let groups: RingGroups
  private let pending: Pending
  private var book: GuestBook
  private var brakes: Brakes
  private var clock = ClockWatch()
  var tally = Tally()
  private var copy = SlotTable.Copy()
  /// Per slot: its steps when it was last copied, and when its histograms were last written.
  private var stepsAtCopy: [UInt64]
  private var stepsAtHistogram: [UInt64]
  private var snapshots = 0
  private var snapshotBytes: UInt64 = 0
  private var isWidened = false
  private var lastTotals = Tally.Totals()
  private var eventsAreOn: Bool
  private(set) var lostRecords: UInt64 = 0
  private(set) var lostThreadEvents: UInt64 = 0
  /// The two above, as the file has them.
  private var writtenLosses: (records: UInt64, threads: UInt64) = (0, 0)
  /// A gap that was found when the recording ended.
  private var lastGap: Gap?
  /// Event records that came but found no room in the file.
  private(set) var unwrittenRecords: UInt64 = 0
  private(set) var gapNanoseconds: UInt64 = 0
  private(set) var programNanoseconds: UInt64 = 0

  init(
    options: RecordOptions, attach: AttachPath, plan: ProgramPlan, layouts: Layouts, capacity: Capacity,
    groups: RingGroups, guests: [GuestProcess], processes: [UInt32], interrupts: Interrupts,
    calibration: CalibrationFile.Found
  ) throws(InputError) {
    self.options = options
    self.attach = attach
    self.calibration = calibration
    cost = ProgramCost(attach: attach, plan: plan, calibration: calibration.calibration)
    self.layouts = layouts
    self.groups = groups
    self.interrupts = interrupts
    let pending = Pending(options.records)
    self.pending = pending
    do {
      session = try Session(
        attach: attach, plan: plan, layouts: layouts, capacity: capacity, groups: groups, processes: processes,
        records: options.records, onNotice: { pending.take($0) }, onRecord: { record, _ in pending.append(record) })
    } catch {
      throw InputError(Obstacle(bpf: error))
    }
    book = GuestBook(known: guests, slotCount: session.table.slotCount)
    brakes = Brakes(maxSizeBytes: options.maxSizeBytes, maxOverhead: options.maxOverhead)
    stepsAtCopy = [UInt64](repeating: 0, count: session.table.slotCount)
    stepsAtHistogram = stepsAtCopy
    eventsAreOn = options.records != KT_NO_RECORDS
  }

  /// The VM that a process is, as far as it is known.
  func guest(_ pid: UInt32) -> GuestProcess? { book.guests[pid] }

  // MARK: The loop

  /// Records until something ends it. The programs are attached when this returns or throws.
  func loop(_ file: TraceOutput, child: inout ChildCommand?) throws -> Ending {
    let start = tally.startNanoseconds
    let end = options.durationNanoseconds.map { start &+ $0 }
    var nextSnapshot = start &+ options.interval.nanoseconds(afterNanoseconds: 0)
    var nextLook = start &+ 1_000_000_000
    var line = ProgressLine(delayNanoseconds: 0)
    while true {
      if let gap = session.beat() { try note(gap, file) }
      if interrupts.arrived() { return .interrupted }
      if child?.hasEnded() == true { return .command }
      var now = monotonicNanoseconds()
      if let end, now >= end { return .duration }
      try session.wait(milliseconds: patience(now: now, next: min(nextSnapshot, nextLook, end ?? .max), child != nil))
      if options.records != KT_NO_RECORDS {
        _ = try session.drainRecords()
        try pending.flush(to: file, all: false)
        if file.bytesWritten >= brakes.maxSizeBytes { return .size }
      }
      try takeNotices(file)
      now = monotonicNanoseconds()
      if now >= nextSnapshot {
        try snapshot(file, detail: snapshots % 10 == 9 ? .histograms : .changes)
        let next = interval(elapsed: now &- start)
        nextSnapshot = now &+ next
        try noteWidening(file, from: options.interval.nanoseconds(afterNanoseconds: now &- start), to: next)
      }
      if now >= nextLook {
        nextLook &+= 1_000_000_000
        if nextLook <= now { nextLook = now &+ 1_000_000_000 }
        if let ending = try look(file, now: now) { return ending }
        line.update(liveText(file, now: now, start: start, end: end))
      }
    }
  }

  /// How long to wait for a notice: not past what is due, and short enough for rings to be drained and a command's end
  /// to be seen.
  private func patience(now: UInt64, next: UInt64, _ hasChild: Bool) -> Int32 {
    let due = next > now ? (next - now) / 1_000_000 + 1 : 0
    return Int32(min(due, eventsAreOn ? 20 : hasChild ? 20 : 100))
  }

  typealias Gap = (startNanoseconds: UInt64, endNanoseconds: UInt64)

  private func note(_ gap: Gap, _ file: TraceOutput, usingReserve: Bool = false) throws {
    let length = gap.endNanoseconds &- gap.startNanoseconds
    gapNanoseconds &+= length
    try file.append(
      TraceGap(
        reason: .quiet, fromNanoseconds: gap.startNanoseconds, toNanoseconds: gap.endNanoseconds,
        lengthNanoseconds: Int64(clamping: length)), usingReserve: usingReserve)
  }

  private func interval(elapsed: UInt64) -> UInt64 {
    options.interval.nanoseconds(
      afterNanoseconds: elapsed, of: options.durationNanoseconds, snapshotBytes: snapshotBytes,
      count: UInt64(snapshots), maxSizeBytes: options.maxSizeBytes)
  }

  private func noteWidening(_ file: TraceOutput, from usual: UInt64, to next: UInt64) throws {
    guard !isWidened, next > usual else { return }
    isWidened = true
    try file.append(
      TraceNote(
        monotonicNanoseconds: monotonicNanoseconds(), code: "interval-widened",
        text: "Snapshots are taken less often than usual, so that they fit into their budget."))
  }

  // MARK: What is written

  /// Writes what is known at the start and attaches the programs.
  func begin(_ file: TraceOutput) throws {
    try writeBeginning(file)
    try session.start()
    tally.start()
  }

  /// Facts and formats.
  private func writeBeginning(_ file: TraceOutput) throws(TraceWriteError) {
    let cpu = CpuInfo(text: readProcText("/proc/cpuinfo") ?? "")
    var facts = [
      CaptureFact(key: CaptureFact.Key.tool, value: "kvmtax \(kvmtaxVersion)"),
      CaptureFact(key: CaptureFact.Key.host, value: readProcText("/proc/sys/kernel/hostname", limit: 256) ?? ""),
      CaptureFact(key: CaptureFact.Key.kernel, value: kernelRelease()),
      CaptureFact(key: CaptureFact.Key.attach, value: attach.name),
      CaptureFact(key: CaptureFact.Key.features, value: features),
      CaptureFact(
        key: CaptureFact.Key.intervalNanoseconds, value: "\(options.interval.nanoseconds(afterNanoseconds: 0))"),
    ]
    if let vendor = cpu.vendor { facts.append(CaptureFact(key: CaptureFact.Key.cpuVendor, value: vendor)) }
    if let model = cpu.model { facts.append(CaptureFact(key: CaptureFact.Key.cpuModel, value: model)) }
    if let problem = calibration.problem {
      facts.append(CaptureFact(key: CaptureFact.Key.calibrationProblem, value: problem))
    }
    try file.append(facts)
    if let calibration = calibration.calibration { try file.append(calibration) }
    if options.proxy {
      try file.append(
        TraceNote(
          monotonicNanoseconds: monotonicNanoseconds(), code: "proxy",
          text: "kvm_userspace_exit and kvm_fpu were recorded in place of kvm_exit and kvm_entry: counts are real, "
            + "states and overhead mean nothing."))
    }
    try file.append(
      layouts.texts.map {
        FormatText(system: $0.system, name: $0.event, text: String(decoding: $0.text, as: UTF8.self))
      })
  }

  private var features: String {
    var words: [RecordedFeature] = options.proxy ? [.proxy] : [.states]
    words += RecordedFeature.words(machineFeatures: UInt8(truncatingIfNeeded: session.plan.features))
    if session.plan.keepsKeys { words.append(.keys) }
    if options.records == KT_EXIT_RECORDS { words.append(.exits) }
    if options.records == KT_RAW_RECORDS { words.append(.raw) }
    return RecordedFeature.value(words)
  }

  /// Names the threads that are new, while their processes can still be asked; gives back slots before they run out.
  private func takeNotices(_ file: TraceOutput) throws {
    if !pending.newSlots.isEmpty {
      book.look(at: pending.newSlots, in: session.table)
      pending.newSlots.removeAll(keepingCapacity: true)
      try writeNames(file)
    }
    // ended threads hold slots and rows that new ones may need before the next snapshot is due
    if pending.endedThreads > session.table.slotCount / 16 { try snapshot(file, detail: .changes) }
  }

  private func writeNames(_ file: TraceOutput, usingReserve: Bool = false) throws {
    if !book.newProcesses.isEmpty { try file.append(book.newProcesses, usingReserve: usingReserve) }
    book.newProcesses.removeAll()
    if !book.newThreads.isEmpty { try file.append(book.newThreads, usingReserve: usingReserve) }
    book.newThreads.removeAll()
  }

  /// One snapshot of everything that changed; ended threads are written for the last time and their slots given back.
  func snapshot(
    _ file: TraceOutput, detail: SnapshotEncoder.Detail, at moment: Clocks? = nil, usingReserve: Bool = false
  ) throws {
    let table = session.table
    session.askForLooks()
    pending.endedThreads = 0
    file.beginSnapshot(at: moment ?? .now(), detail: detail)
    let wantsHistograms = detail != .changes
    var ended: [Int] = []
    var looks: [TracedLooks] = []
    for number in 0..<table.slotCount where table.isTaken(number) {
      let steps = table.slots[number].steps
      let seen = wantsHistograms ? stepsAtHistogram[number] : stepsAtCopy[number]
      if detail != .complete, steps == seen, table.slots[number].ended == 0 { continue }
      guard table.copy(number, into: &copy, force: detail == .complete) else { continue }
      file.add(&copy, number: number)
      stepsAtCopy[number] = copy.slot.steps
      if wantsHistograms { stepsAtHistogram[number] = copy.slot.steps }
      if copy.slot.ended != 0 { ended.append(number) }
      guard detail == .complete || copy.slot.ended != 0 else { continue }
      if let look = TracedLooks(table.looks[number]), look.thread == copy.slot.thread { looks.append(look) }
    }
    // after the copies: a thread may have come and gone since the last notice, or its notice was lost
    book.look(at: 0..<table.slotCount, in: table)
    try writeNames(file, usingReserve: usingReserve)
    let before = file.bytesWritten
    try file.writeSnapshot(usingReserve: usingReserve)
    if !looks.isEmpty { try file.append(looks, usingReserve: usingReserve) }
    snapshotBytes &+= file.bytesWritten &- before
    snapshots += 1
    // only now: had the file refused them, the last snapshot would try again
    if detail != .complete { for number in ended { try recycle(number) } }
  }

  /// Gives back the slot and the rows of an ended thread, which the file holds.
  private func recycle(_ number: Int) throws(BpfError) {
    guard session.table.copy(number, into: &copy, force: true) else { return }
    let forgotten = tally.forgottenProcesses
    tally.retire(&copy.slot)
    stepsAtCopy[number] = 0
    stepsAtHistogram[number] = 0
    try session.recycle(slot: number, copy: copy)
    guard tally.forgottenProcesses != forgotten else { return }
    let parts = tally.parts(session.table)
    book.forget { parts[$0] != nil }
  }

  /// Once a second: losses, clocks and brakes.
  private func look(_ file: TraceOutput, now: UInt64) throws -> Ending? {
    try writeLosses(file)
    for gap in clock.look(at: .now()) { try file.append(gap) }
    if file.bytesWritten >= brakes.maxSizeBytes { return .size }
    if Brakes.diskIsLow(file.descriptor) == true { return .diskLow }
    let totals = tally.totals(session.table)
    let cost = estimatedNanoseconds(from: lastTotals, to: totals)
    let running = totals.runningNanoseconds &- min(lastTotals.runningNanoseconds, totals.runningNanoseconds)
    lastTotals = totals
    programNanoseconds &+= cost
    guard brakes.isExceeded(programNanoseconds: cost, runningNanoseconds: running) else { return nil }
    return try shed(file, now: now)
  }

  /// Gives up what costs most for what it tells; the recording's end when nothing is left.
  private func shed(_ file: TraceOutput, now: UInt64) throws -> Ending? {
    let code: String
    let text: String
    if eventsAreOn {
      session.shedEvents()
      eventsAreOn = false
      (code, text) = ("shed-events", "Event records were given up: tracing cost more than the limit. Accounts go on.")
    } else if session.control.pointee.keys != 0 {
      session.shedKeys()
      (code, text) = (
        "shed-keys", "Keys were given up: tracing cost more than the limit. Reasons and states go on."
      )
    } else if session.plan.tier == .full, !options.proxy {
      session.shedScheduler()
      (code, text) = (
        "shed-sched",
        "The scheduler's and interrupts' events were given up: tracing cost more than the limit. From here on preemption "
          + "and wake latency are one, blocked time is not told apart, and host interrupts are in what they interrupted."
      )
    } else {
      return .overhead
    }
    try file.append(TraceNote(monotonicNanoseconds: now, code: code, text: text))
    return nil
  }

  private func estimatedNanoseconds(from old: Tally.Totals, to new: Tally.Totals) -> UInt64 {
    var nanoseconds = (new.steps &- min(old.steps, new.steps)) &* cost.stepNanoseconds
    if eventsAreOn { nanoseconds &+= (new.finished &- min(old.finished, new.finished)) &* cost.recordNanoseconds }
    return nanoseconds
  }

  private func writeLosses(_ file: TraceOutput, usingReserve: Bool = false) throws {
    let records = try session.lossesPerCpu(KT_LOST_RECORDS)
    let threads = try session.lossesPerCpu(KT_LOST_THREADS)
    let tids = try session.lossesPerCpu(KT_LOST_TIDS)
    let recordTotal = records.reduce(0, &+)
    let threadTotal = threads.reduce(0, &+) &+ tids.reduce(0, &+)
    lostRecords = recordTotal
    lostThreadEvents = threadTotal
    guard writtenLosses != (recordTotal, threadTotal) else { return }
    let rings = max(session.capacity.rings, 1)
    try file.append(
      records.indices.filter { records[$0] != 0 || threads[$0] != 0 || tids[$0] != 0 }.map {
        CPULosses(
          cpu: UInt32($0), ring: $0 < groups.ringOfCpu.count ? groups.ringOfCpu[$0] % rings : 0,
          counts: [records[$0], threads[$0], tids[$0]])
      }, usingReserve: usingReserve)
    writtenLosses = (recordTotal, threadTotal)
  }

  /// Ends all programs at one moment, which is returned.
  func stop() -> Clocks {
    // we may have been held up too long, e.g. by a disk
    lastGap = session.beat()
    return session.stop()
  }

  /// The last of everything; the programs are detached. What fails does not keep the rest from being written; the first
  /// failure is thrown at the end.
  func writeEnd(_ file: TraceOutput, _ ending: Ending, at moment: Clocks, note: TraceNote?) throws {
    var failure: (any Error)?
    func attempt(_ body: () throws -> Void) -> Bool {
      do { try body() } catch {
        failure = failure ?? error
        return false
      }
      return true
    }
    _ = attempt { _ = try session.drainRecords() }
    // where the records have no room, the totals below may still fit into the reserve
    _ = attempt { try pending.flush(to: file, all: true) }
    unwrittenRecords = UInt64(pending.count)
    _ = attempt { if let lastGap { try self.note(lastGap, file, usingReserve: true) } }
    _ = attempt { try writeLosses(file, usingReserve: true) }
    let totals = tally.totals(session.table)
    programNanoseconds &+= estimatedNanoseconds(from: lastTotals, to: totals)
    lastTotals = totals
    if !attempt({ try snapshot(file, detail: .complete, at: moment, usingReserve: true) }) {
      let text = "The last snapshot could not be written: the accounts end with the one before it."
      _ = attempt {
        try file.append(
          TraceNote(monotonicNanoseconds: moment.monotonicNanoseconds, code: "last-snapshot-missing", text: text))
      }
    }
    _ = attempt { if let note { try file.append(note) } }
    let word = (failure as? TraceWriteError).map { Ending.diskFull($0).word } ?? ending.word
    let end = TraceEnd(
      clocks: moment, reason: word, exits: totals.exits, records: file.recordsWritten,
      snapshots: file.snapshotsWritten, lostRecords: lostRecords &+ unwrittenRecords)
    _ = attempt { try file.end(end) }
    if let failure { throw failure }
  }

  private func liveText(_ file: TraceOutput, now: UInt64, start: UInt64, end: UInt64?) -> String {
    let elapsed = now &- start
    let exits = lastTotals.exits
    let perSecond = elapsed > 0 ? Double(exits) * 1e9 / Double(elapsed) : 0
    var text =
      "\(padded(timeSpan(nanoseconds: elapsed), width: 8, .right))  \(padded(rate(perSecond), width: 10, .right)) exits/s"
    text += "  \(grouped(lostRecords &+ lostThreadEvents)) lost  \(byteCount(file.bytesWritten)) written"
    if let end, end > now { text += "  \(timeSpan(nanoseconds: (end - now) / 1_000_000_000 * 1_000_000_000)) left" }
    return text
  }
}

extension InputError {
  /// An obstacle as the one error that is printed.
  init(_ obstacle: Obstacle) {
    // the verifier's lines stay lines
    let lines = obstacle.found.split(separator: "\n", maxSplits: 1)
    self.init(
      file: "BPF", found: lines.first.map(String.init) ?? "", expected: lines.count > 1 ? String(lines[1]) : nil,
      remedy: obstacle.remedy)
  }
}
