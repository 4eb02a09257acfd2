import CKvmtax
import Glibc

/// How many threads, rows and rings a recording has room for, and what that costs in kernel memory.
///
/// The maps cannot grow, so they are sized for VMs that start later too: 8,192 vCPU threads with 8 reasons and 16 keys each where
/// the host's memory allows, never more than 256 MB or a 32nd of the memory.
struct Capacity: Equatable {
  /// One more than the highest tid.
  var threads: UInt32
  /// vCPU threads that can be followed at a time.
  var slots: UInt32
  /// Accounts: one per (thread, reason).
  var rows: UInt32
  /// Accounts of keys: one per (thread, key).
  var keys: UInt32 { rows * Capacity.keysPerRow }
  /// Of these, those that a hash holds because the slot's own table has their place taken.
  var moreKeys: UInt32 { max(keys / 4, 64) }
  /// Rings for event records; 0 without `--events`.
  var rings: UInt32
  /// Bytes per ring, a power of two.
  var ringBytes: UInt32

  private static let rowsPerSlot: UInt32 = 8
  private static let keysPerRow: UInt32 = 2
  /// The design's bound on kernel memory.
  static let budgetBytes: UInt64 = 256 << 20
  /// All rings together, unless each would get less than `leastRingBytes`.
  static let allRingsBytes: UInt32 = 64 << 20
  static let leastRingBytes: UInt32 = 2 << 20

  /// Room for nobody: to see whether programs load.
  static let none = Capacity(threads: 2, slots: 1, rows: 2, rings: 0, ringBytes: 0)

  private init(threads: UInt32, slots: UInt32, rows: UInt32, rings: UInt32, ringBytes: UInt32) {
    self.threads = threads
    self.slots = slots
    self.rows = rows
    self.rings = rings
    self.ringBytes = ringBytes
  }

  /// Chooses sizes for a host.
  /// - Parameters:
  ///   - vcpus: vCPU threads that run now.
  ///   - ringGroups: groups of CPUs that share a ring; 0 without event records.
  init(pidMax: UInt32, memoryBytes: UInt64, vcpus: Int, ringGroups: Int) {
    threads = max(pidMax, 32768)
    rings = UInt32(min(ringGroups, Int(KT_MAX_RINGS)))
    ringBytes = 0
    if rings > 0 {
      let share = Capacity.allRingsBytes / rings
      ringBytes = max(Capacity.powerOfTwo(atMost: share), Capacity.leastRingBytes)
    }
    let budget = min(Capacity.budgetBytes, max(memoryBytes / 32, 24 << 20))
    slots = 8192
    let wanted = UInt32(clamping: vcpus * 2)
    while slots < wanted, slots < 32768 { slots *= 2 }
    rows = slots * Capacity.rowsPerSlot
    // threads that may never come are given up first, then accounts of those that run
    while kernelBytes > budget, slots > 128, slots > wanted {
      slots /= 2
      rows /= 2
    }
    while kernelBytes > budget, rows > 1024 { rows /= 2 }
  }

  /// The maps whose size does not depend on the host: hashes, notices, tables by CPU.
  private static let fixedBytes: UInt64 = 4 << 20

  /// What the maps take: array elements are preallocated, queue elements too.
  var kernelBytes: UInt64 {
    UInt64(threads) * 4 + UInt64(slots)
      * UInt64(MemoryLayout<kt_slot>.stride + MemoryLayout<kt_looks>.stride + 2048 + 8)
      + UInt64(rows) * UInt64(MemoryLayout<kt_row>.stride + 4)
      + UInt64(keys) * UInt64(MemoryLayout<kt_key_row>.stride + 4) + UInt64(moreKeys) * 96
      + UInt64(rings) * UInt64(ringBytes) + Capacity.fixedBytes
  }

  private static func powerOfTwo(atMost value: UInt32) -> UInt32 {
    value == 0 ? 0 : 1 << (31 - UInt32(value.leadingZeroBitCount))
  }

  /// Sizes for the host we run on.
  static func ofThisHost(vcpus: Int, ringGroups: Int) -> Capacity {
    let pidMax = readProcText("/proc/sys/kernel/pid_max").flatMap { UInt32($0) } ?? 4_194_304
    let memory = UInt64(max(sysconf(Int32(_SC_PHYS_PAGES)), 0)) * UInt64(sysconf(Int32(_SC_PAGESIZE)))
    return Capacity(pidMax: pidMax, memoryBytes: memory, vcpus: vcpus, ringGroups: ringGroups)
  }
}

/// Which ring each CPU writes to: groups of at most 8 CPUs of one NUMA node.
struct RingGroups: Equatable {
  /// By CPU number.
  var ringOfCpu: [UInt32]
  /// Number of groups.
  var count: Int

  /// Groups the CPUs of each node; CPUs in no node form groups of their own.
  init(cpuCount: Int, nodes: [[Int]]) {
    ringOfCpu = [UInt32](repeating: 0, count: max(cpuCount, 1))
    var group = 0
    var placed = Set<Int>()
    let rest = (0..<cpuCount).filter { cpu in !nodes.contains { $0.contains(cpu) } }
    for node in nodes + [rest] {
      for (index, cpu) in node.filter({ $0 >= 0 && $0 < cpuCount && placed.insert($0).inserted }).enumerated() {
        if index > 0, index % 8 == 0 { group += 1 }
        ringOfCpu[cpu] = UInt32(group % Int(KT_MAX_RINGS))
      }
      if node.contains(where: { $0 < cpuCount }) { group += 1 }
    }
    count = min(max(group, 1), Int(KT_MAX_RINGS))
  }

  /// The groups of this host, from sysfs.
  static func ofThisHost() -> RingGroups {
    let nodes = directoryEntries("/sys/devices/system/node").filter {
      $0.hasPrefix("node") && Int($0.dropFirst(4)) != nil
    }
    .sorted().map { cpuList(readProcText("/sys/devices/system/node/\($0)/cpulist") ?? "") }
    let possible = cpuList(readProcText("/sys/devices/system/cpu/possible") ?? "0").max() ?? 0
    return RingGroups(cpuCount: possible + 1, nodes: nodes)
  }

  /// "0-3,8" as [0, 1, 2, 3, 8]; at most 65,536 CPUs.
  static func cpuList(_ text: String) -> [Int] {
    var cpus: [Int] = []
    for part in text.split(separator: ",") {
      let ends = part.split(separator: "-").compactMap { Int($0) }
      guard let first = ends.first, let last = ends.last, first >= 0, last >= first, last - first < 65536 else {
        continue
      }
      cpus += first...last
    }
    return cpus
  }
}
