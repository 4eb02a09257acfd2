import Bpf
import Glibc
import TestSupport
import Testing

@Suite(.needsBpf) struct ObjectTests {
  @Test func opensWhatIsInTheImage() throws {
    let object = try BpfObject(base64: fixtureObject, name: "fixture")
    #expect(object.programs == ["shovel", "reads_fields", "on_userspace_exit"])
  }

  @Test func refusesAnImageThatIsNone() {
    let error = #expect(throws: BpfError.self) { _ = try BpfObject(image: [1, 2, 3], name: "nothing") }
    #expect(error?.call == "open nothing")
    #expect(error?.code != 0)
  }

  @Test func namesWhatItCannotFind() throws {
    let object = try BpfObject(base64: fixtureObject, name: "fixture")
    for (call, attempt) in [
      ("find program absent", { (object: borrowing BpfObject) in try object.setAutoload("absent", true) }),
      ("find map absent", { (object: borrowing BpfObject) in try object.setMaxEntries("absent", 1) }),
      ("find global absent", { (object: borrowing BpfObject) in try object.setConstant("absent", UInt32(1)) }),
      // a __u32
      ("constant own_tgid of 4 bytes", { (object: borrowing BpfObject) in try object.setConstant("own_tgid", 1) }),
    ] {
      var failed: BpfError?
      do { try attempt(object) } catch { failed = error as? BpfError }
      #expect(failed?.call == call)
    }
  }

  @Test func aRefusedProgramTellsWhy() throws {
    let object = try BpfObject(base64: refusedObject, name: "refused")
    try object.setAutoload("has_no_event", false)
    var failed: BpfError?
    do { try object.load() } catch { failed = error }
    let error = try #require(failed)
    #expect(error.call == "load refused")
    #expect(error.code == EACCES)
    #expect(error.log.program == "reads_nowhere")
    let lines = error.log.essentialLines
    #expect(lines.contains { $0.contains("invalid bpf_context access off=28672 size=8") })
    #expect(lines.contains { $0.contains("(u64 *)(r1 +28672)") || $0.contains("(79)") })
    #expect(lines.first?.contains("context + 0x7000") == true)
    #expect(lines.count <= 8)
  }

  @Test func anAbsentTracepointIsToldWhenAttached() throws {
    let object = try BpfObject(base64: refusedObject, name: "refused")
    try object.setAutoload("reads_nowhere", false)
    try object.load()
    var failed: BpfError?
    do { _ = try object.attach("has_no_event") } catch { failed = error }
    #expect(failed?.code == ENOENT)
    #expect(failed?.log.essentialLines.contains { $0.contains("kvmtax_no_such/event") } == true)
  }

  @Test func linksDetach() throws {
    let object = try BpfObject(base64: refusedObject, name: "refused")
    try object.setAutoload("reads_nowhere", false)
    try object.setAutoload("has_no_event", false)
    try object.load()
    let globals = try object.globals()
    let seen = try globals.pointer(to: "seen", as: UInt64.self)
    var links = BpfLinks()
    links.add(try object.attach("is_fine"))
    links.add(try object.attach("is_fine_too"))
    #expect(links.count == 2)
    _ = getppid()
    #expect(seen.pointee >= 2)
    links.detach()
    #expect(links.count == 0)
    let after = seen.pointee
    for _ in 0..<100 { _ = getppid() }
    // attached, each call would have counted; a run that was under way elsewhere may still have
    #expect(seen.pointee - after < 100)
  }

  @Test func countsRunsWhileAsked() throws {
    let object = try BpfObject(base64: feedObject, name: "feed")
    try object.load()
    let statistics = try RunTimeStatistics()
    let before = try object.statistics(of: "feed")
    _ = consume statistics
    #expect(before.machineCodeBytes > 0 || before.runCount == 0)
  }

  /// KVM_RUN with immediate_exit returns to user space at once: one kvm_userspace_exit each.
  @Test(.needsKvm) func seesKvmReturnToUserSpace() throws {
    let object = try BpfObject.fixture(loading: "on_userspace_exit")
    try object.load()
    let link = try object.attach("on_userspace_exit")
    let runs = try runKvm(count: 25)
    _ = consume link
    #expect(runs == 25)
    #expect(try object.globals().value("matches", like: UInt64(0)) == UInt64(runs))
  }

  /// How many of `count` KVM_RUNs came back with EINTR (linux/kvm.h).
  private func runKvm(count: Int) throws -> Int {
    let kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC)
    let vm = ioctl(kvm, 0xae01, 0)
    let vcpu = ioctl(vm, 0xae41, 0)
    let size = Int(ioctl(kvm, 0xae04, 0))
    defer { for file in [vcpu, vm, kvm] where file >= 0 { close(file) } }
    try #require(vcpu >= 0 && size > 0)
    let shared = try #require(mmap(nil, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0))
    try #require(shared != MAP_FAILED)
    defer { munmap(shared, size) }
    // kvm_run.immediate_exit
    shared.storeBytes(of: 1, toByteOffset: 1, as: UInt8.self)
    return (0..<count).count { _ in ioctl(vcpu, 0xae80, 0) == -1 && errno == EINTR }
  }
}
