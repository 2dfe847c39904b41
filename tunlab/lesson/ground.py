"""The lab that a lesson walks on: commands typed in its places, at once or beside others."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Protocol

from tunlab.box.link import LineEnded
from tunlab.errors import WorldError
from tunlab.live.standing import StandingLab
from tunlab.wait import time_factor

_LONGEST_S = 60.0
_HERE = "/run"  # on a host its own; a command may leave files there


class Ground(Protocol):
    """What a walk needs of a lab."""

    def type(self, place: str, text: str, say: Callable[[str], None], *, by_hand: bool) -> tuple[int, str]:
        """Run a shell's line and say what it prints as it comes; its exit code, and all of that."""

    def look(self, place: str, text: str) -> tuple[int, str, str]:
        """Run a shell's line quietly; exit code, standard output, standard error."""

    def beside(self, place: str, text: str) -> contextlib.AbstractContextManager[None]:
        """Run a program in another terminal until the end of the block."""


class StandingGround:
    """A lab that stands. `LESSONS` in a command is the folder of the lesson's own files."""

    def __init__(self, stands: StandingLab, lessons: Path) -> None:
        self._stands = stands
        self._more = {"LESSONS": str(lessons)}

    def type(self, place: str, text: str, say: Callable[[str], None], *, by_hand: bool) -> tuple[int, str]:
        """As the protocol says. By hand Ctrl-C is the program's, and it may take its time; else it has a minute."""
        name = self._stands.place(place)
        box = self._stands.box()
        stream = box.stream(name, ["sh", "-c", text], tty=False, env=self._env(name), cwd=_HERE)
        said: list[str] = []
        began, ended_input = time.monotonic(), False
        longest_s = _LONGEST_S * time_factor()
        try:
            with _interrupts(by_hand) as interrupts:
                for _, data in stream.chunks():
                    if stream.pid and not ended_input:
                        ended_input = True
                        stream.write(None)
                    if interrupts:
                        interrupts.clear()
                        stream.signal("INT")
                    if not by_hand and time.monotonic() - began > longest_s:
                        stream.signal("KILL")
                        raise WorldError(f"{place}$ {text}: still running after {longest_s:g} s")
                    if data:
                        said.append(data.decode(errors="replace"))
                        say(said[-1])
        except LineEnded as error:
            raise WorldError(
                f"{self._stands.name}: {place}: its box has ended meanwhile", hint="./lab status"
            ) from error
        return stream.rc or 0, "".join(said)

    def look(self, place: str, text: str) -> tuple[int, str, str]:
        """As the protocol says. Raises WorldError when it takes too long."""
        name = self._stands.place(place)
        line = f"cd {_HERE}\n{text}"
        done = self._stands.box().run(
            name, ["sh", "-c", line], env=self._env(name), timeout_s=_LONGEST_S * time_factor(), check=False
        )
        return done.rc, done.out, done.err

    @contextlib.contextmanager
    def beside(self, place: str, text: str) -> Iterator[None]:
        """As the protocol says."""
        name = self._stands.place(place)
        box = self._stands.box()
        argv = ["sh", "-c", f"cd {_HERE}; exec {text}"]
        pid = box.spawn(name, argv, log="logs/lesson.log", env=self._env(name))
        try:
            yield
        finally:
            box.signal(name, pid, "KILL")

    def _env(self, place: str) -> Mapping[str, str]:
        return {**self._stands.environment(place), **self._more}


@contextlib.contextmanager
def _interrupts(by_hand: bool) -> Iterator[list[int]]:
    """Ctrl-C as something to look at: for a program that was typed by hand; the second one in a row is our own."""
    seen: list[int] = []
    if not by_hand:
        yield seen
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        if seen:
            signal.default_int_handler(number, frame)
        seen.append(number)

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)
