/// What a key is about, in words and numbers of our own: "in 0x608 ACPI PM timer", "write IA32_TSC_DEADLINE"; "" where
/// the reason says it all.
public func describe(_ key: Key) -> String {
  let isWrite = key.traits.contains(.write)
  let verb = isWrite ? "write" : "read"
  if key.kind == .fault { return faultText(key) }
  guard let subject = key.subject else { return unseenText(key, verb) }
  switch key.kind {
  case .none, .unknown, .fault: return ""
  case .msr: return "\(verb) \(Msrs.name(subject) ?? hex(subject))"
  case .port: return named("\(isWrite ? "out" : "in") \(hex(subject))", Ports.range(of: subject)?.name ?? kickText(key))
  case .mmio:
    return named("\(verb) \(hex(subject))", kickText(key) ?? MmioRegions.region(of: subject)?.name) + sizeText(key.size)
  case .apic: return "\(verb) APIC \(ApicRegisters.name(offset: subject) ?? hex(subject))"
  case .vector: return vectorText(key, subject)
  case .irq: return "IRQ \(subject)"
  case .cpuid: return named("leaf \(hex(subject))", CpuidLeaves.name(subject))
  case .cr: return "\(verb) CR\(subject)"
  case .dr: return "\(verb) DR\(subject)"
  case .hypercall: return named("call \(subject)", CallNames.kvm[subject])
  case .hypervHypercall: return named("Hyper-V call \(hex(subject))", CallNames.hyperv[subject])
  case .vmgexit:
    return named("guest's code \(hex(subject))", UInt32(exactly: subject).flatMap { ReasonTables.svm[$0] })
  }
}

/// A virtio device's own address has no name of its own.
private func kickText(_ key: Key) -> String? { classify(key) == .virtioKick ? "virtio notify" : nil }

private func unseenText(_ key: Key, _ verb: String) -> String {
  if key.traits.contains(.hidden) { return "hidden" }
  // the direction is known without the address
  return switch key.kind {
  case .msr: "\(verb), index not seen"
  case .port: "\(key.traits.contains(.write) ? "out" : "in"), port not seen"
  default: ""
  }
}

private func faultText(_ key: Key) -> String {
  let access = key.traits.contains(.fetch) ? "fetch" : key.traits.contains(.write) ? "write" : "read"
  let wait = key.traits.contains(.blocked) ? ", waited for" : ""
  return "page \(key.traits.contains(.present) ? "mapped" : "not mapped"), \(access)\(wait)"
}

/// An exception's vector has a mnemonic; an interrupt's is the guest's own business, but for the host's.
private func vectorText(_ key: Key, _ vector: UInt64) -> String {
  switch (key.isa, key.reason & 0xffff) {
  case (1, 0), (2, 0x40..<0x60): return Vectors.exception(vector) ?? "exception \(hex(vector))"
  case (1, 1), (2, 0x60): return named("vector \(hex(vector))", Vectors.host(vector))
  default: return "vector \(hex(vector))"
  }
}

private func sizeText(_ size: UInt8) -> String {
  switch size {
  case 0: ""
  case 1: ", 1 byte"
  default: ", \(size) bytes"
  }
}

private func hex(_ number: UInt64) -> String { "0x" + String(number, radix: 16) }

private func named(_ number: String, _ name: String?) -> String { name.map { "\(number) \($0)" } ?? number }
