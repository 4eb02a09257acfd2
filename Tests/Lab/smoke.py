#!/usr/bin/env python3
"""The tracer of a tarball, in a Debian kernel as an AMD KVM host under QEMU's emulation, against a guest that counts its
own exits. Prints a line per check; exit status 1 if one fails."""
import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time

import packages

HERE = os.path.dirname(os.path.abspath(__file__))
DEEDS = ("cpuid", "out", "in", "mmio-write", "mmio-read", "rdmsr", "wrmsr", "touch", "hlt")
# arch/x86/include/uapi/asm/svm.h
CPUID, HLT, IOIO, MSR, NPF = 0x72, 0x78, 0x7B, 0x7C, 0x400
NAMES = {CPUID: "cpuid", HLT: "hlt", IOIO: "ioio", MSR: "msr", NPF: "npf"}
# A quiet machine needs 25 s, a busy one 50. The emulator can stand still (see run.sh); three attempts and what precedes
# them stay within five minutes.
BOOT_SECONDS = 90
ATTEMPTS = 3
CONSOLE_LINES = 50

# Name and options of record; without them, the guest runs untraced and only the witness counts.
RECORDINGS = (
    ("untraced", ""),
    ("accounts-tp", "--attach tp"),
    ("accounts-btf", "--attach btf"),
    ("events-tp", "--attach tp --events"),
    ("events-btf", "--attach btf --events"),
    ("events", "--events"),
)


class Checks:
    """Prints each check as it is decided."""

    def __init__(self):
        self.failed = 0

    def check(self, holds, text, detail=""):
        print(f"  {'ok    ' if holds else 'FAILED'} {text}", flush=True)
        if not holds:
            self.failed += 1
            for line in detail.strip().splitlines()[-15:]:
                print(f"           {line}", flush=True)


def plan():
    """A line per recording: name, options of record, options of the guest. Every count is drawn."""
    lines = []
    for name, options in RECORDINGS:
        counts = " ".join(f"--{deed} {random.randint(20, 300)}" for deed in DEEDS)
        lines.append(f"{name}|{options}|--vcpus 2 {counts}\n")
    return "".join(lines)


def build(work, tarball, kernel, busybox, plan_text):
    """The initramfs; everything is in it, so that the machine needs no disk but the one that takes the results."""
    product = os.path.join(work, "product")
    os.mkdir(product)
    subprocess.run(["tar", "-xzf", tarball, "-C", product, "--strip-components=1"], check=True)
    with open(os.path.join(work, "plan"), "w", encoding="ascii") as file:
        file.write(plan_text)
    shell = next(path for path in (f"{busybox}/bin/busybox", f"{busybox}/usr/bin/busybox") if os.path.exists(path))
    image = os.path.join(work, "initramfs")
    subprocess.run([sys.executable, f"{HERE}/initramfs.py", image, kernel, "virtio_pci,virtio_blk,kvm_amd",
                    f"init={HERE}/init", f"bin/busybox={shell}", "bin/sh=@busybox", f"lab/run.sh={HERE}/run.sh",
                    f"lab/plan={work}/plan", f"kvmtax/bin={product}/bin", f"kvmtax/libexec={product}/libexec"],
                   check=True)
    return image


def vmlinuz(kernel):
    """The kernel itself; newer packages keep it beside the modules."""
    return next(os.path.join(folder, name) for folder, _, names in os.walk(kernel) for name in names
                if name.startswith("vmlinuz"))


