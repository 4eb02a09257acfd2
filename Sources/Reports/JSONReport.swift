import Terminal

/// A report for programs; docs/report-schema.md describes every field.
public struct JSONReport: Renderer {
  /// The schema's name; the number rises when a field changes its meaning or goes away, not when one is added.
  public static let schema = "kvmtax-report/1"

  /// No options.
  public init() {}

  /// The whole document.
  public func render(_ report: Report) -> String {
    var writer = JSONWriter()
    // names stay as they are: the writer escapes them
    let words = Sentences(name: { $0 })
    writer.object { writer in
      writer.field("schema", JSONReport.schema)
      writer.field("kvmtax", kvmtaxVersion)
      writer.field("filter", report.filter)
      writer.field("verdict", words.verdict(report))
      writer.field("capture") { capture(report.capture, to: &$0) }
      writer.field("trust") { trust(report.trust, to: &$0) }
      writer.field("totals") { writer in writer.object { section(report.totals, to: &$0) } }
      writer.field("vms") { $0.array(report.vms) { vm($1, words, to: &$0) } }
    }
    return writer.text + "\n"
  }

  func capture(_ capture: Report.Source, to writer: inout JSONWriter) {
    writer.object { writer in
      writer.field("file", capture.file)
      writer.field("format", capture.format)
      writer.field("rung", capture.rung)
      writer.field("host", capture.host)
      writer.field("kernel", capture.kernel)
      writer.field("clock", capture.clock)
      writer.field("attach", capture.attach)
      writer.field("isas", capture.isas)
      writer.field("start", capture.start)
      writer.field("start_realtime_ns", capture.startRealtimeNanoseconds)
      writer.field("duration_ns", capture.durationNanoseconds)
    }
  }

  private func trust(_ trust: Report.Reliability, to writer: inout JSONWriter) {
    writer.object { writer in
      writer.field("exits", trust.exits)
      writer.field("entries", trust.entries)
      writer.field("lost", trust.lost)
      writer.field("lost_events", trust.lostEvents)
      writer.field("missed_events", trust.missedEvents)
      writer.field("lost_records", trust.lostRecords)
      writer.field("unmatched", trust.unmatched)
      writer.field("unpaired_exits", trust.unpairedExits)
      writer.field("unpaired_entries", trust.unpairedEntries)
      writer.field("open_exits", trust.openExits)
      writer.field("backwards", trust.backwards)
      writer.field("residual_ns", trust.residualNanoseconds)
      writer.field("residual", trust.residual)
      writer.field("gaps", trust.gaps)
      writer.field("gap_ns", trust.gapNanoseconds)
      writer.field("is_complete", trust.isComplete)
      writer.field("damage") { writer in
        writer.array(trust.damage) { writer, damage in
          writer.object { writer in
            writer.field("offset", damage.offset)
            writer.field("length", damage.length)
            writer.field("found", damage.found)
          }
        }
      }
      writer.field("missed_interrupts", trust.missedInterrupts)
      writer.field("checks") { writer in
        writer.array(trust.checks) { writer, check in
          writer.object { writer in
            writer.field("id", check.id)
            writer.field("ours", check.ours)
            writer.field("theirs", check.theirs)
            writer.field("unit", check.unit)
            writer.field("holds", check.holds)
            writer.field("text", check.text)
          }
        }
      }
      writer.field("calibrated", trust.calibrated)
      writer.field("calibration_problem", trust.calibrationProblem)
      writer.field("failures", trust.failures)
      writer.field("merged", trust.merged)
      writer.field("notes", trust.notes)
    }
  }

  private func vm(_ vm: Report.Machine, _ words: Sentences, to writer: inout JSONWriter) {
    writer.object { writer in
      writer.field("pid", UInt64(vm.pid))
      writer.field("vmid", vm.vmid)
      writer.field("name", vm.name)
      writer.field("verdict", words.verdict(vm))
      section(vm.section, to: &writer)
      writer.field("vcpus") { writer in
        writer.array(vm.vcpus) { writer, vcpu in
          writer.object { writer in
            writer.field("thread", UInt64(vcpu.thread))
            writer.field("tid", UInt64(vcpu.tid))
            writer.field("index", vcpu.index)
            writer.field("name", vcpu.name)
            writer.field("ended", vcpu.ended)
            let halt = vcpu.section.merged.first { $0.name == "halt_wait" }
            writer.field("halt_is_divided", halt?.others.contains("halt_poll") != true)
            section(vcpu.section, to: &writer)
          }
        }
      }
    }
  }

  private func section(_ section: Report.Section, to writer: inout JSONWriter) {
    writer.field("vcpu_count", section.vcpuCount)
    writer.field("span_ns", section.spanNanoseconds)
    writer.field("wall_ns", section.wallNanoseconds)
    writer.field("headline") { headline(section.headline, to: &$0) }
    writer.field("states_ns") { states(section.states, to: &$0) }
    writer.field("states_merged") { writer in
      writer.array(section.merged) { writer, merged in
        writer.object { writer in
          writer.field("state", merged.name)
          writer.field("others", merged.others)
        }
      }
    }
    writer.field("groups") { $0.array(section.groups) { group($1, to: &$0) } }
    if let calibrated = section.calibrated {
      writer.field("calibrated") { self.calibrated(calibrated, to: &$0) }
    } else {
      writer.field("calibrated", nil as String?)
    }
    writer.field("exits", section.exits)
    writer.field("exits_per_second", section.exitsPerSecond)
    writer.field("reasons") { $0.array(section.reasons) { reason($1, to: &$0) } }
    writer.field("rest") { writer in
      writer.object { writer in
        writer.field("overflow_exits", section.rest.overflowExits)
        writer.field("overflow_ns", section.rest.overflowNanoseconds)
        writer.field("handled_ns", section.rest.handledNanoseconds)
        writer.field("of_running", section.rest.ofRunning)
      }
    }
    if let tree = section.classes {
      classes(tree, to: &writer)
    } else {
      for field in ["shares", "classes", "overflow_keys"] { writer.field(field, nil as String?) }
    }
  }

