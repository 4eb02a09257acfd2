"""A machine with Intel's VMX and EPT, emulated by Bochs: QEMU's emulation has AMD's SVM only.

programs = bochs.fetch(); trouble = bochs.boot(…); what the machine did is on its disks.
"""
import fcntl
import os
import re
import struct
import subprocess
import termios
import threading

import packages

HERE = os.path.dirname(os.path.abspath(__file__))
# Debian 13's Bochs 3.0 is twice as fast as Debian 12's 2.7, which works too. Fetched with all that it depends on, so
# that no library of this machine's is needed, of whatever release it is.
SUITE = "trixie"
PACKAGES = ("bochs", "bochs-term", "ncurses-base")
# What apt shall take as installed: Debian's Bochs is linked with GTK, for windows that are never opened here. GTK's
# libraries are needed, its icons, themes and services are not.
STAND_INS = ("adwaita-icon-theme", "bochs-gui", "dbus", "dconf-gsettings-backend", "debconf", "dpkg", "fontconfig",
             "fontconfig-config", "gsettings-backend", "hicolor-icon-theme", "libasound2-data", "libc-bin",
             "libgdk-pixbuf2.0-common", "libglib2.0-data", "libgtk-3-common", "libx11-data", "perl", "perl-base",
             "readline-common", "shared-mime-info", "systemd", "tzdata")
FILES = ("./lib/*", "./usr/lib/x86_64-linux-gnu/*", "./usr/bin/bochs-bin",
         "./usr/share/bochs/*", "./usr/share/vgabios/*", "./usr/share/terminfo/*")
LIBRARIES = "lib/x86_64-linux-gnu"
MEMORY = 1536  # MiB
# For the kernel's command line. The speed of the serial line is emulated, and a slow one costs seconds; so do the
# self-tests of crypto code (8 s of 15).
APPEND = ("console=ttyS0,115200 quiet nokaslr mitigations=off nmi_watchdog=0 rcupdate.rcu_cpu_stall_suppress=1 "
          "panic=-1 no_timer_check cryptomgr.notests")
# Where the loader puts things: Linux's own, and an initramfs clear of the kernel, which unpacks itself at 16 MiB.
SETUP, KERNEL, INITRD = 0x90000, 0x100000, 0x8000000
CHUNK = 80 * 512
COMMAND_LINE = 0x9800

CONFIGURATION = """\
plugin_ctrl: unmapped=1, biosdev=1, speaker=0, extfpuirq=1, parallel=0, serial=1
config_interface: textconfig
display_library: term
memory: guest={memory}, host={memory}
cpu: model=corei7_haswell_4770, count=1, ips=200000000, reset_on_triple_fault=0, ignore_bad_msrs=1, cpuid_limit_winnt=0
clock: sync=none, time0=local
romimage: file={share}/bochs/BIOS-bochs-latest, options=fastboot
vgaromimage: file={share}/vgabios/vgabios.bin
pci: enabled=1, chipset=i440fx
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata1: enabled=1, ioaddr1=0x170, ioaddr2=0x370, irq=15
{drives}
floppya: 1_44={work}/loader, status=inserted
boot: floppy
com1: enabled=1, mode=file, dev={console}
log: {work}/bochs.log
panic: action=fatal
error: action=ignore
info: action=ignore
debug: action=ignore
"""
SEATS = ("ata0-master", "ata0-slave", "ata1-master", "ata1-slave")


def fetch():
    """The folder with Bochs and its libraries."""
    return packages.unpacked(packages.Suite(SUITE).packages("bochs", PACKAGES, stand_ins=STAND_INS), FILES)


