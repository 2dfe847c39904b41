"""What this machine can carry: which box, with which modes, and what would mend the rest. Looked at once per run."""

from __future__ import annotations

import functools
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

BOXES = ("namespaces", "uml")
UML_MEMORY_MIB = 512  # free space that a guest's memory file must find
_PACKAGES = Path(__file__).with_name("packages.txt")
_UML_MODULES = Path("/usr/lib/uml/modules")
_SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")

# Every lab is made of these; the tunnel devices come on top where the mode needs one.
_ALWAYS = ("veth", "bridge")
_TUNNEL_OF_MODE = {
    "ipip": "ipip",
    "ipip-crosssubnet": "ipip",
    "vxlan": "vxlan",
    "vxlan-crosssubnet": "vxlan",
    "none": "",
}
MODES = tuple(_TUNNEL_OF_MODE)

_TRIES = {
    "run": "mount -t tmpfs tmpfs /run",
    "proc": "mount -t proc proc /proc",
    "sys": "mount -t sysfs sysfs /sys",
    "veth": "ip link add tl0 type veth peer name tl1",
    "bridge": "ip link add tl2 type bridge",
    "vxlan": "ip link add tl3 type vxlan id 4096 dstport 4789",
    "ipip": "ip link add tl4 type ipip local 192.0.2.1 remote 192.0.2.2",
    "tun": "ip tuntap add dev tl5 mode tap",
}


@dataclass(frozen=True)
class Verdict:
    """A claim about this machine, and the reason in words a user can act on."""

    ok: bool
    why: str


@dataclass(frozen=True)
class Package:
    """One Debian package of packages.txt: what the lab wants of it, and whether it is needed or only wanted."""

    name: str
    needed: bool
    commands: tuple[str, ...]


@dataclass(frozen=True)
class Mend:
    """One thing that is wrong here and the exact command (or deed) that mends it."""

    what: str
    command: str


@dataclass(frozen=True)
class Machine:
    """One look at the machine. `tried` maps each thing tried in throw-away namespaces to what the kernel said."""

    kernel: str
    architecture: str
    distribution: str
    entry: Verdict
    tried: Mapping[str, Verdict]
    uml: Verdict
    uml_kinds: frozenset[str]
    uml_memory_folder: str
    id_range: Verdict
    missing: tuple[Package, ...]

    def can(self, box: str, mode: str) -> Verdict:
        """Whether labs run here in `box` and `mode`; raises KeyError for a word that is neither."""
        kinds = [kind for kind in (*_ALWAYS, _TUNNEL_OF_MODE[mode]) if kind]
        without = [package.name for package in self.missing if package.needed]
        if without:
            return Verdict(False, f"missing packages: {' '.join(without)}")
        return {"namespaces": self._namespaces, "uml": self._user_mode}[box](kinds)

    def choose(self, mode: str) -> tuple[str, Verdict]:
        """What `--box auto` takes for `mode`: namespaces where they can, else uml; the verdict says why."""
        own, guest = self.can("namespaces", mode), self.can("uml", mode)
        if own.ok:
            return "namespaces", own
        if guest.ok:
            return "uml", Verdict(True, f"not namespaces: {own.why}")
        return "uml", Verdict(False, f"namespaces: {own.why}; uml: {guest.why}")

    @property
    def mends(self) -> tuple[Mend, ...]:
        """What a user can do about each thing this machine lacks, most urgent first."""
        found = []
        for level, words in ((True, "needed"), (False, "wanted")):
            names = " ".join(package.name for package in self.missing if package.needed is level)
            if names:
                command = f"sudo apt-get install --no-install-recommends {names}"
                found.append(Mend(f"packages missing ({words}): {names}", command))
        if not self.entry.ok:
            found.append(Mend(self.entry.why, _mend_entry()))
        if not self.uml_memory_folder:
            what = f"no folder for a guest's memory: {UML_MEMORY_MIB} MiB free and not noexec"
            found.append(Mend(what, "sudo mount -o remount,exec,size=2G /dev/shm, or set TMPDIR to such a folder"))
        if not self.id_range.ok:
            found.append(
                Mend(self.id_range.why, "sudo apt-get install uidmap, and a line for you in /etc/subuid, /etc/subgid")
            )
        return tuple(found)

    def _namespaces(self, kinds: list[str]) -> Verdict:
        if not self.entry.ok:
            return self.entry
        for name in ("run", "proc", "sys"):
            if not self.tried[name].ok:
                return Verdict(False, f"no fresh {name} mount: {self.tried[name].why}")
        lacks = [kind for kind in kinds if not self.tried[kind].ok]
        if lacks:
            return Verdict(False, f"this kernel has no {', '.join(lacks)}")
        return Verdict(True, f"this kernel has {', '.join(kinds)}")

    def _user_mode(self, kinds: list[str]) -> Verdict:
        if not self.uml.ok:
            return self.uml
        lacks = [kind for kind in kinds if kind not in self.uml_kinds]
        return Verdict(not lacks, f"linux.uml has no {', '.join(lacks)}" if lacks else self.uml.why)


