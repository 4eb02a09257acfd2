import CTinyGuest
import Glibc

/// A VM of known behaviour, driven straight through /dev/kvm in this process: it does exactly so many of each thing and
/// counts itself what it did. No files, no firmware, no QEMU.
public enum TinyGuest {
  /// Runs a VM to its end.
  ///
  /// `onReady` is called with the threads of the virtual CPUs, in order, when all exist and have run their first
  /// instructions; the guest goes on when it returns.
  public static func run(
    _ workload: Workload, onReady: ([Int32]) -> Void = { _ in }
  ) throws(TinyGuestError) -> Result {
    try workload.check()
    let session = try Session(workload)
    return try session.run(onReady)
  }

  /// Creates a VM, lets it exit a handful of times (8 CPUID, 8 port writes, 2 HLT) and destroys it: some milliseconds.
  /// For those who want to see whether exits are traced on this kernel at all.
  public static func probe() throws(TinyGuestError) -> Result {
    var workload = Workload([.cpuid: 8, .portOut: 8])
    workload.timeLimitSeconds = 10
    return try run(workload)
  }
}

/// A VM that is running, shared by its threads.
private final class Session: @unchecked Sendable {
  let workload: Workload
  let machine: VirtualMachine
  let rendezvous = Rendezvous()
  // Each thread writes its own element, under the rendezvous's lock; read when all have finished.
  private var results: [Swift.Result<VCPUResult, TinyGuestError>?]
  private var tids: [Int32]
  private var endSeconds = 0.0

  init(_ workload: Workload) throws(TinyGuestError) {
    self.workload = workload
    machine = try VirtualMachine(workload)
    results = Array(repeating: nil, count: workload.vcpus)
    tids = Array(repeating: 0, count: workload.vcpus)
  }

  func run(_ onReady: ([Int32]) -> Void) throws(TinyGuestError) -> Result {
    var threads: [pthread_t] = []
    var failure: TinyGuestError?
    for index in 0..<workload.vcpus {
      let seat = Unmanaged.passRetained(Seat(session: self, index: index))
      var thread = pthread_t()
      let code = pthread_create(&thread, nil, { Seat.main($0) }, seat.toOpaque())
      if code != 0 {
        seat.release()
        failure = TinyGuestError("a thread for virtual CPU \(index)", errno: code)
        rendezvous.stop()
        break
      }
      threads.append(thread)
    }
    let limit = workload.timeLimitSeconds
    let inTime = rendezvous.waitReady(threads.count, until: deadline(inSeconds: limit))
    if !inTime || failure != nil { rendezvous.stop() } else { onReady(tids) }
    endSeconds = monotonicSeconds() + (workload.seconds ?? 0)
    rendezvous.release()
    var finished = inTime
    if inTime {
      let left = limit + (workload.seconds ?? 0)
      finished = rendezvous.waitFinished(threads.count, until: deadline(inSeconds: left))
    }
    if !finished {
      failure = TinyGuestError("the tiny guest did not end within \(Int(limit)) s")
      interrupt(threads)
    }
    for thread in threads { pthread_join(thread, nil) }
    if let failure { throw failure }
    var vcpus: [VCPUResult] = []
    for case .some(let result) in results { vcpus.append(try result.get()) }
    return Result(vcpus: vcpus)
  }

  /// Gets threads out of KVM_RUN. A signal may come just before the call: repeated until all are out. The handler stays,
  /// for signals that are still on their way.
  private func interrupt(_ threads: [pthread_t]) {
    rendezvous.stop()
    var action = sigaction()
    action.__sigaction_handler.sa_handler = { _ in }
    sigaction(SIGUSR1, &action, nil)
    repeat {
      for thread in threads { pthread_kill(thread, SIGUSR1) }
    } while !rendezvous.waitFinished(threads.count, until: deadline(inSeconds: 0.02))
  }

  func runVCPU(_ index: Int) {
    let tid = kt_guest_name_thread("CPU \(index)/KVM")
    takeNoSignals(but: SIGUSR1)
    var arrived = false
    let result: Swift.Result<VCPUResult, TinyGuestError>
    do {
      // One at a time: the first one's page faults build the upper levels of the nested page tables.
      let vcpu = try VirtualCPU(machine, index: index)
      try rendezvous.alone { () throws(TinyGuestError) in
        tids[index] = tid
        _ = try vcpu.runToHalt(nil)
      }
      arrived = true
      rendezvous.arriveAndWait()
      try work(vcpu)
      result = .success(
        VCPUResult(index: index, tid: tid, did: vcpu.did, ownPages: Layout.ownPages, kvmRun: vcpu.kvmRun))
    } catch {
      result = .failure(error)
    }
    if !arrived { rendezvous.arriveAndWait() }
    try? rendezvous.alone { results[index] = result }
    rendezvous.finish()
  }

  private func work(_ vcpu: VirtualCPU) throws(TinyGuestError) {
    var laps = 0
    let onlyImmediate = workload.immediateExits > 0 && workload.times.isEmpty
    while !onlyImmediate, laps < workload.laps || isBefore(endSeconds), !rendezvous.isStopped {
      guard try vcpu.runLap(rendezvous) else { return }
      laps += 1
    }
    let interval = workload.immediateExitsPerSecond.map { 1 / $0 }
    let start = monotonicSeconds()
    var turns = 0
    while turns < workload.immediateExits || (onlyImmediate && isBefore(endSeconds)), !rendezvous.isStopped {
      try vcpu.runImmediateExit()
      turns += 1
      if let interval { sleep(untilMonotonicSeconds: start + Double(turns) * interval) }
    }
  }

  private func isBefore(_ seconds: Double) -> Bool { workload.seconds != nil && monotonicSeconds() < seconds }
}

/// Threads inherit their creator's mask, and libdispatch's block everything: without the one signal that interrupts
/// KVM_RUN, a guest that does not end could not be stopped. The others are for the program's own threads.
private func takeNoSignals(but signal: Int32) {
  var mask = sigset_t()
  sigfillset(&mask)
  sigdelset(&mask, signal)
  pthread_sigmask(SIG_SETMASK, &mask, nil)
}

/// What a thread is given: its VM and which virtual CPU it is.
private final class Seat {
  let session: Session
  let index: Int

  init(session: Session, index: Int) {
    self.session = session
    self.index = index
  }

  static func main(_ context: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    guard let context else { return nil }
    let seat = Unmanaged<Seat>.fromOpaque(context).takeRetainedValue()
    seat.session.runVCPU(seat.index)
    return nil
  }
}
