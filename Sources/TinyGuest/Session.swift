import CTinyGuest
import Glibc

/// A VM that is running, shared by its threads.
final class Session: @unchecked Sendable {
  private let workload: Workload
  private let stopper: Stopper?
  private let machine: VirtualMachine
  private let rendezvous = Rendezvous()
  // Each thread writes its own element, under the rendezvous's lock; read when all have finished.
  private var results: [Swift.Result<VCPUResult, TinyGuestError>?]
  private var tids: [Int32]
  private var tscKHz: Int?
  private var endSeconds = 0.0

  init(_ workload: Workload) throws(TinyGuestError) {
    self.workload = workload
    for case .some(let cpu) in [workload.pinnedCPU, workload.competitorCPU] {
      guard kt_guest_may_use_cpu(Int32(clamping: cpu)) == 0 else {
        throw TinyGuestError("CPU \(cpu) is not one that this process may use")
      }
    }
    stopper = try Session.stopper(workload)
    machine = try VirtualMachine(workload)
    results = Array(repeating: nil, count: workload.vcpus)
    tids = Array(repeating: 0, count: workload.vcpus)
  }

  private static func stopper(_ workload: Workload) throws(TinyGuestError) -> Stopper? {
    guard let milliseconds = workload.stopMilliseconds else { return nil }
    return try Stopper(milliseconds: milliseconds)
  }

  func run(_ onReady: ([Int32]) -> Void) throws(TinyGuestError) -> Result {
    let competitor = try competitor()
    do throws(TinyGuestError) {
      try runVCPUs(onReady)
    } catch {
      _ = competitor?.finish()
      throw error
    }
    var vcpus: [VCPUResult] = []
    for case .some(let result) in results { vcpus.append(try result.get()) }
    var measured: [String: Measured] = [:]
    if let competitor { measured["competitor"] = competitor.finish() }
    if let stopper { measured["stop"] = try checked(stopper.finish(), vcpus) }
    let isTold = vcpus.allSatisfy { $0.statistics != nil }
    return Result(
      vcpus: vcpus, tscKHz: tscKHz, hasIrqchip: machine.hasIrqchip, measured: measured,
      statistics: isTold ? nil : machine.statistics())
  }

  private func competitor() throws(TinyGuestError) -> Competitor? {
    guard let cpu = workload.competitorCPU else { return nil }
    return try Competitor(rendezvous, cpu: cpu, vcpus: workload.vcpus)
  }

  /// A stop that found nobody at work is not what was asked for.
  private func checked(_ stop: Measured, _ vcpus: [VCPUResult]) throws(TinyGuestError) -> Measured {
    guard vcpus.allSatisfy({ $0.endNanoseconds > stop.startNanoseconds ?? 0 }) else {
      throw TinyGuestError("stop-ms: the guest was done before it was stopped; give it more to do")
    }
    return stop
  }

  private func runVCPUs(_ onReady: ([Int32]) -> Void) throws(TinyGuestError) {
    var threads: [Worker] = []
    var failure: TinyGuestError?
    for index in 0..<workload.vcpus {
      do throws(TinyGuestError) {
        threads.append(try Worker("CPU \(index)/KVM") { [self] in runVCPU(index, tid: $0) })
      } catch {
        failure = error
        rendezvous.stop()
        break
      }
    }
    let limit = workload.timeLimitSeconds
    let inTime = rendezvous.waitReady(threads.count, until: deadline(inSeconds: limit))
    if !inTime || failure != nil { rendezvous.stop() } else { onReady(tids) }
    endSeconds = monotonicSeconds() + (workload.seconds ?? 0)
    rendezvous.release()
    stopper?.begin()
    var finished = inTime
    if inTime {
      let left = limit + (workload.seconds ?? 0) + Double(workload.stopMilliseconds ?? 0) / 1000
      finished = rendezvous.waitFinishedOrFailed(threads.count, until: deadline(inSeconds: left))
    }
    interrupt(threads)
    for thread in threads { thread.join() }
    if !finished { failure = TinyGuestError("the tiny guest did not end within \(Int(limit)) s; it did: \(done)") }
    if let failure { throw failure }
  }

  /// How far the virtual CPUs came, in words.
  private var done: String {
    (0..<workload.vcpus).map { index in
      let page = machine.page(index).pointee
      let counts = GuestCounts(page, hasIrqchip: machine.hasIrqchip, tscKHz: nil, spun: Measured(), slept: Measured())
      let did = Deed.allCases.filter { counts.did[$0] ?? 0 > 0 }.map { "\(counts.did[$0] ?? 0) \($0.name)" }
      return (did + (counts.interrupts > 0 ? ["\(counts.interrupts) interrupts"] : [])).joined(separator: ", ")
    }.joined(separator: "; ")
  }