def write_boot_images(work, kernel, initrd, append, drive):
    """A floppy disk with the loader and a hard disk with all that it loads."""
    with open(kernel, "rb") as file:
        image = file.read()
    setup_bytes = (1 + (image[0x1f1] or 4)) * 512
    setup, protected = bytearray(image[:setup_bytes].ljust(CHUNK, b"\0")), image[setup_bytes:]
    with open(initrd, "rb") as file:
        ramdisk = file.read()
    # Documentation/x86/boot.rst: type of loader, heap below the command line, where initramfs and command line are.
    setup[0x210] = 0xff
    setup[0x211] |= 0x80
    struct.pack_into("<IIIHHI", setup, 0x218, INITRD, len(ramdisk), 0, COMMAND_LINE - 0x200, 0, SETUP + COMMAND_LINE)
    text = append.encode("ascii") + b"\0"
    if COMMAND_LINE + len(text) > CHUNK:
        raise ValueError("the kernel's command line is too long")
    setup[COMMAND_LINE:COMMAND_LINE + len(text)] = text
    parts = ((SETUP, bytes(setup)), (KERNEL, protected), (INITRD, ramdisk))
    with open(os.path.join(work, "boot"), "wb") as file:
        for _, data in parts:
            file.write(data + bytes(-len(data) % CHUNK))
    loader, code = os.path.join(work, "loader.o"), os.path.join(work, "loader")
    subprocess.run(["as", "--32", "-o", loader, f"{HERE}/loader.S"], check=True)
    subprocess.run(["ld", "-m", "elf_i386", "-Ttext", "0x7c00", "--oformat", "binary", "-o", code, loader], check=True)
    with open(code, "r+b") as file:
        file.seek(464)
        file.write(struct.pack("<I", drive))
        for address, data in parts:
            file.write(struct.pack("<II", -(-len(data) // CHUNK), address))
        file.truncate(1440 << 10)


def write_configuration(work, disks, console, programs):
    drives = "\n".join(f"{seat}: type=disk, path={path}, mode=flat" for seat, path in zip(SEATS, disks))
    text = CONFIGURATION.format(memory=MEMORY, share=f"{programs}/usr/share", drives=drives, work=work, console=console)
    with open(os.path.join(work, "bochsrc"), "w", encoding="utf-8") as file:
        file.write(text)
    # Debian's Bochs is built with its debugger, which wants to be told to go on.
    with open(os.path.join(work, "commands"), "w", encoding="ascii") as file:
        file.write("c\n")


def start(work, programs, terminal):
    """Starts Bochs, with the libraries and the dynamic linker that came with it, on a terminal."""
    tops = [f"{programs}/{LIBRARIES}", f"{programs}/usr/{LIBRARIES}"]
    linker = next(path for path in (f"{top}/ld-linux-x86-64.so.2" for top in tops) if os.path.exists(path))
    command = [linker, "--inhibit-cache", "--library-path", ":".join(tops), f"{programs}/usr/bin/bochs-bin", "-q",
               "-f", f"{work}/bochsrc", "-rc", f"{work}/commands"]
    environment = {
        "PATH": "/usr/bin:/bin", "HOME": work, "LANG": "C", "TERM": "linux",
        "TERMINFO_DIRS": f"{programs}/lib/terminfo:{programs}/usr/share/terminfo",
        "BXSHARE": f"{programs}/usr/share/bochs", "LTDL_LIBRARY_PATH": f"{programs}/usr/{LIBRARIES}/bochs/plugins",
    }
    return subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, cwd=work, env=environment,
                            start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))


def drain(terminal, said):
    """Takes what Bochs draws on its terminal and keeps the end of it."""
    while True:
        try:
            data = os.read(terminal, 65536)
        except OSError:
            return
        said.append(data)
        del said[:-20]


def trouble(work, said, status):
    """Why Bochs ended, if not since the machine was powered off, for which its exit status is 1 too."""
    if status < 0:
        return f"bochs: ended by signal {-status}"
    try:
        with open(os.path.join(work, "bochs.log"), encoding="utf-8", errors="replace") as file:
            panics = re.findall(r"PANIC\S* *(.*)", file.read())
    except OSError:
        panics = []
    if any("power off" in panic for panic in panics):
        return ""
    drawn = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", b"".join(said)).decode(errors="replace")
    lines = panics or [line for line in drawn.splitlines() if line.strip()] or ["ended without a word"]
    return f"bochs: {lines[-1].strip()}"


def boot(work, kernel, initrd, append, disks, seconds, console, programs):
    """Boots, and waits for the end. Returns "" when the machine powered itself off in time, else what went wrong.

    `kernel` is a vmlinuz, `initrd` a cpio, `append` best begins with APPEND; the raw images `disks` are /dev/sda and so
    on; `console` receives what goes to ttyS0; `work` is for what Bochs reads and writes.
    """
    disks = [*disks, os.path.join(work, "boot")]
    if len(disks) > len(SEATS):
        return f"bochs: {len(disks) - 1} disks are too many"
    write_boot_images(work, kernel, initrd, append, 0x80 + len(disks) - 1)
    write_configuration(work, disks, console, programs)
    leftovers = [f"{disk}.lock" for disk in disks] + [os.path.join(work, "bochs.log"), console]
    remove(leftovers)
    # The display is a terminal of its own: no port, no client. It is also Bochs' controlling terminal, so that Bochs
    # gets a hangup should this process die.
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 50, 132, 0, 0))
    process, said = None, []
    reader = threading.Thread(target=drain, args=(ours, said), daemon=True)
    try:
        process = start(work, programs, theirs)
        reader.start()
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return f"not finished after {seconds} s"
    finally:
        if process:
            process.kill()
            process.wait()
        os.close(theirs)  # which ends the reader
        if reader.is_alive():
            reader.join()
        os.close(ours)
        remove(leftovers[:-2])
    return trouble(work, said, process.returncode)


def remove(paths):
    for path in paths:
        if os.path.lexists(path):
            os.unlink(path)
