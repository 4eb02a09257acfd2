import CTinyGuest
import Glibc

/// A virtual CPU: a descriptor, the page in which KVM tells why it came back, and its part of the guest's memory.
/// Everything happens on the thread that created it, as KVM wants it.
final class VirtualCPU {
  private let descriptor: Int32
  private let run: UnsafeMutablePointer<kvm_run>
  private let runBytes: Int
  private let page: UnsafeMutablePointer<kt_guest_page>
  private let spans: Workload.Spans
  private let hasIrqchip: Bool
  /// Frequency of the guest's TSC in kHz; nil where KVM does not tell it.
  let tscKHz: Int?
  private var spun = Measured()
  private var slept = Measured()
  private var answering: (answer: ReferenceWritableKeyPath<VirtualCPU, Measured>, wall: Int, cpu: Int)?
  private var returns: [String: Int] = [:]
  // Apart from the dictionary: a turn takes microseconds.
  private var immediateExits = 0

  init(_ machine: VirtualMachine, index: Int, _ workload: Workload) throws(TinyGuestError) {
    spans = workload.spans
    hasIrqchip = machine.hasIrqchip
    runBytes = machine.runBytes
    let descriptor = try machine.control(kt_kvm_create_vcpu, "KVM_CREATE_VCPU", CInt(index))
    guard let mapped = mmap(nil, runBytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0), mapped != MAP_FAILED
    else {
      let code = errno
      close(descriptor)
      throw TinyGuestError("mapping a virtual CPU", errno: code)
    }
    self.descriptor = descriptor
    run = mapped.bindMemory(to: kvm_run.self, capacity: 1)
    page = machine.page(index)
    let frequency = ioctl(descriptor, kt_kvm_get_tsc_khz, 0)
    tscKHz = frequency > 0 ? Int(frequency) : nil
    try setRegisters(machine, index: index)
    if hasIrqchip { try makeRunnable() }
    try setTSCSpans(workload)
  }

  deinit {
    munmap(run, runBytes)
    close(descriptor)
  }

  /// 32-bit protected mode, flat, without paging: no page tables of the guest's own that could fault.
  private func setRegisters(_ machine: VirtualMachine, index: Int) throws(TinyGuestError) {
    try machine.withCPUID { (table) throws(TinyGuestError) in
      try control(kt_kvm_set_cpuid2, "KVM_SET_CPUID2", table)
    }
    var special = kvm_sregs()
    try control(kt_kvm_get_sregs, "KVM_GET_SREGS", &special)
    var segment = kvm_segment()
    segment.limit = 0xffff_ffff
    (segment.present, segment.s, segment.db, segment.g) = (1, 1, 1, 1)
    (segment.selector, segment.type) = (8, 11)
    special.cs = segment
    (segment.selector, segment.type) = (16, 3)
    (special.ds, special.es, special.fs, special.gs, special.ss) = (segment, segment, segment, segment, segment)
    special.cr0 |= 1
    let tables = machine.layout.base(index) + Layout.tablesOffset
    if hasIrqchip {
      special.idt.base = UInt64(tables)
      special.idt.limit = UInt16(InterruptTables.idtBytes - 1)
      special.gdt.base = UInt64(tables + Int(KT_GUEST_GDT))
      special.gdt.limit = UInt16(InterruptTables.gdtBytes - 1)
    }
    try control(kt_kvm_set_sregs, "KVM_SET_SREGS", &special)
    var registers = kvm_regs()
    registers.rip = UInt64(machine.layout.base(index) + Layout.codeOffset)
    registers.rbp = UInt64(machine.layout.base(index) + Layout.countersOffset)
    registers.rsp = UInt64(machine.layout.base(index) + Layout.stackOffset + Layout.pageBytes)
    registers.rflags = 2
    try control(kt_kvm_set_regs, "KVM_SET_REGS", &registers)
  }

  /// With an interrupt controller, virtual CPUs but the first would wait for a start-up IPI.
  private func makeRunnable() throws(TinyGuestError) {
    var state = kvm_mp_state()
    state.mp_state = UInt32(KVM_MP_STATE_RUNNABLE)
    try control(kt_kvm_set_mp_state, "KVM_SET_MP_STATE", &state)
  }

  private func setTSCSpans(_ workload: Workload) throws(TinyGuestError) {
    guard let tscKHz else {
      guard workload.count(.deadline) == 0, workload.count(.rdtscSpin) == 0 else {
        throw TinyGuestError("deadline and rdtsc-spin need the frequency of the TSC; KVM_GET_TSC_KHZ does not tell it")
      }
      return
    }
    page.pointee.timer_tsc = UInt64(spans.timer) * UInt64(tscKHz) / 1000
    page.pointee.spin_tsc = UInt64(spans.guestSpin) * UInt64(tscKHz) / 1000
  }