def boot(work, kernel, image):
    """Runs the machine. Returns the folder of what it brought out, or None, and the console's text."""
    disk, console = os.path.join(work, "disk"), os.path.join(work, "console")
    with open(disk, "wb") as file:
        file.truncate(256 << 20)
    command = [
        "qemu-system-x86_64", "-accel", "tcg", "-cpu", "EPYC", "-smp", "2", "-m", "1024", "-machine", "q35",
        "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-monitor", "none",
        "-kernel", vmlinuz(kernel), "-initrd", image, "-serial", f"file:{console}",
        "-drive", f"file={disk},if=none,id=out,format=raw,cache=unsafe", "-device", "virtio-blk-pci,drive=out",
        # clearcpuid: after cmpxchg16b, QEMU 7.2 can give an interrupt wrong flags, which breaks newer kernels' allocator;
        # 141 is cx16. rcu: emulated CPUs stand still when the machine below is busy. panic=-1: a panic ends the run at once.
        "-append", "console=ttyS0 quiet mitigations=off tsc=reliable no_timer_check nmi_watchdog=0 "
                   "rcupdate.rcu_cpu_stall_suppress=1 panic=-1 clearcpuid=141",
    ]
    try:
        ended = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                               timeout=BOOT_SECONDS, check=False)
        trouble = ended.stderr.decode(errors="replace") if ended.returncode else ""
    except subprocess.TimeoutExpired:
        trouble = f"not finished after {BOOT_SECONDS} s\n"
    text = trouble
    if os.path.exists(console):
        with open(console, encoding="utf-8", errors="replace") as file:
            text = file.read() + trouble
    out = os.path.join(work, "out")
    shutil.rmtree(out, ignore_errors=True)
    try:
        with tarfile.open(disk, "r:") as files:
            files.extractall(out, filter="data")
    except tarfile.TarError:
        return None, text
    return (out if os.path.exists(f"{out}/status") else None), text


