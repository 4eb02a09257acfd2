"""What must have come of a scenario. A check is a function of a Run that calls run.check(holds, text, detail) and may add
a figure to the scenario's line by run.say(text)."""
import functools
import json
import os
import re
import subprocess

from machines import SVM, VMX

class Run:
    """What a scenario brought out, and what is found wrong with it."""

    def __init__(self, drawn, folder, machine, kvmtax):
        self.drawn, self.folder, self.machine, self.kvmtax = drawn, folder, machine, kvmtax
        self.failures, self.figures, self.checked = [], [], 0

    def check(self, holds, text, detail=""):
        self.checked += 1
        if not holds:
            self.failures.append((text, str(detail)))
        return holds

    def say(self, text):
        self.figures.append(text)

    # Files

    def path(self, name):
        return os.path.join(self.folder, name)

    def has(self, name):
        return os.path.exists(self.path(name))

    def read(self, name):
        try:
            with open(self.path(name), encoding="utf-8", errors="replace") as file:
                return file.read()
        except OSError:
            return ""

    @functools.cached_property
    def guests(self):
        """The tiny guests' own accounts, one per VM."""
        try:
            return [json.loads(line) for line in self.read("guest.json").splitlines() if line.startswith("{")]
        except ValueError:
            return []

    @functools.cached_property
    def vcpus(self):
        return [vcpu for guest in self.guests for vcpu in guest["vcpus"]]

    @functools.lru_cache
    def report(self, trace, *options):
        """The JSON report of a trace, by this build's analyzer."""
        done = subprocess.run([self.kvmtax, "report", "--format", "json", *options, self.path(f"{trace}.kvmtax")],
                              capture_output=True, text=True, check=False)
        try:
            self.check(done.returncode == 0, f"{trace}.kvmtax: the report's exit status is 0", done.stderr)
            return json.loads(done.stdout)
        except ValueError:
            self.check(False, f"{trace}.kvmtax: the report is JSON", done.stderr + done.stdout[:1000])
            return None

    def counts(self, report, field="exits", pids=None):
        """Exits (or another count of them) by thread and reason of a JSON report."""
        return {vcpu["tid"]: {reason["reason"]: reason[field] for reason in vcpu["reasons"]}
                for vm in report["vms"] if pids is None or vm["pid"] in pids for vcpu in vm["vcpus"]}

    @functools.cached_property
    def witnessed(self):
        """What ftrace saw: exits by thread and reason, of its histogram or, where the kernel has none, of its events."""
        counts = {}
        for tid, reason, hits in re.findall(r"common_pid:\s*(\d+),\s*exit_reason:\s*(\d+) } hitcount:\s*(\d+)",
                                            self.read("witness.hist")):
            counts.setdefault(int(tid), {})[int(reason)] = int(hits)
        text = self.read("witness.trace")
        kept = re.search(r"entries-in-buffer/entries-written: (\d+)/(\d+)", text)
        if kept:
            self.check(kept[1] == kept[2], "the witness lost nothing", kept[0])
            found = re.findall(r"-(\d+) +\[\d+\] .*: kvm_exit: .*?reason (.*?) rip 0x", text)
            self.count_named(counts, found)
        return counts

    @functools.cached_property
    def perf(self):
        """What perf recorded beside: exits by thread and reason."""
        done = subprocess.run(["perf", "script", "-i", self.path("perf.data"), "-F", "tid,event,trace"],
                              capture_output=True, text=True, check=False)
        counts = {}
        self.count_named(counts, re.findall(r"^\s*(\d+)\s+kvm:kvm_exit:.*?reason (.*?) rip 0x", done.stdout, re.M))
        if not counts:
            self.check(False, "perf script reads what perf recorded", done.stderr[-600:] + self.read("said"))
        return counts

    @functools.cached_property
    def trace_cmd(self):
        """What trace-cmd recorded beside: exits by thread and reason."""
        done = subprocess.run(["trace-cmd", "report", "-N", "-i", self.path("trace.dat"), "-F", "kvm_exit"],
                              capture_output=True, text=True, check=False)
        counts = {}
        self.count_named(counts, re.findall(r"-(\d+) +\[\d+\].*: kvm_exit: .*?reason (.*?) rip 0x", done.stdout))
        if not counts:
            self.check(False, "trace-cmd report reads what trace-cmd recorded", done.stderr[-600:] + self.read("said"))
        return counts

    def count_named(self, counts, found):
        """Adds (thread, reason's name) pairs; reasons without a name are hexadecimal."""
        for tid, name in found:
            reason = self.machine.reason_codes.get(name)
            if reason is None:
                reason = int(name, 0) if name.startswith("0x") else name
            one = counts.setdefault(int(tid), {})
            one[reason] = one.get(reason, 0) + 1

    # What the guest's own account says of exits

    def expected(self, vcpu):
        """Exits by reason that a tiny guest's instructions cause. PAUSE is not among them: KVM lets the CPU decide, by a
        filter which the emulated AMD CPU lacks (no PAUSE exits at all) and Intel's applies by time."""
        made = vcpu["exits"]
        if self.machine.isa == "svm":
            return {SVM["cpuid"]: made["cpuid"], SVM["hlt"]: made["hlt"], SVM["io"]: made["io"],
                    SVM["msr"]: made["msr_read"] + made["msr_write"], SVM["npf"]: made["mmio"] + made["page"],
                    SVM["hypercall"]: made["hypercall"]}
        # The first access to an address without memory is an EPT violation, in which KVM marks it as such.
        first = min(made["mmio"], 1)
        return {VMX["cpuid"]: made["cpuid"], VMX["hlt"]: made["hlt"], VMX["io"]: made["io"],
                VMX["msr_read"]: made["msr_read"], VMX["msr_write"]: made["msr_write"],
                VMX["hypercall"]: made["hypercall"], VMX["ept_violation"]: made["page"] + first,
                VMX["ept_misconfig"]: made["mmio"] - first}

    @functools.cached_property
    def truth(self):
        """Expected exits by thread and reason. Before 5.12, KVM makes a vCPU take a page fault again when anything of the
        process's memory is unmapped meanwhile, on behalf of whatever thread."""
        truth = {vcpu["tid"]: self.expected(vcpu) for vcpu in self.vcpus}
        if self.machine.isa == "svm" and self.machine.kernel < (5, 12):
            for tid, one in truth.items():
                seen = self.witnessed.get(tid, {}).get(SVM["npf"], 0)
                if 0 < seen - one[SVM["npf"]] <= 8:
                    one[SVM["npf"]] = seen
        return truth

    def only(self, counts):
        """Of counts those of threads and reasons that the guest decides; interrupts and the like come as they come."""
        return {tid: {reason: counts.get(tid, {}).get(reason, 0) for reason in one} for tid, one in self.truth.items()}


