"""Labs that stand until `down`: where their state is kept, how to reach them, how to start and end them.

What `exec` needs is in the state; the rest of the program is loaded only by those who change or describe a lab.
"""

from __future__ import annotations

import contextlib
import difflib
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tunlab.box.box import Box
from tunlab.box.folder import is_lock_of, runtime_folder, vacate
from tunlab.box.link import Link
from tunlab.box.start import interpreter
from tunlab.errors import LabError, WorldError
from tunlab.live.state import FILE, State, read_state, write_state
from tunlab.paths import ROOT
from tunlab.wait import NeverHappened, eventually

if TYPE_CHECKING:
    from tunlab.lab.topology import Topology
    from tunlab.live.lab import LiveLab, Workload

_TEXT = "lab.yaml"
_NAME = re.compile(r"[a-z0-9-]+")
_HOLDER = Path(__file__).with_name("holder.py")
_SOCKET, _READY, _KEEP = "line.sock", "holder.json", b"k"
_START_WITHIN_S = 40.0
_END_WITHIN_S = 8.0
_ANSWER_WITHIN_S = 3.0


class StandingLab:
    """One standing lab, seen from a command that comes later. Raises WorldError when its state is not one."""

    def __init__(self, folder: Path, leash: IO[bytes] | None = None) -> None:
        self.folder = folder
        self.name = folder.name
        self.state = read_state(folder)
        self._leash = leash
        self._topology: Topology | None = None
        self._box: Box | None = None

    @property
    def topology(self) -> Topology:
        """The lab as it was described when it was built."""
        if self._topology is None:
            from tunlab.lab.load import parse_lab

            path = self.folder / _TEXT
            try:
                self._topology = parse_lab(self.state.lab, path.read_text(), place=str(path))
            except (OSError, ValueError, LabError) as error:
                raise WorldError(f"{self.name}: {path}: not what was built", hint=_forget(self.name)) from error
        return self._topology

    def box(self) -> Box:
        """A connection to its box. Raises WorldError when nobody holds it any more."""
        if self._box is None:
            self._box = _connect(self.folder)
        return self._box

    def live(self) -> LiveLab:
        """The lab with what the state says is in it. Raises WorldError, or LabError when its system is gone."""
        from tunlab.live.lab import LiveLab, workload_from
        from tunlab.runtime.cni import Sandbox

        live = LiveLab(self.topology, self.box())
        if self.state.system is not None and self.state.mode is not None:
            live.choose(*self._system())
            try:
                for told in self.state.pods:
                    live.adopt(workload_from(Sandbox(**told["sandbox"]), told["result"]))
            except (TypeError, AttributeError) as error:
                raise WorldError(f"{self.name}: {self.folder / FILE}: its pods", hint=_forget(self.name)) from error
        return live

    def _system(self) -> tuple[Any, Any]:
        from tunlab.systems.catalogue import find_system

        replaced = {part: Path(path) for part, path in self.state.replaced.items()}
        return find_system(str(self.state.system), replaced), self.state.mode

    # ------------------------------------------------------------------ finding one's way
    def place(self, name: str) -> str:
        """The place that a name or alias means: a host, a segment, or a pod that is up. Raises LabError."""
        up = self.state.pod_addresses
        if name in up:
            return name
        if name in self.state.declared:
            raise LabError(f"{self.name}: {name}: this pod is not up", hint=f"./lab launch {name} --lab {self.name}")
        known = [*self.state.places, *up]
        if name not in self.state.places:
            near = difflib.get_close_matches(name, known, n=1)
            meant = f"did you mean {near[0]}?" if near else "./lab status tells what is where"
            raise LabError(f"{self.name}: {name}: no such place\n  legal: {', '.join(known)}", hint=meant)
        return self.state.places[name]

    def address(self, name: str) -> str:
        """The address of a place. Raises LabError when it has none of its own."""
        place = self.place(name)
        found = self.state.pod_addresses.get(place) or self.state.addresses.get(place)
        if found is None:
            legal = ", ".join([*self.state.addresses, *self.state.pod_addresses])
            raise LabError(f"{self.name}: {name}: a place without an address\n  legal: {legal}", hint="or an address")
        return found

    def environment(self, place: str) -> Mapping[str, str]:
        """What programs at a place find in their environment, so that the system's own tools work there."""
        return self.state.environments.get(place, {})

    # ------------------------------------------------------------------ writing down
    def save(self, **changes: Any) -> None:
        """Write the state down with these changes."""
        self.state = replace(self.state, **changes)
        write_state(self.folder, self.state)

    def save_pods(self, workloads: Mapping[str, Workload]) -> None:
        """Write down which pods there are."""
        self.save(
            pods=tuple(
                {"sandbox": asdict(one.sandbox), "result": dict(one.result), "address": str(one.address)}
                for one in workloads.values()
            )
        )

    def keep(self) -> None:
        """From now on it stands whether or not this process lives."""
        if self._leash is not None:
            leash, self._leash = self._leash, None
            with contextlib.suppress(BrokenPipeError), leash:
                leash.write(_KEEP)


