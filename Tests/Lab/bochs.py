"""A machine with Intel's VMX and EPT, emulated by Bochs: QEMU's emulation has AMD's SVM only.

programs = bochs.fetch(); trouble = bochs.boot(…); what the machine did is on its disks.
"""
import fcntl
import hashlib
import os
import re
import struct
import subprocess
import tempfile
import termios
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "kvmtax-lab")
# Fetched with what they depend on, so that no library of this machine's is needed, of whatever release it is.
PACKAGES = ("bochs", "bochs-term", "ncurses-base")
# What apt shall take as installed: Debian's Bochs is linked with GTK, for windows that are never opened here. GTK's
# libraries are needed, its icons, themes and services are not.
STAND_INS = ("adwaita-icon-theme", "bochs-gui", "dbus", "dconf-gsettings-backend", "debconf", "dpkg", "fontconfig",
             "fontconfig-config", "gsettings-backend", "hicolor-icon-theme", "libasound2-data", "libc-bin",
             "libgdk-pixbuf2.0-common", "libglib2.0-data", "libgtk-3-common", "libx11-data", "perl", "perl-base",
             "readline-common", "shared-mime-info", "systemd", "tzdata")
STATUS = f"""Package: stand-ins
Status: install ok installed
Maintainer: none
Architecture: all
Version: 1
Description: none
Provides: {", ".join(f"{name} (= 9999)" for name in STAND_INS)}
"""
FILES = ("./lib/*", "./lib64/*", "./usr/lib/x86_64-linux-gnu/*", "./usr/lib64/*", "./usr/bin/bochs-bin",
         "./usr/share/bochs/*", "./usr/share/vgabios/*", "./usr/share/terminfo/*")
LIBRARIES = "usr/lib/x86_64-linux-gnu"
MEMORY = 1024  # MiB
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


class Unavailable(Exception):
    """Bochs is neither in the cache nor to be had: one line."""


