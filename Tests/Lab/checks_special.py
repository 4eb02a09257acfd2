"""Checks of scenarios that are unlike the others."""
import re

from checks import by_reason, difference, guest_figures, measured, state_seconds, total, within


def doctor(run):
    """The doctor says that a recording would work, and whether the fast path fits; where it must fit, it must say so."""
    log, status = run.read("doctor.log"), run.read("doctor.status").strip()
    run.check(status == "0", "doctor: a recording would work", log)
    said = re.search(r"fast path +(.*(?:\n {4,}.*)*)", log)
    fits = bool(said and said[1].startswith("tp_btf"))
    run.check(bool(said) and fits == run.machine.typed, "doctor knows whether the fast path fits", log)
    mode = re.search(r"\[(\w+)\]", run.machine.read("lockdown"))
    run.check((mode[1] if mode else "none") == run.machine.machine.lockdown,
              f"lockdown is {run.machine.machine.lockdown}", run.machine.read("lockdown"))
    if run.machine.machine.lockdown != "none":
        run.check(run.machine.machine.lockdown in log, "doctor names the lockdown", log)
    modules = [name for name in run.machine.read("btf").split() if name.startswith("kvm")]
    run.check(bool(modules) == (run.machine.kernel >= (5, 11) and not run.machine.machine.strips_btf),
              "the modules' types are there or not, as they should", modules)
    run.say(f"fast path {'fits' if fits else 'not used'}, module types {'there' if modules else 'absent'}, "
            f"lockdown {run.machine.machine.lockdown}")


def calibrated(run):
    """A calibration ends well, has its paths, and recovers a delay of known length within a tenth; both lengths are of
    the same run, the known one of the loop by itself."""
    log, status = run.read("calibrate.log"), run.read("calibrate.status").strip()
    if not run.check(status == "0", f"kvmtax calibrate exits with 0, not {status or 'nothing'}", log):
        return
    lines = [line.split() for line in run.read("calibration").splitlines()]
    measured = {tuple(words[1:5]): [float(word) for word in words[5:]] for words in lines if words[0] == "measured"}
    absent = {words[1] for words in lines if words[0] == "absent"}
    for path in ("fast", "kernel", "userspace", "switched"):
        ours = {words[2:]: value for words, value in measured.items() if words[0] == path}
        if not run.check(bool(ours) != (path in absent), f"{path} is measured, or said to be absent", log):
            continue
        for (mode, quantity), (low, mid, high) in ours.items():
            run.check(0 <= low <= mid <= high or quantity == "adds", f"{path} {mode} {quantity}: bounds in order",
                      f"{low} {mid} {high}")
    recovered = re.findall(r"INJECTED DELAY, (\S+)\n +put in +([\d,]+).*\n +recovered +([\d,]+).*off by (\S+) %", log)
    run.check({kind for kind, *_ in recovered} >= {"cpuid", "rdmsr", "out"}, "delays were injected", log)
    for kind, put_in, came, error in recovered:
        run.say(f"{kind} {put_in} -> {came} ns ({error} %)")
        run.check(abs(float(error)) <= 10, f"{kind}: the injected delay is recovered within 10 %", log)
    report = run.report("trace")
    if not report:
        return
    run.check(report["trust"]["calibrated"], "the recording took the calibration along", report["trust"])
    calibrated_times = report["totals"]["calibrated"]
    if not run.check(calibrated_times and calibrated_times["world_switch_ns"] > 0, "the report has the world switch",
                     report["totals"]):
        return
    # What was recorded closes with what was clocked untraced: span less the tracer's part in it, and the world switch.
    cpuid = next(reason for reason in report["totals"]["reasons"] if reason["reason"] == run.machine.reasons["cpuid"])
    mode = f"{report['capture']['attach']}+full+keys"
    inside = measured[("kernel", "cpuid", mode, "inside")][1]
    switch = measured[("kernel", "cpuid", "untraced", "world_switch")][1]
    trip = measured[("kernel", "cpuid", "untraced", "round_trip")][1]
    sum_ns = cpuid["p50_ns"] - inside + switch
    run.say(f"recorded {cpuid['p50_ns']:,} - {inside:,.0f} + {switch:,.0f} = {sum_ns:,.0f}, clocked {trip:,.0f} ns")
    run.check(abs(sum_ns / trip - 1) <= 0.15, "recording and calibration close within 15 %", f"{sum_ns} {trip}")


def churned(run):
    """As many VMs as asked, one after the other, each with accounts of its own."""
    wanted = run.drawn.parameters["n"]
    pids = {guest["pid"] for guest in run.guests}
    run.check(len(pids) == wanted, f"{wanted} VMs came and went", f"{len(pids)}")
    report = run.report("trace")
    ours = [vm["pid"] for vm in report["vms"]] if report else []
    run.check(set(ours) >= pids and len(ours) == len(set(ours)), "each has accounts of its own", f"{ours} {pids}")


def competed(run):
    """The competitor measured its own CPU time, on the CPU of the vCPU: what it got, the vCPU did not."""
    truth = measured(run, "competitor")
    report = run.report("trace")
    if not report or not truth["count"]:
        return
    busy = measured(run, "rdtsc_spin")
    run.check(truth["cpu_ns"] > 0.1 * busy["wall_ns"], "the competitor ran", difference(competitor=truth, guest=busy))
    ours = state_seconds(run, "preempted")
    # up to a switch at either end is nobody's
    within(run, "preempted is what the competitor got", truth["cpu_ns"] * 0.97 - 20e6, ours, truth["cpu_ns"] * 1.03 + 20e6)
    run.say(f"competitor {truth['cpu_ns'] / 1e6:.0f} ms of CPU")


