import Attribution
import CKvmtax
import TestSupport
import Testing

@Suite struct HistogramTests {
  @Test func bucketsLieWhereTheirDefinitionSays() {
    #expect(Histogram.bucketCount == OracleBuckets.bounds.count + 1)
    #expect(kt_bucket_floor(0) == 0)
    for (index, bound) in OracleBuckets.bounds.enumerated() {
      #expect(kt_bucket_floor(UInt32(index + 1)) == bound)
      #expect(kt_bucket(bound) == UInt32(index + 1))
      #expect(kt_bucket(bound - 1) == UInt32(index))
    }
    #expect(kt_bucket(0) == 0)
    #expect(kt_bucket(.max) == UInt32(Histogram.bucketCount - 1))
    #expect(kt_bucket_floor(.max) == 1 << 34)
  }

  @Test func everyDurationHasItsBucket() {
    var numbers = SeededNumbers(seed: 3)
    for _ in 0..<20_000 {
      let nanoseconds = numbers.next() >> UInt64.random(in: 0..<64, using: &numbers)
      #expect(Int(kt_bucket(nanoseconds)) == OracleBuckets.bucket(of: nanoseconds))
    }
  }

  /// Durations over all octaves, in one narrow peak, in two peaks far apart, all the same.
  @Test(arguments: 0..<4, [1, 7, 1000, 20_000]) func percentilesAreWithinOneBucket(shape: Int, count: Int) throws {
    var numbers = SeededNumbers(seed: UInt64(shape + count))
    let durations = (0..<count).map { index -> UInt64 in
      switch shape {
      case 0: 64 + numbers.next() >> UInt64.random(in: 30..<58, using: &numbers)
      case 1: .random(in: 1000...1100, using: &numbers)
      case 2:
        index % 10 == 0 ? .random(in: 4_000_000...5_000_000, using: &numbers) : .random(in: 600...700, using: &numbers)
      default: 123_456
      }
    }
    .sorted()
    var histogram = Histogram()
    for duration in durations { histogram.add(nanoseconds: duration) }
    #expect(histogram.total == UInt64(count))
    for fraction in [0, 0.001, 0.25, 0.5, 0.9, 0.99, 0.999, 1] {
      let exact = durations[max(0, Int((fraction * Double(count)).rounded(.up)) - 1)]
      let found = try #require(
        histogram.percentile(fraction, least: durations[0], greatest: durations[count - 1]))
      #expect(abs(Double(found) - Double(exact)) <= Double(exact) / 8, "p\(fraction): \(found) for \(exact)")
      #expect(found >= durations[0] && found <= durations[count - 1])
    }
  }

  @Test func nothingCountedHasNoPercentile() {
    #expect(Histogram().percentile(0.5) == nil)
  }

  @Test(arguments: [0, 0.5, 0.999, 1]) func countsAndBoundsFromADamagedFileDoNoHarm(fraction: Double) throws {
    for count in [1, 1 << 60, .max] as [UInt64] {
      for bucket in [0, 1, Histogram.bucketCount - 1] {
        for greatest in [0, 1 << 34, .max - 1, .max] as [UInt64] {
          var histogram = Histogram()
          histogram.set(bucket: bucket, count: count)
          let found = try #require(histogram.percentile(fraction, least: 5, greatest: greatest))
          #expect(found >= 5 && found <= max(5, greatest))
        }
      }
    }
  }

  @Test(arguments: [-1, Histogram.bucketCount, .max, .min]) func refusesABucketOutOfRange(bucket: Int) {
    var histogram = Histogram()
    let isSet = histogram.set(bucket: bucket, count: 1)
    #expect(!isSet)
    #expect(histogram == Histogram())
  }

  @Test func addsBucketByBucket() {
    var (left, right, both) = (Histogram(), Histogram(), Histogram())
    for nanoseconds in [0, 64, 5_000, 1 << 40] as [UInt64] {
      left.add(nanoseconds: nanoseconds)
      right.add(nanoseconds: nanoseconds * 2)
      both.add(nanoseconds: nanoseconds)
      both.add(nanoseconds: nanoseconds * 2)
    }
    left.add(right)
    #expect(left == both)
  }
}
