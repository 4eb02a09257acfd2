"""Debian packages that the lab unpacks and does not install, of any suite, kept in the user's cache.

What is in the cache and intact is used as it is, without a network; the rest is downloaded by apt, which checks it against
the suite's signed lists. `kvmtax-lab/SUITE/NAME.json` in the cache names the files of what was asked for, with their
hashes; to have newer versions, remove the folder.
"""
import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess

CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "kvmtax-lab")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# Security fixes of a stable suite come from a suite of their own.
SECURITY = ("bullseye", "bookworm", "trixie")

# What apt shall take as installed.
STATUS = """Package: stand-ins
Status: install ok installed
Maintainer: none
Architecture: all
Version: 1
Description: none
Provides: {}
"""


class Unavailable(Exception):
    """Something the lab needs is neither in the cache nor to be had: one line that says what, and what to do."""


def host_suite():
    """The code name of the Debian release that runs here."""
    try:
        with open("/etc/os-release", encoding="utf-8") as file:
            name = re.search(r"^VERSION_CODENAME=(\w+)", file.read(), re.M)
    except OSError:
        name = None
    if not name or name[1] not in ("bookworm", "trixie"):
        raise Unavailable("the lab needs Debian 12 or 13")
    return name[1]


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Suite:
    """A Debian suite with an apt state of its own: nothing of the system's is read or changed but where the mirror is."""

    def __init__(self, name):
        self.name = name
        self.folder = os.path.join(CACHE, name)
        self.asked = False
        for folder in ("archives", "none", "lists"):
            os.makedirs(os.path.join(self.folder, folder, "partial"), exist_ok=True)

    # What apt calls

    def apt(self, program, *arguments, cwd=None):
        options = {
            "Dir::Etc::sourcelist": f"{self.folder}/sources.list", "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferences": "/dev/null", "Dir::Etc::preferencesparts": "/dev/null",
            "Dir::State": self.folder, "Dir::State::status": f"{self.folder}/status", "Dir::Cache": self.folder,
            "Dir::Cache::archives": f"{self.folder}/archives", "APT::Sandbox::User": "root",
            "APT::Install-Recommends": "false", "APT::Architecture": "amd64", "APT::Default-Release": "",
        }
        flags = [part for option, value in options.items() for part in ("-o", f"{option}={value}")]
        return subprocess.run([program, "-q", *flags, *arguments], capture_output=True, text=True, check=False, cwd=cwd)

    def update(self):
        """Fetches the suite's lists, once."""
        if self.asked:
            return
        mirror = find_mirror()
        lines = [f"deb [signed-by={KEYRING}] {mirror} {self.name} main\n"]
        if self.name in SECURITY:
            lines.append(f"deb [signed-by={KEYRING}] {mirror}-security {self.name}-security main\n")
        with open(f"{self.folder}/sources.list", "w", encoding="ascii") as file:
            file.writelines(lines)
        done = self.apt("apt-get", "update")
        if done.returncode:
            raise Unavailable(f"apt cannot read the lists of {self.name}: {last_line(done.stderr)}; is there a network?")
        self.asked = True

    # What the lab asks for

    def packages(self, key, names, closure=True, stand_ins=()):
        """Paths of the packages, with all they depend on if `closure`, but for the `stand_ins`. `names` is a list, or a
        function that finds the names by apt (called only when the network is needed)."""
        if not callable(names):
            # What is asked for is part of the name: another question is another answer.
            key += "-" + hashlib.sha256(" ".join([*names, *stand_ins]).encode()).hexdigest()[:8]
        known = self.cached(key)
        if known:
            return known
        with locked():
            return self.cached(key) or self.download(key, names, closure, stand_ins)

    def download(self, key, names, closure, stand_ins):
        """Has apt find and fetch what is not in the cache."""
        free = shutil.disk_usage(CACHE).free
        if free < 3 << 30:
            raise Unavailable(f"{CACHE} has {free >> 20} MiB of free disk, 3072 are needed; XDG_CACHE_HOME chooses another place")
        with open(f"{self.folder}/status", "w", encoding="ascii") as file:
            if stand_ins:
                file.write(STATUS.format(", ".join(f"{name} (= 9999)" for name in stand_ins)))
        self.update()
        names = names() if callable(names) else names
        arguments = ["install", "--yes", "--print-uris", *names] if closure else ["download", "--print-uris", *names]
        # What is downloaded already is not listed: an empty folder instead.
        listed = self.apt("apt-get", "-o", "Acquire::ForceHash=SHA256", "-o", f"Dir::Cache::archives={self.folder}/none",
                          *arguments)
        wanted = re.findall(r"^'\S+' (\S+) (\d+) SHA256:(\w{64})$", listed.stdout, re.M)
        if listed.returncode or not wanted:
            raise Unavailable(f"{self.name} has no {' '.join(names)}: {last_line(listed.stderr)}")
        megabytes = sum(int(size) for _, size, _ in wanted) / 1e6
        print(f"lab: downloading {len(wanted)} packages of {self.name} ({megabytes:.0f} MB): {key}", flush=True)
        if closure:
            done = self.apt("apt-get", "install", "--yes", "--download-only", *names)
        else:
            done = self.apt("apt-get", "download", *names, cwd=f"{self.folder}/archives")
        files = [(name, digest) for name, _, digest in wanted]
        for name, digest in files:
            path = self.path(name)
            if not os.path.exists(path) or sha256(path) != digest:
                raise Unavailable(f"{name} could not be downloaded: {last_line(done.stderr)}")
        self.write(key, files)
        return [self.path(name) for name, _ in files]

    def cached(self, key):
        """Paths of packages that are in the cache and intact, or None."""
        try:
            with open(f"{self.folder}/{key}.json", encoding="utf-8") as file:
                files = json.load(file)
            paths = [(self.path(name), digest) for name, digest in files]
            return [path for path, _ in paths] if all(sha256(path) == digest for path, digest in paths) else None
        except (OSError, ValueError, TypeError):
            return None

    def write(self, key, files):
        half = f"{self.folder}/{key}.json.{os.getpid()}"
        with open(half, "w", encoding="utf-8") as file:
            json.dump(files, file, indent=0)
        os.rename(half, f"{self.folder}/{key}.json")

    def path(self, name):
        return os.path.join(self.folder, "archives", name)

    def kernel(self, series):
        """Paths of the packages of the newest kernel of a series (6.1) for virtual machines; of the suite's newest kernel
        if it has that series no more. Newer kernels come in two packages."""
        def names():
            found = self.apt("apt-cache", "search", "--names-only", r"^linux-image-[0-9].*-cloud-amd64$").stdout
            images = re.findall(r"^(linux-image-(\d\S*)) ", found, re.M)
            ours = [image for image in images if re.match(re.escape(series) + r"\.", image[1])] or images
            if not ours:
                raise Unavailable(f"{self.name} has no kernel for virtual machines")
            name, version = max(ours, key=lambda image: [int(part) for part in re.findall(r"\d+", image[1])])
            depends = self.apt("apt-cache", "depends", "--no-recommends", name).stdout
            parts = re.findall(r"Depends: (linux-(?:binary|modules)-\S+)", depends)
            return [part for part in parts if version in part] or [name]
        return self.packages(f"kernel-{series}", names, closure=False)


