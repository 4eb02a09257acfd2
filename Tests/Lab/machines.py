"""The KVM hosts of the lab: a kernel, an emulator, what runs in them; and how they are made and booted."""
import dataclasses
import functools
import os
import re
import shutil
import subprocess

import bochs
import images
import packages

HERE = os.path.dirname(os.path.abspath(__file__))
# nokaslr keeps nothing; clearcpuid: after cmpxchg16b, QEMU 7.2 can give an interrupt wrong flags, which breaks newer
# kernels' allocator (141 is cx16). rcu: emulated CPUs stand still when the machine below is busy. panic=-1: a panic ends
# the run at once.
APPEND = ("console=ttyS0 quiet mitigations=off tsc=reliable no_timer_check nmi_watchdog=0 "
          "rcupdate.rcu_cpu_stall_suppress=1 panic=-1 clearcpuid=141")
MODULES = {"svm": ("virtio_pci", "virtio_blk", "kvm_amd", "tun", "vhost_net"), "vmx": ("ata_piix", "sd_mod", "kvm_intel")}
GUEST_MODULES = ("virtio_pci", "virtio_blk", "virtio_net", "virtio_console", "virtio_scsi", "sd_mod", "ata_piix")

# arch/x86/include/uapi/asm/svm.h and vmx.h
SVM = {"cpuid": 0x72, "hlt": 0x78, "io": 0x7B, "msr": 0x7C, "vmrun": 0x80, "hypercall": 0x81, "npf": 0x400, "intr": 0x60}
VMX = {"cpuid": 10, "hlt": 12, "hypercall": 18, "io": 30, "msr_read": 31, "msr_write": 32,
       "ept_violation": 48, "ept_misconfig": 49, "intr": 1}


@dataclasses.dataclass(frozen=True)
class Machine:
    """A machine of the lab, as data."""
    name: str
    # A Debian suite and the kernel's series in it.
    suite: str
    series: str
    # The set of scenarios that it runs.
    scenarios: str
    # Limit for the whole run, in s; twice of what a busy machine was seen to need.
    seconds: int
    isa: str = "svm"
    # A suite whose QEMU and tools the scenarios use ("host": this machine's); None: they use none.
    userland: str | None = None
    append: str = ""
    # Whether the typed programs fit: from 5.16 on, where Debian's modules have types and kvm_exit has today's arguments.
    typed: bool = True
    # Without the kvm modules' BTF, as some distributions build them.
    strips_btf: bool = False
    # What its kernel must report in lockdown's list of modes.
    lockdown: str = "none"
    # Whether libraries are hidden at the end, to see what the launchers say.
    hides_libraries: bool = False

    @property
    def uses_qemu(self):
        return self.userland is not None


class Booted:
    """A machine that ran: its results and what its checks need to know of it."""

    def __init__(self, machine, out, console):
        self.machine, self.isa, self.out, self.console = machine, machine.isa, out, console

    def read(self, name):
        try:
            with open(os.path.join(self.out, name), encoding="utf-8", errors="replace") as file:
                return file.read()
        except OSError:
            return ""

    @functools.cached_property
    def release(self):
        found = re.search(r"booted Linux (\S+) in", self.console)
        return found[1] if found else "?"

    @functools.cached_property
    def kernel(self):
        found = re.match(r"(\d+)\.(\d+)", self.release)
        return (int(found[1]), int(found[2])) if found else (0, 0)

    @property
    def reasons(self):
        return SVM if self.isa == "svm" else VMX

    @property
    def typed(self):
        return self.machine.typed

    @functools.cached_property
    def reason_codes(self):
        """Codes of exit reasons by the names that the kernel's own format gives them: VMX's table comes first."""
        tables = self.read("formats/kvm_exit.format").split(": __print_symbolic(")
        table = tables[1] if self.isa == "vmx" else tables[-1]
        return {name: sum(int(part, 0) for part in value.split("+"))
                for value, name in re.findall(r'{ ([^,{}"]+), "([^"]+)" }', table)}


def link(target, path):
    """A link at the path: emulators leave lock files beside what they open."""
    if not os.path.lexists(path):
        os.symlink(target, path)
    return path


def kernel_tree(machine, given, work):
    """The unpacked kernel: of the given package files or image, else of its suite."""
    if not given:
        return packages.unpacked(packages.Suite(machine.suite).kernel(machine.series), images.KERNEL_FILES)
    for path in given:
        if not os.path.exists(path):
            raise packages.Unavailable(f"there is no kernel {path}")
    if os.path.isdir(given[0]):
        return given[0]
    if all(path.endswith(".deb") for path in given):
        return packages.unpack(given, os.path.join(work, "kernel"), images.KERNEL_FILES)
    os.makedirs(f"{work}/kernel")
    shutil.copy(given[0], f"{work}/kernel/vmlinuz")
    return f"{work}/kernel"


def busybox():
    paths = packages.Suite(packages.host_suite()).packages("busybox", ["busybox-static"], closure=False)
    folder = packages.unpacked(paths, ("*/busybox",))
    return next(path for path in (f"{folder}/bin/busybox", f"{folder}/usr/bin/busybox") if os.path.exists(path))