@functools.cache
def machine() -> Machine:
    """This machine, as seen by trying: under 0.4 s, and nothing is left behind."""
    missing = missing_packages()
    entry, tried = _try_namespaces()
    folder = memory_folder()
    modules = _newest(_UML_MODULES)
    return Machine(
        kernel=platform.release(),
        architecture=platform.machine(),
        distribution=_distribution(),
        entry=entry,
        tried=tried,
        uml=_look_at_uml(entry, folder, modules),
        uml_kinds=frozenset(kind for kind in ("veth", "bridge", "vxlan", "ipip", "tun") if _offers(modules, kind)),
        uml_memory_folder=folder,
        id_range=_look_at_id_range(),
        missing=missing,
    )


def which(command: str) -> str:
    """The path of a command, also from the system folders that an ordinary user's PATH leaves out; "" if absent."""
    folders = os.pathsep.join([os.environ.get("PATH", os.defpath), *_SYSTEM_FOLDERS])
    return shutil.which(command, path=folders) or ""


def packages() -> tuple[Package, ...]:
    """Every Debian package the lab uses, in the order of packages.txt."""
    rows = (line.split() for line in _PACKAGES.read_text().splitlines())
    return tuple(Package(name, level == "needed", tuple(commands)) for level, name, *commands in rows)


def missing_packages() -> tuple[Package, ...]:
    """The packages of which a command is not there, whoever installed it."""
    return tuple(package for package in packages() if not all(which(command) for command in package.commands))


def memory_folder() -> str:
    """The first folder that can hold a guest's memory, which is mapped executable; "" if there is none."""
    asked = [os.environ.get("TMPDIR", ""), "/dev/shm", os.environ.get("XDG_RUNTIME_DIR", ""), "/var/tmp", "/tmp"]
    for folder in filter(None, asked):
        if not os.access(folder, os.W_OK | os.X_OK):
            continue
        disk = os.statvfs(folder)
        free_mib = disk.f_bavail * disk.f_frsize // 2**20
        if not disk.f_flag & os.ST_NOEXEC and free_mib >= UML_MEMORY_MIB:
            return folder
    return ""


def _try_namespaces() -> tuple[Verdict, dict[str, Verdict]]:
    """One throw-away set of namespaces, the same that a box is made of, in which everything is tried in turn."""
    kept = {kind: words for kind in _TRIES if (words := _module_waiting(kind))}
    lines = [f'words=$({command} 2>&1); say {name} $? "$words"' for name, command in _TRIES.items() if name not in kept]
    script = "\n".join(['say() { echo "$1|$2|$3" | tr -d "\\n"; echo; }', "echo in", *lines])
    nothing = {name: Verdict(False, "not tried: no namespaces here") for name in _TRIES}
    users: tuple[tuple[str, ...], ...] = (("--user", "--map-root-user"),)
    if os.geteuid() == 0:
        users += ((),)
    refused = ""
    for user in users:
        said, refused = _run_inside(user, script)
        if not said.startswith("in\n"):
            continue
        tried = {}
        for line in said.splitlines()[1:]:
            name, code, words = line.split("|", 2)
            tried[name] = Verdict(code == "0", words if code != "0" else "tried")
        tried |= {kind: Verdict(True, words) for kind, words in kept.items()}
        return Verdict(True, "user namespace" if user else "as root, without a user namespace"), nothing | tried
    return Verdict(False, _explain_refusal(refused)), nothing


def _run_inside(user: tuple[str, ...], script: str) -> tuple[str, str]:
    unshare = which("unshare")
    if not unshare:
        return "", "unshare is not there (package util-linux)"
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *_SYSTEM_FOLDERS])
    argv = [unshare, *user, "--mount", "--net", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "sh", "-c", script]
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": path, "LC_ALL": "C"},
    )
    return done.stdout, done.stderr.strip()