def folder_of(lab: str) -> Path:
    """Where a standing lab of this name keeps its state. Raises LabError for what is no name: it may lead away."""
    if not _NAME.fullmatch(lab):
        raise does_not_stand(lab)
    return runtime_folder().resolve() / lab


def standing_names() -> list[str]:
    """Every lab that has a folder, also one whose box is dead or whose building was cut short; sorted."""
    home = runtime_folder()
    names = sorted(path.name for path in home.iterdir() if path.is_dir() and _NAME.fullmatch(path.name))
    if not names:
        vacate()  # to have looked into it shall not have made it
    return names


def find_standing(lab: str | None) -> StandingLab:
    """The standing lab of that name, or the only one. Raises LabError when there is none, or a choice."""
    names = standing_names()
    name = lab_name(lab) if lab else only(names)
    if name not in names:
        raise does_not_stand(name)
    return StandingLab(folder_of(name))


def lab_name(lab: str) -> str:
    """The name under which a lab stands that was asked for by name or by file."""
    return Path(lab).stem if lab.endswith((".yaml", ".yml")) else lab


def does_not_stand(lab: str) -> LabError:
    """What is to be said of a name under which nothing stands."""
    names = standing_names()
    legal = f"\n  legal: {', '.join(names)}" if names else ""
    near = difflib.get_close_matches(lab, names, n=1)
    known = (ROOT / "labs" / f"{lab}.yaml").is_file()
    hint = f"./lab up {lab}" if known else f"did you mean {near[0]}?" if near else "./lab status tells what stands"
    return LabError(f"{lab}: no lab of this name stands{legal}", hint=hint)


def only(names: list[str]) -> str:
    """The one lab that stands. Raises LabError when it is not clear which."""
    if not names:
        raise LabError("no lab stands", hint="./lab up same-subnet")
    if len(names) > 1:
        raise LabError(f"which lab: several stand: {', '.join(names)}", hint=f"choose one: --lab {names[0]}")
    return names[0]


def is_busy(lab: str) -> bool:
    """Whether somebody is building, changing or ending it just now."""
    handle = _take_lock(lab)
    if handle is not None:
        os.close(handle)
    return handle is None


@contextlib.contextmanager
def locked(lab: str) -> Iterator[None]:
    """Nobody else builds, changes or ends this lab meanwhile. Raises LabError when somebody does."""
    taken: list[int] = []

    def take() -> int | None:
        handle = _take_lock(lab)
        taken.extend([] if handle is None else [handle])
        return handle

    try:
        # Who only looks whether it is taken holds it, too, for a moment.
        eventually(take, lambda seen: seen is not None, within_s=0.5, late_s=0, what="the lock", blame="lab")
    except NeverHappened as error:
        raise LabError(
            f"{lab}: another ./lab is building, changing or ending it just now", hint="wait for it, or end it"
        ) from error
    try:
        yield
    finally:
        (runtime_folder() / f".{lab}.lock").unlink(missing_ok=True)
        os.close(taken[0])
        vacate()


def _take_lock(lab: str) -> int | None:
    """The lock's descriptor; None when somebody has it."""
    while True:
        path = runtime_folder() / f".{lab}.lock"
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:  # the folder of all labs was removed in between, being empty
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        if is_lock_of(path, handle):
            return handle
        os.close(handle)  # it was removed between the opening and the locking


# ------------------------------------------------------------------ starting
def start(topology: Topology, text: str, kind: str) -> StandingLab:
    """A fresh box for a lab, held by a process of its own; what stood under that name is ended first.

    Until `keep` it ends with this process, in whatever way that dies. Raises WorldError.
    """
    folder = folder_of(topology.name)
    end(topology.name)
    try:
        leash = _start_holder(folder, kind)
        (folder / _TEXT).write_text(text)
        write_state(folder, _first_state(topology, kind))
    except BaseException:
        end(topology.name)
        raise
    return StandingLab(folder, leash)


