import Attribution
import CBpf
import Foundation
import TestSupport
import Testing
import TraceFile

/// The built tracer on this machine's kernel. Where kvm_exit never fires, the proxy pair kvm_userspace_exit and kvm_fpu
/// proves everything but the meaning of an exit: pairing, accounts, rings, losses, ends.
@Suite(.serialized, .needsBpf, .needsKvm) struct LiveTests {
  @Test(arguments: [false, true])
  func `Each thread's exits equal what its guest counted, in accounts and in records`(events: Bool) throws {
    let folder = try ScratchFolder()
    let tracer = try record(
      events ? ["--events"] : [], to: folder.file("a"),
      command: guest("--immediate-exit", "3000", "--vcpus", "3", "--vms", "2"))
    let outcome = tracer.finish()
    #expect(outcome.status == 0, "\(outcome.errors)")
    let guests = try GuestCounts.parse(outcome.output)
    #expect(guests.count == 2)
    let expected = Dictionary(uniqueKeysWithValues: guests.flatMap(\.vcpus).map { ($0.tid, $0.returns) })
    let accounts = try Recording(folder.file("a"))
    // other tests' guests may run at the same time
    #expect(accounts.exits(of: expected.keys) == expected)
    #expect(Set(accounts.evidence.ledger.vms.map(\.pid)).isSuperset(of: guests.map(\.pid)))
    #expect(accounts.residualNanoseconds == 0)
    #expect(accounts.evidence.trust.isComplete)
    #expect(accounts.evidence.trust.lostEvents == 0)
    guard events else { return }
    let records = try Recording(folder.file("a"), using: .exits)
    #expect(records.evidence.trust.lostRecords == 0)
    for vcpu in accounts.evidence.ledger.vcpus where expected[vcpu.tid] != nil {
      let other = try #require(records.evidence.ledger.vcpus.first { $0.thread == vcpu.thread })
      func finished(_ vcpu: VCPU) -> [UInt32: [UInt64]] {
        Dictionary(
          uniqueKeysWithValues: vcpu.accounts.filter { $0.finished > 0 }.map {
            ($0.reason, [$0.finished, $0.totalNanoseconds, $0.minNanoseconds, $0.maxNanoseconds] + $0.histogram.counts)
          })
      }
      #expect(finished(vcpu) == finished(other))
    }
  }

  @Test func `Event records through the machine give the accounts to the nanosecond`() throws {
    let folder = try ScratchFolder()
    let one = guest("--in-spin", "20", "--in-sleep", "30", "--out", "300", "--vcpus", "2", "--vms", "2")
      .joined(separator: " ")
    let tracer = try record(
      ["--events=raw", "--interval", "200ms"], to: folder.file("a"),
      command: ["/bin/sh", "-c", "\(one); \(one); \(one)"])
    let outcome = tracer.finish()
    #expect(outcome.status == 0, "\(outcome.errors)")
    let accounts = try Recording(folder.file("a"))
    let events = try Recording(folder.file("a"), using: .events)
    #expect(events.evidence.capture.rung == "events" && events.contents.eventRecordCount > 5_000)
    #expect(accounts.evidence.trust.lostRecords == 0)
    #expect(accounts.evidence.ledger.vcpus.count >= 12)
    try expectSame(events.evidence.ledger, accounts.evidence.ledger)
  }

  @Test func `VMs that come and go ten a second are all counted, and their slots serve again`() throws {
    let folder = try ScratchFolder()
    let one = guest("--immediate-exit", "40", "--vcpus", "4").joined(separator: " ")
    let tracer = try record(
      ["--interval", "300ms"], to: folder.file("a"),
      command: ["/bin/sh", "-c", "i=0; while [ $i -lt 30 ]; do \(one); i=$((i+1)); done"])
    let outcome = tracer.finish()
    #expect(outcome.status == 0, "\(outcome.errors)")
    let guests = try GuestCounts.parse(outcome.output)
    #expect(guests.count == 30)
    let recording = try Recording(folder.file("a"))
    let expected = Dictionary(guests.flatMap(\.vcpus).map { ($0.tid, $0.returns) }, uniquingKeysWith: +)
    #expect(recording.exits(of: expected.keys) == expected)
    #expect(Set(recording.evidence.ledger.vms.map(\.pid)).isSuperset(of: guests.map(\.pid)))
    let running = recording.evidence.ledger.vcpus.filter { expected[$0.tid] != nil && !$0.ended }
    #expect(running.isEmpty)
    #expect(recording.residualNanoseconds == 0)
  }