def _module_waiting(kind: str) -> str:
    """Why `kind` need not be tried: its module lies ready; to load ipip puts a tunl0 into every namespace."""
    release = Path("/lib/modules") / platform.release()
    if kind not in ("ipip", "vxlan") or Path("/sys/module", kind).exists():
        return ""
    if _number("/proc/sys/kernel/modules_disabled") == 1 or not _listed(release / "modules.dep", kind):
        return ""
    return "a module of this kernel, loaded on use"


def _offers(modules: Path | None, kind: str) -> bool:
    return modules is not None and any(_listed(modules / name, kind) for name in ("modules.dep", "modules.builtin"))


def _listed(index: Path, kind: str) -> bool:
    if not index.is_file():
        return False
    return any(Path(line.split(":")[0]).name.split(".")[0] == kind for line in index.read_text().splitlines())


def _newest(folder: Path) -> Path | None:
    return max(folder.iterdir(), default=None) if folder.is_dir() else None


def _look_at_uml(entry: Verdict, folder: str, modules: Path | None) -> Verdict:
    if platform.machine() not in ("x86_64", "i686"):
        return Verdict(False, f"linux.uml exists for amd64 only, this is {platform.machine()}")
    if not which("linux.uml") or modules is None:
        return Verdict(False, "linux.uml is not there (package user-mode-linux)")
    if not folder:
        return Verdict(False, f"no folder with {UML_MEMORY_MIB} MiB free that is not noexec for the guest's memory")
    if _number("/proc/sys/kernel/yama/ptrace_scope") == 3:
        return Verdict(False, "kernel.yama.ptrace_scope is 3: linux.uml cannot trace its own processes")
    if not entry.ok:
        return Verdict(False, f"linux.uml needs a pid namespace to die in: {entry.why}")
    return Verdict(True, f"linux.uml {modules.name}, memory in {folder}")


def _look_at_id_range() -> Verdict:
    if os.geteuid() == 0:
        return Verdict(True, "root maps a range itself")
    import pwd

    without = "tcpdump cannot run in a box of kind namespaces (dumpcap and the judge's taps can)"
    if not which("newuidmap") or not which("newgidmap"):
        return Verdict(False, f"newuidmap is not there: {without}")
    try:
        names = (pwd.getpwuid(os.getuid()).pw_name, str(os.getuid()))
    except KeyError:
        names = (str(os.getuid()), "")
    for table in ("/etc/subuid", "/etc/subgid"):
        lines = Path(table).read_text().splitlines() if Path(table).is_file() else []
        if not any(line.split(":")[0] in names for line in lines):
            return Verdict(False, f"{table} grants you no range of ids: {without}")
    return Verdict(True, "newuidmap, /etc/subuid, /etc/subgid")


# The switches that forbid user namespaces: where they stand, the value that forbids, and one that allows.
_SWITCHES = (
    ("kernel.unprivileged_userns_clone", 0, "sudo sysctl -w kernel.unprivileged_userns_clone=1"),
    (
        "kernel.apparmor_restrict_unprivileged_userns",
        1,
        "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
    ),
    ("user.max_user_namespaces", 0, "sudo sysctl -w user.max_user_namespaces=10000"),
)
_CONTAINER = "start the container with --privileged, or with what docs/boxes.md says of containers"


def _explain_refusal(said: str) -> str:
    for name, value, _ in _SWITCHES:
        if _number("/proc/sys/" + name.replace(".", "/")) == value:
            return f"no user namespaces: {name} is {value}"
    words = said.splitlines()[-1] if said else "unshare said nothing"
    return f"no namespaces: {words}" + (" (in a container)" if _in_container() else "")


def _mend_entry() -> str:
    for name, value, allows in _SWITCHES:
        if _number("/proc/sys/" + name.replace(".", "/")) == value:
            return allows
    return _CONTAINER if _in_container() else "run ./lab as root, or on a machine that allows user namespaces"


def _in_container() -> bool:
    return Path("/.dockerenv").exists() or Path("/run/.containerenv").exists()


def _number(path: str) -> int | None:
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):
        return None


def _distribution() -> str:
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return "unknown"
    return release.get("PRETTY_NAME", "unknown")