def read(out, name):
    try:
        with open(os.path.join(out, name), encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def expected(vcpu):
    """Exits by reason of a virtual CPU, from what its guest counted. A nested page fault is a page touched, an MMIO
    access, or one of the pages that the guest itself lies in."""
    did = vcpu["did"]
    return {
        CPUID: did["cpuid"], HLT: did["hlt"], IOIO: did["out"] + did["in"], MSR: did["rdmsr"] + did["wrmsr"],
        NPF: did["touch"] + did["mmio-write"] + did["mmio-read"] + vcpu["own_pages"],
    }


def witnessed(out, name):
    """What ftrace saw: exits by thread and reason, of its histogram or, where the kernel has none, of its events."""
    counts = {}
    text = read(out, f"{name}.hist")
    for tid, reason, hits in re.findall(r"common_pid:\s*(\d+),\s*exit_reason:\s*(\d+) } hitcount:\s*(\d+)", text):
        counts.setdefault(int(tid), {})[int(reason)] = int(hits)
    text = read(out, f"{name}.trace")
    kept = re.search(r"entries-in-buffer/entries-written: (\d+)/(\d+)", text)
    if not kept or kept[1] != kept[2]:
        return counts
    names = svm_names(read(out, "formats/kvm_exit.format"))
    for tid, reason in re.findall(r"-(\d+) +\[\d+\] .*: kvm_exit: .*?reason (.*?) rip 0x", text):
        one = counts.setdefault(int(tid), {})
        code = names.get(reason, reason)
        one[code] = one.get(code, 0) + 1
    return counts


def svm_names(text):
    """Reasons of SVM by the names that kvm_exit's format gives them, in the second of its tables."""
    table = text.partition(": __print_symbolic(")[2]
    return {name: sum(int(part, 0) for part in value.split("+"))
            for value, name in re.findall(r'{ ([^,{}"]+), "([^"]+)" }', table)}


def reported(report, pid, field):
    """Exits (or another count of them) by thread and reason of one VM in a JSON report."""
    machines = [machine for machine in report["vms"] if machine["pid"] == pid]
    return {vcpu["tid"]: {reason["reason"]: reason[field] for reason in vcpu["reasons"]}
            for machine in machines for vcpu in machine["vcpus"]}


def figures(counts):
    return ", ".join(f"{NAMES[reason]} {sum(one.get(reason, 0) for one in counts.values())}" for reason in NAMES)


def only(counts):
    """The reasons that the guest decides; interrupts and the like come as they come."""
    return {tid: {reason: one.get(reason, 0) for reason in NAMES} for tid, one in counts.items()}


def asked(options):
    return dict(zip(DEEDS, (int(count) for count in re.findall(r"--[a-z-]+ (\d+)", options)[1:])))


def release(console):
    """Major and minor number of the kernel that booted."""
    found = re.search(r"booted Linux (\d+)\.(\d+)", console)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def retried(vcpu, seen):
    """The same with the page faults that the kernel made the virtual CPU take again: before 5.12, KVM does so when
    anything of the process's memory is unmapped meanwhile, on behalf of whatever thread."""
    again = seen.get(NPF, 0) - vcpu[NPF]
    return vcpu | {NPF: seen[NPF]} if 0 < again <= 8 else vcpu


def fast_path(checks, out, kernel):
    """Whether the fast path fits this kernel. The doctor says; where it must fit, it must say so."""
    said = re.search(r"fast path +(.*(?:\n {4,}.*)*)", read(out, "doctor.log"))
    fits = bool(said and said[1].startswith("tp_btf"))
    # Debian has module BTF since 5.11 and kvm_exit has today's arguments since 5.16.
    must = kernel >= (5, 16) and "kvm\n" in read(out, "btf")
    checks.check(bool(said) and (fits or not must), f"doctor: the fast path {'fits' if fits else 'is not used'}",
                 read(out, "doctor.log"))
    return fits


def check_refusal(checks, out, name):
    """The fast path was asked for, and this kernel has none."""
    log, status = read(out, f"{name}.log"), read(out, f"{name}.status").strip()
    checks.check(status not in ("0", "") and "do not fit this kernel" in log,
                 f"{name}: refused, since the fast path does not fit this kernel", f"status {status}\n{log}")


def check_recording(checks, out, kernel, fits, name, record, options):
    if "btf" in record and not fits:
        check_refusal(checks, out, name)
        return
    attach = "tp" if "tp" in record or not fits else "tp_btf"
    log = read(out, f"{name}.log")
    try:
        guest = json.loads(read(out, f"{name}.guest.json"))
    except ValueError:
        checks.check(False, f"{name}: the guest ran", log)
        return
    wanted = asked(options)
    truth = {vcpu["tid"]: expected(vcpu) for vcpu in guest["vcpus"]}
    checks.check(all(vcpu["did"] == wanted for vcpu in guest["vcpus"]), f"{name}: the guest did what was drawn", str(guest))
    seen = witnessed(out, name)
    ours = {tid: seen.get(tid, {}) for tid in truth}
    if kernel < (5, 12):
        truth = {tid: retried(one, ours[tid]) for tid, one in truth.items()}
    checks.check(only(ours) == truth, f"{name}: ftrace's counts equal the guest's counts: {figures(truth)}",
                 f"guest  {truth}\nftrace {ours}")
    if not record:
        return
    status = read(out, f"{name}.status").strip()
    checks.check(status == "0", f"{name}: kvmtax record exits with 0", f"status {status}\n{log}")
    check_report(checks, out, name, "report", f"{name}: accounts", "accounts", attach, guest["pid"], truth, ours)
    if "--events" in record:
        check_report(checks, out, name, "exits", f"{name}: exit records", "exits", attach, guest["pid"], truth, ours)


def check_report(checks, out, name, step, title, rung, attach, pid, truth, witness):
    """One report, made from the accounts or from the exit records of a recording."""
    log = read(out, f"{name}.{step}.log")
    try:
        report = json.loads(log)
    except ValueError:
        checks.check(False, f"{title}: the report is JSON", read(out, f"{name}.log") + log[:2000])
        return
    counted = reported(report, pid, "exits")
    checks.check(only(counted) == truth, f"{title} equal the guest's counts: {figures(only(counted))}",
                 f"guest  {truth}\nkvmtax {counted}")
    checks.check(counted == witness, f"{title} equal ftrace for every reason: "
                 f"{sum(sum(one.values()) for one in counted.values())} exits", f"ftrace {witness}\nkvmtax {counted}")
    # The halt that ends a guest is never followed by an entry; everything else is finished.
    finished = reported(report, pid, "finished")
    last = {tid: one | {HLT: one[HLT] - 1} for tid, one in truth.items()}
    checks.check(only(finished) == last, f"{title} have every exit but the last halt paired with its entry",
                 f"wanted {last}\nkvmtax {finished}")
    trust, capture = report["trust"], report["capture"]
    checks.check(trust["lost"] == 0 and trust["lost_records"] == 0 and trust["is_complete"] and not trust["failures"]
                 and capture["rung"] == rung and capture["attach"] == attach,
                 f"{title}: nothing lost, the file complete (by {attach})", json.dumps(trust) + json.dumps(capture))


def check_all(checks, out, console, plan_text):
    checks.check(read(out, "doctor.status").strip() == "0", "doctor: a recording would work", read(out, "doctor.log"))
    kernel = release(console)
    fits = fast_path(checks, out, kernel)
    for line in plan_text.splitlines():
        check_recording(checks, out, kernel, fits, *line.split("|"))
    warnings = re.findall(r"^.*(?:WARNING|BUG|Oops): .*$", read(out, "dmesg.txt"), re.M)
    checks.check(not warnings, "the kernel has no complaint", "\n".join(warnings))
    left = read(out, "left").strip()
    checks.check(left == "0", "nothing of BPF is held or pinned when all is over", left)
    for name in sorted(os.listdir(out)):
        match = re.fullmatch(r"(analyzer\.)?without\.(lib.*)\.log", name)
        if not match:
            continue
        said, status = read(out, name), read(out, name[:-4] + ".status").strip()
        if match[1] and re.match(r"lib(bpf|elf)\.", match[2]):
            checks.check(status == "0", f"without {match[2]} the analyzer runs", said)
        else:
            package = re.sub(r"\.so\.", "", match[2]).replace("libz1", "zlib1g")
            program = "the analyzer" if match[1] else "the tracer"
            checks.check(status == "3" and f"{match[2]} is missing" in said and package in said,
                         f"without {match[2]} {program} names {package}", said)


def main():
    start = time.monotonic()
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("tarball", help="what make dist made")
    arguments.add_argument("--kernel", metavar="DEB", nargs="+", default=[],
                           help="package files of another kernel: linux-image, or linux-binary and linux-modules")
    options = arguments.parse_args()
    plan_text = plan()
    checks = Checks()
    with tempfile.TemporaryDirectory(prefix="kvmtax-lab-") as work:
        given = os.path.join(work, "kernel")
        os.mkdir(given)
        try:
            kernel, busybox = packages.fetch(options.kernel, given)
        except packages.Unavailable as error:
            print(f"lab: {error}")
            return 3
        name = ", ".join(os.path.basename(path) for path in options.kernel or [kernel])
        print(f"lab: {name}; drawn:\n  " + plan_text.replace("\n", "\n  ").rstrip())
        image = build(work, options.tarball, kernel, busybox, plan_text)
        for attempt in range(1, ATTEMPTS + 1):
            began = time.monotonic()
            out, console = boot(work, kernel, image)
            if out:
                break
            print(f"lab: the machine brought nothing out (attempt {attempt} of {ATTEMPTS}); its console ends:")
            print("\n".join("  | " + line for line in console.splitlines()[-CONSOLE_LINES:]), flush=True)
        print("\n".join(line for line in console.splitlines() if line.startswith("lab:")))
        checks.check(out is not None, f"the machine booted and finished in {time.monotonic() - began:.1f} s")
        if out:
            check_all(checks, out, console, plan_text)
            if keep := os.environ.get("LAB_KEEP"):
                shutil.copytree(out, keep, dirs_exist_ok=True)
    print(f"lab: {'all checks passed' if not checks.failed else f'{checks.failed} checks FAILED'} "
          f"in {time.monotonic() - start:.1f} s")
    return 1 if checks.failed else 0


sys.exit(main())