def total(counts):
    return sum(sum(one.values()) for one in counts.values())


def difference(**sides):
    return "\n".join(f"{name:8} {value}" for name, value in sides.items())


# Recordings

def recorded(run, trace="trace"):
    """kvmtax record ended well, and its file is whole."""
    status = run.read(f"{trace}.status").strip()
    if not run.check(status == "0", f"kvmtax record exits with 0, not {status or 'nothing'}",
                     run.read(f"{trace}.log") + run.read("said")):
        return None
    run.check("The command ended with status 0." in run.read(f"{trace}.log"), "what was recorded ended well",
              run.read(f"{trace}.log"))
    report = run.report(trace)
    if report:
        trust = report["trust"]
        run.check(trust["lost"] == 0 and trust["lost_records"] == 0 and trust["is_complete"] and not trust["failures"],
                  f"{trace}: nothing lost, the file complete", json.dumps(trust))
    return report


# Deeds of the tiny guest, by their options.
DEEDS = ("cpuid", "out", "in", "mmio-write", "mmio-read", "rdmsr", "wrmsr", "hypercall", "pause", "in-spin", "in-sleep",
         "rdtsc-spin", "touch", "touch-delayed", "arm", "deadline", "oneshot", "periodic", "ipi", "hlt")


def guest_ran(run):
    """As many guests as asked for ran, and each virtual CPU did what was drawn."""
    asked = {name: int(count) for name, count in re.findall(r"--([a-z-]+) (\d+)", run.drawn.script)}
    vms = asked.get("vms", 1) * asked.get("churn", 1)
    status = run.read("guest.status").strip()
    run.check(status == "0", f"the guest ended well ({status or 'not at all'})", run.read("trace.log") + run.read("said"))
    run.check(len(run.guests) == vms and len(run.vcpus) == vms * asked.get("vcpus", 1), f"{vms} VMs ran, with all vCPUs",
              run.read("guest.json")[:2000])
    for vcpu in run.vcpus:
        for deed in asked.keys() & set(DEEDS):
            run.check(vcpu["did"].get(deed, 0) == asked[deed], f"the guest did {deed} {asked[deed]} times", vcpu["did"])