def shared(run):
    """Two guests that compute on one CPU: while one spun, the other was out of its guest."""
    spun = measured(run, "rdtsc_spin")
    if run.report("trace") and spun["count"]:
        out = state_seconds(run, "kernel", "preempted", "host_interrupt")
        ran = max(vcpu["end_ns"] for vcpu in run.vcpus) - min(vcpu["start_ns"] for vcpu in run.vcpus)
        guest = state_seconds(run, "guest")
        run.check(guest <= 1.1 * ran, "one CPU gave no more than itself", difference(guest=guest, wall=ran))
        run.check(out > 0, "the others' time is out of the guest", out)
        run.say(f"guests {guest / 1e6:.0f} ms in {ran / 1e6:.0f} ms of one CPU")


def stopped(run):
    """The process stood still for a second: its vCPU's time out of the guest holds it."""
    truth = measured(run, "stop")
    if not truth["count"]:
        return
    run.check(truth["wall_ns"] >= 0.99e9, "it was stopped for a second", truth)
    report = run.report("trace")
    if report:
        ours = state_seconds(run, "stopped")
        within(run, "stopped is how long it was stopped", truth["wall_ns"] * 0.97, ours, truth["wall_ns"] * 1.03)
    run.say(f"stopped {truth['wall_ns'] / 1e6:.0f} ms")


def survived_kill(run):
    """After SIGKILL nothing of BPF is left but the VM that is held open has none, and the file is readable."""
    run.check(run.read("held").strip() == "0", "no descriptor of BPF is held", run.read("held"))
    report = run.report("trace")
    if not report:
        return
    run.check(not report["trust"]["is_complete"], "the report says that the file was cut", report["trust"])
    exits = report["totals"]["exits"]
    run.check(exits > 1000, "what was written is there", f"{exits} exits")
    run.say(f"killed; {exits:,} exits readable")


def disk_full(run):
    """The recording stops in order, its file is whole, and what it holds never exceeds what happened."""
    log, status = run.read("trace.log"), run.read("trace.status").strip()
    run.check(status in ("0", "3"), "the recorder ends in order", f"status {status}\n{log}")
    run.check(re.search(r"(?i)disk|space", log), "it says that the disk is full", log)
    report = run.report("trace")
    if report:
        counts = run.counts(report)
        ours, seen = total(counts), total({tid: run.witnessed.get(tid, {}) for tid in counts})
        run.check(0 < ours <= seen, "the file holds what happened up to then", difference(kvmtax=ours, ftrace=seen))
        run.say(f"{ours:,} of {seen:,} exits kept")


def request_counts(kind):
    """A check that the guest's own statistics of its disk count what it was told to do."""
    field = {"read": 0, "write": 4}[kind]

    def check(run):
        lines = re.findall(r"^\s*(\d+(?: +\d+){10,})\s*$", run.read("trace.log"), re.M)
        if run.check(len(lines) == 2, "the guest's statistics of the disk", run.read("trace.log")):
            before, after = ([int(value) for value in line.split()] for line in lines)
            done = after[field] - before[field]
            run.check(done == run.drawn.parameters["n"], f"the guest counts {kind}s as told", f"{done} {run.drawn.told()}")
            run.say(f"{done} {kind}s")
    return check


def transferred(run):
    """The guest's own statistics of its interface count what it was told to fetch."""
    wanted = run.drawn.parameters["n"] * 4 << 20
    figures = guest_figures(run, r"before (\d+)\s+after (\d+)")
    if run.check(figures is not None, "the guest's statistics of its interface", run.read("trace.log")):
        bytes_in = figures[1] - figures[0]
        run.check(wanted <= bytes_in <= wanted * 1.1, "the guest received what it fetched", f"{bytes_in} of {wanted}")
        run.say(f"{bytes_in >> 10:,} KiB received")


def migrated(run):
    """The migration finished while the guest wrote, so pages were protected against writing and faulted."""
    log = run.read("trace.log")
    sizes = re.findall(r"^\S+ +\d+ \S+ +\S+ +(\d+) .*/tmp/migrated", log, re.M)
    if run.check(len(sizes) == 1, "there is a file of the migrated VM", log):
        size = int(sizes[0]) >> 20
        run.check(size >= run.drawn.parameters["n"] // 2, "it holds the guest's memory", f"{size} MiB")
        run.say(f"{size} MiB migrated, npf {by_reason(run, 'npf'):,}")


def snapshot_taken(run):
    """QEMU lists the snapshot; while it was taken the VM stood still."""
    log = run.read("monitor.log")
    run.check(re.search(r"^\S+ +taken ", log, re.M), "QEMU lists the snapshot", log[-1500:])


def nested_ran(run):
    """The guest's own guest ran: each of its exits made the guest execute VMRUN once more, which exits to us."""
    found = re.search(r'"cpuid":(\d+)', run.read("trace.log"))
    run.check(found and int(found[1]) == run.drawn.parameters["n"], "the guest's guest did what was drawn",
              run.read("trace.log"))
    runs = by_reason(run, "vmrun")
    run.check(runs >= run.drawn.parameters["n"], "the guest entered its guest for each", f"{runs} VMRUN")
    run.say(f"VMRUN {runs:,}")


def packets_received(run):
    """QEMU's own dump of the network holds what the guest fetched."""
    try:
        with open(run.path("packets.pcap"), "rb") as file:
            data = file.read()
    except OSError:
        data = b""
    wanted = run.drawn.parameters["n"] << 10
    run.check(len(data) >= wanted, "the dump of the network holds what was fetched", f"{len(data)} of {wanted} bytes")
    run.say(f"{len(data) >> 10} KiB on the network")
