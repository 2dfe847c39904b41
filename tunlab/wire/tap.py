"""The recording as the judge sees it: taps, windows, and no belief in a tap that missed something."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tunlab.box.inside.taps import EDGE_S
from tunlab.errors import WorldError
from tunlab.wait import time_factor


class Box(Protocol):
    """What the wire needs of a box."""

    @property
    def run_dir(self) -> Path: ...

    def ask(self, role: str, op: str, **arguments: Any) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class TapPoint:
    """An interface of a place; `name` is what captures, messages and suites call it ("node1/eth0").

    `deaf_to_tcp_port`: a TCP port whose traffic is left out, such as the store's; Ethernet devices alone.
    """

    place: str
    device: str
    alias: str = ""
    deaf_to_tcp_port: int | None = None

    @property
    def name(self) -> str:
        """place/device, unless it has a name of its own."""
        return self.alias or f"{self.place}/{self.device}"

    @classmethod
    def named(cls, name: str, deaf_to_tcp_port: int | None = None) -> TapPoint:
        """The tap point "place/device". Raises ValueError."""
        place, slash, device = name.partition("/")
        if not (place and slash and device):
            raise ValueError(f"{name!r} is no tap: wanted place/device, such as node1/eth0")
        return cls(place, device, deaf_to_tcp_port=deaf_to_tcp_port)


@dataclass(frozen=True, slots=True)
class TapCount:
    """What one tap saw of a window. `state` is live, down (the device), vanished or removed; times in seconds."""

    state: str
    frames: int
    drops: int
    has_begin: bool
    has_end: bool
    begin_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class WindowRecord:
    """One closed window."""

    name: str
    taps: dict[str, TapCount]

    @property
    def frames(self) -> int:
        """Frames of all taps."""
        return sum(count.frames for count in self.taps.values())


class Wire:
    """One recording in a box: one file, one window at a time."""

    def __init__(self, box: Box) -> None:
        self._box = box
        self._file: Path | None = None
        self._open: set[str] = set()
        self.windows: list[WindowRecord] = []
        self.totals: dict[str, Any] = {}

    @property
    def taps(self) -> frozenset[str]:
        """The names of the taps that are open."""
        return frozenset(self._open)

    @property
    def file(self) -> Path | None:
        """The file under way, outside the box; complete up to the last closed window."""
        return self._file

    def open(self, file: str, taps: Iterable[TapPoint | str] = (), *, always: bool = False) -> None:
        """Begin `file` (relative to the run folder) and open taps. With `always`, windows are not needed."""
        self._box.ask("taps", "start", file=file, always=always)
        self._file = self._box.run_dir / file
        self.windows = []
        self.totals = {}
        self._open = set()
        self.add(taps)

    def add(self, taps: Iterable[TapPoint | str]) -> None:
        """Open more taps; a name that is open already is fine. Within a window, each proves itself first."""
        points = [TapPoint.named(tap) if isinstance(tap, str) else tap for tap in taps]
        wanted = {point.name: point for point in points if point.name not in self._open}
        if wanted:
            asked = [
                {
                    "name": name,
                    "place": point.place,
                    "device": point.device,
                    "deaf_to_tcp_port": point.deaf_to_tcp_port,
                }
                for name, point in wanted.items()
            ]
            answer = self._box.ask("taps", "add", taps=asked, edge_s=EDGE_S * time_factor())
            self._open |= set(answer["taps"])
            self._need_sentinels("adding taps", "begin", answer.get("unseen", []))

    def remove(self, names: Iterable[str]) -> None:
        """Close taps, before their namespace goes: an open tap keeps it alive. One that is not open is fine."""
        gone = self._open & set(names)
        if gone:
            self._box.ask("taps", "remove", taps=sorted(gone))
            self._open -= gone

    @contextlib.contextmanager
    def window(self, name: str) -> Iterator[None]:
        """Look at what happens within. Raises WorldError when a live tap missed anything; then nothing can be decided.

        An error from within goes first, but the window is closed and kept all the same.
        """
        if not name or not set(name) <= _ALLOWED:
            raise WorldError(f"window {name!r}: a name is made of letters, digits and . _ - [ ] / : +")
        if not self._open:
            raise WorldError(f"window {name}: no tap is open", hint="add taps before looking")
        answer = self._box.ask("taps", "begin", window=name, edge_s=EDGE_S * time_factor())
        try:
            self._need_sentinels(f"window {name}", "begin", answer["unseen"])
            yield
        except BaseException:
            with contextlib.suppress(WorldError):
                self._close(name)
            raise
        record, unseen = self._close(name)
        for tap, count in record.taps.items():
            if count.drops:
                raise WorldError(
                    f"window {name}: tap {tap}: the kernel dropped {count.drops} frames beside {count.frames} recorded",
                    hint="the machine is too busy, or the test sends more than it needs",
                )
        self._need_sentinels(f"window {name}", "end", unseen)

    def _close(self, name: str) -> tuple[WindowRecord, list[str]]:
        answer = self._box.ask("taps", "end", window=name, edge_s=EDGE_S * time_factor())
        taps = {
            tap: TapCount(
                told["state"],
                told["frames"],
                told["drops"],
                told["begin"],
                told["end"],
                told["begin_s"],
                told["end_s"],
            )
            for tap, told in answer["taps"].items()
        }
        record = WindowRecord(name, taps)
        self.windows.append(record)
        return record, answer["unseen"]

    def _need_sentinels(self, what: str, edge: str, unseen: list[str]) -> None:
        if unseen:
            raise WorldError(
                f"{what}: no {edge} sentinel came back through {', '.join(unseen)}",
                hint="a tap that does not see its own frame proves nothing",
            )

    def finish(self) -> Path:
        """Close taps and file; the file as seen from outside the box."""
        if self._file is None:
            raise WorldError("finishing the recording: there is none")
        self.totals = self._box.ask("taps", "finish")
        file, self._file = self._file, None
        self._open = set()
        return file


_ALLOWED = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-[]/:+")
