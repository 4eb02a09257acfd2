"""What the lab's machines boot from and work on: an initramfs (cpio, newc) and a disk with a Debian userland."""
import glob
import hashlib
import lzma
import os
import re
import shutil
import subprocess

import packages

# Of a kernel's package: the kernel itself and the modules that machines and guests load.
KERNEL_FILES = ("./boot/vmlinuz-*", "*/modules/*/vmlinuz", "*/kernel/arch/x86/kvm/*", "*/kernel/virt/*",
                "*/kernel/drivers/virtio/*", "*/kernel/drivers/block/virtio*", "*/kernel/drivers/char/virtio*",
                "*/kernel/drivers/crypto/ccp/*", "*/kernel/drivers/net/*", "*/kernel/net/core/*",
                "*/kernel/drivers/vhost/*", "*/kernel/drivers/scsi/*", "*/kernel/drivers/ata/*",
                "*/kernel/drivers/cdrom/*", "*/kernel/lib/*", "*/kernel/crypto/*", "*/kernel/fs/ext4/*",
                "*/kernel/fs/jbd2/*", "*/kernel/fs/mbcache*", "*/kernel/net/802/*", "*/kernel/net/llc/*")


class Archive:
    def __init__(self):
        self.parts = []
        self.seen = set()

    def entry(self, path, mode, data=b""):
        name = path.encode() + b"\0"
        fields = (len(self.seen) + 1, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0)
        header = b"070701" + b"".join(b"%08x" % field for field in fields) + name
        self.parts += [header, bytes(-len(header) % 4), data, bytes(-len(data) % 4)]
        self.seen.add(path)

    def folder(self, path):
        if path and path not in self.seen:
            self.folder(os.path.dirname(path))
            self.entry(path, 0o40755)

    def file(self, path, data, mode=0o644):
        if path not in self.seen:
            self.folder(os.path.dirname(path))
            self.entry(path, 0o100000 | mode, data)

    def link(self, path, target):
        self.folder(os.path.dirname(path))
        self.entry(path, 0o120777, target.encode())

    def write(self, out):
        self.entry("TRAILER!!!", 0)
        with open(out, "wb") as file:
            file.write(b"".join(self.parts))


def read(path):
    with open(path, "rb") as file:
        return file.read()


def module_files(tree):
    """Every module of the kernel package by name; newer packages keep them below usr/."""
    found = {}
    for top in ("lib/modules", "usr/lib/modules"):
        for folder, _, names in os.walk(os.path.join(tree, top)):
            for name in names:
                match = re.fullmatch(r"(.*)\.ko(\.xz|\.zst)?", name)
                if match:
                    found[match[1].replace("-", "_")] = os.path.join(folder, name)
    return found


def without_btf(path, data):
    """The module without its types, as kernels are built that strip them: its section is renamed in place. That breaks
    its signature, which goes too: the kernel refuses a wrong one, but not none (include/linux/module_signature.h)."""
    if b"\0.BTF\0" not in data:
        raise packages.Unavailable(f"{path} has no types to remove")
    data = data.replace(b"\0.BTF\0", b"\0.btf\0", 1)
    mark = b"~Module signature appended~\n"
    if data.endswith(mark):
        length = int.from_bytes(data[-len(mark) - 4:-len(mark)], "big")
        data = data[:-len(mark) - 12 - length]
    return data


def add_modules(archive, tree, wanted, strip_btf):
    files, order = module_files(tree), []

    def add(name):
        name = name.replace("-", "_")
        if name in order or name not in files:
            return  # there already, or built in
        data = read(files[name])
        if files[name].endswith(".xz"):
            data = lzma.decompress(data)
        elif files[name].endswith(".zst"):
            data = subprocess.run(["zstd", "-dc"], input=data, capture_output=True, check=True).stdout
        depends = re.search(rb"\0depends=([^\0]*)\0", data)
        for other in depends[1].decode().split(",") if depends and depends[1] else []:
            add(other)
        order.append(name)
        if strip_btf and name.startswith("kvm"):
            data = without_btf(files[name], data)
        archive.file(f"modules/{name}.ko", data)

    for name in wanted:
        add(name)
    archive.file("modules/order", "".join(f"{name}\n" for name in order).encode())


