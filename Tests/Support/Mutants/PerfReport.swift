import Foundation

/// What `perf kvm stat report` prints.
public struct PerfReport: Sendable {
  /// One row; times in µs with two decimals, as printed.
  public struct Row: Sendable {
    /// perf's name of the reason.
    public var name: String
    /// "Samples".
    public var samples: UInt64
    /// "Time%".
    public var timePercent: Double
    /// "Min Time".
    public var minMicroseconds: Double
    /// "Max Time".
    public var maxMicroseconds: Double
    /// "Avg time".
    public var meanMicroseconds: Double
  }
  /// In the printed order.
  public private(set) var rows: [Row] = []
  /// "Total Samples".
  public private(set) var totalSamples: UInt64 = 0
  /// "Total events handled time" in µs.
  public private(set) var totalMicroseconds: Double = 0

  /// Runs the program, for all vCPUs or for one.
  public init(of path: String, vcpu: Int? = nil) throws {
    let only = vcpu.map { ["--vcpu", String($0)] } ?? []
    let output = try CountingTool.perf.run(["kvm", "-i", path, "stat", "report"] + only)
    // perf 6.1 writes the table to standard error
    let text = String(decoding: output.bytes, as: UTF8.self) + output.errors
    guard output.status == 0, try read(text) else { throw SampleError(text: "perf kvm stat report: \(text)") }
  }

  private mutating func read(_ text: String) throws -> Bool {
    var ended = false
    for line in text.split(separator: "\n") {
      let words = line.split(separator: " ")
      if line.hasPrefix("Total Samples:") {
        let numbers = line.split { !"0123456789.".contains($0) }
        guard numbers.count >= 2, let samples = UInt64(numbers[0]), let time = Double(numbers[1]) else { return false }
        totalSamples = samples
        totalMicroseconds = time
        ended = true
      } else if words.count >= 11, words[words.count - 3] == "+-" {
        // name… samples samples% time% min max mean ( +- x% )
        let columns = words.dropLast(4).suffix(6).map { Double($0.filter { $0.isNumber || $0 == "." }) }
        guard let samples = columns[0], let share = columns[2], let least = columns[3], let most = columns[4],
          let mean = columns[5]
        else { return false }
        rows.append(
          Row(
            name: words.dropLast(10).joined(separator: " "), samples: UInt64(samples), timePercent: share,
            minMicroseconds: least, maxMicroseconds: most, meanMicroseconds: mean))
      }
    }
    return ended
  }
}
