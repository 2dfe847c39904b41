"""Starting a box: `namespaces` (this kernel) or `uml` (a kernel of its own). Neither needs root."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from tunlab.box.box import OwnBox
from tunlab.errors import LabError, WorldError

KINDS = ("namespaces", "uml")
_HERE = Path(__file__).parent
UML_MEMORY = "768M"


def interpreter() -> str:
    """The real python that runs inside boxes, not a virtual environment's and not a version manager's shim."""
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable))


def runtime_folder() -> Path:
    """Where the state of labs lives: $XDG_RUNTIME_DIR/tunlab, else a 0700 folder of the user's own under /tmp."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    if base and os.access(base, os.W_OK):
        folder = Path(base, "tunlab")
    else:
        folder = Path(tempfile.gettempdir(), f"tunlab-{os.getuid()}")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    seen = folder.lstat()
    if seen.st_uid != os.getuid() or seen.st_mode & 0o077 or folder.is_symlink():
        raise WorldError(
            f"{folder}: keep the state of labs there: it belongs to somebody else or is open to others",
            hint="set XDG_RUNTIME_DIR to a folder of your own",
        )
    return folder


def fresh_run_dir(name: str) -> Path:
    """A new folder for one box; its name is never reused while it exists."""
    return Path(tempfile.mkdtemp(prefix=f"{name}.", dir=runtime_folder()))


def start_box(kind: str, run_dir: Path) -> OwnBox:
    """Start a box whose line this process holds. Raises LabError (no such kind) or WorldError (it will not start)."""
    if kind not in KINDS:
        raise LabError(f"--box: {kind}: no such box", hint=f"one of: auto, {', '.join(KINDS)}")
    (run_dir / "line").mkdir(parents=True, exist_ok=True)
    ours, theirs = socket.socketpair()
    os.set_inheritable(theirs.fileno(), True)
    argv = (_namespaces if kind == "namespaces" else _uml)(theirs.fileno(), run_dir)
    with (run_dir / "box.log").open("ab") as log:
        first = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            pass_fds=[theirs.fileno()],
            env=_environment(),
            start_new_session=True,
        )
    theirs.close()
    return OwnBox(kind, ours, first, run_dir)


def _environment() -> dict[str, str]:
    keep = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return {**keep, "PATH": f"{keep.get('PATH', '')}:/usr/sbin:/sbin:/usr/bin:/bin", "TMPDIR": _memory_folder()}


def _enter(how: str, namespaces: str, program: list[str]) -> list[str]:
    return [interpreter(), "-I", "-S", "-E", str(_HERE / "enter.py"), how, namespaces, "--", *program]


def _first(line: str, inside_run_dir: str, kind: str) -> list[str]:
    return [interpreter(), "-I", "-S", "-E", str(_HERE / "inside" / "first.py"), line, inside_run_dir, kind]


def id_map() -> str:
    """How ids are mapped into a namespaces box: all of them where we may, else the caller as root and nobody else."""
    if os.getuid() == 0:
        return "range"
    if shutil.which("newuidmap") and shutil.which("newgidmap") and _has_subordinate_ids():
        return "subuid"
    return "root"


def _has_subordinate_ids() -> bool:
    import pwd

    try:
        names = {pwd.getpwuid(os.getuid()).pw_name, str(os.getuid())}
        tables = [Path(path).read_text().splitlines() for path in ("/etc/subuid", "/etc/subgid")]
    except (KeyError, OSError):
        return False
    return all(any(line.split(":")[0] in names for line in table) for table in tables)


def _namespaces(line: int, run_dir: Path) -> list[str]:
    return _enter(id_map(), "mount,net,pid,ipc,uts", _first(str(line), str(run_dir), "namespaces"))


def _uml(line: int, run_dir: Path) -> list[str]:
    kernel = shutil.which("linux.uml", path=f"{os.environ.get('PATH', '')}:/usr/bin")
    if kernel is None:
        raise WorldError(
            "uml box: start linux.uml: there is no such program",
            hint="apt-get install --no-install-recommends user-mode-linux",
        )
    # The kernel's command line splits at blanks, and a checkout's path may hold some: a script in between keeps them.
    init = run_dir / "init"
    init.write_text(f"#!/bin/sh\nexec {shlex.join(_first('/dev/ttyS0', str(run_dir), 'uml'))}\n")
    init.chmod(0o755)
    return _enter(
        "same" if os.getuid() else "none",
        "mount,pid",
        [
            kernel,
            f"mem={UML_MEMORY}",
            "rootfstype=hostfs",
            "rootflags=/",
            "rw",
            f"init={init}",
            "con=null",
            "con0=null,fd:1",
            f"ssl0=fd:{line},fd:{line}",
            f"uml_dir={run_dir}/",
            "umid=uml",
            "quiet",
        ],
    )


def _memory_folder() -> str:
    """A folder for the guest's memory: a file mapped executable, so neither noexec nor small."""
    wanted = 1 << 30
    for folder in ("/dev/shm", "/tmp", "/var/tmp"):
        try:
            seen = os.statvfs(folder)
        except OSError:
            continue
        if not seen.f_flag & os.ST_NOEXEC and seen.f_bavail * seen.f_frsize >= wanted and os.access(folder, os.W_OK):
            return folder
    return "/dev/shm"
