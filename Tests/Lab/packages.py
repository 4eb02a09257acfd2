"""Debian packages that the lab unpacks and does not install, kept in the user's cache."""
import hashlib
import os
import re
import subprocess

CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "kvmtax-lab")
KERNEL = "linux-image-cloud-amd64"
# Of a kernel's package: newer ones have all below usr/, and the kernel itself beside its modules.
KERNEL_FILES = ("./boot/vmlinuz-*", "*/modules/*/vmlinuz", "*/kernel/arch/x86/kvm/*", "*/kernel/virt/*",
                "*/kernel/drivers/virtio/*", "*/kernel/drivers/block/virtio*", "*/kernel/drivers/crypto/ccp/*")


class Unavailable(Exception):
    """A package that is neither in the cache nor to be had."""


def apt(*arguments, **options):
    return subprocess.run(arguments, capture_output=True, text=True, check=False, **options)


def described(name):
    """Name, file name and SHA-256 of the newest version that apt knows, or None."""
    text = apt("apt-cache", "show", "--no-all-versions", name).stdout
    digest = re.search(r"^SHA256: (\w{64})$", text, re.M)
    version = re.search(r"^Version: (\S+)$", text, re.M)
    architecture = re.search(r"^Architecture: (\w+)$", text, re.M)
    if not (digest and version and architecture):
        return None
    file = f"{name}_{version[1].replace(':', '%3a')}_{architecture[1]}.deb"
    return file, digest[1]


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_intact(path):
    """Whether a cached package still has the hash that apt gave when it was fetched."""
    try:
        with open(path + ".sha256", encoding="ascii") as file:
            return file.read().strip() == sha256(path)
    except OSError:
        return False


def update_lists():
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    print("lab: apt-get update (apt knows no packages)", flush=True)
    apt(*sudo, "apt-get", "-q", "update")


def cached(name):
    """The newest intact file of a package in the cache, or None."""
    files = [os.path.join(CACHE, file) for file in os.listdir(CACHE) if re.match(re.escape(name) + r"_.*\.deb$", file)]
    return next((file for file in sorted(files, key=os.path.getmtime, reverse=True) if is_intact(file)), None)


def package(name):
    """The path of a package's file, downloaded if it is not in the cache. Apt's hashes are checked either way."""
    known = described(name)
    if known:
        file, digest = known
        path = os.path.join(CACHE, file)
        if is_intact(path) and sha256(path) == digest:
            return path
        print(f"lab: downloading {file}", flush=True)
        # The cache is the user's own: apt's unprivileged user could not write to it.
        fetched = apt("apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", name, cwd=CACHE)
        if fetched.returncode == 0 and os.path.exists(path) and sha256(path) == digest:
            with open(path + ".sha256", "w", encoding="ascii") as out:
                out.write(digest + "\n")
            return path
        print(f"lab: not downloaded: {fetched.stderr.strip().splitlines()[-1:] or 'wrong hash'}", flush=True)
    path = cached(name)
    if not path:
        raise Unavailable(f"the package {name} is not to be had and not in {CACHE}: is there a network, is this Debian?")
    return path


def kernel_name():
    """The real package behind the newest kernel of the suite, or the one in the cache."""
    match = re.search(r"Depends: (linux-image-\d\S+)", apt("apt-cache", "depends", KERNEL).stdout)
    if match:
        return match[1]
    names = [file.split("_")[0] for file in os.listdir(CACHE) if file.startswith("linux-image-") and file.endswith(".deb")]
    if not names:
        raise Unavailable(f"apt knows no {KERNEL}: the lab needs Debian")
    return max(names, key=lambda name: [int(part) for part in re.findall(r"\d+", name)])


def unpacked(path, patterns):
    """The folder in the cache into which a package's files that match are unpacked."""
    folder = path.removesuffix(".deb")
    if not os.path.isdir(folder):
        half = f"{folder}.{os.getpid()}"
        os.makedirs(half)
        extract(path, half, patterns)
        os.rename(half, folder)
    return folder


def extract(path, folder, patterns):
    """Unpacks a package's files that match into a folder; patterns that match nothing are none of its business."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", path], stdout=subprocess.PIPE) as files:
        subprocess.run(["tar", "-x", "-C", folder, "--wildcards", *patterns], stdin=files.stdout, check=False,
                       stderr=subprocess.DEVNULL)
    if not os.listdir(folder):
        raise Unavailable(f"nothing could be unpacked of {path}: is it a Debian package of a kernel?")


def fetch(given, folder):
    """Folders of the unpacked kernel and busybox. Given package files of a kernel are unpacked into `folder`."""
    os.makedirs(CACHE, exist_ok=True)
    if not described("busybox-static") and not cached("busybox-static"):
        update_lists()
    for path in given:
        extract(path, folder, KERNEL_FILES)
    kernel = folder if given else unpacked(package(kernel_name()), KERNEL_FILES)
    busybox = unpacked(package("busybox-static"), ("./bin/*", "*/bin/busybox"))
    return kernel, busybox
