#!/usr/bin/env python3
"""The lab: this build's tracer inside real KVM hosts under emulation, against guests that count what they do themselves.
Prints a line per scenario; exit status 1 if one fails, 3 if the lab cannot be set up."""
import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import checks
import machines
import packages
import scenario as scenario_module
from scenarios import SCENARIOS

Machine = machines.Machine
MACHINES = (
    Machine("amd-6.1", "bookworm", "6.1", "all", 700, userland="host"),
    Machine("amd-6.12", "trixie", "6.12", "real", 400, userland="trixie"),
    Machine("amd-5.10", "bullseye", "5.10", "counts", 360, typed=False, hides_libraries=True),
    Machine("amd-7.2", "trixie-backports", "7.2", "counts", 360),
    Machine("amd-6.1-no-module-types", "bookworm", "6.1", "counts", 360, strips_btf=True, typed=False),
    Machine("amd-6.1-lockdown", "bookworm", "6.1", "counts", 360, append="lockdown=integrity", lockdown="integrity"),
    Machine("intel-6.1", "bookworm", "6.1", "intel", 500, isa="vmx", userland="trixie"),
)
SMOKE = Machine("amd-6.1-smoke", "bookworm", "6.1", "smoke", 90, hides_libraries=True)
ATTEMPTS = 2
CONSOLE_LINES = 40
LIBRARIES = ("libbpf.so.1", "libelf.so.1", "libtraceevent.so.1", "libzstd.so.1", "libz.so.1")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tarball", help="what make dist made")
    parser.add_argument("--isa", choices=("amd", "intel"), help="only these machines; both by default")
    parser.add_argument("--smoke", action="store_true", help="one machine, few scenarios: for inner loops")
    parser.add_argument("--machine", metavar="NAME", action="append", help="only this machine; repeat for more")
    parser.add_argument("--scenario", metavar="PATTERN", help="only scenarios whose names match")
    parser.add_argument("--kernel", metavar="FILE", nargs="+", default=[],
                        help="another kernel: its package files (linux-image, or linux-binary and linux-modules, or "
                             "proxmox-kernel), a folder with them unpacked, or an image with kvm built in; "
                             "one machine runs it, by the rules of --machine (amd-7.2 by default)")
    parser.add_argument("--seed", default=f"{time.time_ns():x}", help="draw the same parameters as a former run")
    parser.add_argument("--keep", metavar="FOLDER", help="keep what the machines brought out")
    return parser.parse_args()


def chosen(options):
    """The machines to run."""
    if options.smoke:
        if options.machine or options.isa == "intel":
            raise packages.Unavailable("--smoke is one AMD machine of its own: leave out --machine and --isa")
        return (SMOKE,)
    wanted = options.machine or (["amd-7.2"] if options.kernel else [machine.name for machine in MACHINES])
    for name in wanted:
        if name not in [machine.name for machine in MACHINES]:
            raise packages.Unavailable(f"there is no such machine: {name}; there are: "
                                       + ", ".join(machine.name for machine in MACHINES))
    found = tuple(machine for machine in MACHINES
                  if machine.name in wanted and (not options.isa or machine.name.startswith(options.isa)))
    if not found:
        raise packages.Unavailable(f"{', '.join(wanted)}: not {options.isa}")
    return found


def check_space(folder):
    """Says now what would else be an odd failure later."""
    free = shutil.disk_usage(folder).free
    if free < 2 << 30:
        raise packages.Unavailable(f"{folder} has {free >> 20} MiB of free disk, 2048 are needed; TMPDIR chooses another place")