def classes(run, pids=None):
    """Exits by class, of the VMs given or of all."""
    report = run.report("trace")
    counts = {}
    for vm in report["vms"] if report else []:
        for one in vm.get("classes", []) if pids is None or vm["pid"] in pids else []:
            counts[one["id"]] = counts.get(one["id"], 0) + one["exits"]
    return counts


# What a tick of the guest's own is seen as: its expiry, or the window that it had to wait for.
SEEN_AS = {"TIMER.expire": ("TIMER.expire", "TIMER.inject")}


def injected(run):
    """What the scenario injects came in its class: as often as its parameters give, but for what a tiny guest does of its
    own to set itself up; at least as often in a guest that has an operating system. Where no account was kept by key
    (another recording, or none) nothing is known of classes."""
    wanted = run.drawn.injected()
    for what, count in wanted.items():
        run.say(f"{what} {count:,}")
    if not wanted or not run.has("trace.kvmtax"):
        return
    came = classes(run)
    if not run.check(came, "the trace has classes", run.read("trace.log")):
        return
    for what, count in wanted.items():
        seen = sum(came.get(name, 0) for name in SEEN_AS.get(what, (what,)))
        if not run.guests:
            run.check(seen >= count, f"{what} came at least {count} times", came)
        else:
            # every tenth tick may find the vCPU out of its guest for another reason; and a vCPU's last exit is never finished
            least = count * 0.9 if what == "TIMER.expire" else count - len(run.vcpus)
            run.check(least <= seen <= count + max(24, count * 0.05), f"{what} came {count} times", came)


def counts_equal(run, trace="trace", attach=None):
    """The guest's own counts, ftrace's, KVM's statistics and ours are equal, by thread and reason. Where typed programs
    are asked for and do not fit, the recording is refused instead."""
    if "--attach btf" in run.drawn.script and not run.machine.typed:
        log, status = run.read(f"{trace}.log"), run.read(f"{trace}.status").strip()
        run.check(status == "3" and "do not fit this kernel" in log, "refused, since the fast path does not fit", log)
        run.check(not run.has(f"{trace}.kvmtax"), "nothing was written")
        run.say("refused, since the fast path does not fit")
        return
    guest_ran(run)
    injected(run)
    if not run.guests:
        return
    ours_seen = {tid: run.witnessed.get(tid, {}) for tid in run.truth}
    run.check(run.only(run.witnessed) == run.truth, "ftrace's counts equal the guest's",
              difference(guest=run.truth, ftrace=ours_seen))
    statistics_equal(run, ours_seen)
    for tool, file in (("perf", "perf.data"), ("trace_cmd", "trace.dat")):
        if run.has(file):
            theirs = {tid: getattr(run, tool).get(tid, {}) for tid in run.truth}
            if run.check(theirs == ours_seen, f"{tool}'s counts equal ftrace's", difference(tool=theirs, ftrace=ours_seen)):
                run.say(f"= {tool.replace('_', '-')}")
    if not run.has(f"{trace}.status"):
        run.say(f"{total(ours_seen):,} exits, untraced")
        return
    report = recorded(run, trace)
    if not report:
        return
    if attach is None:
        attach = "tp" if "--attach tp" in run.drawn.script or not run.machine.typed else "tp_btf"
    run.check(report["capture"]["attach"] == attach, f"attached by {attach}", report["capture"])
    rungs = [("accounts", report)]
    if "--events" in run.drawn.script and "--events=raw" not in run.drawn.script:
        rungs.append(("exit records", run.report(trace, "--using", "exits")))
    for rung, one in rungs:
        if one:
            report_equals(run, rung, one, ours_seen)
    equal = f"= guest = ftrace = {' = '.join(rung for rung, _ in rungs)}" if not run.failures else "recorded"
    run.say(f"{total(ours_seen):,} exits {equal} ({attach})")


