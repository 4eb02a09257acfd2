import Host
import Testing

/// A command line as /proc/PID/cmdline holds it.
private func commandLine(_ arguments: String...) -> [UInt8] {
  arguments.flatMap { Array($0.utf8) + [0] }
}

@Suite struct QemuCommandLineTests {
  struct Example: Sendable, CustomTestStringConvertible {
    var what: String
    var bytes: [UInt8]
    var comm: String?
    var kind: QemuCommandLine.Kind
    var name: String?
    var vmid: Int?
    var testDescription: String { what }
  }

  static let examples = [
    Example(
      what: "Proxmox",
      bytes: commandLine(
        "/usr/bin/kvm", "-id", "104", "-name", "win-erp,debug-threads=on", "-no-shutdown", "-chardev",
        "socket,id=qmp,path=/var/run/qemu-server/104.qmp,server=on,wait=off", "-daemonize", "-smbios",
        "type=1,uuid=0b8d", "-smp", "4,sockets=1,cores=4,maxcpus=4"),
      comm: "kvm\n", kind: .qemu, name: "win-erp", vmid: 104),
    Example(
      what: "libvirt",
      bytes: commandLine(
        "/usr/bin/qemu-system-x86_64", "-name", "guest=build 7,debug-threads=on", "-S", "-object",
        "{\"qom-type\":\"x\"}"),
      comm: "qemu-system-x86", kind: .qemu, name: "build 7", vmid: nil),
    Example(
      what: "a comma in the name is doubled", bytes: commandLine("qemu-system-x86_64", "-name", "guest=a,,b,process=p"),
      comm: nil, kind: .qemu, name: "a,b", vmid: nil),
    Example(
      what: "properties before the name", bytes: commandLine("kvm", "-name", "debug-threads=on,guest=late"),
      comm: nil, kind: .qemu, name: "late", vmid: nil),
    Example(
      what: "two dashes", bytes: commandLine("qemu-kvm", "--name", "two", "--id", "7"), comm: nil, kind: .qemu,
      name: "two", vmid: 7),
    Example(
      what: "an option's value that looks like -name",
      bytes: commandLine("kvm", "-append", "-name", "-name", "right", "-usb", "-id", "9"), comm: nil, kind: .qemu,
      name: "right", vmid: 9),
    Example(
      what: "a name that ends the line without a NUL", bytes: Array("kvm\0-name\0cut".utf8), comm: nil, kind: .qemu,
      name: "cut", vmid: nil),
    Example(
      what: "an option without its value", bytes: commandLine("kvm", "-name"), comm: "kvm", kind: .qemu, name: nil,
      vmid: nil),
    Example(
      what: "a number that is none", bytes: commandLine("kvm", "-id", "99999999999999999999", "-name", "n"), comm: nil,
      kind: .qemu, name: "n", vmid: nil),
    Example(
      what: "cloud-hypervisor has no name", bytes: commandLine("/usr/bin/cloud-hypervisor", "--kernel", "--name"),
      comm: "cloud-hyperviso", kind: .cloudHypervisor, name: nil, vmid: nil),
    Example(
      what: "crosvm", bytes: commandLine("crosvm", "run", "--name=arc", "--cpus", "4"), comm: nil, kind: .crosvm,
      name: "arc", vmid: nil),
    Example(
      what: "Firecracker", bytes: commandLine("./firecracker", "--api-sock", "/run/x", "--id", "f-1"), comm: nil,
      kind: .firecracker, name: "f-1", vmid: nil),
    Example(
      what: "an emptied command line leaves the process's name", bytes: [], comm: "qemu-system-x86", kind: .qemu,
      name: nil, vmid: nil),
    Example(
      what: "another program that has our options", bytes: commandLine("/usr/bin/find", "-name", "core"), comm: "find",
      kind: .other, name: nil, vmid: nil),
  ]

  @Test(arguments: examples) func readsOnlyKindNameAndNumber(_ example: Example) {
    let line = QemuCommandLine(commandLine: example.bytes, comm: example.comm)
    #expect(line.kind == example.kind)
    #expect(line.name == example.name)
    #expect(line.vmid == example.vmid)
  }

  @Test func aVMWithoutANameIsCalledAfterItsProcess() {
    #expect(QemuCommandLine(commandLine: commandLine("kvm", "-m", "512"), comm: "kvm\n").displayName == "kvm")
    #expect(QemuCommandLine(commandLine: [], comm: nil).displayName == nil)
  }

  @Test func secretsOnTheCommandLineAreNotKept() {
    let line = QemuCommandLine(
      commandLine: commandLine(
        "kvm", "-name", "web", "-object", "secret,id=s0,data=hunter2", "-spice", "password=hunter2", "-vnc",
        "10.1.2.3:0,password"),
      comm: "kvm")
    var text = ""
    dump(line, to: &text)
    #expect(!text.contains("hunter2") && !text.contains("10.1.2.3"))
  }

  @Test func namesAreBounded() {
    let long = String(repeating: "n", count: 1 << 20)
    let line = QemuCommandLine(commandLine: commandLine("kvm", "-name", long), comm: nil)
    #expect((line.name ?? "").count == 128)
  }

  @Test func anyBytesAreTaken() {
    var random = SystemRandomNumberGenerator()
    let words: [[UInt8]] = [
      Array("kvm".utf8), Array("-name".utf8), Array("guest=".utf8), Array("-id".utf8), [0], [0], [0xff], [0x2c], [0x2d],
      [0xe4, 0xb8], Array("firecracker".utf8), Array("--id".utf8), [0x3d], [0x2f],
    ]
    for _ in 0..<3000 {
      var bytes: [UInt8] = []
      for _ in 0..<Int.random(in: 0...24, using: &random) { bytes += words.randomElement(using: &random) ?? [] }
      if Bool.random(using: &random) { bytes.append(UInt8.random(in: 0...255, using: &random)) }
      let line = QemuCommandLine(commandLine: bytes, comm: String(decoding: bytes.prefix(15), as: UTF8.self))
      #expect((line.name?.count ?? 0) <= 128, "\(bytes)")
      #expect(line.vmid.map { (0..<1_000_000_000).contains($0) } ?? true, "\(bytes)")
      // the kind alone decides which options are looked at
      if line.kind == .other || line.kind == .cloudHypervisor { #expect(line.name == nil && line.vmid == nil) }
    }
  }
}
