/// How a reason's class is found.
enum ClassRule {
  /// Whatever the key says besides.
  case always(ExitClass)
  /// RDMSR, WRMSR: by index.
  case msr
  /// I/O instruction: by port.
  case port
  /// Fault of the second-level page tables, on memory or on a device.
  case fault
  /// Access to memory that KVM has marked as a device's.
  case device
  /// Access to the local APIC: by register.
  case apic
  /// VMX exception or NMI: by vector.
  case exception
  /// An interrupt of the host's ended guest mode.
  case hostInterrupt
  /// The guest can take an interrupt again.
  case window
  /// VMX preemption timer.
  case preemptionTimer
  /// VMX access to a control register: by number.
  case controlRegister
  /// VMCALL, VMMCALL: by number.
  case hypercall
}

/// The class of an exit: a function of the key and of nothing else. Specific before general: what overrides the reason
/// (bus lock, nesting, failure, debugger), then the reason's own rule.
public func classify(_ key: Key) -> ExitClass {
  let rule: ClassRule?
  switch key.isa {
  case 1:
    // all ones is no exit at all; its bit 26 says nothing of a bus lock
    if key.reason == .max { return .fatal }
    if key.traits.contains(.busLock) || key.reason & 1 << 26 != 0 { return .lock }
    rule = ClassTables.vmx[key.reason & 0xffff]
  case 2:
    rule = ClassTables.svm[key.reason] ?? (ClassTables.svmVmgexits.contains(key.reason) ? .always(.confidential) : nil)
  default:
    // their numbers mean something else
    return .other
  }
  if case .always(.lock) = rule { return .lock }
  if !key.traits.isDisjoint(with: [.fromL2, .reflected]) { return .nested }
  if key.isa == 1, key.traits.contains(.entryFailed) || key.reason & 1 << 31 != 0 { return .fatal }
  switch key.userspace {
  case UserspaceReasons.debug: return .debug
  case UserspaceReasons.shutdown, UserspaceReasons.failedEntry, UserspaceReasons.internalError: return .fatal
  default: break
  }
  return rule.map { resolve($0, key) } ?? .other
}

private func resolve(_ rule: ClassRule, _ key: Key) -> ExitClass {
  switch rule {
  case .always(let exitClass): exitClass
  case .msr: msrClass(key)
  case .port: portClass(key)
  case .fault: faultClass(key)
  case .device: deviceClass(key)
  case .apic: apicClass(key)
  case .exception: exceptionClass(key)
  case .hostInterrupt: hostInterruptClass(key)
  // only here: an injection after a HLT belongs to that HLT
  case .window: key.traits.contains(.injectedTimer) ? .timerInject : .irqDeliver
  // with an immediate exit the timer ends guest mode at once, so that KVM can deliver something
  case .preemptionTimer: key.traits.contains(.immediate) ? .irqDeliver : .timerExpire
  // CR8 is the task priority
  case .controlRegister: key.kind == .cr && key.subject == 8 ? .irqDeliver : .cpuCr
  case .hypercall: hypercallClass(key)
  }
}

private func msrClass(_ key: Key) -> ExitClass {
  guard key.kind == .msr, let index = key.subject else { return unseen(key, .msrOther) }
  let isWrite = key.traits.contains(.write)
  if let offset = Msrs.apicOffset(index) { return apicClass(offset: offset, isWrite: isWrite) }
  let row = ClassTables.msrs.first { $0.indices.contains(index) && (isWrite || !$0.isForWrites) }
  return row?.exitClass ?? .msrOther
}

private func portClass(_ key: Key) -> ExitClass {
  guard key.kind == .port, let port = key.subject else { return unseen(key, .pioEmul) }
  let known = Ports.range(of: port)
  if known?.isTimer == true { return .timerLegacy }
  return known == nil && key.traits.contains(.inIoeventfd) ? .virtioKick : .pioEmul
}

private func faultClass(_ key: Key) -> ExitClass {
  // a device that no event has named
  if key.kind == .mmio || key.kind == .apic || key.traits.contains(.inIoeventfd)
    || key.userspace == UserspaceReasons.mmio
  {
    return deviceClass(key)
  }
  if key.traits.contains(.blocked) { return .eptSwapin }
  guard key.traits.contains(.present) else { return .eptPopulate }
  if key.traits.contains(.fetch) { return .eptExec }
  // a read of what is mapped: another vCPU has mapped it meanwhile
  return key.traits.contains(.write) ? .eptWprot : .eptPopulate
}

/// An ioeventfd belongs to a virtio device, unless the page is one of the chipset's. What else the kernel serves
/// itself is fast; the rest goes to user space.
private func deviceClass(_ key: Key) -> ExitClass {
  if key.kind == .apic { return apicClass(key) }
  let known = key.kind == .mmio ? key.subject.flatMap(MmioRegions.region(of:)) : nil
  if known?.isTimer == true { return .timerLegacy }
  if key.traits.contains(.inIoeventfd), known?.isFixed != true { return .virtioKick }
  return key.userspace == nil ? .mmioFast : .mmioEmul
}

private func apicClass(_ key: Key) -> ExitClass {
  guard key.kind == .apic, let offset = key.subject else { return .irqDeliver }
  return apicClass(offset: offset, isWrite: key.traits.contains(.write))
}

/// The same for xAPIC, x2APIC and AVIC.
private func apicClass(offset: UInt64, isWrite: Bool) -> ExitClass {
  switch offset & ~0xf {
  case ApicRegisters.timerVector, ApicRegisters.timerInitialCount, ApicRegisters.timerDivide:
    isWrite ? .timerArm : .irqDeliver
  case ApicRegisters.timerCurrentCount: .clockRead
  // reading it waits for the last one to be sent
  case ApicRegisters.command, ApicRegisters.commandHigh, ApicRegisters.selfIpi: .ipi
  default: .irqDeliver
  }
}

private func exceptionClass(_ key: Key) -> ExitClass {
  guard key.kind == .vector else { return .exception }
  return switch key.subject {
  case Vectors.debug, Vectors.breakpoint: .debug
  case Vectors.nmi: .irqHost
  // intercepted for split locks
  case Vectors.alignmentCheck: .lock
  default: .exception
  }
}

private func hostInterruptClass(_ key: Key) -> ExitClass {
  if key.traits.contains(.hostTimer) { return key.traits.contains(.injectedTimer) ? .timerExpire : .timerHost }
  if key.traits.contains(.hostDevice) { return .irqHost }
  // KVM has sent itself the IPI, to deliver something right after the entry
  if key.traits.contains(.immediate) { return .irqDeliver }
  if key.traits.contains(.hostIpi) { return .ipiHost }
  return key.kind == .vector && key.subject.map(Vectors.hostIpis.contains) == true ? .ipiHost : .irqHost
}

private func hypercallClass(_ key: Key) -> ExitClass {
  guard let number = key.subject else { return unseen(key, .hypercall) }
  return switch key.kind {
  case .hypercall: ClassTables.hypercalls[number] ?? .hypercall
  case .hypervHypercall: ClassTables.hypervHypercalls[number] ?? .hypercall
  default: .hypercall
  }
}

/// The subject decides, and it is not there.
private func unseen(_ key: Key, _ general: ExitClass) -> ExitClass {
  key.traits.contains(.hidden) ? .confidential : general
}
