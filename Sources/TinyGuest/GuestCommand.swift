import Glibc

/// The command line over TinyGuest, for tests, the demonstration and the lab.
public enum GuestCommand {
  static let usage = """
    usage: guest [DEED N]... [--vcpus N] [--vms N | --churn N] [--repeat LAPS | --seconds S]
                 [--immediate-exit N [--rate PER_SECOND]] [--wait] [--time-limit S]
                 [--pin CPU] [--competitor CPU] [--stop-ms MS]

    Runs tiny VMs, each in a process of its own if there are several, which do exactly N of each thing on each
    virtual CPU and lap. Prints one line of JSON per VM: what the guest counted and how KVM_RUN came back.

    --cpuid --out --in --mmio-write --mmio-read --rdmsr --wrmsr --hypercall --pause --touch
                         what their names say
    --hlt N              HLT to user space, not with interrupts. A guest halts at least twice, when it is ready and
                         when it is done; further laps halt once less.
    --in-spin N          IN, answered after the host has spun for --spin-us (200)
    --in-sleep N         IN, answered after the host has slept for --sleep-us (1000)
    --rdtsc-spin N       the guest spins for --guest-spin-us (1000)
    --touch-delayed N    touches pages that userfaultfd provides after --fault-us (2000)
    --arm N              arms the TSC deadline timer, which never fires
    --deadline N         TSC deadline and HLT until it fires, after --timer-us (500)
    --oneshot N          one-shot APIC timer and HLT until it fires, after --timer-us
    --periodic N         ticks of a periodic APIC timer, every --timer-us, handled while the guest spins
    --ipi N              interrupts to and from the other one of each pair of virtual CPUs (0-1, 2-3, ...) in turn,
                         waiting in HLT
    The last five give the VM an interrupt controller in the kernel, where HLT waits.

    --wait               prints "ready" when every virtual CPU exists, and goes on at a line or end of file on
                         standard input
    --churn N            N VMs one after the other; with --wait, "ready" comes before the first
    --pin CPU            binds the threads of the virtual CPUs
    --competitor CPU     a thread burns that CPU while the virtual CPUs work
    --stop-ms MS         the process is stopped (SIGSTOP) that long while the virtual CPUs work, 20 ms after they began

    """

  /// Runs and returns the exit status: 0 fine, 2 usage, 3 the VM could not run.
  public static func main(_ arguments: [String]) -> Int32 {
    let order: Order
    do throws(TinyGuestError) {
      if arguments.contains("--help") || arguments.contains("-h") {
        write(usage, to: 1)
        return 0
      }
      order = try Order(arguments)
      try order.workload.check()
    } catch {
      write("guest: \(error) (guest --help tells what there is)\n", to: 2)
      return 2
    }
    return order.vms > 1 || order.churn != nil ? Fleet(order).run() : runOne(order)
  }

  /// One VM in this process.
  private static func runOne(_ order: Order) -> Int32 {
    report(to: 1) { () throws(TinyGuestError) in
      try TinyGuest.run(order.workload) { _ in if order.waits { waitForLine() } }
    }
  }

  /// Runs a VM and prints its line, or why there is none; the exit status.
  static func report(to output: Int32, _ run: () throws(TinyGuestError) -> Result) -> Int32 {
    do throws(TinyGuestError) {
      write(GuestJSON.line(try run()), to: output)
      return 0
    } catch {
      write("guest: \(error)\n", to: 2)
      return 3
    }
  }

  /// Says "ready" and goes on at a line or end of file.
  static func waitForLine() {
    write("ready\n", to: 1)
    var byte: UInt8 = 0
    while read(0, &byte, 1) == 1, byte != UInt8(ascii: "\n") {}
  }

  /// Writes it all, also to a pipe that takes it in pieces.
  static func write(_ text: String, to descriptor: Int32) {
    var text = text
    text.withUTF8 { bytes in
      var done = 0
      while done < bytes.count {
        let count = Glibc.write(descriptor, bytes.baseAddress! + done, bytes.count - done)
        if count < 0 && errno == EINTR { continue }
        guard count > 0 else { return }
        done += count
      }
    }
  }
}
