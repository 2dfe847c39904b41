"""Labs that stand until `down`: where their state is kept, how to reach them, how to start and end them."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tunlab.box.box import Box
from tunlab.box.link import Link
from tunlab.box.start import runtime_folder
from tunlab.check.wait import NeverHappened, eventually
from tunlab.errors import LabError, WorldError
from tunlab.lab.load import parse_lab
from tunlab.lab.topology import Mode, Pod, Topology
from tunlab.live.holder import READY, SOCKET
from tunlab.live.lab import LiveLab, Workload, workload_from
from tunlab.runtime.cni import Sandbox
from tunlab.systems.catalogue import find_system

_STATE = "lab.json"
_TEXT = "lab.yaml"
_START_WITHIN_S = 40.0


@dataclass(frozen=True, slots=True)
class State:
    """What later commands have to know of a standing lab; the rest is in its box."""

    lab: str
    box: str
    system: str | None = None
    mode: Mode | None = None
    replaced: Mapping[str, str] = field(default_factory=dict)
    pods: tuple[Mapping[str, Any], ...] = ()


class StandingLab:
    """One standing lab, seen from a command that comes later."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = folder.name
        self.state = State(**_read_json(folder / _STATE))
        text = (folder / _TEXT).read_text()
        self.topology: Topology = parse_lab(self.state.lab, text, place=str(folder / _TEXT))
        self._box: Box | None = None

    def box(self) -> Box:
        """A connection to its box. Raises WorldError when nobody holds it any more."""
        if self._box is None:
            self._box = _connect(self.folder)
        return self._box

    def live(self) -> LiveLab:
        """The lab with what the state says is in it."""
        live = LiveLab(self.topology, self.box())
        if self.state.system is not None and self.state.mode is not None:
            replaced = {part: Path(path) for part, path in self.state.replaced.items()}
            live.choose(find_system(self.state.system, replaced), self.state.mode)
            for told in self.state.pods:
                sandbox = Sandbox(**{**told["sandbox"], "arguments": told["sandbox"].get("arguments")})
                live.adopt(workload_from(sandbox, told["result"]))
        return live

    def save(self, **changes: Any) -> None:
        """Write the state down with these changes."""
        self.state = replace(self.state, **changes)
        _write_json(self.folder / _STATE, asdict(self.state))

    def save_pods(self, workloads: Mapping[str, Workload]) -> None:
        """Write down which pods there are."""
        pods = tuple({"sandbox": asdict(one.sandbox), "result": dict(one.result)} for one in workloads.values())
        self.save(pods=pods)

    def pods(self) -> tuple[Pod, ...]:
        """The lab's pods and those launched by hand, as far as they are up."""
        return tuple(Pod(told["sandbox"]["pod"], told["sandbox"]["node"]) for told in self.state.pods)


def folder_of(lab: str) -> Path:
    """Where a standing lab of this name keeps its state."""
    return runtime_folder() / lab


def standing_names() -> list[str]:
    """The labs that stand, sorted."""
    return sorted(path.parent.name for path in runtime_folder().glob(f"*/{_STATE}"))


def folders() -> list[str]:
    """Every lab that left a folder, also one that was interrupted half-built; sorted."""
    return sorted(path.parent.name for path in runtime_folder().glob("*/line") if "." not in path.parent.name)


def find_standing(lab: str | None) -> StandingLab:
    """The standing lab of that name, or the only one. Raises LabError when there is none, or a choice."""
    names = standing_names()
    if lab is None:
        if len(names) != 1:
            which = f"several labs stand: {', '.join(names)}" if names else "no lab stands"
            hint = "choose one with --lab NAME" if names else "./lab up same-subnet"
            raise LabError(f"which lab: {which}", hint=hint)
        lab = names[0]
    lab = Path(lab).stem if lab.endswith((".yaml", ".yml")) else lab
    if lab not in names:
        hint = f"standing: {', '.join(names)}" if names else f"./lab up {lab}"
        raise LabError(f"{lab}: this lab does not stand", hint=hint)
    return StandingLab(folder_of(lab))


@contextlib.contextmanager
def locked(lab: str) -> Iterator[None]:
    """Nobody else builds, changes or ends this lab meanwhile. Raises LabError when somebody does."""
    path = runtime_folder() / f".{lab}.lock"
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LabError(f"{lab}: somebody is building or ending this lab just now", hint="try again") from error
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def start(topology: Topology, text: str, kind: str) -> StandingLab:
    """A fresh box for a lab, held by a process of its own; what stood under that name is ended first."""
    folder = folder_of(topology.name)
    end(topology.name)
    folder.mkdir(mode=0o700)
    argv = [sys.executable, "-m", "tunlab.live.holder", str(folder), kind]
    project = Path(__file__).resolve().parents[2]
    with (folder / "holder.log").open("ab") as log:
        holder = subprocess.Popen(
            argv, cwd=project, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    try:
        told = eventually(
            lambda: (_read_json(folder / READY) if (folder / READY).exists() else None, holder.poll()),
            lambda seen: seen[0] is not None or seen[1] is not None,
            within_s=_START_WITHIN_S,
            what=f"{topology.name}: the box is up",
            blame="lab",
        )[0]
    except NeverHappened:
        holder.kill()
        shutil.rmtree(folder, ignore_errors=True)
        raise
    if told is None or "error" in told:
        shutil.rmtree(folder, ignore_errors=True)
        message = told["error"] if told else "the box's holder died at once"
        raise WorldError(f"{topology.name}: {message}", hint=told["hint"] if told else "")
    (folder / _TEXT).write_text(text)
    _write_json(folder / _STATE, asdict(State(topology.name, kind)))
    return StandingLab(folder)


def end(lab: str) -> bool:
    """End a standing lab and remove its folder; whether there was one. What is half gone already is fine."""
    folder = folder_of(lab)
    if not folder.is_dir():
        return False
    holder = _read_json(folder / READY).get("pid") if (folder / READY).exists() else None
    with contextlib.suppress(WorldError):
        _connect(folder).ask("holder", "end", within_s=5.0)
    if holder is not None:
        try:
            eventually(
                lambda: _is_holder(holder, folder), lambda alive: not alive, within_s=5.0, what="it ends", blame="lab"
            )
        except NeverHappened:
            with contextlib.suppress(ProcessLookupError):
                os.kill(holder, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)
    return True


def _is_holder(pid: int, folder: Path) -> bool:
    """Whether this process still is this lab's holder; a pid alone may have been given to somebody else since."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"tunlab.live.holder" in words and str(folder).encode() in words


def _connect(folder: Path) -> Box:
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    handle = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        line.connect(f"/proc/self/fd/{handle}/{SOCKET}")  # short, whatever the folder's name
    except OSError as error:
        line.close()
        raise WorldError(
            f"{folder.name}: nobody holds its box any more: {error.strerror}", hint=f"./lab up {folder.name}"
        ) from error
    finally:
        os.close(handle)
    link = Link(line, folder, folder.name)
    hello = link.hello(10.0)
    return Box(hello["kind"], hello["kernel"], link, folder, hello["hosts"], hello["roles"])


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise WorldError(f"{path}: read the state of a lab: {error}", hint="./lab down LAB forgets it") from error
    return found


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(value, indent=1))
    fresh.replace(path)