  @Test func `A hundred VMs of 64 vCPUs fit, and the file grows by what changed`() throws {
    let folder = try ScratchFolder()
    let tracer = try record(
      [], to: folder.file("a"),
      command: guest("--immediate-exit", "60", "--rate", "20", "--vcpus", "64", "--vms", "100"))
    let outcome = tracer.finish(limitSeconds: 120)
    #expect(outcome.status == 0, "\(outcome.errors)")
    let guests = try GuestCounts.parse(outcome.output)
    #expect(guests.flatMap(\.vcpus).count == 6400)
    let recording = try Recording(folder.file("a"))
    #expect(recording.evidence.trust.lostEvents == 0)
    let expected = Dictionary(guests.flatMap(\.vcpus).map { ($0.tid, $0.returns) }, uniquingKeysWith: +)
    #expect(recording.exits(of: expected.keys) == expected)
    let grown = try SnapshotSizes(path: folder.file("a"))
    #expect(grown.rows > 6400)
    #expect(Double(grown.bytes) / Double(grown.rows) <= 64, "\(grown)")
  }

  @Test func `A tracer stopped for 15 s costs no count that is not declared`() throws {
    let folder = try ScratchFolder()
    let load = try Program("kvmtax-tracer", ["guest", "--immediate-exit", "4600", "--rate", "200"])
    let tracer = try record(["-d", "60"], to: folder.file("a"))
    #expect(Program.wait(seconds: 20) { tracer.errorsSoFar.contains("Recording") })
    // ends 14 s from now, while the programs are quiet
    let short = try Program("kvmtax-tracer", ["guest", "--immediate-exit", "2800", "--rate", "200"])
    usleep(1_500_000)
    tracer.signal(SIGSTOP)
    usleep(15_000_000)
    tracer.signal(SIGCONT)
    usleep(1_500_000)
    tracer.signal(SIGINT)
    let outcome = tracer.finish()
    #expect(outcome.status == 0, "\(outcome.errors)")
    let guests = try GuestCounts.parse(load.finish().output)
    let recording = try Recording(folder.file("a"))
    let gap = try #require(recording.contents.gaps.first { $0.reason == .quiet })
    let gapSeconds = Double(gap.lengthNanoseconds) / 1e9
    #expect((4.5...9).contains(gapSeconds))
    #expect(outcome.errors.contains("Not observed"))
    for vcpu in recording.evidence.ledger.vcpus {
      #expect(vcpu.exits == vcpu.accounts.reduce(0) { $0 + $1.exits }, "each exit has a reason")
    }
    let shortCounts = try GuestCounts.parse(short.finish().output)
    let ended = try #require(recording.evidence.ledger.vcpus.first { $0.tid == shortCounts[0].vcpus[0].tid })
    #expect(ended.ended)
    #expect(ended.exits < shortCounts[0].vcpus[0].returns)
    #expect(ended.states[.unknown] > 0)
    let vcpu = try #require(recording.evidence.ledger.vcpus.first { $0.tid == guests[0].vcpus[0].tid })
    // 200 a second, and none of them while the programs were quiet
    let observed = Double(vcpu.wallNanoseconds) / 1e9 - gapSeconds
    let counted = Double(vcpu.exits)
    #expect(
      ((observed - 1) * 150...(observed + 1) * 200).contains(counted), "\(counted) exits in \(observed) s observed")
    #expect(vcpu.states[.unknown] >= UInt64(gap.lengthNanoseconds))
    #expect(recording.residualNanoseconds == 0)
    #expect(vcpu.exits < guests[0].vcpus[0].returns)
  }

  @Test func `After SIGKILL the file is readable and nothing stays in the kernel`() throws {
    let folder = try ScratchFolder()
    let load = try Program("kvmtax-tracer", ["guest", "--immediate-exit", "4000", "--rate", "400"])
    let tracer = try record(["--interval", "200ms", "--events"], to: folder.file("a"))
    let hasCounted = Program.wait(seconds: 20) {
      guard let recording = try? Recording(folder.file("a")) else { return false }
      return !recording.exitsByThread.isEmpty
    }
    #expect(hasCounted)
    let programs = heldPrograms(tracer.pid)
    #expect(programs.count >= 3)
    #expect(programs.isSubset(of: loadedPrograms()))
    tracer.signal(SIGKILL)
    #expect(tracer.finish().status == -SIGKILL)
    let recording = try Recording(folder.file("a"))
    #expect(!recording.evidence.trust.isComplete)
    #expect(recording.evidence.trust.damage.isEmpty)
    #expect(recording.residualNanoseconds == 0)
    let guests = try GuestCounts.parse(load.finish().output)
    let counted = try #require(recording.exitsByThread[guests[0].vcpus[0].tid])
    #expect(counted > 0 && counted < guests[0].vcpus[0].returns)
    // programs go with the last reference, which the kernel drops soon after
    #expect(Program.wait(seconds: 20) { loadedPrograms().isDisjoint(with: programs) })
  }

  @Test func `A full disk ends the recording with a whole file that says so`() throws {
    let folder = try ScratchFolder()
    #expect(mount("tmpfs", folder.path, "tmpfs", 0, "size=4m") == 0)
    defer { umount(folder.path) }
    let load = try Program("kvmtax-tracer", ["guest", "--immediate-exit", "1000000000"])
    let outcome = try record(["--events"], to: folder.file("a")).finish()
    #expect(outcome.status == 3)
    #expect(outcome.errors.contains("No space left"), "\(outcome.errors)")
    load.signal(SIGKILL)
    _ = load.finish()
    let recording = try Recording(folder.file("a"))
    #expect(recording.contents.end?.reason == "disk-full")
    #expect(recording.evidence.trust.damage.isEmpty)
    #expect(recording.contents.exitRecordCount > 0)
    // what could not be written as a record is in the accounts all the same
    let accounts = recording.evidence.ledger.vcpus.flatMap(\.accounts)
    let lost = try #require(recording.contents.end?.lostRecords)
    #expect(recording.contents.exitRecordCount + lost == accounts.reduce(0) { $0 + $1.finished })
    #expect(recording.contents.end?.exits == accounts.reduce(0) { $0 + $1.exits })
  }

  @Test func `Records that a full ring refuses are counted, each one`() throws {
    let folder = try ScratchFolder()
    let tracer = try record(
      ["--events", "--ring-size", "64KiB"], to: folder.file("a"),
      command: guest("--immediate-exit", "60000", "--vcpus", "2"))
    #expect(Program.wait(seconds: 20) { tracer.errorsSoFar.contains("Recording") })
    usleep(200_000)
    tracer.signal(SIGSTOP)
    usleep(500_000)
    tracer.signal(SIGCONT)
    let outcome = tracer.finish()
    #expect(outcome.status == 0, "\(outcome.errors)")
    let recording = try Recording(folder.file("a"))
    let finished = recording.evidence.ledger.vcpus.flatMap(\.accounts).reduce(0) { $0 + $1.finished }
    let lost = recording.evidence.trust.lostRecords
    #expect(lost > 0)
    #expect(recording.contents.exitRecordCount + lost == finished)
    let perCpu = recording.contents.losses.reduce(0) { $0 + ($1.counts.first ?? 0) }
    #expect(perCpu == lost)
    let guests = try GuestCounts.parse(outcome.output)
    let expected = Dictionary(uniqueKeysWithValues: guests.flatMap(\.vcpus).map { ($0.tid, $0.returns) })
    #expect(recording.exits(of: expected.keys) == expected)
  }

  @Test func `A command that an interruption ends is asked to end, and its status is stored`() throws {
    let folder = try ScratchFolder()
    let tracer = try record(
      [], to: folder.file("a"),
      command: ["/bin/sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done"])
    #expect(Program.wait(seconds: 20) { tracer.errorsSoFar.contains("Recording") })
    usleep(500_000)
    tracer.signal(SIGINT)
    let outcome = tracer.finish()
    #expect(outcome.status == 0)
    #expect(outcome.errors.contains("The command ended with status 7."), "\(outcome.errors)")
    let contents = try Recording(folder.file("a")).contents
    #expect(contents.end?.reason == "interrupted")
    #expect(contents.notes.contains { $0.code == "command" && $0.text == "The command ended with status 7." })
  }

  @Test func `Under nohup a hangup is ignored, else it ends the recording in order`() throws {
    for (trap, reason) in [("trap '' HUP; ", "duration"), ("", "interrupted")] {
      let folder = try ScratchFolder()
      let tracer = try Program(
        "/bin/sh",
        [
          "-c", trap + "exec \"$@\"", "sh", "\(Program.folder)/kvmtax-tracer", "record", "--proxy", "-d", "3", "-o",
          folder.file("a"),
        ])
      #expect(Program.wait(seconds: 20) { tracer.errorsSoFar.contains("Recording") })
      usleep(300_000)
      tracer.signal(SIGHUP)
      #expect(tracer.finish().status == 0)
      #expect(try Recording(folder.file("a")).contents.end?.reason == reason)
    }
  }

  @Test func `The size limit ends the recording in order`() throws {
    let folder = try ScratchFolder()
    let load = try Program("kvmtax-tracer", ["guest", "--immediate-exit", "1000000000"])
    let outcome = try record(["--events", "--max-size", "1M"], to: folder.file("a")).finish()
    load.signal(SIGKILL)
    _ = load.finish()
    #expect(outcome.status == 0, "\(outcome.errors)")
    #expect(outcome.errors.contains("--max-size"))
    #expect(try Recording(folder.file("a")).contents.end?.reason == "size")
  }

  @Test func `Only the chosen process is recorded`() throws {
    let folder = try ScratchFolder()
    let other = try Program("kvmtax-tracer", ["guest", "--immediate-exit", "1000000", "--rate", "500"])
    let chosen = try Program("kvmtax-tracer", ["guest", "--immediate-exit", "1000000", "--rate", "500"])
    usleep(300_000)
    let outcome = try record(["-d", "1", "--pid", "\(chosen.pid)"], to: folder.file("a")).finish()
    #expect(outcome.status == 0, "\(outcome.errors)")
    #expect(try Recording(folder.file("a")).evidence.ledger.vms.map(\.pid) == [UInt32(chosen.pid)])
    for program in [other, chosen] {
      program.signal(SIGKILL)
      _ = program.finish()
    }
  }

  @Test func `The file belongs to the user behind sudo`() throws {
    let folder = try ScratchFolder()
    let outcome = try record(
      ["-d", "200ms"], to: folder.file("a"), environment: ["SUDO_UID": "65534", "SUDO_GID": "65534"]
    ).finish()
    #expect(outcome.status == 0, "\(outcome.errors)")
    let attributes = try FileManager.default.attributesOfItem(atPath: folder.file("a"))
    #expect(attributes[.ownerAccountID] as? Int == 65534)
    #expect(attributes[.posixPermissions] as? Int == 0o600)
  }

  @Test func `A command that cannot start leaves the old file and no new one`() throws {
    let folder = try ScratchFolder()
    try Data("precious".utf8).write(to: URL(filePath: folder.file("a")))
    let outcome = try record(["--force"], to: folder.file("a"), command: ["/no/such/command"]).finish()
    #expect(outcome.status == 3)
    #expect(outcome.errors.contains("/no/such/command: cannot be started: No such file or directory"))
    #expect(try String(contentsOfFile: folder.file("a"), encoding: .utf8) == "precious")
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["a"])
  }

  @Test func `A file that was removed meanwhile is not said to be written`() throws {
    let folder = try ScratchFolder()
    let tracer = try record(["-d", "2"], to: folder.file("a"))
    #expect(Program.wait(seconds: 20) { access(folder.file("a"), F_OK) == 0 })
    unlink(folder.file("a"))
    let outcome = tracer.finish()
    #expect(outcome.status == 3)
    #expect(outcome.errors.contains("removed or renamed"))
    #expect(!outcome.errors.contains("Wrote"))
  }

  @Test func `A dry run writes nothing and leaves nothing`() throws {
    let folder = try ScratchFolder()
    let outcome = try record(["--dry-run"], to: folder.file("a")).finish()
    #expect(outcome.status == 0)
    #expect(outcome.errors.contains("Nothing was recorded"))
    #expect(access(folder.file("a"), F_OK) != 0)
  }
}

/// The ids of the BPF programs that a process holds.
private func heldPrograms(_ pid: Int32) -> Set<UInt32> {
  let folder = "/proc/\(pid)/fdinfo"
  let descriptors = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
  let lines = descriptors.compactMap { try? String(contentsOfFile: "\(folder)/\($0)", encoding: .utf8) }
    .flatMap { $0.split(separator: "\n") }
  return Set(
    lines.filter { $0.hasPrefix("prog_id:") }.compactMap { UInt32($0.dropFirst(8).drop { $0 == "\t" || $0 == " " }) })
}

/// The ids of all BPF programs in the kernel.
private func loadedPrograms() -> Set<UInt32> {
  var ids = Set<UInt32>()
  var id: UInt32 = 0
  while bpf_prog_get_next_id(id, &id) == 0 { ids.insert(id) }
  return ids
}
