import CKvmtax

/// The words of the fact `features`: what was recorded, and which events fed the machine. They are joined by commas.
public enum RecordedFeature: String, CaseIterable, Sendable {
  /// States and accounts: every recording.
  case states
  /// kvm_userspace_exit.
  case userspaceExit = "userspace_exit"
  /// kvm_vcpu_wakeup.
  case vcpuWakeup = "vcpu_wakeup"
  /// kvm_fpu.
  case fpu
  /// sched_switch.
  case schedSwitch = "sched_switch"
  /// sched_waking.
  case schedWaking = "sched_waking"
  /// The handlers of host interrupts.
  case irq
  /// The scheduler's run_delay, where sched_switch is not recorded.
  case runDelay = "run_delay"
  /// An account per key.
  case keys
  /// A record per finished exit.
  case exits
  /// A record per event.
  case raw
  /// kvm_userspace_exit and kvm_fpu stand for kvm_exit and kvm_entry.
  case proxy

  /// The machine's bit (`enum kt_feature`); 0 where the word says nothing to it.
  public var machineBit: UInt8 {
    let bit: kt_feature? =
      switch self {
      case .states, .keys, .exits, .raw, .proxy: nil
      case .userspaceExit: KT_HAS_USERSPACE_EXIT
      case .vcpuWakeup: KT_HAS_WAKEUP
      case .fpu: KT_HAS_FPU
      case .schedSwitch: KT_HAS_SWITCH
      case .schedWaking: KT_HAS_WAKING
      case .irq: KT_HAS_IRQ
      case .runDelay: KT_HAS_RUN_DELAY
      }
    return UInt8(truncatingIfNeeded: bit?.rawValue ?? 0)
  }

  /// The words of a fact's value; those that this version does not know are left out.
  public static func parse(_ value: String) -> [RecordedFeature] {
    value.split(separator: ",").compactMap { RecordedFeature(rawValue: String($0)) }
  }

  /// What the words say to the machine: `Replay(features:)`, `kt_control.features`.
  public static func machineFeatures(_ features: [RecordedFeature]) -> UInt8 {
    features.reduce(0) { $0 | $1.machineBit }
  }

  /// The words that a machine's features are written as.
  public static func words(machineFeatures: UInt8) -> [RecordedFeature] {
    allCases.filter { $0.machineBit & machineFeatures != 0 }
  }

  /// The fact's value.
  public static func value(_ features: [RecordedFeature]) -> String {
    features.map(\.rawValue).joined(separator: ",")
  }
}
