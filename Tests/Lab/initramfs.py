#!/usr/bin/env python3
"""initramfs.py OUT KERNEL_TREE MODULE,… PATH=SOURCE…

Writes an initramfs (cpio, newc) for the lab. KERNEL_TREE is an unpacked kernel package; the named modules go in with
what they depend on, uncompressed, and their order of loading into modules/order. PATH=SOURCE adds a file, a folder with
all that is in it, or (PATH=@TARGET) a symbolic link. Dynamically linked programs bring their libraries.
"""
import lzma
import os
import re
import subprocess
import sys


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
                match = re.fullmatch(r"(.*)\.ko(\.xz)?", name)
                if match:
                    found[match[1].replace("-", "_")] = os.path.join(folder, name)
    return found


def add_modules(archive, tree, wanted):
    files, order = module_files(tree), []

    def add(name):
        name = name.replace("-", "_")
        if name in order or name not in files:
            return  # there already, or built in
        data = read(files[name])
        if files[name].endswith(".xz"):
            data = lzma.decompress(data)
        depends = re.search(rb"\0depends=([^\0]*)\0", data)
        for other in depends[1].decode().split(",") if depends and depends[1] else []:
            add(other)
        order.append(name)
        archive.file(f"modules/{name}.ko", data)

    for name in wanted.split(","):
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


def main():
    out, tree, modules, *files = sys.argv[1:]
    archive = Archive()
    for folder in ("dev", "proc", "sys", "tmp", "root", "etc", "run", "sbin"):
        archive.folder(folder)
    add_modules(archive, tree, modules)
    for item in files:
        path, source = item.split("=", 1)
        add(archive, path, source)
    archive.write(out)


main()