def report_equals(run, rung, report, seen):
    pids = {guest["pid"] for guest in run.guests}
    counted = run.counts(report, "exits", pids)
    run.check(run.only(counted) == run.truth, f"{rung} equal the guest's counts",
              difference(guest=run.truth, kvmtax=counted))
    run.check(counted == seen, f"{rung} equal ftrace for every reason", difference(ftrace=seen, kvmtax=counted))
    # The exit that ends a guest is never followed by an entry; everything else is finished.
    finished = {tid: sum(one.values()) for tid, one in run.counts(report, "finished", pids).items()}
    wanted = {tid: sum(one.values()) - 1 for tid, one in seen.items()}
    run.check(finished == wanted, f"{rung} have every exit but the last paired with its entry",
              difference(wanted=wanted, finished=finished))


def statistics_equal(run, seen):
    """KVM's own statistics, of each vCPU or, from older kernels, of the VM."""
    intr = run.machine.reasons["intr"]
    for guest in run.guests:
        tids = [vcpu["tid"] for vcpu in guest["vcpus"]]
        sides = [(vcpu["stats"], [vcpu["tid"]]) for vcpu in guest["vcpus"] if vcpu["stats"]]
        if not sides and guest["vm_stats"]:
            sides = [(guest["vm_stats"], tids)]
        run.check(len(sides) in (1, len(tids)), "KVM's statistics are there", guest)
        for values, of in sides:
            exits = sum(sum(seen.get(tid, {}).values()) for tid in of)
            interrupts = sum(seen.get(tid, {}).get(intr, 0) for tid in of)
            run.check(values["exits"] == exits, "KVM's statistics count the same exits",
                      difference(kvm=values["exits"], ftrace=exits))
            run.check(values["irq_exits"] == interrupts, "KVM's statistics count the same host interrupts",
                      difference(kvm=values["irq_exits"], ftrace=interrupts))


def paths_agree(run):
    """Classic and typed programs, attached at the same time, count every exit alike."""
    counts_equal(run, "tp", "tp")
    classic, typed = run.report("tp"), recorded(run, "btf")
    if classic and typed:
        run.check(typed["capture"]["attach"] == "tp_btf", "attached by tp_btf", typed["capture"])
        pids = {guest["pid"] for guest in run.guests}
        one, other = run.counts(classic, "exits", pids), run.counts(typed, "exits", pids)
        if run.check(one == other, "both attach paths agree to the last exit", difference(tp=one, tp_btf=other)):
            run.say(f"tp = tp_btf = {total(one):,}")


def imported(run):
    """trace-cmd's file, read by the analyzer, holds the same exits."""
    done = subprocess.run([run.kvmtax, "report", "--format", "json", run.path("trace.dat")], capture_output=True, text=True,
                          check=False)
    if run.check(done.returncode == 0, "the analyzer reads trace-cmd's file", done.stderr):
        counts = run.counts(json.loads(done.stdout))
        ours = {tid: counts.get(tid, {}) for tid in run.truth}
        seen = {tid: run.witnessed.get(tid, {}) for tid in run.truth}
        if run.check(ours == seen, "the import counts the same exits", difference(imported=ours, ftrace=seen)):
            run.say("= trace.dat imported")


def replayed(run):
    """The machine's input, replayed, gives the accounts that were counted in the kernel: to the nanosecond, key by key."""
    accounts, events = run.report("trace"), run.report("trace", "--using", "events")
    if not accounts or not events:
        return

    def figures(report):
        return {vcpu["tid"]: {"states": vcpu["states_ns"], "exits": vcpu["exits"],
                              "reasons": {reason["reason"]: (reason["finished"], reason["total_ns"], reason["states_ns"])
                                          for reason in vcpu["reasons"]}}
                for vm in report["vms"] for vcpu in vm["vcpus"]}

    def keys(report):
        return {vm["pid"]: sorted((key["reason"], key["about"], key["traits"], key["userspace"] or 0, key["exits"],
                                   key["total_ns"], sorted(key["states_ns"].items()))
                                  for one in vm.get("classes", []) for key in one["keys"]) for vm in report["vms"]}

    ours, theirs = figures(accounts), figures(events)
    for tid in sorted(ours.keys() | theirs.keys()):
        run.check(ours.get(tid) == theirs.get(tid), f"thread {tid}: replayed events give the same states and reasons",
                  difference(accounts=ours.get(tid), events=theirs.get(tid)))
    run.check(any(keys(accounts).values()), "there are keys")
    if run.check(keys(accounts) == keys(events), "replayed events give the same keys",
                 difference(accounts=keys(accounts), events=keys(events))):
        run.say(f"= {sum(len(one) for one in keys(accounts).values())} keys of raw events")


