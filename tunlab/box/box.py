"""A box as everybody above sees it: places where commands run. Nothing above may assume a namespace."""

from __future__ import annotations

import base64
import contextlib
import shlex
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tunlab.box.folder import drop_run_dir
from tunlab.box.link import Asked, LineEnded, Link
from tunlab.errors import WorldError
from tunlab.wait import time_factor

INSIDE_RUN_DIR = "/run/tunlab"
_GRACE_S = 5.0
_HELLO_WITHIN_S = 120.0  # a kernel that boots beside many others takes its time; one that ends is heard at once
_STREAM_WINDOW_BYTES = 256 * 1024
# From asking for a process to hearing of its end, where nobody else works: 2 ms and 20 ms were measured.
_PROCESS_S = {"namespaces": 0.003, "uml": 0.030}
_PROCESSES = 10
_MOST_SLOWNESS = 10.0


@dataclass(frozen=True, slots=True)
class Completed:
    """A command that ran to its end; `seconds` is its wall-clock time as measured next to it."""

    place: str
    argv: tuple[str, ...]
    rc: int
    out: str
    err: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.place}$ {shlex.join(self.argv)}"


class CommandFailed(WorldError):
    """A command ended with another code than 0, or not in time; carries what it printed."""

    def __init__(self, done: Completed, why: str) -> None:
        said = (done.err.strip() or done.out.strip()).splitlines()
        super().__init__(f"{done.place}: {shlex.join(done.argv)}: {why}" + (f": {said[-1]}" if said else ""))
        self.done = done


class Line(Protocol):
    """What a Box needs of the line: Link itself, or a connection to the holder of a standing lab."""

    def ask(self, to: str, op: str, *, within_s: float = ..., **arguments: Any) -> dict[str, Any]: ...
    def begin(self, to: str, op: str, **arguments: Any) -> Asked: ...
    def events(self, asked: Asked, every_s: float = ...) -> Iterator[dict[str, Any] | None]: ...
    def answer_of(self, asked: Asked, within_s: float, what: str) -> dict[str, Any]: ...
    def close(self) -> None: ...


class Stream:
    """A program under way with its input and output connected to the caller."""

    def __init__(self, line: Line, keeper: str, asked: Asked) -> None:
        self.line = line
        self._keeper = keeper
        self._asked = asked
        self.pid = 0
        self.rc: int | None = None
        self._untaken_bytes = 0

    def chunks(self, every_s: float = 0.2) -> Iterator[tuple[str, bytes]]:
        """("out" | "err", bytes) as they come, until `rc` is set; ("", b"") at the start and when nothing came."""
        for event in self.line.events(self._asked, every_s):
            if event is None:
                yield "", b""
            elif "started" in event:
                self.pid = event["started"]
                yield "", b""
            else:
                for name, encoded in event.items():
                    data = base64.b64decode(encoded)
                    yield name, data
                    self._take(len(data))
        self.rc = int(self.line.answer_of(self._asked, 5.0, "the end of a stream")["rc"])

    def write(self, data: bytes | None) -> None:
        """Type into the program, None ends its input; returns when the program has taken it or has ended."""
        encoded = None if data is None else base64.b64encode(data).decode()
        self.line.ask(self._keeper, "write", within_s=threading.TIMEOUT_MAX, pid=self.pid, data=encoded)

    def _take(self, count: int) -> None:
        """Let the program go on writing, for what it wrote has been dealt with."""
        self._untaken_bytes += count
        if self._untaken_bytes >= _STREAM_WINDOW_BYTES // 4:
            self.line.begin(self._keeper, "taken", pid=self.pid, bytes=self._untaken_bytes)
            self._untaken_bytes = 0

    def resize(self, rows: int, columns: int) -> None:
        """Tell the program that its terminal has another size now."""
        self.line.ask(self._keeper, "resize", pid=self.pid, rows=rows, columns=columns)

    def signal(self, name: str) -> None:
        """Send a signal, such as "INT", to the program and what it started, as a terminal would."""
        self.line.ask(self._keeper, "signal", pid=self.pid, signal=name, group=True)