def fetch(cache=CACHE):
    """The folder with Bochs and its libraries. Once it is in the cache, no network is needed; remove it for newer ones."""
    key = hashlib.sha256(repr((PACKAGES, STATUS, FILES)).encode()).hexdigest()[:12]
    folder = os.path.join(cache, f"bochs-{key}")
    if os.path.isdir(folder):
        return folder
    os.makedirs(cache, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bochs-", dir=cache) as half:
        for name in ("archives/partial", "all"):
            os.makedirs(f"{half}/{name}")
        with open(f"{half}/status", "w", encoding="ascii") as file:
            file.write(STATUS)
        settings = (f"Dir::State::status={half}/status", f"Dir::Cache={half}", f"Dir::Cache::archives={half}/archives",
                    "Debug::NoLocking=1", "APT::Install-Recommends=false", "APT::Sandbox::User=root")
        print(f"lab: downloading {', '.join(PACKAGES)} and what they depend on", flush=True)
        done = subprocess.run(["apt-get", "-q", "-y", *(part for setting in settings for part in ("-o", setting)),
                               "--download-only", "install", *PACKAGES], capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unavailable(f"bochs: {(done.stderr.strip().splitlines() or ['no message of apt'])[-1]}; "
                              "is there a network, and has apt-get update been run?")
        for name in sorted(os.listdir(f"{half}/archives")):
            if name.endswith(".deb"):
                with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", f"{half}/archives/{name}"],
                                      stdout=subprocess.PIPE) as files:
                    # Patterns that match nothing are none of tar's business. /lib can be a link, of base-files.
                    subprocess.run(["tar", "-x", "-C", f"{half}/all", "--keep-directory-symlink", "--wildcards", *FILES],
                                   stdin=files.stdout, stderr=subprocess.DEVNULL, check=False)
        try:
            os.rename(f"{half}/all", folder)
        except OSError:
            if not os.path.isdir(folder):  # fetched by another one meanwhile
                raise
    return folder


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
    setup[COMMAND_LINE:COMMAND_LINE + len(text)] = text
    parts = ((SETUP, bytes(setup)), (KERNEL, protected), (INITRD, ramdisk))
    with open(os.path.join(work, "boot"), "wb") as file:
        for _, data in parts:
            file.write(data + bytes(-len(data) % CHUNK))
        # Whole cylinders.
        file.truncate((file.tell() // (16 * 63 * 512) + 1) * 16 * 63 * 512)
    loader, code = os.path.join(work, "loader.o"), os.path.join(work, "loader")
    subprocess.run(["as", "--32", "-o", loader, f"{HERE}/loader.S"], check=True)
    subprocess.run(["ld", "-m", "elf_i386", "-Ttext", "0x7c00", "--oformat", "binary", "-o", code, loader], check=True)
    with open(code, "r+b") as file:
        file.seek(464)
        file.write(struct.pack("<I", drive))
        for address, data in parts:
            file.write(struct.pack("<II", -(-len(data) // CHUNK), address))
        file.truncate(1440 << 10)


def drain(terminal, said):
    """Takes what Bochs draws on its terminal and keeps the end of it."""
    while True:
        try:
            data = os.read(terminal, 65536)
        except OSError:
            return
        said.append(data)
        del said[:-20]


def trouble(work, said):
    """Why Bochs ended, if not since the machine was powered off. Its exit status tells nothing."""
    try:
        with open(os.path.join(work, "bochs.log"), encoding="utf-8", errors="replace") as file:
            log = file.read()
    except OSError:
        log = ""
    panics = re.findall(r"PANIC\S* *(.*)", log)
    if any("power off" in panic for panic in panics):
        return ""
    text = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", b"".join(said)).decode(errors="replace")
    return "bochs: " + (panics or [line for line in text.splitlines() if line.strip()] or ["ended without a word"])[-1].strip()


def boot(work, kernel, initrd, append, disks, seconds, console, programs):
    """Boots and waits. Returns "" when the machine powered itself off in time, else what went wrong."""
    if len(disks) >= len(SEATS):
        return f"bochs: {len(disks)} disks are too many"
    write_boot_images(work, kernel, initrd, append, 0x80 + len(disks))
    drives = "\n".join(f"{seat}: type=disk, path={path}, mode=flat"
                       for seat, path in zip(SEATS, [*disks, os.path.join(work, "boot")]))
    with open(os.path.join(work, "bochsrc"), "w", encoding="utf-8") as file:
        file.write(CONFIGURATION.format(memory=MEMORY, share=f"{programs}/usr/share", drives=drives, work=work,
                                        console=console))
    # Debian's Bochs is built with the debugger, which wants to be told to go on.
    with open(os.path.join(work, "commands"), "w", encoding="ascii") as file:
        file.write("c\n")
    linker = next(path for path in (f"{programs}/lib64/ld-linux-x86-64.so.2", f"{programs}/usr/lib64/ld-linux-x86-64.so.2")
                  if os.path.exists(path))
    command = [linker, "--inhibit-cache", "--library-path", f"{programs}/lib/x86_64-linux-gnu:{programs}/{LIBRARIES}",
               f"{programs}/usr/bin/bochs-bin", "-q", "-f", f"{work}/bochsrc", "-rc", f"{work}/commands"]
    environment = {
        "PATH": "/usr/bin:/bin", "HOME": work, "TERM": "linux", "LANG": "C", "BXSHARE": f"{programs}/usr/share/bochs",
        "TERMINFO_DIRS": f"{programs}/lib/terminfo:{programs}/usr/share/terminfo:{programs}/usr/lib/terminfo",
        "LTDL_LIBRARY_PATH": f"{programs}/{LIBRARIES}/bochs/plugins",
    }
    for name in os.listdir(work):
        if name.endswith(".lock") or name == "bochs.log":
            os.unlink(os.path.join(work, name))
    # The display is a terminal of its own: no port, no client. It is also Bochs' controlling terminal, so that Bochs is
    # hung up on should this process die.
    terminal, other = os.openpty()
    try:
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("4H", 50, 132, 0, 0))
        said = []
        with subprocess.Popen(command, stdin=other, stdout=other, stderr=other, cwd=work, env=environment,
                              start_new_session=True,
                              preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)) as process:
            os.close(other)
            other = -1
            reader = threading.Thread(target=drain, args=(terminal, said), daemon=True)
            reader.start()
            try:
                process.wait(timeout=seconds)
            except subprocess.TimeoutExpired:
                return f"not finished after {seconds} s"
            finally:
                process.kill()
                process.wait()
                reader.join(timeout=5)
        return trouble(work, said)
    finally:
        os.close(terminal)
        if other >= 0:
            os.close(other)
