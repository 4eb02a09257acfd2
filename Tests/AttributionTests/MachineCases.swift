import Attribution
import CKvmtax
import TestSupport
import Testing

/// A short sequence of events on one thread and what it must give, worked out by hand.
struct Case: CustomTestStringConvertible, Sendable {
  struct Step: Sendable {
    var kind: kt_kind
    var time: UInt64
    var reason: UInt32 = 0
    var argument: UInt64 = 0
    var argument2: UInt64 = 0
    var extra: UInt32 = 0
    var isa: UInt8 = 1
    /// sched_info.run_delay, where it was read.
    var delay: UInt64?
  }
  var name: String
  /// A recording of everything by default.
  var features = Replay.allFeatures
  var steps: [Step]
  var states: [State: UInt64]
  /// Of one of the finished exits.
  var key: Key?
  var missed: UInt64?
  var testDescription: String { name }

  var events: [kt_event] {
    steps.map { step in
      kt_event(
        time_ns: step.time, arg: step.argument, arg2: step.argument2, rip: 0,
        run_delay_ns: step.delay.map { $0 + 1 } ?? 0,
        tid: 7, tgid: 3, reason: step.reason, extra: step.extra, cpu: 0, vcpu: 0, kind: UInt8(step.kind.rawValue),
        isa: step.isa)
    }
  }

  static let hlt: UInt32 = 12
  static let ioReason: UInt32 = 30

  /// On VMX, with the exit qualification and the interruption information.
  static func exit(_ time: UInt64, _ reason: UInt32 = ioReason, _ info: UInt64 = 0, vector: UInt32? = nil) -> Step {
    Step(kind: KT_EXIT, time: time, reason: reason, argument: info, extra: vector.map { 0x8000_0000 | $0 } ?? 0)
  }
  /// On SVM, with EXITINFO1 and 2.
  static func svm(_ time: UInt64, _ reason: UInt32, _ info: UInt64 = 0, _ info2: UInt64 = 0) -> Step {
    Step(kind: KT_EXIT, time: time, reason: reason, argument: info, argument2: info2, isa: 2)
  }
  static func entry(_ time: UInt64, immediate: UInt32 = 0) -> Step {
    Step(kind: KT_ENTRY, time: time, reason: immediate)
  }
  static func user(_ time: UInt64, _ reason: UInt32 = 2, error: Int32 = 0) -> Step {
    Step(kind: KT_USERSPACE_EXIT, time: time, reason: reason, extra: UInt32(bitPattern: error))
  }
  static func run(_ time: UInt64) -> Step { Step(kind: KT_FPU_LOAD, time: time) }
  static func polled(_ time: UInt64, _ length: UInt64) -> Step {
    Step(kind: KT_VCPU_WAKEUP, time: time, argument: length)
  }
  static func slept(_ time: UInt64, _ length: UInt64) -> Step {
    Step(kind: KT_VCPU_WAKEUP, time: time, reason: 1, argument: length)
  }
  /// Off CPU: asleep (1, 2), runnable (0, 0x100), stopped (4), dead (0x20).
  static func out(_ time: UInt64, _ state: UInt32 = 1) -> Step { Step(kind: KT_SCHED_OUT, time: time, reason: state) }
  static func on(_ time: UInt64) -> Step { Step(kind: KT_SCHED_IN, time: time) }
  static func woken(_ time: UInt64) -> Step { Step(kind: KT_WAKING, time: time) }
  static func irq(_ time: UInt64, _ which: kt_host_irq = KT_HOST_IRQ_TIMER, _ number: UInt64 = 0xec) -> Step {
    Step(kind: KT_IRQ_ENTRY, time: time, reason: which.rawValue, argument: number)
  }
  static func irqEnd(_ time: UInt64) -> Step { Step(kind: KT_IRQ_EXIT, time: time) }
  static func said(_ kind: kt_kind, _ time: UInt64, _ argument: UInt64 = 0, _ reason: UInt32 = 0, size: UInt32 = 0)
    -> Step
  {
    Step(kind: kind, time: time, reason: reason, argument: argument, extra: size)
  }
  static func injected(_ time: UInt64, _ vector: UInt32) -> Step { said(KT_INJECT, time, 0, vector) }
  static func accepted(_ time: UInt64, _ vector: UInt32) -> Step { said(KT_ACCEPT_IRQ, time, 0, vector) }
  static func timer(_ time: UInt64, _ vector: UInt32) -> Step { said(KT_TIMER_VECTOR, time, 0, vector, size: 2) }
}
