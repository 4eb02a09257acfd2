/// What may be known of a virtual machine's process from its command line: its kind, its name and its number. The rest
/// of the line (paths, addresses, keys) is never kept.
public struct QemuCommandLine: Equatable, Sendable {
  /// The program that runs the VM.
  public enum Kind: String, Sendable {
    /// QEMU under any of its names: kvm, qemu-kvm, qemu-system-x86_64.
    case qemu
    /// cloud-hypervisor; has no option that names a VM.
    case cloudHypervisor
    /// crosvm; `--name`.
    case crosvm
    /// Firecracker; `--id`.
    case firecracker
    /// Anything else that owns vCPU threads.
    case other
  }

  /// The program.
  public var kind: Kind
  /// The VM's name as given on the command line, at most 128 characters; untrusted text. nil where none was given.
  public var name: String?
  /// Proxmox's number of the VM (`-id`).
  public var vmid: Int?
  /// The process's own name, what a VM without a name is called; untrusted text.
  public var comm: String?

  /// The VM's name, or else its process's; nil where both are unknown.
  public var displayName: String? { name ?? comm }

  /// Reads `/proc/PID/cmdline` (arguments, each ended by NUL; any bytes, any length) and `/proc/PID/comm`.
  public init(commandLine: some Collection<UInt8>, comm: String? = nil) {
    let trimmed = comm.map { $0.last == "\n" ? String($0.dropLast()) : $0 }
    self.comm = trimmed.flatMap { $0.isEmpty ? nil : $0 }
    // a command line is 2 MiB at most on Linux; an option of ours comes early
    let arguments = commandLine.prefix(1 << 21).split(separator: 0, omittingEmptySubsequences: false)
    kind = Kind(program: arguments.first.map { baseName($0) } ?? "", comm: self.comm)
    switch kind {
    case .qemu: readQemu(arguments.dropFirst())
    case .crosvm: name = value(of: "--name", in: arguments.dropFirst())
    case .firecracker: name = value(of: "--id", in: arguments.dropFirst())
    case .cloudHypervisor, .other: break
    }
  }

  private mutating func readQemu(_ arguments: ArraySlice<some Collection<UInt8>>) {
    var index = arguments.startIndex
    while index < arguments.endIndex {
      let argument = arguments[index]
      index += 1
      guard let option = optionName(argument), !qemuFlags.contains(option) else { continue }
      // every other option takes the next argument, whatever that looks like
      guard index < arguments.endIndex else { return }
      let value = arguments[index]
      index += 1
      switch option {
      case "name": name = guestName(value) ?? name
      case "id": vmid = number(value) ?? vmid
      default: break
      }
    }
  }
}

extension QemuCommandLine.Kind {
  /// By the program's file name; by the process's name (cut to 15 characters by the kernel) where that says nothing.
  init(program: String, comm: String?) {
    self = Self.named(program) ?? comm.flatMap { Self.named($0) } ?? .other
  }

  private static func named(_ name: String) -> Self? {
    switch name {
    case "kvm", "qemu", "qemu-kvm": .qemu
    case _ where name.hasPrefix("qemu-system-"): .qemu
    case "cloud-hypervisor", "cloud-hyperviso": .cloudHypervisor
    case "crosvm": .crosvm
    case "firecracker": .firecracker
    default: nil
    }
  }
}

/// The longest name kept; QEMU knows no limit.
private let longestName = 128

private func text(_ bytes: some Collection<UInt8>) -> String {
  // a bounded number of bytes first: a name of megabytes must not be decoded whole
  String(String(decoding: bytes.prefix(longestName * 4), as: UTF8.self).prefix(longestName))
}

private func baseName(_ path: some Collection<UInt8>) -> String {
  let parts = path.split(separator: UInt8(ascii: "/"))
  return parts.last.map { text($0) } ?? ""
}

/// "name" of "-name" and "--name"; nil for what is no option. No option's name is longer than 32 characters.
private func optionName(_ argument: some Collection<UInt8>) -> String? {
  let dash = UInt8(ascii: "-")
  let name = argument.prefix(34)
  guard name.first == dash else { return nil }
  let rest = name.dropFirst()
  return String(decoding: rest.first == dash ? rest.dropFirst() : rest, as: UTF8.self)
}

/// The value of `-name`: "guest=NAME,debug-threads=on", "NAME" or "NAME,process=…"; a comma in a name is doubled.
private func guestName(_ value: some Collection<UInt8>) -> String? {
  var found: String?
  for (position, part) in commaParts(value).enumerated() {
    let guest = Array("guest=".utf8)
    if part.starts(with: guest) {
      found = text(part.dropFirst(guest.count))
    } else if position == 0, !part.contains(UInt8(ascii: "=")) {
      found = text(part)
    }
  }
  return found.flatMap { $0.isEmpty ? nil : $0 }
}

/// Splits at single commas; two commas stand for one inside a value. Looks at the first 4 KiB.
private func commaParts(_ value: some Collection<UInt8>) -> [[UInt8]] {
  let comma = UInt8(ascii: ",")
  var parts: [[UInt8]] = [[]]
  var pending = false
  for byte in value.prefix(4096) {
    if byte == comma, !pending {
      pending = true
      continue
    }
    if pending, byte != comma { parts.append([]) }
    parts[parts.count - 1].append(byte)
    pending = false
  }
  return parts
}

private func number(_ value: some Collection<UInt8>) -> Int? {
  guard !value.isEmpty, value.count <= 9, value.allSatisfy({ UInt8(ascii: "0")...UInt8(ascii: "9") ~= $0 }) else {
    return nil
  }
  return Int(String(decoding: value, as: UTF8.self))
}

/// "--option VALUE" or "--option=VALUE".
private func value(of option: String, in arguments: ArraySlice<some Collection<UInt8>>) -> String? {
  let option = Array(option.utf8)
  let assignment = option + [UInt8(ascii: "=")]
  var found: [UInt8]?
  for index in arguments.indices {
    let argument = arguments[index]
    if argument.starts(with: assignment) {
      found = Array(argument.dropFirst(assignment.count).prefix(longestName * 4))
    } else if argument.elementsEqual(option), index + 1 < arguments.endIndex {
      found = Array(arguments[index + 1].prefix(longestName * 4))
    }
  }
  return found.map { text($0) }.flatMap { $0.isEmpty ? nil : $0 }
}

/// QEMU's options that take no argument (its qemu-options.hx up to 10.0, with those that older releases had).
private let qemuFlags: Set<String> = [
  "S", "alt-grab", "async-teardown", "ctrl-grab", "curses", "daemonize", "enable-fips", "enable-kvm",
  "enable-sync-profile", "full-screen", "h", "help", "jitdump", "mem-prealloc", "no-acpi", "no-fd-bootchk", "no-frame",
  "no-hpet", "no-kvm", "no-quit", "no-reboot", "no-shutdown", "no-user-config", "nodefaults", "nographic",
  "nouserconfig", "old-param", "one-insn-per-tb", "only-migratable", "perfmap", "portrait", "preconfig", "rtc-td-hack",
  "s", "sdl", "semihosting", "singlestep", "snapshot", "usb", "version", "win2k-hack", "xen-attach",
  "xen-domid-restrict",
]
