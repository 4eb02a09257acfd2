import CTinyGuest
import Glibc

/// Many tiny VMs, each in a forked process of its own as QEMU's are: at once, where all of them are ready before any begins,
/// or one after the other.
struct Fleet {
  private let order: Order

  init(_ order: Order) { self.order = order }

  private struct Pipe {
    let reading: Int32
    let writing: Int32

    init() throws(TinyGuestError) {
      var ends: [Int32] = [-1, -1]
      guard pipe(&ends) == 0 else { throw TinyGuestError("pipe", errno: errno) }
      reading = ends[0]
      writing = ends[1]
    }
  }

  private struct Member {
    let pid: Int32
    let output: Int32
  }

  func run() -> Int32 {
    do throws(TinyGuestError) {
      if let count = order.churn { return try churn(count) }
      return try lead()
    } catch {
      GuestCommand.write("guest: \(error)\n", to: 2)
      return 3
    }
  }

  /// Each is created when the one before is gone. The worst exit status.
  private func churn(_ count: Int) throws(TinyGuestError) -> Int32 {
    if order.waits { GuestCommand.waitForLine() }
    var worst: Int32 = 0
    for _ in 0..<count {
      let pid = kt_guest_fork()
      guard pid >= 0 else { throw TinyGuestError("fork", errno: errno) }
      if pid == 0 {
        exit(
          GuestCommand.report(to: 1) { () throws(TinyGuestError) in try TinyGuest.run(order.workload) })
      }
      worst = max(worst, Self.exitStatus(pid))
    }
    return worst
  }

  /// Waits for the end of a process.
  private static func exitStatus(_ pid: Int32) -> Int32 {
    var status: Int32 = 0
    while waitpid(pid, &status, 0) < 0, errno == EINTR {}
    return status & 0x7f == 0 ? (status >> 8) & 0xff : 3
  }

  private func lead() throws(TinyGuestError) -> Int32 {
    // A member writes a byte when it is ready; the gate's end of file tells all of them to go.
    let ready = try Pipe()
    let gate = try Pipe()
    var members: [Member] = []
    for _ in 0..<order.vms {
      let output = try Pipe()
      let pid = kt_guest_fork()
      if pid == 0 {
        for member in members { close(member.output) }
        close(gate.writing)
        close(output.reading)
        exit(follow(ready: ready.writing, gate: gate.reading, output: output.writing))
      }
      close(output.writing)
      guard pid > 0 else {
        close(gate.writing)
        throw TinyGuestError("fork", errno: errno)
      }
      members.append(Member(pid: pid, output: output.reading))
    }
    close(ready.writing)
    var waiting = members.count
    var byte: UInt8 = 0
    while waiting > 0, read(ready.reading, &byte, 1) == 1 { waiting -= 1 }
    if order.waits, waiting == 0 { GuestCommand.waitForLine() }
    close(gate.writing)
    return collect(members)
  }

  /// Hands on what the members say, line by line, and returns the worst exit status.
  private func collect(_ members: [Member]) -> Int32 {
    var worst: Int32 = 0
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    for member in members {
      while true {
        let count = read(member.output, &buffer, buffer.count)
        if count < 0 && errno == EINTR { continue }
        guard count > 0 else { break }
        GuestCommand.write(String(decoding: buffer[..<count], as: UTF8.self), to: 1)
      }
      close(member.output)
      worst = max(worst, Self.exitStatus(member.pid))
    }
    return worst
  }

  private func follow(ready: Int32, gate: Int32, output: Int32) -> Int32 {
    GuestCommand.report(to: output) { () throws(TinyGuestError) in
      try TinyGuest.run(order.workload) { _ in
        GuestCommand.write("+", to: ready)
        close(ready)
        var byte: UInt8 = 0
        while read(gate, &byte, 1) < 0, errno == EINTR {}
      }
    }
  }
}
