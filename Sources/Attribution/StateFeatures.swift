import CKvmtax

/// Which events fed a vCPU's states (`enum kt_feature`): a state that needs another one is merged with its neighbours.
public struct StateFeatures: OptionSet, Hashable, Sendable {
  /// As in `kt_slot.features`.
  public let rawValue: UInt8

  /// As in `kt_slot.features`.
  public init(rawValue: UInt8) { self.rawValue = rawValue }

  private init(_ feature: kt_feature) { rawValue = UInt8(truncatingIfNeeded: feature.rawValue) }

  /// kvm_vcpu_wakeup.
  public static let wakeup = StateFeatures(KT_HAS_WAKEUP)
  /// kvm_userspace_exit.
  public static let userspaceExit = StateFeatures(KT_HAS_USERSPACE_EXIT)
  /// kvm_fpu.
  public static let fpu = StateFeatures(KT_HAS_FPU)
  /// sched_switch.
  public static let switches = StateFeatures(KT_HAS_SWITCH)
  /// sched_waking.
  public static let wakings = StateFeatures(KT_HAS_WAKING)
  /// The handlers of host interrupts.
  public static let interrupts = StateFeatures(KT_HAS_IRQ)
  /// The scheduler's run_delay, where there is no sched_switch.
  public static let runDelay = StateFeatures(KT_HAS_RUN_DELAY)

  /// What a state's time can hold besides what its name says, in the order of the states; empty where it is exact.
  /// The guest's own state stays out: only some kernels take an interrupt or a switch before kvm_exit.
  public func merged(in state: State) -> [State] {
    let seesSwitches = contains(.switches)
    // off CPU, and not even as run_delay
    let isBlind = !seesSwitches && !contains(.runDelay)
    var others: [(State, Bool)] = []
    switch state {
    case .kernel:
      others = [
        (.hostInterrupt, !contains(.interrupts)), (.qemu, !contains(.userspaceExit)),
        (.qemuBlocked, !contains(.userspaceExit)), (.kernelBlocked, !seesSwitches), (.wakeLatency, isBlind),
        (.preempted, isBlind), (.stopped, !contains(.userspaceExit)),
      ]
    case .qemu where contains(.userspaceExit):
      others = [
        (.kernel, !contains(.fpu)), (.hostInterrupt, !contains(.interrupts)), (.qemuBlocked, !seesSwitches),
        (.wakeLatency, isBlind), (.preempted, isBlind), (.stopped, !seesSwitches),
      ]
    case .qemuBlocked, .kernelBlocked: others = [(.wakeLatency, seesSwitches && !contains(.wakings))]
    case .haltPoll: others = [(.hostInterrupt, !contains(.interrupts))]
    case .haltWait:
      let isDivided = contains(.wakeup)
      others = [
        (.kernel, !isDivided), (.hostInterrupt, !isDivided && !contains(.interrupts)),
        // of a halt that slept, kvm_vcpu_wakeup says the sum of polling and waiting
        (.haltPoll, !isDivided || !seesSwitches), (.wakeLatency, seesSwitches ? !contains(.wakings) : isBlind),
        (.preempted, !isDivided && isBlind),
      ]
    case .preempted: others = [(.wakeLatency, contains(.runDelay) && !seesSwitches)]
    case .qemu, .unknown, .guest, .hostInterrupt, .wakeLatency, .stopped: break
    }
    return others.filter(\.1).map(\.0)
  }
}