  private func control(_ request: UInt, _ name: String, _ argument: UnsafeMutableRawPointer) throws(TinyGuestError) {
    guard ioctl(descriptor, request, argument) >= 0 else { throw TinyGuestError(name, errno: errno) }
  }

  /// Runs the guest until it pauses: is ready, halts, or ends a lap. False when it was told to stop before.
  func runToPause(_ isStopped: () -> Bool) throws(TinyGuestError) -> Bool {
    while true {
      endAnswer()
      guard ioctl(descriptor, kt_kvm_run, 0) >= 0 else {
        let code = errno
        guard code == EINTR || code == EAGAIN else { throw TinyGuestError("KVM_RUN", errno: code) }
        returns["intr", default: 0] += 1
        if isStopped() { return false }
        continue
      }
      switch Int32(bitPattern: run.pointee.exit_reason) {
      case KVM_EXIT_IO:
        if try answerPort() { return true }
      case KVM_EXIT_MMIO: returns["mmio", default: 0] += 1
      case KVM_EXIT_HLT:
        returns["hlt", default: 0] += 1
        return true
      default: throw unexpectedReturn()
      }
    }
  }

  /// What is answered on the spin and sleep ports lasts from KVM_RUN's return to its next call, as a tracer sees it.
  private func endAnswer() {
    guard let (answer, wall, cpu) = answering else { return }
    answering = nil
    self[keyPath: answer].add(wall: monotonicNanoseconds() - wall, cpu: threadCPUNanoseconds() - cpu)
  }

  private func beginAnswer(_ answer: ReferenceWritableKeyPath<VirtualCPU, Measured>) {
    answering = (answer, monotonicNanoseconds(), threadCPUNanoseconds())
  }

  /// Does what the port stands for; whether the guest pauses.
  private func answerPort() throws(TinyGuestError) -> Bool {
    defer { returns["io", default: 0] += 1 }
    switch Int32(run.pointee.io.port) {
    case KT_GUEST_SPIN_PORT:
      beginAnswer(\.spun)
      spin(microseconds: spans.inSpin)
    case KT_GUEST_SLEEP_PORT:
      beginAnswer(\.slept)
      sleep(microseconds: spans.inSleep)
    case KT_GUEST_CONTROL_PORT:
      let offset = Int(run.pointee.io.data_offset)
      guard offset < runBytes else { throw unexpectedReturn() }
      let said = UnsafeRawPointer(run).load(fromByteOffset: offset, as: UInt8.self)
      guard said == KT_GUEST_SAYS_PAUSED else {
        throw TinyGuestError("the tiny guest took an exception: this KVM refuses something of its interrupt controller")
      }
      return true
    default: break
    }
    return false
  }

  /// One lap from one end to the next. False when it was told to stop before.
  func runLap(_ isStopped: () -> Bool) throws(TinyGuestError) -> Bool {
    page.pointee.done = 0
    page.pointee.next_sample = page.pointee.samples
    while page.pointee.done == 0 {
      guard try runToPause(isStopped) else { return false }
    }
    return true
  }

  /// One KVM_RUN that comes back before any guest code runs.
  func runImmediateExit() throws(TinyGuestError) {
    run.pointee.immediate_exit = 1
    defer { run.pointee.immediate_exit = 0 }
    guard ioctl(descriptor, kt_kvm_run, 0) < 0, errno == EINTR else {
      throw TinyGuestError("KVM_RUN with immediate_exit did not come back with EINTR")
    }
    immediateExits += 1
  }

  /// Returns of KVM_RUN by reason.
  var kvmRun: [String: Int] {
    immediateExits > 0 ? returns.merging(["immediate": immediateExits]) { $1 } : returns
  }

  /// KVM's own statistics of it.
  var statistics: [String: UInt64]? { KVMStatistics.read(vcpu: descriptor) }

  /// What the guest counted, and what is measured by both.
  var counts: GuestCounts {
    GuestCounts(page.pointee, hasIrqchip: hasIrqchip, tscKHz: tscKHz, spun: spun, slept: slept)
  }

  private func unexpectedReturn() -> TinyGuestError {
    var registers = kvm_regs()
    let known = ioctl(descriptor, kt_kvm_get_regs, &registers) >= 0
    let place = known ? " at guest address 0x" + String(registers.rip, radix: 16) : ""
    let reason = run.pointee.exit_reason
    switch Int32(bitPattern: reason) {
    case KVM_EXIT_INTERNAL_ERROR:
      return TinyGuestError(
        "this kernel's KVM cannot run or emulate the tiny guest's instruction\(place) (internal error "
          + "\(run.pointee.internal.suberror))")
    case KVM_EXIT_FAIL_ENTRY:
      return TinyGuestError(
        "the CPU refused to enter the tiny guest\(place) (reason 0x"
          + String(run.pointee.fail_entry.hardware_entry_failure_reason, radix: 16) + ")")
    default: return TinyGuestError("KVM_RUN came back with the unexpected reason \(reason)\(place)")
    }
  }
}