def add_libraries(archive, program):
    """What the dynamic linker would load for it here, at the same paths."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    for path in re.findall(r"(/\S+) \(0x", listed):
        archive.file(path.lstrip("/"), read(path), 0o755)


def add(archive, path, source):
    if source.startswith("@"):
        archive.link(path, source[1:])
    elif os.path.isdir(source):
        archive.folder(path)
        for name in sorted(os.listdir(source)):
            add(archive, f"{path}/{name}", os.path.join(source, name))
    else:
        data = read(source)
        archive.file(path, data, os.stat(source).st_mode & 0o777)
        if data[:4] == b"\x7fELF":
            add_libraries(archive, source)


def vmlinuz(tree):
    """The kernel itself; newer packages keep it beside the modules."""
    found = [os.path.join(folder, name) for folder, _, names in os.walk(tree) for name in names
             if name.startswith("vmlinuz")]
    if not found:
        raise packages.Unavailable(f"{tree} has no kernel image (vmlinuz)")
    return found[0]


def initramfs(out, tree, modules, files, strip_btf=False):
    """Writes an initramfs. `tree` is an unpacked kernel package; the named modules go in with what they depend on,
    uncompressed, and their order of loading into modules/order. `files` maps a path to a file, to a folder with all that is
    in it, or (by @TARGET) to a symbolic link. Dynamically linked programs bring their libraries."""
    archive = Archive()
    for folder in ("dev", "proc", "sys", "tmp", "root", "etc", "run", "sbin"):
        archive.folder(folder)
    add_modules(archive, tree, modules, strip_btf)
    for path, source in files.items():
        add(archive, path, source)
    archive.write(out)
    return out


# Of a userland: what nothing in the lab reads.
UNUSED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/i18n", "usr/share/perl*", "usr/share/zoneinfo",
          "usr/share/bash-completion", "usr/share/info", "usr/share/lintian", "usr/share/mime", "usr/share/icons",
          "usr/share/gcc", "usr/share/gdb", "usr/share/keyrings", "usr/lib/python3*", "usr/lib/systemd",
          "usr/lib/x86_64-linux-gnu/perl*", "usr/lib/x86_64-linux-gnu/gconv", "usr/lib/udev", "var", "boot")


def userland(suite):
    """A disk image (ext4, in the cache) with QEMU and the tools that the lab compares with, of a Debian suite. Made anew
    when the packages change."""
    names = ["qemu-system-x86", "qemu-utils", "seabios", "ipxe-qemu", "busybox-static", "libbpf1", "libelf1",
             "libtraceevent1", "libzstd1", "zlib1g", "libstdc++6", "linux-perf", "trace-cmd"]
    paths = packages.Suite(suite).packages("userland", names)
    key = hashlib.sha256("\n".join([*sorted(map(os.path.basename, paths)), *UNUSED]).encode()).hexdigest()[:16]
    image = os.path.join(packages.CACHE, f"userland-{suite}-{key}.img")
    with packages.locked():
        if not os.path.exists(image):
            make_userland(image, suite, paths)
    return image


def make_userland(image, suite, paths):
    print(f"lab: making a disk of {len(paths)} packages of {suite}", flush=True)
    root = f"{image}.{os.getpid()}.root"
    half = f"{image}.{os.getpid()}"
    try:
        merged(root)
        packages.unpack(paths, root)
        for path in [path for pattern in UNUSED for path in glob.glob(f"{glob.escape(root)}/{pattern}")]:
            shutil.rmtree(path)
        for folder in ("dev", "proc", "sys", "tmp", "run", "lab", "kvmtax", "root", "etc", "var"):
            os.makedirs(f"{root}/{folder}", exist_ok=True)
        os.symlink("busybox", f"{root}/bin/sh")  # what is essential depends on nothing, and nothing on it
        with open(f"{root}/etc/passwd", "w", encoding="ascii") as file:
            file.write("root:x:0:0:root:/root:/bin/sh\n")
        with open(f"{root}/etc/group", "w", encoding="ascii") as file:
            file.write("root:x:0:\n")
        subprocess.run(["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal,^metadata_csum", "-m", "0", "-d", root, half,
                        "1100M"], stdout=subprocess.DEVNULL, check=True)
        os.rename(half, image)
    finally:
        shutil.rmtree(root, ignore_errors=True)
        if os.path.exists(half):
            os.unlink(half)


def merged(root):
    """The links of a merged /usr, before anything is unpacked: packages of older suites still ship files in /lib."""
    for name in ("bin", "sbin", "lib", "lib64"):
        os.makedirs(f"{root}/usr/{name}")
        os.symlink(f"usr/{name}", f"{root}/{name}")