# Durations

def measured(run, kind):
    """Sums over vCPUs of one kind of occurrence, as the guest or its VMM measured it."""
    found = [one["measured"][kind] for one in [*run.vcpus, *run.guests] if kind in one["measured"]]
    run.check(bool(found), f"{kind} was measured", run.read("guest.json")[:2000])
    return {key: sum(one.get(key, 0) for one in found) for key in ("count", "cpu_ns", "wall_ns")}


def state_seconds(run, *states):
    report = run.report("trace")
    pids = {guest["pid"] for guest in run.guests}
    return sum(vcpu["states_ns"][state] for vm in report["vms"] if vm["pid"] in pids
               for vcpu in vm["vcpus"] for state in states)


def key_states(run, *parts):
    """ns per state of the exits whose reason and subject contain all the parts."""
    report = run.report("trace")
    times, exits = {}, 0
    for vm in report["vms"] if report else []:
        for one in vm.get("classes", []):
            for key in one["keys"]:
                if all(part in f"{key['name']} {key['about']}" for part in parts):
                    exits += key["exits"]
                    for state, length in key["states_ns"].items():
                        times[state] = times.get(state, 0) + length
    return times, exits


def tolerance(truth, clock="wall_ns"):
    """3 %, or 20 us per occurrence."""
    return max(truth[clock] * 0.03, truth["count"] * 20e3)


def within(run, text, least, ours, most):
    """A duration lies between two others, ns."""
    run.check(least <= ours <= most, text, f"{least / 1e6:.3f} <= {ours / 1e6:.3f} <= {most / 1e6:.3f} ms")


def spun(run):
    """Reads answered by spinning: QEMU's time on CPU is what the VMM's own CPU clock says of them, in which the host's
    interrupts are, and the way from the kernel to the VMM and back, which reads answered at once show."""
    truth = measured(run, "in_spin")
    times, exits = key_states(run, "0x501")
    run.check(exits == truth["count"], "the exits have a key of their own", difference(guest=truth["count"], key=exits))
    plain, others = key_states(run, "0x3fd")
    if not exits or not run.check(others > 0, "there are reads answered at once"):
        return
    slack, qemu = tolerance(truth, "cpu_ns"), times.get("qemu", 0) - plain.get("qemu", 0) / others * exits
    within(run, "qemu is what in_spin lasted", truth["cpu_ns"] - slack - times.get("host_interrupt", 0), qemu,
           truth["cpu_ns"] + slack)
    run.say(f"in_spin {exits} × {truth['cpu_ns'] / exits / 1e3:,.0f} µs, qemu {qemu / truth['cpu_ns']:.3f} of it")


def slept(run):
    """Reads answered by sleeping: what the VMM was away from its CPU is blocked, then woken, or preempted."""
    truth = measured(run, "in_sleep")
    times, exits = key_states(run, "0x502")
    run.check(exits == truth["count"], "the exits have a key of their own", difference(guest=truth["count"], key=exits))
    if not exits:
        return
    away, slack = truth["wall_ns"] - truth["cpu_ns"], tolerance(truth)
    ours = sum(times.get(state, 0) for state in ("qemu_blocked", "wake_latency", "preempted"))
    within(run, "blocked and woken is what in_sleep was away", away - slack, ours, away + slack)
    asleep = exits * run.drawn.parameters["us"] * 1e3
    run.check(times.get("qemu_blocked", 0) >= asleep * 0.97, "blocked holds the sleeping", times)
    run.say(f"in_sleep {exits} × {away / exits / 1e3:,.0f} µs, blocked + woken {ours / away:.3f} of it")


def halted(kind, us=20000):
    """A check of timer halts: the exits last what the guest's own clock says, but for the way back and what it handles
    before it looks at the clock again."""
    def check(run):
        truth = measured(run, kind)
        times, exits = key_states(run, "hlt" if run.machine.isa == "svm" else "HLT")
        if not run.check(exits and truth["count"], "there were timer halts", truth):
            return
        slack, ours = tolerance(truth), sum(times.values())
        others = state_seconds(run, "guest", "kernel", "qemu", "host_interrupt", "preempted", "kernel_blocked", "qemu_blocked")
        within(run, "HLT lasts what the guest measured", truth["wall_ns"] - slack - others, ours, truth["wall_ns"] + slack
               + times.get("preempted", 0))
        idle = sum(times.get(state, 0) for state in ("halt_wait", "halt_poll", "wake_latency"))
        armed = truth["count"] * run.drawn.parameters.get("us", us) * 1e3
        run.check(idle >= armed * 0.5, "most of a timer's time is idle", times)
        run.say(f"{kind} {truth['count']} × {truth['wall_ns'] / truth['count'] / 1e3:,.0f} µs, HLT {ours / truth['wall_ns']:.3f}")
    return check


