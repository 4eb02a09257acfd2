import CKvmtax

/// What the events themselves say about the features that a stream was said to have.
public struct FeatureCheck: Equatable, Sendable {
  /// Claimed, and none of their events came although they should have: states that wait for them would be wrong.
  public internal(set) var missing: StateFeatures = []
  /// Switches of vCPU threads, both halves.
  public internal(set) var switches: UInt64 = 0
  /// Those of which one half was not seen.
  public internal(set) var halfSwitches: UInt64 = 0

  /// So many switches lack a half that the scheduler's events must be of a part of the threads or CPUs only. What the
  /// thread did meanwhile would pass for time off CPU.
  public var hasHalvesOnly: Bool { missing.contains(.switches) && halfSwitches > 0 }
}

extension Replay {
  /// Looks back on everything taken. Where there was no exit there is nothing to say.
  public func checkFeatures() -> FeatureCheck {
    var check = FeatureCheck()
    var (exits, halts, userspaceExits, wakeups, missedWakings) = (
      0 as UInt64, 0 as UInt64, 0 as UInt64, 0 as UInt64, 0 as UInt64
    )
    for slot in usedSlots {
      exits &+= slot.exits
      halts &+= slot.halts
      userspaceExits &+= slot.userspace_exits
      wakeups &+= slot.wakeups
      missedWakings &+= slot.missed_wakings
      check.switches &+= slot.switches
      check.halfSwitches &+= slot.missed_switches
    }
    guard exits > 0 else { return check }
    func came(_ kind: kt_kind) -> Bool { eventsByKind[Int(kind.rawValue)] > 0 }
    let threads = UInt64(threadCount)
    if halts > 0, wakeups == 0 { check.missing.insert(.wakeup) }
    // each KVM_RUN begins with one and ends with the other, but for the first and the last
    if userspaceExits == 0, eventsByKind[Int(KT_FPU_LOAD.rawValue)] > threads { check.missing.insert(.userspaceExit) }
    if !came(KT_FPU_LOAD), userspaceExits > threads { check.missing.insert(.fpu) }
    // a gap, and the trace's begin, cost a thread a half
    let isHalved = check.halfSwitches > 2 &* threads && check.halfSwitches > check.switches / 10
    if !came(KT_SCHED_OUT) || isHalved { check.missing.formUnion([.switches, .wakings]) }
    if !came(KT_WAKING) || (missedWakings > threads && missedWakings > check.switches / 2) {
      check.missing.insert(.wakings)
    }
    if !came(KT_IRQ_ENTRY) { check.missing.insert(.interrupts) }
    check.missing.formIntersection(claimed)
    return check
  }
}
