import CKvmtax
import Testing
import TestSupport

@testable import Tracer

/// Loads the real programs into this machine's kernel.
@Suite(.serialized, .needsBpf, .needsKvm) struct SessionTests {
  @Test(arguments: [(AttachPath.tp, false), (.btf, false), (.tp, true)])
  func `Every program loads and attaches`(attach: AttachPath, proxy: Bool) throws {
    let tracefs = try #require(Tracefs.find())
    let layouts = try Layouts(tracefs: tracefs, proxy: proxy)
    let capacity = Capacity(pidMax: 32768, memoryBytes: 1 << 30, vcpus: 0, ringGroups: 1)
    let plan = ProgramPlan(attach: attach, layouts: layouts, proxy: proxy, tier: .full, keys: true)
    let session = try Session(
      attach: attach, plan: plan, layouts: layouts, capacity: capacity, groups: RingGroups(cpuCount: 2, nodes: []),
      processes: [], records: KT_RAW_RECORDS, onNotice: { _ in }, onRecord: { _, _ in })
    #expect(plan.programs.count >= (proxy ? 3 : 24))
    try session.start()
    _ = session.stop()
  }

  @Test func `What is given up leaves the rest attached, and the machine knows`() throws {
    let tracefs = try #require(Tracefs.find())
    let layouts = try Layouts(tracefs: tracefs, proxy: false)
    let plan = ProgramPlan(attach: .tp, layouts: layouts, proxy: false, tier: .full, keys: true)
    let session = try Session(
      attach: .tp, plan: plan, layouts: layouts, capacity: .none, groups: RingGroups(cpuCount: 1, nodes: []),
      processes: [], onNotice: { _ in }, onRecord: { _, _ in })
    try session.start()
    let scheduler = KT_HAS_SWITCH.rawValue | KT_HAS_WAKING.rawValue | KT_HAS_IRQ.rawValue
    #expect(session.control.pointee.features & scheduler == scheduler)
    #expect(session.control.pointee.keys == 1 && session.control.pointee.delay_everywhere == 0)
    session.shedKeys()
    #expect(session.control.pointee.keys == 0 && session.control.pointee.features & scheduler == scheduler)
    session.shedScheduler()
    #expect(session.plan.tier == .lite && session.control.pointee.features & scheduler == 0)
    #expect(session.control.pointee.features & KT_HAS_WAKEUP.rawValue != 0)
    if plan.delayOffset != 0 {
      #expect(session.control.pointee.features & KT_HAS_RUN_DELAY.rawValue != 0)
      #expect(session.control.pointee.delay_everywhere == 1)
    }
    _ = session.stop()
  }

  @Test func `A late heartbeat makes a gap of what lies beyond the limit`() throws {
    let tracefs = try #require(Tracefs.find())
    let layouts = try Layouts(tracefs: tracefs, proxy: true)
    let session = try Session(
      attach: .tp, plan: ProgramPlan(attach: .tp, layouts: layouts, proxy: true, tier: .lite, keys: false),
      layouts: layouts, capacity: Capacity(pidMax: 32768, memoryBytes: 1 << 30, vcpus: 0, ringGroups: 0),
      groups: RingGroups(cpuCount: 2, nodes: []), processes: [], onNotice: { _ in }, onRecord: { _, _ in })
    #expect(session.beat() == nil)
    #expect(session.beat() == nil)
    let epoch = session.control.pointee.epoch
    session.control.pointee.heartbeat_ns -= UInt64(KT_HEARTBEAT_LIMIT_NS) + 5_000_000_000
    let gap = try #require(session.beat())
    #expect(session.control.pointee.epoch == epoch + 1)
    #expect(session.control.pointee.gap_ns == gap.startNanoseconds)
    #expect(gap.endNanoseconds - gap.startNanoseconds >= 5_000_000_000)
  }
}