@contextlib.contextmanager
def locked():
    """One process at a time changes the cache."""
    with open(os.path.join(CACHE, "lock"), "w", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def find_mirror():
    """The Debian mirror that this machine's apt is set up with; it has the other suites too."""
    text = subprocess.run(["apt-get", "indextargets", "--format", "$(SITE)", "Origin: Debian"], capture_output=True,
                          text=True, check=False).stdout
    sites = [site for site in text.split() if site.startswith("http") and "security" not in site]
    if not sites:
        text = "".join(read_text(path) for path in apt_sources())
        sites = re.findall(r"(?:^URIs:|^deb(?: \[[^\]]*\])?)\s+(https?://\S+/debian)/?\s", text + "\n", re.M)
    if not sites:
        raise Unavailable("apt is not set up with a Debian mirror")
    return sites[0].rstrip("/")


def apt_sources():
    folder = "/etc/apt/sources.list.d"
    parts = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    return ["/etc/apt/sources.list"] + [os.path.join(folder, name) for name in parts]


def read_text(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def last_line(text):
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1] if lines else "no message"


def unpack(paths, folder, patterns=()):
    """Unpacks what matches the patterns (all, without patterns) of packages into a folder."""
    os.makedirs(folder, exist_ok=True)
    for path in paths:
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", path], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL) as files:
            chosen = ("--wildcards", *patterns) if patterns else ()
            done = subprocess.run(["tar", "-x", "--keep-directory-symlink", "-C", folder, *chosen], stdin=files.stdout,
                                  check=False, stderr=subprocess.PIPE, text=True, env=os.environ | {"LC_ALL": "C"})
        # Patterns that match nothing are none of tar's business.
        wrong = [line for line in done.stderr.splitlines()
                 if not line.endswith(("Not found in archive", "Exiting with failure status due to previous errors"))]
        if wrong or files.returncode:
            raise Unavailable(f"{path} cannot be unpacked ({last_line(done.stderr)}): is it a Debian package?")
    if not os.listdir(folder):
        raise Unavailable(f"nothing of what is wanted is in {' '.join(paths)}")
    return folder


def unpacked(paths, patterns=()):
    """The folder in the cache into which packages are unpacked, once."""
    key = hashlib.sha256("\n".join([*sorted(os.path.basename(path) for path in paths), *patterns]).encode()).hexdigest()
    folder = os.path.join(CACHE, "unpacked", key[:16])
    with locked():
        if not os.path.isdir(folder):
            half = f"{folder}.{os.getpid()}"
            try:
                os.rename(unpack(paths, half, patterns), folder)
            finally:
                shutil.rmtree(half, ignore_errors=True)
    return folder