def make(machine, work, product, drawn, given):
    """The machine's kernel, initramfs and disks (as names and paths), with its scenarios in it."""
    tree, shell = kernel_tree(machine, given, work), busybox()
    plan = os.path.join(work, "scenarios")
    shutil.rmtree(plan, ignore_errors=True)
    os.mkdir(plan)
    for number, one in enumerate(drawn):
        with open(f"{plan}/{number:02}.{one.name}.{one.scenario.seconds}", "w", encoding="utf-8") as file:
            file.write(one.script)
    disks = []
    if machine.uses_qemu:
        suite = packages.host_suite() if machine.userland == "host" else machine.userland
        disks.append(("root", link(images.userland(suite), os.path.join(work, "root"))))
    disks.append(("out", os.path.join(work, "results")))
    with open(f"{work}/disks", "w", encoding="ascii") as file:
        file.writelines(f"{name}\n" for name, _ in disks)
    files = {
        "init": f"{HERE}/machine/init", "bin/busybox": shell, "bin/sh": "@busybox", "lab/busybox": shell,
        "lab/lib.sh": f"{HERE}/machine/lib.sh", "lab/run.sh": f"{HERE}/machine/run.sh", "lab/disks": f"{work}/disks",
        "lab/scenarios": plan, "kvmtax/bin": f"{product}/bin", "kvmtax/libexec": f"{product}/libexec",
    }
    if machine.hides_libraries:
        files["lab/hides-libraries"] = f"{work}/disks"
    if machine.uses_qemu:
        files["lab/vmlinuz"] = images.vmlinuz(tree)
        files["lab/guest.cpio"] = images.initramfs(
            f"{work}/guest.cpio", tree, GUEST_MODULES,
            {"init": f"{HERE}/guest/init", "bin/busybox": shell, "bin/sh": "@busybox"})
        # A guest that is itself a KVM host.
        files["lab/host.cpio"] = images.initramfs(
            f"{work}/host.cpio", tree, (*GUEST_MODULES, "kvm_amd"),
            {"init": f"{HERE}/guest/init", "bin/busybox": shell, "bin/sh": "@busybox",
             "kvmtax/libexec": f"{product}/libexec"})
    image = images.initramfs(f"{work}/initramfs", tree, MODULES[machine.isa], files, machine.strips_btf)
    return images.vmlinuz(tree), image, disks


def boot_vmx(machine, work, kernel, image, disks):
    """Runs a machine under Bochs. What went wrong in one line, or nothing."""
    return bochs.boot(work, kernel, image, f"{bochs.APPEND} {machine.append}".strip(), [path for _, path in disks],
                      machine.seconds, f"{work}/console", bochs.fetch())


def boot_svm(machine, work, kernel, image, disks):
    """Runs a machine under QEMU's TCG. What went wrong in one line, or nothing."""
    command = [
        "qemu-system-x86_64", "-accel", "tcg", "-cpu", "EPYC", "-smp", "2", "-m", "3072" if machine.uses_qemu else "1024",
        "-machine", "q35", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-monitor", "none",
        "-kernel", kernel, "-initrd", image, "-serial", f"file:{work}/console",
        "-append", f"{APPEND} {machine.append}".strip(),
    ]
    for name, path in disks:
        safe = "snapshot=on" if name == "root" else "cache=unsafe"
        command += ["-drive", f"file={path},if=none,id={name},format=raw,{safe}", "-device", f"virtio-blk-pci,drive={name}"]
    try:
        ended = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                               timeout=machine.seconds, check=False)
    except subprocess.TimeoutExpired:
        return f"not finished after {machine.seconds} s"
    except OSError as error:
        raise packages.Unavailable(f"qemu-system-x86_64 cannot be started: {error.strerror}") from error
    said = ended.stderr.decode(errors="replace").strip() or f"ended with {ended.returncode}"
    return packages.last_line(said) if ended.returncode else ""


def can_run_vms(console):
    """Whether the machine's set-up was good enough for VMs: that it was not is no failure of what is tested."""
    return "lab: no VM can run here: guest: /dev/kvm" not in console and "lab: the userland's disk" not in console


def run(machine, work, kernel, image, disks):
    """Boots the machine and takes its results. Booted, or None; what went wrong; the console's text."""
    results, console = os.path.join(work, "results"), os.path.join(work, "console")
    with open(results, "wb") as file:
        file.truncate(512 << 20)
    if os.path.exists(console):
        os.unlink(console)
    boot = boot_svm if machine.isa == "svm" else boot_vmx
    trouble = boot(machine, work, kernel, image, disks)
    text = packages.read_text(console)
    out = os.path.join(work, "out")
    shutil.rmtree(out, ignore_errors=True)
    os.mkdir(out)
    # A disk that nothing was written to is an empty archive.
    done = subprocess.run(["tar", "-xf", results, "--no-same-owner", "-C", out], capture_output=True, text=True, check=False)
    os.unlink(results)
    if done.returncode:
        trouble = trouble or f"no results: {packages.last_line(done.stderr)}"
    status = packages.read_text(f"{out}/status").strip()
    if not trouble and status != "0":
        said = [line for line in text.splitlines() if line.startswith(("lab: no ", "lab: module ", "lab: the "))]
        trouble = "; ".join(said) or "the scenarios did not run to their end"
    return (None if trouble else Booted(machine, out, text)), trouble, text
