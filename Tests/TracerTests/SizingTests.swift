import Testing

@testable import Tracer

@Suite struct SizingTests {
  @Test(arguments: [
    (32768 as UInt32, 2 << 30 as UInt64, 0, 1), (4_194_304, 24 << 30, 6400, 1), (4_194_304, 512 << 30, 20000, 32),
    (4_194_304, 1 << 30, 64, 4), (0, 0, 0, 0),
  ])
  func `Kernel memory stays within its budget and every vCPU that runs has a slot`(
    pidMax: UInt32, memory: UInt64, vcpus: Int, groups: Int
  ) {
    let capacity = Capacity(pidMax: pidMax, memoryBytes: memory, vcpus: vcpus, ringGroups: groups)
    #expect(capacity.kernelBytes <= Capacity.budgetBytes || memory < 8 << 30)
    #expect(Int(capacity.slots) >= min(vcpus, 16384))
    #expect(capacity.rows >= 1024)
    #expect(capacity.rings == UInt32(groups))
    if groups > 0 {
      #expect(capacity.ringBytes.nonzeroBitCount == 1)
      #expect(capacity.ringBytes >= Capacity.leastRingBytes)
    }
  }

  @Test(arguments: [512 << 20, 1 << 30, 2 << 30, 4 << 30, 64 << 30] as [UInt64])
  func `A small host has fewer threads, but each with as many accounts`(memory: UInt64) {
    let capacity = Capacity(pidMax: 4_194_304, memoryBytes: memory, vcpus: 8, ringGroups: 0)
    #expect(capacity.rows == capacity.slots * 8)
    #expect(capacity.kernelBytes <= max(memory / 32, 24 << 20))
  }

  @Test func `CPUs share a ring in groups of at most eight of one node`() {
    let groups = RingGroups(cpuCount: 24, nodes: [Array(0..<12), Array(12..<24)])
    #expect(groups.count == 4)
    for node in [0..<12, 12..<24] {
      let rings = Set(node.map { groups.ringOfCpu[$0] })
      #expect(rings.count == 2)
      for ring in rings {
        let members = groups.ringOfCpu.indices.filter { groups.ringOfCpu[$0] == ring }
        #expect(members.count <= 8)
        #expect(members.allSatisfy(node.contains))
      }
    }
  }

  @Test func `CPUs outside any node, and hosts without nodes, have rings too`() {
    #expect(RingGroups(cpuCount: 3, nodes: []).ringOfCpu.count == 3)
    #expect(RingGroups(cpuCount: 3, nodes: []).count == 1)
    let groups = RingGroups(cpuCount: 4, nodes: [[0, 1, 99]])
    #expect(Set(groups.ringOfCpu[2...]) != Set(groups.ringOfCpu[..<2]))
  }

  @Test(arguments: [
    ("0-3,8", [0, 1, 2, 3, 8]), ("", []), ("5", [5]), ("3-1", []), ("x", []), ("0-99999999", []), ("1,,2", [1, 2]),
  ])
  func `CPU lists are read as the kernel writes them`(text: String, cpus: [Int]) {
    #expect(RingGroups.cpuList(text) == cpus)
  }

  @Test(arguments: [
    ("10", 10_000_000_000 as UInt64?), ("90s", 90_000_000_000), ("500ms", 500_000_000), ("5m", 300_000_000_000),
    ("2h", 7_200_000_000_000), ("0", nil), ("-1", nil), ("", nil), ("abc", nil), ("1e99", nil), ("nan", nil),
  ])
  func `Durations are understood or refused`(text: String, nanoseconds: UInt64?) {
    #expect(parseDuration(text) == nanoseconds)
  }

  @Test(arguments: [
    ("4096", 4096 as UInt64?), ("100M", 104_857_600), ("1GiB", 1 << 30), ("1GB", 1 << 30), ("64KiB", 65536), ("0", nil),
    ("x", nil), ("-1M", nil), ("1e30", nil),
  ])
  func `Sizes are understood or refused`(text: String, bytes: UInt64?) {
    #expect(parseSize(text) == bytes)
  }