def keep_standing(stands: StandingLab, live: LiveLab, system: str, replaced: Mapping[str, str]) -> None:
    """Write down all that is in a lab which others built and filled, and let it outlive this process.

    `system` as a user names it: a name of the catalogue or a file; `replaced` are the builds of its parts.
    """
    recipe = live.installation.recipe
    environments = {place: dict(env) for place, env in recipe.shell_env.items()}
    written = str(Path(system).resolve()) if system.endswith((".yaml", ".yml")) else system
    stands.save(system=written, mode=recipe.mode, environments=environments, replaced=dict(replaced))
    stands.save_pods(live.workloads)
    stands.keep()


def _start_holder(folder: Path, kind: str) -> IO[bytes]:
    flags = "-ISEB" if sys.dont_write_bytecode else "-ISE"
    keep = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR", "XDG_RUNTIME_DIR") if name in os.environ}
    holder = subprocess.Popen(
        [interpreter(), flags, str(_HOLDER), str(folder), kind],
        cwd="/",
        env=keep,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert holder.stdin is not None and holder.stderr is not None
    try:
        told, code = eventually(
            lambda: (_read_ready(folder), holder.poll()),
            lambda seen: seen[0] is not None or seen[1] is not None,
            within_s=_START_WITHIN_S,
            every_s=0.02,
            what=f"{folder.name}: the box is up",
            blame="lab",
        )
        if told is None or "error" in told:
            said = "" if told else holder.stderr.read().decode(errors="replace").strip()
            message = told["error"] if told else f"its holder died at once: {said or code}"
            raise WorldError(f"{folder.name}: {message}", hint=(told or {}).get("hint") or "./lab doctor")
    except BaseException:
        holder.stdin.close()
        holder.wait()
        raise
    finally:
        holder.stderr.close()
    return holder.stdin


def _first_state(topology: Topology, kind: str) -> State:
    hosts = {host.name: host for host in topology.hosts}
    places = {name: name for name in hosts}
    places |= {alias: node.name for node in topology.nodes for alias in node.aliases}
    places |= {segment.name: segment.name for segment in topology.segments}
    addresses = {name: str(host.attachments[0].address.ip) for name, host in hosts.items()}
    declared = tuple(pod.name for pod in topology.pods)
    return State(topology.name, kind, places=places, addresses=addresses, declared=declared)


# ------------------------------------------------------------------ ending
def end(lab: str) -> bool:
    """End a standing lab and remove its folder; whether there was one. What is half gone already is fine."""
    folder = folder_of(lab)
    if not folder.is_dir():
        return False
    if _holders(folder) and not (_was_asked_to_end(folder) and _have_gone(folder)):
        for pid in _holders(folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    if not _have_gone(folder):
        raise WorldError(f"{lab}: {', '.join(map(str, _holders(folder)))}: processes that cannot be ended")
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        raise WorldError(f"{folder}: remove it: something in it is not yours", hint=f"sudo rm -r {folder}")
    return True


def _was_asked_to_end(folder: Path) -> bool:
    try:
        _connect(folder).ask("holder", "end", within_s=_ANSWER_WITHIN_S)
    except WorldError:
        return False
    return True


def _have_gone(folder: Path) -> bool:
    try:
        eventually(
            lambda: _holders(folder), lambda alive: not alive, within_s=_END_WITHIN_S, late_s=0, what="end", blame="lab"
        )
    except NeverHappened:
        return False
    return True


def _holders(folder: Path) -> list[int]:
    """The processes that hold this lab: its holder, and what holds the box's process 1.

    Found by their command line, whole words, for a number that was written down may belong to somebody else by now.
    """
    found = []
    signs = {os.fsencode(folder), b"init=" + os.fsencode(folder / "init")}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        programs = {word.rpartition(b"/")[2] for word in words[:6]}
        if programs & {b"holder.py", b"enter.py"} and signs & set(words):
            found.append(int(entry.name))
    return found


# ------------------------------------------------------------------ reaching
def _connect(folder: Path) -> Box:
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    handle = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        line.connect(f"/proc/self/fd/{handle}/{_SOCKET}")  # short, whatever the folder's name
    except OSError as error:
        line.close()
        why = (_read_ready(folder) or {}).get("error") or f"nobody holds its box: {error.strerror}"
        raise WorldError(f"{folder.name}: {why}", hint=_forget(folder.name)) from error
    finally:
        os.close(handle)
    link = Link(line, folder, folder.name)
    hello = link.hello(_ANSWER_WITHIN_S)  # the holder's own: it does not wait for its box
    return Box(hello["kind"], hello["kernel"], link, folder, hello["hosts"], hello["roles"])


def _read_ready(folder: Path) -> dict[str, Any] | None:
    """What the holder last said of itself; None if it has not, or if that cannot be read."""
    try:
        found = json.loads((folder / _READY).read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _forget(lab: str) -> str:
    return f"./lab up {lab} begins anew; ./lab down {lab} forgets it"
