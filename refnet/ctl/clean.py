"""`node clean`: what another CNI left on this node, and, when told, without it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from refnet.apply.process import Finished, run
from refnet.calc.takeover import FILE, IP, OWNERS, Leftover, Traces, leftovers
from refnet.ctl.tables import columns
from refnet.errors import KernelRefused

CONFLISTS, ALLOCATIONS = Path("/etc/cni/net.d"), Path("/var/lib/cni/networks")
SUBNET_ENV = Path("/run/flannel/subnet.env")
_SAVE, _RESTORE = "iptables-legacy-save", "iptables-legacy-restore"

Run = Callable[[Sequence[str], str], Finished]


def clean(*, removes: bool, run: Run = run) -> tuple[str, int]:
    """What is to be printed, and the exit code: 1 if something should have gone and did not."""
    found = leftovers(read_traces(run))
    if not found:
        return "Nothing of another CNI is left on this node.\n", 0
    if not removes:
        listing = columns(("LEFT BY", "WHAT", "STATE"), [(one.owner, one.what, one.kept or "can go") for one in found])
        return listing + "Nothing was changed. To remove what can go: refnetctl node clean --yes\n", 0
    rows = [(one.owner, one.what, f"kept: {one.kept}" if one.kept else _remove(one, run)) for one in found]
    return columns(("LEFT BY", "WHAT", "STATE"), rows), int(any(row[2] != "removed" for row in rows))


def read_traces(run: Run = run) -> Traces:
    """The node as it is. Raises KernelRefused where `ip` cannot tell."""
    links, routes, rules = (
        _json(run, ["ip", "-j", "addr", "show"]),
        _json(run, ["ip", "-j", "-4", "route", "show", "table", "main"]),
        _json(run, ["ip", "-j", "-4", "rule", "show"]),
    )
    folders = [path for owner in OWNERS for path in owner.folders if Path(path).exists()]
    return Traces(
        links=links,
        routes=routes,
        rules=rules,
        tables=_tables(run),
        conflists={
            str(path): _conflist(path) for path in _entries(CONFLISTS) if path.suffix in (".conf", ".conflist", ".json")
        },
        folders=frozenset([*folders, *map(str, _entries(ALLOCATIONS))]),
        programs=frozenset(_programs()),
        subnet_env=SUBNET_ENV.read_text(errors="replace") if SUBNET_ENV.is_file() else "",
    )


def _json(run: Run, argv: Sequence[str]) -> list[dict[str, Any]]:
    finished = run(argv, "")
    if finished.code:
        raise KernelRefused(f"kernel: {' '.join(argv)}: {' '.join(finished.err.split())}")
    found: list[dict[str, Any]] = json.loads(finished.out or "[]")
    return found


def _tables(run: Run) -> str:
    """The rules of every table there is. Without iptables nobody can have left any with it."""
    try:
        finished = run([_SAVE], "")
    except FileNotFoundError:
        return ""
    if finished.code:
        raise KernelRefused(f"kernel: {_SAVE}: {' '.join(finished.err.split())}")
    return finished.out


def _entries(folder: Path) -> Iterable[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else ()


def _conflist(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return None  # nobody's that could be told


def _programs() -> Iterable[str]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                yield (entry / "comm").read_text().strip()
            except OSError:
                continue  # it ended between the two looks


def _remove(one: Leftover, run: Run) -> str:
    """Do it; `removed`, or what was said instead."""
    if one.how == FILE:
        try:
            _remove_path(Path(one.lines[0]))
        except OSError as error:
            return f"refused: {error.strerror}"
        return "removed"
    tool = ("ip", "-batch", "-") if one.how == IP else (_RESTORE, "--noflush")
    finished = run(tool, "".join(f"{line}\n" for line in one.lines))
    return "removed" if finished.code == 0 else f"refused: {' '.join(finished.err.split())}"


def _remove_path(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
