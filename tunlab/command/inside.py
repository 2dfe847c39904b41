"""The tasks that go into a standing lab: exec, shell, ping."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import signal
import sys
import termios
import threading
import tty
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

from tunlab.box.box import Stream
from tunlab.box.link import LineEnded, MissingProgram
from tunlab.errors import LabError, WorldError
from tunlab.live.shell import SHELL, shell_environment
from tunlab.live.standing import StandingLab, find_standing

_TYPED_BYTES = 8192  # a frame of them stays below what travels as a file
_TOLD = (0, 2, 128 + signal.SIGINT, 128 + signal.SIGTERM)  # codes that reach the caller as they are


def exec(lab: str, place: str, argv: Sequence[str]) -> int:  # the task's own word
    """Run a command in a place exactly as typed, connected to the caller; its exit code."""
    stands = find_standing(lab or None)
    name = stands.place(place)
    code = _connected(stands, name, argv, terminal=_has_terminal(0) and _has_terminal(1))
    if code not in _TOLD:  # ./lab itself says 2 then, for 1 is a judgement
        print(f"exec: {name}: {argv[0]}: {_ending(code)}", file=sys.stderr)
    return code


def shell(lab: str, place: str) -> int:
    """A shell in a place, whose prompt says where one is; or one that runs what comes in through a pipe."""
    stands = find_standing(lab or None)
    name = stands.place(place)
    if not _has_terminal(0):
        return _connected(stands, name, SHELL, terminal=False)
    _connected(stands, name, [*SHELL, "-i"], terminal=True, env=shell_environment(stands, name))
    return 0  # how the last command in it ended was seen by whoever typed it


def ping(lab: str, a: str, b: str, count: int = 3) -> int:
    """Ping from a pod or host to another (or to an address), as `ping` prints it."""
    stands = find_standing(lab or None)
    source, target = stands.place(a), _address(stands, b)
    argv = ["ping", "-c", str(count), "-i", "0.5", "-W", "2", target]
    return _connected(stands, source, argv, terminal=False, reads=False)


# ------------------------------------------------------------------ inner workings
def _address(stands: StandingLab, target: str) -> str:
    try:
        return str(ipaddress.IPv4Address(target))
    except ValueError:
        return stands.address(target)


def _has_terminal(descriptor: int) -> bool:
    """Whether it is a terminal that is ours to speak to: a background job would be stopped there and then."""
    try:
        return os.isatty(descriptor) and os.tcgetpgrp(descriptor) == os.getpgrp()
    except OSError:
        return False


def _ending(code: int) -> str:
    return f"exit code {code}" if code <= 128 else f"ended by {signal.Signals(code - 128).name}"


def _connected(
    stands: StandingLab,
    place: str,
    argv: Sequence[str],
    *,
    terminal: bool,
    reads: bool = True,
    env: Mapping[str, str] | None = None,
) -> int:
    """Run with this terminal's (or pipe's) input and output; its exit code, or 128 and the signal that ended it."""
    if sys.stdout is None or sys.stderr is None:  # descriptors 1 and 2 are something else of ours by now
        raise LabError(f"{place}: {argv[0]}: standard output or error is closed", hint="try >/dev/null")
    whole = {**stands.environment(place), **(env or {})}
    rows, columns = _window()
    stream = stands.box().stream(
        place,
        argv,
        tty=terminal,
        env=whole,
        cwd=_here(),
        rows=rows,
        columns=columns,
        term=os.environ.get("TERM", "dumb"),
    )
    try:
        with _raw(terminal), _Attendant(stream, terminal=terminal) as attendant:
            for name, data in stream.chunks():
                if stream.pid:
                    attendant.begin(reads=reads and sys.stdin is not None)
                _write(2 if name == "err" else 1, data)
    except MissingProgram as error:
        raise LabError(f"{place}: {argv[0]}: there is no such program there", hint=f"./lab shell {place}") from error
    except LineEnded as error:
        raise WorldError(f"{stands.name}: {place}: its box has ended meanwhile", hint="./lab status") from error
    code = stream.rc if stream.rc is not None else 2
    return code if code >= 0 else 128 - code


def _here() -> str:
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        return "/"


def _window() -> tuple[int, int]:
    for descriptor in (0, 1, 2):
        with contextlib.suppress(OSError):
            columns, rows = os.get_terminal_size(descriptor)
            return rows, columns
    return 24, 80


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except BrokenPipeError:
        raise
    except OSError as error:
        name = "standard error" if descriptor == 2 else "standard output"
        raise WorldError(f"{name}: {error.strerror}") from error


@contextlib.contextmanager
def _raw(terminal: bool) -> Iterator[None]:
    """The terminal passes every key on untouched, and is itself again afterwards, whatever happens."""
    if not terminal:
        yield
        return
    before = termios.tcgetattr(0)
    try:
        tty.setraw(0)
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


class _Attendant:
    """Carries what is typed, window changes and Ctrl-C to the program inside, while the main thread prints.

    In a terminal Ctrl-C is a key like others. Without one, the first is passed on, and the program decides what to
    make of it; the second ends us, and with our connection the program.
    """

    def __init__(self, stream: Stream, *, terminal: bool) -> None:
        self._stream = stream
        self._terminal = terminal
        self._news, self._say = os.pipe2(os.O_CLOEXEC)
        self._has_begun = False
        self._interrupted = False

    def __enter__(self) -> _Attendant:
        number = signal.SIGWINCH if self._terminal else signal.SIGINT
        self._before = signal.signal(number, self._resized if self._terminal else self._interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGWINCH if self._terminal else signal.SIGINT, self._before)
        os.close(self._say)

    def begin(self, *, reads: bool) -> None:
        """The program runs now."""
        if self._has_begun:
            return
        self._has_begun = True
        threading.Thread(target=self._tell_news, daemon=True).start()
        threading.Thread(target=self._read if reads else self._end_input, daemon=True).start()

    def _resized(self, *_: object) -> None:
        os.write(self._say, b"w")

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._interrupted or not self._has_begun:
            signal.default_int_handler(number, frame)
        self._interrupted = True
        os.write(self._say, b"i")

    def _tell_news(self) -> None:
        with contextlib.suppress(WorldError):
            while news := os.read(self._news, 1):
                if news == b"w":
                    self._stream.resize(*_window())
                else:
                    self._stream.signal("INT")
        os.close(self._news)

    def _read(self) -> None:
        with contextlib.suppress(WorldError):
            if os.isatty(0) and not _has_terminal(0):
                self._stream.write(None)
                return
            try:
                while data := os.read(0, _TYPED_BYTES):
                    self._stream.write(data)
            except OSError:  # it is closed, or nothing that can be read
                pass
            self._stream.write(None)

    def _end_input(self) -> None:
        with contextlib.suppress(WorldError):
            self._stream.write(None)
