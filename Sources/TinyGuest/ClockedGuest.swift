import CTinyGuest
import Glibc

/// A VM of one virtual CPU that does one thing over and over and clocks each time with its own TSC. It runs on the thread
/// that created it, a lap when told to, so that the host can be changed between two laps.
public final class ClockedGuest {
  /// What a lap brought.
  public struct Lap: Equatable, Sendable {
    /// TSC cycles of each time, from before the instruction until after it.
    public var cycles: [UInt32]
    /// The same of nothing: what the two readings of the TSC take.
    public var emptyCycles: UInt32
  }

  /// Deeds that can be clocked.
  public static let deeds: Set<Deed> = [.cpuid, .portOut, .rdmsr, .portInSleep, .arm]
  /// A lap's samples fit into a page, with the one of nothing.
  public static let mostPerLap = Layout.pageBytes / MemoryLayout<UInt32>.stride - 1

  /// How often it is done in a lap.
  public let perLap: Int
  private let workload: Workload
  private let machine: VirtualMachine
  private let vcpu: VirtualCPU
  private var laps = 0

  /// Creates the VM and runs its first instructions.
  /// - Parameters:
  ///   - sleepMicroseconds: how long `Deed.portInSleep` sleeps.
  public init(_ deed: Deed, perLap: Int, sleepMicroseconds: Int = 50) throws(TinyGuestError) {
    guard Self.deeds.contains(deed), (1...Self.mostPerLap).contains(perLap) else {
      throw TinyGuestError("\(deed.name), \(perLap) times a lap, cannot be clocked")
    }
    var workload = Workload([deed: perLap])
    workload.isClocked = true
    workload.spans.inSleep = sleepMicroseconds
    try workload.check()
    self.perLap = perLap
    self.workload = workload
    machine = try VirtualMachine(workload)
    vcpu = try VirtualCPU(machine, index: 0, workload)
    _ = try vcpu.runToPause { false }
  }

  /// One lap. A guest that did not do what it was told is an error.
  public func lap() throws(TinyGuestError) -> Lap {
    let end = monotonicSeconds() + workload.timeLimitSeconds
    guard try vcpu.runLap({ monotonicSeconds() > end }) else {
      throw TinyGuestError("the tiny guest did not end a lap within \(Int(workload.timeLimitSeconds)) s")
    }
    laps += 1
    try vcpu.counts.check(laps: laps, of: workload, kvmRun: vcpu.kvmRun)
    let samples = machine.samples(0)
    return Lap(cycles: Array(samples[1...perLap]), emptyCycles: samples[0])
  }

  /// Binds the calling thread to the CPU that it is on, and returns that CPU.
  public static func pin() throws(TinyGuestError) -> Int {
    let cpu = kt_guest_current_cpu()
    let code = cpu < 0 ? -cpu : kt_guest_pin(cpu)
    guard code == 0 else { throw TinyGuestError("binding to a CPU", errno: code) }
    return Int(cpu)
  }

  /// The calling thread's id.
  public static var threadID: Int32 { kt_guest_thread_id() }
}
