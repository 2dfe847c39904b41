"""Somebody at a terminal, with folders of his own, and a look at what is left of him afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tunlab.wait import eventually

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class User:
    """Types lines into ./lab with a home, a temporary folder and a runtime folder that nobody shares."""

    folder: Path
    before: Sequence[str] = ()
    lab: Path = ROOT / "lab"
    more: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for path in (self.home, self.temporary, self.runtime):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def temporary(self) -> Path:
        return self.folder / "tmp"

    @property
    def runtime(self) -> Path:
        return self.folder / "run"

    @property
    def env(self) -> dict[str, str]:
        own = {"HOME": self.home, "TMPDIR": self.temporary, "XDG_RUNTIME_DIR": self.runtime}
        return {**os.environ, **{name: str(path) for name, path in own.items()}, "TERM": "xterm", **self.more}

    def argv(self, *words: str) -> list[str]:
        return [*self.before, str(self.lab), *words]

    def types(self, *words: str, stdin: bytes | None = None, within_s: float = 90.0) -> Said:
        feed: dict[str, Any] = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
        done = subprocess.run(
            self.argv(*words), capture_output=True, check=False, timeout=within_s, env=self.env, cwd=self.folder, **feed
        )
        return Said(done.returncode, done.stdout, done.stderr)

    def does(self, *words: str, **more: Any) -> str:
        """A line that must succeed; its output."""
        said = self.types(*words, **more)
        assert (said.code, said.err) == (0, ""), said
        return said.out

    @contextlib.contextmanager
    def begins(self, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        """A line that goes on, as from another terminal; killed at the end, if it has not ended."""
        with subprocess.Popen(
            self.argv(*words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**self.env, "PYTHONUNBUFFERED": "1"},
            cwd=self.folder,
            start_new_session=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def status(self) -> list[dict[str, Any]]:
        labs: list[dict[str, Any]] = json.loads(self.types("status", "--json").out)["labs"]
        return labs

    def state(self, lab: str) -> Path:
        return self.runtime / "tunlab" / lab

    def processes(self) -> dict[int, str]:
        """Everything on the machine that has this user's folders in its command line or environment."""
        mark, found = os.fsencode(self.folder), {}
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and int(entry.name) != os.getpid():
                    line = (entry / "cmdline").read_bytes()
                    if mark in line or mark in (entry / "environ").read_bytes():
                        found[int(entry.name)] = line.replace(b"\0", b" ").decode(errors="replace")
        return found

    def traces(self) -> dict[str, Any]:
        """What a lab may not leave: processes, links and mounts of the machine, files of the user's."""
        files = {
            name: sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
            for name, folder in (("home", self.home), ("tmp", self.temporary), ("run", self.runtime))
        }
        guests = [path.name for path in Path("/dev/shm").iterdir() if path.name.startswith("vm_file")]
        return {"processes": self.processes(), "guests": guests, "links": _links(), "mounts": _mounts(), **files}


def _links() -> list[str]:
    said = subprocess.run(["ip", "-j", "link"], capture_output=True, check=True, text=True).stdout
    return sorted(link["ifname"] for link in json.loads(said))


def _mounts() -> list[str]:
    return sorted(Path("/proc/self/mounts").read_text().splitlines())


@dataclass(frozen=True)
class Said:
    """How a line ended and what it printed."""

    code: int
    out_bytes: bytes
    err_bytes: bytes

    @property
    def out(self) -> str:
        return self.out_bytes.decode()

    @property
    def err(self) -> str:
        return self.err_bytes.decode()


@contextlib.contextmanager
def leaving_no_trace(user: User) -> Iterator[None]:
    """Whatever happens within, afterwards the machine and the user's folders are as before."""
    before = user.traces()
    try:
        yield
    except BaseException:
        user.types("down", "--all")  # a test that failed before it came to that
        raise

    def left() -> dict[str, Any]:
        now = user.traces()
        return {kind: now[kind] for kind in now if now[kind] != before[kind]}

    eventually(left, lambda what: not what, within_s=15.0, what="all is as before", blame="lab")


def wait_for_line(stream: IO[bytes] | None, words: str) -> str:
    """Read on until these words stand in a line; all that was read."""
    assert stream is not None
    read = []
    while line := stream.readline():
        read.append(line.decode())
        if words in read[-1]:
            return "".join(read)
    raise AssertionError(f"no line {words!r}: {read}")


class Terminal:
    """A pseudo-terminal with a line typed into it; its program leads the session, so closing it is a hang-up."""

    def __init__(self, user: User, *words: str, rows: int = 24, columns: int = 80) -> None:
        self.seen = ""
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            os.chdir(user.folder)
            os.execvpe(user.argv()[0], user.argv(*words), user.env)
        self.resize(rows, columns)

    def resize(self, rows: int, columns: int) -> None:
        import fcntl
        import struct
        import termios

        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def shows(self, words: str, within_s: float = 20.0) -> str:
        """Read until `words` stand on it; what came up to there, and forget that."""
        deadline = time.monotonic() + within_s
        while words not in self.seen:
            goes_on = self._reads(deadline, f"{words!r} not within {within_s} s")
            assert goes_on, f"{words!r} never came: {self.seen!r}"
        before, _, self.seen = self.seen.partition(words)
        return before

    def waits(self) -> None:
        """Until its program sleeps: a Ctrl-C that comes after a prompt, but before input() listens, is lost on it."""
        state = Path("/proc", str(self.pid), "stat")
        eventually(
            lambda: state.read_text().rpartition(")")[2].split()[0],
            lambda now: now == "S",
            within_s=20,
            what="it waits for a key",
            blame="lab",
        )

    def ends(self, within_s: float = 60.0) -> int:
        """Read to the end; the exit code."""
        deadline = time.monotonic() + within_s
        while self._reads(deadline, f"no end in {within_s} s"):
            pass
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self._terminal)
        return code

    def _reads(self, deadline: float, otherwise: str) -> bool:
        """Take in what comes next; False once its program has ended. Nothing by the deadline is a failure."""
        left = max(0.0, deadline - time.monotonic())
        assert select.select([self._terminal], [], [], left)[0], f"{otherwise}: {self.seen!r}"
        try:
            data = os.read(self._terminal, 4096)
        except OSError:
            return False
        self.seen += data.decode(errors="replace")
        return bool(data)

    def close(self) -> None:
        """As when its window is closed: SIGHUP to what runs in it."""
        os.close(self._terminal)
        os.waitpid(self.pid, 0)


def send(process: subprocess.Popen[bytes], number: signal.Signals) -> tuple[int, str]:
    """Send a signal; exit code and standard error."""
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    return process.returncode, err.decode()