class Lab:
    """A run of the lab."""

    def __init__(self, options, work):
        self.options, self.work = options, work
        self.passed = self.failed = 0
        self.product = os.path.join(work, "product")
        os.mkdir(self.product)
        try:
            subprocess.run(["tar", "-xzf", options.tarball, "-C", self.product, "--strip-components=1"], check=True)
        except subprocess.CalledProcessError as error:
            raise packages.Unavailable(f"{options.tarball} is no tarball of make dist") from error
        self.kvmtax = os.path.join(self.product, "bin", "kvmtax")

    def line(self, holds, text):
        print(f"  {'ok    ' if holds else 'FAILED'} {text}", flush=True)
        if holds:
            self.passed += 1
        else:
            self.failed += 1

    def drawn(self, machine):
        ours = [one for one in SCENARIOS if machine.scenarios in one.sets and (machine.typed or not one.needs_typed)
                and (not self.options.scenario or re.search(self.options.scenario, one.name))]
        return scenario_module.draw(ours, f"{self.options.seed} {machine.name}")

    def run(self, machine):
        """Runs a machine and judges what it brought out. Scenarios in which a guest hung, went astray or did not boot
        have a second machine to themselves."""
        began = time.monotonic()
        drawn = self.drawn(machine)
        if not drawn:
            return
        print(f"lab: {machine.name}: {len(drawn)} scenarios", flush=True)
        work = os.path.join(self.work, machine.name)
        os.mkdir(work)
        booted = self.boot(machine, work, drawn)
        if not booted:
            self.line(False, f"{machine.name} booted and ran its scenarios")
            return
        troubled = [one for one in drawn if self.trouble(booted, one)]
        again = None
        if troubled:
            for one in troubled:
                print(f"lab: {machine.name}: {one.name}: {self.trouble(booted, one)}: tried once more", flush=True)
            os.mkdir(f"{work}/again")
            again = self.boot(machine, f"{work}/again", troubled)
        for one in drawn:
            self.judge(again if again and one in troubled else booted, one)
        self.judge_machine(booted)
        if self.options.keep:
            kept = os.path.join(self.options.keep, machine.name)
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(booted.out, kept)
        print(f"lab: {machine.name}: Linux {booted.release}, {time.monotonic() - began:.0f} s", flush=True)

    def boot(self, machine, work, drawn):
        """Makes and boots a machine, at most twice. What it brought out, or None."""
        kernel, image, disks = machines.make(machine, work, self.product, drawn, self.options.kernel)
        for attempt in range(1, ATTEMPTS + 1):
            booted, trouble, console = machines.run(machine, work, kernel, image, disks)
            if booted:
                return booted
            print(f"lab: {machine.name}: {trouble} (attempt {attempt} of {ATTEMPTS}); its console ends:")
            print("\n".join(f"  | {line}" for line in console.splitlines()[-CONSOLE_LINES:]), flush=True)
        if not machines.can_run_vms(console):
            raise packages.Unavailable(f"{machine.name} cannot run scenarios: {trouble}")
        return None

    def trouble(self, booted, drawn):
        """Why a scenario did not come to its end, if so: nor did one whose tiny guest found that the emulated CPU did not
        execute what it was given. It says so itself, whatever the tracer counted."""
        status = booted.read(f"{drawn.name}/status").strip()
        astray = re.search(r"^.*the tiny guest went astray.*$", booted.read(f"{drawn.name}/trace.log")
                           + booted.read(f"{drawn.name}/said"), re.M)
        return (booted.read(f"{drawn.name}/late").strip() or (f"status {status or 'unknown'}" if status != "0" else "")
                or (astray[0].strip() if astray else ""))

    def judge(self, booted, drawn):
        """A scenario's line, and what failed."""
        run = checks.Run(drawn, os.path.join(booted.out, drawn.name), booted, self.kvmtax)
        began, ended = (float(moment) for moment in (run.read("time") or "0 0").split())
        trouble = self.trouble(booted, drawn)
        if run.check(not trouble, f"the scenario ran to its end ({trouble})", run.read("said")[-2000:]):
            for check in drawn.scenario.checks:
                try:
                    check(run)
                except (AttributeError, LookupError, TypeError, ValueError, OSError) as error:
                    run.check(False, f"{getattr(check, '__name__', 'check')} could be decided", repr(error))
        run.check(run.checked > 1, "something was checked")
        parts = [drawn.name, drawn.told(), "; ".join(run.figures), f"{ended - began:.1f} s"]
        self.line(not run.failures, "  ".join(part for part in parts if part))
        for text, detail in run.failures:
            print(f"         not so: {text}")
            for line in detail.strip().splitlines()[-12:]:
                print(f"           {line[:1500]}")
        sys.stdout.flush()

    def judge_machine(self, booted):
        """What holds for a machine as a whole."""
        messages = booted.read("dmesg.txt")
        warnings = re.findall(r"^.*(?:WARNING|BUG|Oops|general protection fault|hung task|stalls?): .*$", messages, re.M)
        self.line(messages and not warnings, "the kernel has no complaint" + "".join(f"\n           {one}" for one in warnings))
        left = booted.read("left").strip()
        self.line(left == "0", f"nothing of BPF is held or pinned when all is over{'' if left == '0' else ': ' + left}")
        if booted.machine.hides_libraries:
            for library in LIBRARIES:
                for program in ("analyzer", "tracer"):
                    self.judge_library(booted, program, library)

    def judge_library(self, booted, program, library):
        """What a program said where a library was missing."""
        name = f"{'analyzer.' if program == 'analyzer' else ''}without.{library}"
        said, status = booted.read(f"{name}.log"), booted.read(f"{name}.status").strip()
        if program == "analyzer" and library in ("libbpf.so.1", "libelf.so.1"):
            self.line(status == "0", f"without {library} the analyzer runs")
            return
        package = re.sub(r"\.so\.", "", library).replace("libz1", "zlib1g")
        self.line(status == "3" and f"{library} is missing" in said and package in said,
                  f"without {library} the {program} names {package}")


def main():
    began = time.monotonic()
    options = arguments()
    # Debian's users do not have these in PATH: mke2fs. And what was started ends with us.
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print(f"lab: seed {options.seed}")
    lab, unavailable = None, ""
    with tempfile.TemporaryDirectory(prefix="kvmtax-lab-") as work:
        try:
            if options.keep:
                os.makedirs(options.keep, exist_ok=True)
            check_space(work)
            lab = Lab(options, work)
            for machine in chosen(options):
                lab.run(machine)
            if not lab.passed + lab.failed:
                unavailable = "no scenario was chosen: look at --scenario, --machine and --isa"
        except (packages.Unavailable, OSError, subprocess.CalledProcessError) as error:
            unavailable = str(error)
    if unavailable:
        print(f"lab: cannot be set up: {unavailable}")
    if lab:
        print(f"lab: {lab.passed} passed, {lab.failed} failed in {time.monotonic() - began:.0f} s")
    return 1 if lab and lab.failed else 3 if unavailable else 0


if __name__ == "__main__":
    sys.exit(main())