  @Test func `Snapshots come each second, later less often, unless told otherwise`() {
    let interval = SnapshotInterval()
    #expect(interval.nanoseconds(afterNanoseconds: 0) == 1_000_000_000)
    #expect(interval.nanoseconds(afterNanoseconds: 599_000_000_000) == 1_000_000_000)
    #expect(interval.nanoseconds(afterNanoseconds: 601_000_000_000) == 10_000_000_000)
    #expect(interval.nanoseconds(afterNanoseconds: 3_601_000_000_000) == 60_000_000_000)
    #expect(SnapshotInterval(fixedNanoseconds: 5).nanoseconds(afterNanoseconds: 3_601_000_000_000) == 5)
  }
}

@Suite struct SnapshotBudgetTests {
  /// A recording of a day on a host whose every snapshot takes as much.
  private func day(bytesPerSnapshot: UInt64, maxSize: UInt64, duration: UInt64? = 86_400_000_000_000) -> (
    bytes: UInt64, count: UInt64
  ) {
    let interval = SnapshotInterval()
    var (elapsed, bytes, count): (UInt64, UInt64, UInt64) = (0, 0, 0)
    while elapsed < 86_400_000_000_000 {
      elapsed += interval.nanoseconds(
        afterNanoseconds: elapsed, of: duration, snapshotBytes: bytes, count: count, maxSizeBytes: maxSize)
      bytes += bytesPerSnapshot
      count += 1
    }
    return (bytes, count)
  }

  @Test(arguments: [1_000, 100_000, 400_000] as [UInt64])
  func `A day of snapshots stays within 200 MiB, however large they are`(bytesPerSnapshot: UInt64) {
    let day = day(bytesPerSnapshot: bytesPerSnapshot, maxSize: 1 << 30)
    #expect(day.bytes <= SnapshotInterval.bytesPerDay + bytesPerSnapshot)
    #expect(day.count > 144)
  }

  @Test func `Small snapshots keep their usual distance`() {
    #expect(day(bytesPerSnapshot: 1000, maxSize: 1 << 30).count == 600 + 300 + 1380)
  }

  @Test func `A small file limit is not reached by snapshots alone`() {
    #expect(day(bytesPerSnapshot: 50_000, maxSize: 64 << 20).bytes < 64 << 20)
  }
}

@Suite struct BrakeTests {
  @Test func `A burst above the limit is no reason, three seconds are`() {
    var brakes = Brakes(maxSizeBytes: 1, maxOverhead: 0.02)
    func isExceeded(_ cost: UInt64) -> Bool {
      brakes.isExceeded(programNanoseconds: cost, runningNanoseconds: 1000)
    }
    #expect([isExceeded(50), isExceeded(50), isExceeded(10), isExceeded(50), isExceeded(50)].allSatisfy { !$0 })
    #expect(isExceeded(50))
    #expect([isExceeded(50), isExceeded(50)].allSatisfy { !$0 })
    #expect(isExceeded(50))
  }

  @Test func `Without a limit, or with nothing running, nothing happens`() {
    var free = Brakes(maxSizeBytes: 1, maxOverhead: 0)
    var idle = Brakes(maxSizeBytes: 1, maxOverhead: 0.02)
    for _ in 0..<9 {
      let verdicts = [
        free.isExceeded(programNanoseconds: 9, runningNanoseconds: 1),
        idle.isExceeded(programNanoseconds: 9, runningNanoseconds: 0),
      ]
      #expect(verdicts == [false, false])
    }
  }

  @Test(
    arguments: [(10 << 30, 512 << 20), (100 << 30, 1 << 30), (4096 << 30, 1 << 30), (1 << 20, 52428)]
      as [(UInt64, UInt64)])
  func `Five percent of the disk stay free, at most a GiB`(total: UInt64, least: UInt64) {
    #expect(Brakes.leastFreeBytes(total: total) == least)
  }
}