  private func classes(_ tree: Report.ClassTree, to writer: inout JSONWriter) {
    writer.field("shares") { writer in
      writer.array(tree.shares) { writer, share in
        writer.object { writer in
          writer.field("id", share.id)
          writer.field("label", share.label)
          writer.field("handled_ns", share.handledNanoseconds)
          writer.field("of_running", share.ofRunning)
        }
      }
    }
    writer.field("classes") { writer in
      writer.array(tree.classes) { writer, one in
        writer.object { writer in
          writer.field("id", one.id)
          writer.field("label", one.label)
          writer.field("share", one.share)
          time(one.time, to: &writer)
          writer.field("keys") { $0.array(one.keys) { key($1, to: &$0) } }
        }
      }
    }
    writer.field("overflow_keys") { writer in
      writer.object { writer in
        writer.field("exits", tree.overflowExits)
        writer.field("total_ns", tree.overflowNanoseconds)
      }
    }
  }

  private func key(_ key: Report.KeyTime, to writer: inout JSONWriter) {
    writer.object { writer in
      writer.field("isa", UInt64(key.isa))
      writer.field("reason", UInt64(key.number))
      writer.field("name", key.reason)
      writer.field("about", key.about)
      writer.field("kind", key.kind)
      writer.field("subject", key.subject)
      writer.field("traits", key.traits)
      writer.field("userspace", key.userspace)
      time(key.time, to: &writer)
    }
  }

  private func time(_ time: Report.ClassTime, to writer: inout JSONWriter) {
    writer.field("exits", time.exits)
    writer.field("per_second", time.perSecond)
    writer.field("total_ns", time.totalNanoseconds)
    writer.field("handled_ns", time.handledNanoseconds)
    writer.field("handled_mean_ns", time.handledMeanNanoseconds)
    writer.field("max_ns", time.maxNanoseconds)
    writer.field("of_running", time.ofRunning)
    writer.field("states_ns") { states(time.states, to: &$0) }
  }

  private func calibrated(_ calibrated: Report.Calibrated, to writer: inout JSONWriter) {
    writer.object { writer in
      writer.field("world_switch_ns", calibrated.worldSwitchNanoseconds)
      writer.field("world_switch_low_ns", calibrated.worldSwitchLowNanoseconds)
      writer.field("world_switch_high_ns", calibrated.worldSwitchHighNanoseconds)
      writer.field("world_switch_of_running", calibrated.worldSwitchOfRunning)
      writer.field("tracer_ns", calibrated.tracerNanoseconds)
      writer.field("overhead", calibrated.overhead)
      writer.field("overhead_low", calibrated.low)
      writer.field("overhead_high", calibrated.high)
    }
  }

  private func headline(_ headline: Report.Headline, to writer: inout JSONWriter) {
    writer.object { writer in
      writer.field("kind", headline.kind.rawValue)
      writer.field("overhead", headline.overhead)
      writer.field("overhead_low", headline.low)
      writer.field("overhead_high", headline.high)
      writer.field("variation_low", headline.variation?.low)
      writer.field("variation_high", headline.variation?.high)
      writer.field("variation_blocks", headline.variation?.blocks)
      writer.field("virt_ns", headline.virtNanoseconds)
      writer.field("guest_ns", headline.guestNanoseconds)
      writer.field("running_ns", headline.runningNanoseconds)
      writer.field("of_wall", headline.ofWall)
      writer.field("virt_ms_per_second", headline.virtMillisecondsPerSecond)
    }
  }

  private func group(_ group: Report.Group, to writer: inout JSONWriter) {
    writer.object { writer in
      writer.field("id", group.id)
      writer.field("label", group.label)
      writer.field("ns", group.nanoseconds)
      writer.field("of_wall", group.ofWall)
      writer.field("of_running", group.ofRunning)
      writer.field("note", group.note)
    }
  }

  private func reason(_ reason: Report.Reason, to writer: inout JSONWriter) {
    writer.object { writer in
      writer.field("isa", UInt64(reason.isa))
      writer.field("reason", UInt64(reason.number))
      writer.field("name", reason.name)
      writer.field("is_halt", reason.isHalt)
      writer.field("exits", reason.exits)
      writer.field("per_second", reason.perSecond)
      writer.field("finished", reason.finished)
      writer.field("unpaired", reason.unpaired)
      writer.field("open", reason.open)
      writer.field("total_ns", reason.totalNanoseconds)
      writer.field("min_ns", reason.durations?.min)
      writer.field("mean_ns", reason.durations?.mean)
      writer.field("p50_ns", reason.durations?.p50)
      writer.field("p90_ns", reason.durations?.p90)
      writer.field("p99_ns", reason.durations?.p99)
      writer.field("max_ns", reason.durations?.max)
      writer.field("handled_ns", reason.handledNanoseconds)
      writer.field("handled_mean_ns", reason.handledMeanNanoseconds)
      writer.field("of_running", reason.ofRunning)
      writer.field("states_ns") { states(reason.states, to: &$0) }
    }
  }

  private func states(_ states: [Report.StateTime], to writer: inout JSONWriter) {
    writer.object { writer in
      for state in states { writer.field(state.name, state.nanoseconds) }
    }
  }
}
