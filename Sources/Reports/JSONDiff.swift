import Terminal

/// A comparison for programs; docs/report-schema.md describes every field.
public struct JSONDiff {
  /// The schema's name; the number rises when a field changes its meaning or goes away, not when one is added.
  public static let schema = "kvmtax-diff/1"

  /// No options.
  public init() {}

  /// The whole document.
  public func render(_ report: DiffReport) -> String {
    var writer = JSONWriter()
    // names stay as they are: the writer escapes them
    let words = DiffSentences(name: { $0 })
    writer.object { writer in
      writer.field("schema", JSONDiff.schema)
      writer.field("kvmtax", kvmtaxVersion)
      writer.field("filter", report.filter)
      writer.field("verdict", words.verdict(report))
      writer.field("is_different", report.isDifferent)
      writer.field("least", report.least)
      writer.field("before") { JSONReport().capture(report.before, to: &$0) }
      writer.field("after") { JSONReport().capture(report.after, to: &$0) }
      writer.field("failures", report.failures)
      writer.field("warnings", report.warnings)
      writer.field("only_before", report.onlyBefore)
      writer.field("only_after", report.onlyAfter)
      writer.field("vms") { writer in
        writer.array(report.vms) { vm($1, words.verdict($1, least: report.least), to: &$0) }
      }
    }
    return writer.text + "\n"
  }

  private func vm(_ vm: DiffReport.Machine, _ verdict: String, to writer: inout JSONWriter) {
    writer.object { writer in
      writer.field("pid", UInt64(vm.pid))
      writer.field("vmid", vm.vmid)
      writer.field("name", vm.name)
      writer.field("verdict", verdict)
      writer.field("outcome", vm.outcome.rawValue)
      writer.field("has_run", vm.hasRun)
      writer.field("block_ns", vm.blockNanoseconds)
      writer.field("blocks_before", vm.blocks[0])
      writer.field("blocks_after", vm.blocks[1])
      writer.field("vcpus_before", vm.vcpuCounts[0])
      writer.field("vcpus_after", vm.vcpuCounts[1])
      writer.field("guest_per_second_before", vm.load[0])
      writer.field("guest_per_second_after", vm.load[1])
      writer.field("not_ruled_out", vm.notRuledOut)
      writer.field("warnings", vm.warnings)
      writer.field("rows") { $0.array(vm.rows) { row($1, to: &$0) } }
    }
  }

  private func row(_ row: DiffReport.Row, to writer: inout JSONWriter) {
    writer.object { writer in
      writer.field("kind", row.kind.rawValue)
      writer.field("state", row.state)
      writer.field("isa", row.isa.map { UInt64($0) })
      writer.field("reason", row.reason.map { UInt64($0) })
      writer.field("label", row.label)
      writer.field("before", row.before)
      writer.field("after", row.after)
      writer.field("effect", row.effect)
      writer.field("effect_low", row.low)
      writer.field("effect_high", row.high)
      writer.field("p", row.chance)
      writer.field("p_holm", row.adjustedChance)
      writer.field("in_time", row.weight)
      writer.field("outcome", row.outcome.rawValue)
    }
  }
}
