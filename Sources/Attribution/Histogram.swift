import CKvmtax

/// Durations counted in 8 buckets per octave from 64 ns to 17 s (BPF/include/buckets.h), so that a percentile read from
/// it is within 12.5 % of the true value, and usually within 6 %.
public struct Histogram: Equatable, Sendable {
  /// Number of buckets: one below 64 ns, 224 in 28 octaves, one from 17.2 s on.
  public static let bucketCount = Int(KT_BUCKET_OCTAVES) * 8 + 2

  /// Occurrences per bucket.
  public private(set) var counts: [UInt64]

  /// Empty.
  public init() { counts = [UInt64](repeating: 0, count: Histogram.bucketCount) }

  /// Copies the buckets of a row.
  public init(copying buckets: UnsafePointer<UInt32>) {
    counts = UnsafeBufferPointer(start: buckets, count: Histogram.bucketCount).map(UInt64.init)
  }

  /// How many durations were counted.
  public var total: UInt64 { counts.reduce(0, &+) }

  /// Counts one duration.
  public mutating func add(nanoseconds: UInt64) { counts[Int(kt_bucket(nanoseconds))] &+= 1 }

  /// Sets one bucket's count; an index out of range is ignored and reported as false.
  @discardableResult public mutating func set(bucket: Int, count: UInt64) -> Bool {
    guard counts.indices.contains(bucket) else { return false }
    counts[bucket] = count
    return true
  }

  /// Adds the other's counts, bucket by bucket.
  public mutating func add(_ other: Histogram) {
    for index in counts.indices { counts[index] &+= other.counts[index] }
  }

  /// The duration in ns below which the given fraction (0...1) of the durations lies, interpolated inside its bucket and
  /// kept within the least and greatest duration seen; nil when nothing was counted.
  public func percentile(_ fraction: Double, least: UInt64 = 0, greatest: UInt64 = .max) -> UInt64? {
    let total = self.total
    guard total > 0 else { return nil }
    let rank = max(1, (fraction * Double(total)).rounded(.up))
    var below = 0.0
    for (bucket, count) in counts.enumerated() where count > 0 {
      let upTo = below + Double(count)
      if rank <= upTo {
        let floor = Double(kt_bucket_floor(UInt32(bucket)))
        let ceiling =
          bucket + 1 < Histogram.bucketCount
          ? Double(kt_bucket_floor(UInt32(bucket + 1)))
          : max(floor, Double(greatest == .max ? UInt64(floor) : greatest))
        let value = floor + (ceiling - floor) * (rank - below - 0.5) / Double(count)
        // a damaged file's greatest duration may round up to 2^64, which no UInt64 holds
        return min(max(value < 0x1p64 ? UInt64(value) : .max, least), max(greatest, least))
      }
      below = upTo
    }
    return nil
  }
}