class Box:
    """A world with places: "box" itself, hosts with files and processes of their own, and bare networks (pods…)."""

    def __init__(
        self,
        kind: str,
        kernel: str,
        line: Line,
        run_dir: Path,
        hosts: Sequence[str] = (),
        roles: Sequence[str] = (),
    ) -> None:
        self.kind = kind
        self.kernel = kernel
        self.run_dir = run_dir
        self.hosts = set(hosts)
        self.transcript: Callable[[Completed], None] | None = None
        self.line = line
        self._roles = {"box", *hosts, *roles}

    # ------------------------------------------------------------------ places
    def add_host(self, name: str) -> None:
        """Give the network namespace `name` a file system, process table and host name of its own."""
        self.line.ask("first", "role", name=name, kind="keeper", host=name)
        self.hosts.add(name)
        self._roles.add(name)

    def add_network(self, name: str, settings: Mapping[str, str]) -> None:
        """Make a bare network namespace, loopback up, with these sysctls. Like: ip netns add NAME"""
        self.line.ask("box", "network", name=name, settings=dict(settings))

    def add_role(self, name: str) -> None:
        """Start "taps" or "probes"; one that runs already is fine."""
        if name not in self._roles:
            self.start_role(name, name)

    def start_role(self, name: str, kind: str) -> None:
        """Start one more role of a kind, under a name of its own."""
        self.line.ask("first", "role", name=name, kind=kind)
        self._roles.add(name)

    def drop_role(self, name: str) -> None:
        """End a role, or a host with all that runs in it; one that is gone already is fine."""
        self.line.ask("first", "drop", name=name)
        self._roles.discard(name)
        self.hosts.discard(name)

    def ask(self, role: str, op: str, *, within_s: float = 60.0, **arguments: Any) -> dict[str, Any]:
        """One request to a role; starts "taps" and "probes" at the first one."""
        if role in ("taps", "probes"):
            self.add_role(role)
        return self.line.ask(role, op, within_s=within_s * time_factor(), **arguments)

    def slowness(self) -> float:
        """By how much this box is slower now than such a box is by itself: 1 to 10, from what a process takes."""
        start = time.monotonic()
        for _ in range(_PROCESSES):
            self.line.ask("box", "run", argv=["true"])
        process_s = (time.monotonic() - start) / _PROCESSES
        return min(_MOST_SLOWNESS, max(1.0, process_s / _PROCESS_S[self.kind]))

    # ------------------------------------------------------------------ commands
    def run(
        self,
        place: str,
        argv: Sequence[str],
        *,
        stdin: str = "",
        env: Mapping[str, str] | None = None,
        timeout_s: float = 30.0,
        check: bool = True,
    ) -> Completed:
        """Run a command to its end. Raises MissingProgram, CommandFailed (with `check`, or when it takes too long)."""
        return self.gather([(place, argv)], stdin=stdin, env=env, timeout_s=timeout_s, check=check)[0]

    def gather(
        self,
        commands: Sequence[tuple[str, Sequence[str]]],
        *,
        stdin: str = "",
        env: Mapping[str, str] | None = None,
        timeout_s: float = 30.0,
        check: bool = True,
    ) -> list[Completed]:
        """Run (place, argv) commands side by side; their results come in the order they were given."""
        begun, timeout_s = [], timeout_s * time_factor()
        for place, argv in commands:
            keeper, network = self._where(place)
            asked = self.line.begin(
                keeper, "run", argv=list(argv), stdin=stdin, env=dict(env or {}), timeout_s=timeout_s, network=network
            )
            begun.append((place, argv, asked))
        results = []
        for place, argv, asked in begun:
            ok = self.line.answer_of(asked, timeout_s + 10.0, f"{place}$ {shlex.join(argv)}")
            done = Completed(place, tuple(argv), ok["rc"], ok["out"], ok["err"], ok["seconds"])
            if self.transcript is not None:
                self.transcript(done)
            if ok["timed_out"]:
                raise CommandFailed(done, f"still running after {timeout_s:g} s, killed")
            if check and done.rc != 0:
                raise CommandFailed(done, f"exit code {done.rc}")
            results.append(done)
        return results

    def spawn(self, place: str, argv: Sequence[str], *, log: str, env: Mapping[str, str] | None = None) -> int:
        """Start a program in the background, its output in `run_dir/log`; its pid as that place counts."""
        keeper, network = self._where(place)
        answer = self.line.ask(keeper, "spawn", argv=list(argv), env=dict(env or {}), log=log, network=network)
        return int(answer["pid"])

    def stream(
        self,
        place: str,
        argv: Sequence[str],
        *,
        tty: bool,
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
        **window: Any,
    ) -> Stream:
        """Start a program connected to the caller, in the folder `cwd` if it exists there.

        `window` is rows, columns and term for a terminal.
        """
        keeper, network = self._where(place)
        request = {"argv": list(argv), "env": dict(env or {}), "cwd": cwd, "network": network, "tty": tty}
        asked = self.line.begin(keeper, "stream", **request, window=_STREAM_WINDOW_BYTES, **window)
        return Stream(self.line, keeper, asked)

    def signal(self, place: str, pid: int, name: str) -> bool:
        """Send a signal ("STOP", "KILL"…); whether the process was still there."""
        keeper, _ = self._where(place)
        return not self.line.ask(keeper, "signal", pid=pid, signal=name)["gone"]

    def exit_code(self, place: str, pid: int) -> int | None:
        """How a program that was spawned ended (minus the signal that killed it), or None while it runs."""
        keeper, _ = self._where(place)
        code: int | None = self.line.ask(keeper, "ended", pid=pid)["code"]
        return code

    def put(self, place: str, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file on a host."""
        keeper, _ = self._where(place)
        self.line.ask(keeper, "put", path=path, text=text, mode=mode)

    def link(self, place: str, path: str, target: str) -> None:
        """Make a symbolic link on a host. Like: ln -sfn TARGET PATH"""
        keeper, _ = self._where(place)
        self.line.ask(keeper, "link", path=path, target=target)

    def _where(self, place: str) -> tuple[str, str | None]:
        return (place, None) if place == "box" or place in self.hosts else ("box", place)

    def close(self) -> None:
        """End the connection; a box of one's own ends with it."""
        self.line.close()


class OwnBox(Box):
    """A box that belongs to this process: closing it, or this process's death in whatever way, ends it."""

    def __init__(self, kind: str, line: socket.socket, first: subprocess.Popen[bytes], run_dir: Path) -> None:
        self._first = first
        link = Link(line, run_dir, f"{kind} box {run_dir.name}")
        try:
            hello = link.hello(_HELLO_WITHIN_S)
        except BaseException as error:
            self._end(link)
            words = _last_words(run_dir)
            drop_run_dir(run_dir)
            if not isinstance(error, WorldError):
                raise
            raise WorldError(f"{error.message}: its last words: {words}", hint=error.hint) from error
        super().__init__(kind, hello["kernel"], link, run_dir)

    @property
    def pid(self) -> int:
        """The process of this machine below which everything in the box runs."""
        return self._first.pid

    def close(self) -> None:
        """The box, everything in it and its run folder are gone when this returns."""
        with contextlib.suppress(LineEnded, WorldError):
            self.line.ask("first", "bye", within_s=1.0)
        self._end(self.line)
        drop_run_dir(self.run_dir)

    def _end(self, link: Line) -> None:
        link.close()
        if self._first.stdin is not None:
            self._first.stdin.close()
        try:
            self._first.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self._first.kill()
            self._first.wait(_GRACE_S)


def _last_words(run_dir: Path) -> str:
    """The end of what the box printed, for a message."""
    log = run_dir / "box.log"
    lines = log.read_text(errors="replace").split("\n") if log.exists() else []
    told = [line.strip() for line in lines if line.strip()]
    return told[-1] if told else "it printed nothing"
