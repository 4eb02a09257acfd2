import Bpf
import BpfImages
import CKvmtax
import TinyGuest

/// The programs that a calibration attaches beside the tracer's: one pair that only takes the time, one that delays.
final class Stopwatch {
  private let object: BpfObject
  private let spans: MappedArray<UInt64>
  private let globals: MappedGlobals
  private let timedProgram = "time_delay"
  private let prefix: (stopwatch: String, delay: String)
  private var links = BpfLinks()

  /// Loads the programs, for the calling thread. The delay's are left out unless they are wanted.
  init(proxy: Bool, delays: Bool) throws(BpfError) {
    prefix = proxy ? ("stopwatch_proxy", "delay_proxy") : ("stopwatch", "delay")
    var wanted = ["\(prefix.stopwatch)_exit", "\(prefix.stopwatch)_entry"]
    if delays { wanted += ["\(prefix.delay)_exit", "\(prefix.delay)_entry", timedProgram] }
    object = try BpfObject(base64: calibrateObject, name: "kvmtax_calibrate")
    for program in object.programs { try object.setAutoload(program, wanted.contains(program)) }
    try object.load()
    globals = try object.globals()
    spans = try MappedArray(try object.map("spans"))
    try globals.set("timed_tid", UInt32(bitPattern: ClockedGuest.threadID))
  }

  /// Attaches the pair that takes the time.
  func start() throws(BpfError) {
    for end in ["exit", "entry"] { links.add(try object.attach("\(prefix.stopwatch)_\(end)")) }
  }

  /// Attaches the pair that delays: behind the tracer's programs, if those are attached already.
  func startDelay(steps: UInt32) throws(BpfError) {
    try globals.set("delay_steps", steps)
    for end in ["exit", "entry"] { links.add(try object.attach("\(prefix.delay)_\(end)")) }
  }

  func stop() { links.detach() }

  /// Forgets what was timed, an open exit included.
  func clear() throws(BpfError) {
    try globals.set("exit_ns", UInt64(0))
    try globals.set("span_count", UInt32(0))
  }

  /// kvm_exit to kvm_entry, ns, of each exit that has ended since `clear()`; nil if there were too many.
  func read() throws(BpfError) -> [Double]? {
    let count = Int(try globals.value("span_count", like: UInt32(0)))
    guard count <= spans.count else { return nil }
    return (0..<count).map { Double(spans.pointer(at: $0)?.pointee ?? 0) }
  }

  /// How long so many turns of the delay's loop take by themselves, ns: the median of many runs.
  func timeDelay(steps: UInt32) throws(BpfError) -> Double {
    func runs(_ steps: UInt32) throws(BpfError) -> Double {
      try globals.set("delay_steps", steps)
      var times: [Double] = []
      for _ in 0..<31 {
        try object.run(timedProgram)
        times.append(Double(try globals.value("delay_ns", like: UInt64(0))))
      }
      return CalibrationSamples.median(times) ?? 0
    }
    // without a turn: what taking the time takes
    let nothing = try runs(0)
    return max(try runs(steps) - nothing, 0)
  }
}