def computed(run):
    """A guest that computes by its own clock: guest time, less what took the CPU from it meanwhile."""
    truth = measured(run, "rdtsc_spin")
    if not run.report("trace") or not truth["count"]:
        return
    guest, taken = state_seconds(run, "guest"), state_seconds(run, "kernel", "host_interrupt", "preempted", "kernel_blocked")
    slack = tolerance(truth)
    within(run, "guest is what rdtsc_spin lasted", truth["wall_ns"] - slack - taken, guest, truth["wall_ns"] + slack)
    run.say(f"rdtsc_spin {truth['count']} × {truth['wall_ns'] / truth['count'] / 1e3:,.0f} µs, guest {guest / truth['wall_ns']:.3f}")


def waited(run):
    """Pages that come late: the kernel sleeps for at least the delay, and no longer than the pager says it took."""
    truth = measured(run, "userfault")
    times, exits = key_states(run, "waited for")
    if not run.check(exits == truth["count"], "the faults have a key of their own",
                     difference(pager=truth["count"], key=exits)) or not exits:
        return
    away = times.get("kernel_blocked", 0) + times.get("wake_latency", 0)
    delay = exits * run.drawn.parameters["us"] * 1e3
    within(run, "the kernel's sleep is the pager's delay", delay * 0.97, away, truth["wall_ns"] + tolerance(truth))
    run.say(f"userfault {exits} × {truth['wall_ns'] / exits / 1e3:,.0f} µs, asleep {away / truth['wall_ns']:.3f} of it")


# QEMU guests

def statistics(run, name):
    return {key: int(value) for key, value in re.findall(r"^(\w+) (\d+)$", run.read(name), re.M)}


def vm_life_equal(run):
    """Of a QEMU guest: ftrace's counts and ours are equal, by thread and reason."""
    injected(run)
    report = recorded(run)
    if not report:
        return None
    status = run.read("guest.status").strip()
    run.check(status == "0", f"the guest did what it was told ({status or 'nothing'})", run.read("trace.log"))
    ours = run.counts(report, "exits", {int(run.read("vm.pid") or 0)})
    seen = {tid: run.witnessed.get(tid, {}) for tid in ours}
    equal = run.check(ours == seen and total(ours) > 0, "accounts equal ftrace for every reason",
                      difference(ftrace=seen, kvmtax=ours))
    run.say(f"{total(ours):,} exits{' = ftrace' if equal else ''}")
    return ours


def vm_counts_equal(run):
    """Of a QEMU guest that is paused before and after: KVM's statistics agree too."""
    ours = vm_life_equal(run)
    if ours is not None:
        before, after = statistics(run, "statistics.before"), statistics(run, "statistics.after")
        exits = after.get("exits", 0) - before.get("exits", 0)
        if run.check(exits == total(ours), "KVM's statistics count the same exits",
                     difference(kvm=exits, kvmtax=total(ours))):
            run.say("= kvm")


def by_reason(run, reason):
    report = run.report("trace")
    code = run.machine.reasons[reason]
    pids = {int(run.read("vm.pid") or 0)}
    return sum(one.get(code, 0) for one in run.counts(report, "exits", pids).values()) if report else 0


def at_least(reason, count):
    """A check that so many exits of a reason came: what the parameters give, as text."""
    def check(run):
        least = eval(count, {"__builtins__": {}}, dict(run.drawn.parameters))  # pylint: disable=eval-used
        ours = by_reason(run, reason)
        run.check(ours >= least, f"{reason} exits are at least {count}", f"{ours} of {least}")
        run.say(f"{reason} {ours:,} ≥ {least:,}")
    return check


def guest_figures(run, pattern):
    found = re.search(pattern, run.read("trace.log"), re.M)
    return [int(value) for value in found.groups()] if found else None