  /// Gets threads out of KVM_RUN that have not finished. A signal may come just before the call: repeated until all are
  /// out. The handler stays, for signals that are still on their way.
  private func interrupt(_ threads: [Worker]) {
    guard !rendezvous.waitFinished(threads.count, until: deadline(inSeconds: 0)) else { return }
    rendezvous.stop()
    var action = sigaction()
    action.__sigaction_handler.sa_handler = { _ in }
    sigaction(SIGUSR1, &action, nil)
    repeat {
      for thread in threads { thread.interrupt() }
    } while !rendezvous.waitFinished(threads.count, until: deadline(inSeconds: 0.02))
  }

  private func runVCPU(_ index: Int, tid: Int32) {
    var arrived = false
    var result: Swift.Result<VCPUResult, TinyGuestError>
    var pager: Pager?
    do throws(TinyGuestError) {
      if let cpu = workload.pinnedCPU, case let code = kt_guest_pin(Int32(cpu)), code != 0 {
        throw TinyGuestError("binding a virtual CPU to CPU \(cpu)", errno: code)
      }
      pager = try makePager(index)
      // One at a time: the first one's page faults build the upper levels of the nested page tables.
      let vcpu = try VirtualCPU(machine, index: index, workload)
      try rendezvous.alone { () throws(TinyGuestError) in
        tids[index] = tid
        tscKHz = vcpu.tscKHz
        _ = try vcpu.runToPause { false }
      }
      arrived = true
      rendezvous.arriveAndWait()
      let start = monotonicNanoseconds()
      try work(vcpu)
      let end = monotonicNanoseconds()
      // What a thread unmaps on its way out, its stack to begin with, makes KVM before 5.12 repeat the others' page faults.
      rendezvous.rest(workload.vcpus)
      result = .success(try report(vcpu, index: index, tid: tid, start: start, end: end, late: try pager?.finish()))
    } catch {
      result = .failure(error)
      _ = try? pager?.finish()
    }
    if !arrived { rendezvous.arriveAndWait() }
    let isFailed = if case .failure = result { true } else { false }
    try? rendezvous.alone { results[index] = result }
    rendezvous.finish(failed: isFailed)
  }

  private func makePager(_ index: Int) throws(TinyGuestError) -> Pager? {
    guard machine.layout.delayedBytes > 0 else { return nil }
    return try Pager(
      machine.delayedMemory(index), bytes: machine.layout.delayedBytes, delayMicroseconds: workload.spans.fault)
  }

  private func report(
    _ vcpu: VirtualCPU, index: Int, tid: Int32, start: Int, end: Int, late: Measured?
  ) throws(TinyGuestError) -> VCPUResult {
    let counts = vcpu.counts
    var measured = counts.measured
    if let late { measured["userfault"] = late }
    return VCPUResult(
      index: index, tid: tid, did: counts.did, ownPages: counts.ownPages, kvmRun: vcpu.kvmRun, exits: counts.exits,
      interrupts: counts.interrupts, measured: measured, startNanoseconds: start, endNanoseconds: end,
      statistics: vcpu.statistics)
  }

  private func work(_ vcpu: VirtualCPU) throws(TinyGuestError) {
    var laps = 0
    let onlyImmediate = workload.immediateExits > 0 && workload.times.isEmpty
    while !onlyImmediate, mayBegin(lap: laps), !rendezvous.isStopped {
      guard try vcpu.runLap({ rendezvous.isStopped }) else { return }
      laps += 1
    }
    if !onlyImmediate { try vcpu.counts.check(laps: laps, of: workload, kvmRun: vcpu.kvmRun) }
    let interval = workload.immediateExitsPerSecond.map { 1 / $0 }
    let start = monotonicSeconds()
    var turns = 0
    while turns < workload.immediateExits || (onlyImmediate && isBefore(endSeconds)), !rendezvous.isStopped {
      try vcpu.runImmediateExit()
      turns += 1
      if let interval { sleep(untilMonotonicSeconds: start + Double(turns) * interval) }
    }
  }

  private func mayBegin(lap: Int) -> Bool {
    let begins = lap < workload.laps || isBefore(endSeconds)
    return workload.count(.ipi) > 0 ? rendezvous.grantLap(lap) { begins } : begins
  }

  private func isBefore(_ seconds: Double) -> Bool { workload.seconds != nil && monotonicSeconds() < seconds }
}
