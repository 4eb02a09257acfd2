import CTinyGuest

/// What a virtual CPU's guest counted and measured, and what its host measured of it.
struct GuestCounts {
  let did: [Deed: Int]
  let exits: ExitCounts
  let interrupts: Int
  let ownPages: Int
  private(set) var measured: [String: Measured] = [:]

  init(_ page: kt_guest_page, hasIrqchip: Bool, tscKHz: Int?, spun: Measured, slept: Measured) {
    let did = withUnsafeBytes(of: page.did) { counters in
      Dictionary(
        uniqueKeysWithValues: Deed.allCases.map {
          ($0, Int(counters.load(fromByteOffset: 4 * $0.rawValue, as: UInt32.self)))
        })
    }
    self.did = did
    interrupts = Int(page.interrupts)
    ownPages = Layout.ownPages(hasIrqchip: hasIrqchip) + (page.samples == 0 ? 0 : 1)
    func sum(_ deeds: Deed...) -> Int { deeds.reduce(0) { $0 + (did[$1] ?? 0) } }
    exits = ExitCounts(
      cpuid: sum(.cpuid), hlt: sum(.halt),
      io: sum(.portOut, .portIn, .portInSpin, .portInSleep) + Int(page.own_out),
      msrRead: sum(.rdmsr) + Int(page.own_rdmsr), msrWrite: sum(.wrmsr, .arm) + Int(page.own_wrmsr),
      mmio: sum(.mmioWrite, .mmioRead), page: sum(.touch, .touchDelayed) + ownPages,
      hypercall: sum(.hypercall), pause: sum(.pause))
    if spun.count > 0 { measured["in_spin"] = spun }
    if slept.count > 0 { measured["in_sleep"] = slept }
    for (name, deed, cycles) in [
      ("rdtsc_spin", Deed.rdtscSpin, page.spun_tsc), ("deadline_halt", .deadline, page.deadline_tsc),
      ("oneshot_halt", .oneshot, page.oneshot_tsc),
    ] where sum(deed) > 0 {
      var one = Measured()
      one.count = sum(deed)
      one.tscCycles = cycles
      // kHz are cycles per ms
      one.wallNanoseconds = tscKHz.flatMap { Int(exactly: (Double(cycles) * 1e6 / Double($0)).rounded()) }
      measured[name] = one
    }
  }
  /// Throws when the guest did not do, in so many laps, what it was told: a CPU that lost its way, as emulated ones can.
  /// What is measured of such a guest proves nothing.
  func check(laps: Int, of workload: Workload, kvmRun: [String: Int]) throws(TinyGuestError) {
    let wrong = Deed.allCases.compactMap { deed -> String? in
      guard let told = deed.count(inLaps: laps, of: workload), let did = did[deed], did != told else { return nil }
      return "\(deed.name) \(did) times, not \(told)"
    }
    guard !wrong.isEmpty else { return }
    let returns = kvmRun.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", ")
    throw TinyGuestError(
      "the tiny guest went astray: it did \(wrong.joined(separator: ", ")) (returns of KVM_RUN: \(returns)); "
        + "its CPU did not execute what it was given")
  }
}
