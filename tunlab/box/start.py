"""Starting a box: `namespaces` (this kernel) or `uml` (a kernel of its own). Neither needs root."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path

from tunlab.box.box import OwnBox
from tunlab.box.enter import RANGE_IDS, subordinate_ids
from tunlab.box.folder import drop_run_dir, fresh_run_dir, runtime_folder
from tunlab.box.machine import machine, memory_folder, which
from tunlab.errors import LabError, WorldError

__all__ = ["KINDS", "fresh_run_dir", "id_map", "interpreter", "runtime_folder", "start_box"]

KINDS = ("namespaces", "uml")
_HERE = Path(__file__).parent
UML_MEMORY = "768M"


def interpreter() -> str:
    """The real python that runs inside boxes, not a virtual environment's and not a version manager's shim."""
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable))


def start_box(kind: str, run_dir: Path) -> OwnBox:
    """Start a box whose line this process holds. Raises LabError (no such kind) or WorldError (it will not start)."""
    if kind not in KINDS:
        raise LabError(f"--box: {kind}: no such box", hint=f"one of: auto, {', '.join(KINDS)}")
    run_dir = run_dir.resolve()
    (run_dir / "line").mkdir(parents=True, exist_ok=True)
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            argv = (_namespaces if kind == "namespaces" else _uml)(theirs.fileno(), run_dir)
            with (run_dir / "box.log").open("ab") as log:
                first = subprocess.Popen(
                    argv,
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    pass_fds=[theirs.fileno()],
                    env=_environment(),
                    cwd="/",
                    start_new_session=True,
                )
    except BaseException:
        ours.close()
        drop_run_dir(run_dir)
        raise
    try:
        return OwnBox(kind, ours, first, run_dir)
    except WorldError as error:
        look = machine()
        mends = [mend.command for mend in look.mends if not look.entry.ok and mend.what == look.entry.why]
        raise WorldError(error.message, hint=error.hint or (mends[0] if mends else "./lab doctor")) from error


def _environment() -> dict[str, str]:
    keep = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    path = f"{keep.get('PATH', '')}:/usr/sbin:/sbin:/usr/bin:/bin"
    return {**keep, "PATH": path, "TMPDIR": memory_folder() or "/dev/shm"}


def _enter(how: str, namespaces: str, program: list[str]) -> list[str]:
    return [interpreter(), "-I", "-S", "-E", str(_HERE / "enter.py"), how, namespaces, "--", *program]


def _first(line: str, inside_run_dir: str, kind: str) -> list[str]:
    return [interpreter(), "-I", "-S", "-E", str(_HERE / "inside" / "first.py"), line, inside_run_dir, kind]


def id_map() -> str:
    """How ids are mapped into a namespaces box: all of them where we may, else the caller as root and nobody else."""
    if os.getuid() == 0:
        return "range" if _knows_all_ids() else "root"
    return "subuid" if which("newuidmap") and which("newgidmap") and _has_subordinate_ids() else "root"


def _knows_all_ids() -> bool:
    """Root in somebody's container may be the only one there is, and can hand on no more ids than he has."""
    for table in ("/proc/self/uid_map", "/proc/self/gid_map"):
        known = 0
        for start, _, count in sorted(tuple(map(int, line.split())) for line in Path(table).read_text().splitlines()):
            known = start + count if start <= known else known
        if known < RANGE_IDS:
            return False
    return True


def _has_subordinate_ids() -> bool:
    try:
        return all(subordinate_ids(table) for table in ("/etc/subuid", "/etc/subgid"))
    except OSError:
        return False


def _namespaces(line: int, run_dir: Path) -> list[str]:
    return _enter(id_map(), "mount,net,pid,ipc,uts", _first(str(line), str(run_dir), "namespaces"))


def _uml(line: int, run_dir: Path) -> list[str]:
    kernel = which("linux.uml")
    if not kernel:
        raise WorldError(
            "uml box: start linux.uml: there is no such program",
            hint="apt-get install --no-install-recommends user-mode-linux",
        )
    if run_dir.is_relative_to("/dev"):
        raise WorldError(
            f"uml box: keep its files in {run_dir}: a guest has a /dev of its own",
            hint="set XDG_RUNTIME_DIR to a folder elsewhere",
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
