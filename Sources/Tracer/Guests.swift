import Glibc
import Host

/// A process that runs vCPUs, as /proc shows it.
struct GuestProcess: Equatable {
  var pid: UInt32
  /// Field 22 of /proc/PID/stat, in clock ticks since boot: a pid with another start time is another process.
  var startTicks: UInt64
  /// The same in ns.
  var startNanoseconds: UInt64 { startTicks &* UInt64(1_000_000_000 / max(sysconf(Int32(_SC_CLK_TCK)), 1)) }
  /// QEMU's `-name`, else the process's name; untrusted.
  var name: String?
  /// Proxmox's number (QEMU's `-id`).
  var vmid: Int?
  /// vCPU file descriptors, where they were counted.
  var vcpuCount = 0

  /// Looks at one process; nil when it is gone.
  init?(pid: UInt32) {
    guard let startTicks = GuestProcess.startTicks(of: pid) else { return nil }
    self.pid = pid
    self.startTicks = startTicks
    let comm = readProcText("/proc/\(pid)/comm", limit: 64)
    let line = QemuCommandLine(commandLine: readProcFile("/proc/\(pid)/cmdline", limit: 1 << 17) ?? [], comm: comm)
    name = line.displayName
    vmid = line.vmid
  }

  /// When a process started, clock ticks since boot; nil when it is gone.
  static func startTicks(of pid: UInt32) -> UInt64? {
    // the name in parentheses may hold spaces and parentheses: count fields after the last one
    guard let status = readProcFile("/proc/\(pid)/stat", limit: 4096),
      let close = status.lastIndex(of: UInt8(ascii: ")"))
    else { return nil }
    let fields = status[(close + 1)...].split(separator: UInt8(ascii: " "))
    return fields.count > 19 ? UInt64(String(decoding: fields[19], as: UTF8.self)) ?? 0 : 0
  }

  /// All processes that hold a KVM VM now. Needs the right to look into other users' /proc.
  static func running() -> [GuestProcess] {
    var guests: [GuestProcess] = []
    for entry in directoryEntries("/proc") {
      guard let pid = UInt32(entry), pid != UInt32(getpid()) else { continue }
      var holdsVM = false
      var vcpus = 0
      for descriptor in directoryEntries("/proc/\(pid)/fd") {
        guard let target = linkTarget("/proc/\(pid)/fd/\(descriptor)") else { continue }
        if target == "anon_inode:kvm-vm" { holdsVM = true }
        if target.hasPrefix("anon_inode:kvm-vcpu") { vcpus += 1 }
      }
      guard holdsVM || vcpus > 0, var guest = GuestProcess(pid: pid) else { continue }
      guest.vcpuCount = vcpus
      guests.append(guest)
    }
    return guests.sorted { ($0.vmid ?? .max, $0.pid) < ($1.vmid ?? .max, $1.pid) }
  }

  /// "104 win-erp", else with what tells two VMs of one name apart: "firecracker (pid 4711)".
  var label: String {
    switch (vmid, name) {
    case (let vmid?, let name?): "\(vmid) \(name)"
    case (let vmid?, nil): "\(vmid)"
    case (nil, let name?): "\(name) (pid \(pid))"
    case (nil, nil): "pid \(pid)"
    }
  }
}
