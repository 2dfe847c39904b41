"""From a capture file to frames: pyshark decides, scapy must agree, and both must have read all of it."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tunlab.errors import WorldError
from tunlab.wire import by_pyshark, by_scapy
from tunlab.wire.expect import Seen
from tunlab.wire.frames import Ethernet, Frame, Header, Payload, differences
from tunlab.wire.pcapng import FileContents, Packet, read_file

VXLAN_PORT = 4789
_SENTINEL_TYPE = 0x88B5
_SENTINEL_START = b"tunlab sentinel "


class DecodersDisagree(WorldError):
    """pyshark and scapy read the same bytes differently: no verdict can rest on this capture."""

    def __init__(self, where: str, field: str, pyshark: str, scapy: str) -> None:
        super().__init__(
            f"{where}: {field}: pyshark reads {pyshark!r}, scapy {scapy!r}",
            hint="one of the decoders is wrong: look at the frame in Wireshark and report it",
        )
        self.field = field


@dataclass(frozen=True, slots=True)
class Sentinel:
    """A sentinel frame as one tap saw it. `is_own` says that this tap sent it, at an edge of `window`."""

    number: int
    tap: str
    window: str
    edge: str
    is_own: bool
    time_s: float


@dataclass(frozen=True, slots=True)
class Window:
    """One window of the file. `taps` are those that saw both of their sentinels: only they can witness silence."""

    name: str
    taps: frozenset[str]
    begin_s: float
    end_s: float | None


@dataclass(frozen=True)
class Capture:
    """A decoded file. `frames` leave the sentinels out; `drops` is None where no statistics were written."""

    path: Path
    frames: tuple[Frame, ...]
    taps: tuple[str, ...]
    windows: dict[str, Window]
    drops: dict[str, int | None]
    sentinels: tuple[Sentinel, ...]

    @property
    def name(self) -> str:
        """The file's name, for messages."""
        return self.path.name

    @property
    def seen(self) -> Seen:
        """All frames, to narrow down."""
        return Seen(self, self.frames)

    def window(self, name: str) -> Seen:
        """The frames of one window. Raises WorldError where there is none of that name."""
        return self.seen.window(name)

    def echo(self, identifier: int, sequence: int | None = None) -> Seen:
        """Requests and replies of one probe, wherever they were seen."""
        return self.seen.echo(identifier, sequence)

    def only(self, *windows: str) -> Capture:
        """The same file without its other windows: to ask for one of those is an error, as if it had never been."""
        return replace(
            self,
            frames=tuple(frame for frame in self.frames if frame.window in windows),
            windows={name: window for name, window in self.windows.items() if name in windows},
            sentinels=tuple(one for one in self.sentinels if one.window in windows),
        )

    def after(self, earlier: Capture) -> Capture:
        """This file with an earlier one's windows before its own; each frame still says which file it is in.

        What reads the file itself again (BGP) cannot be asked of the two together: frame numbers are each file's own.
        """
        drops = {tap: _sum(earlier.drops.get(tap, 0), self.drops.get(tap, 0)) for tap in (*earlier.taps, *self.taps)}
        return replace(
            self,
            frames=(*earlier.frames, *self.frames),
            taps=tuple(dict.fromkeys((*earlier.taps, *self.taps))),
            windows={**earlier.windows, **self.windows},
            drops=drops,
            sentinels=(*earlier.sentinels, *self.sentinels),
        )


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other


def decode(path: Path, *, vxlan_ports: Sequence[int] = (VXLAN_PORT,), needs_sentinels: bool = True) -> Capture:
    """Decode a capture twice. Raises WorldError (unreadable, no windows, no tshark) and DecodersDisagree.

    RFC 7348's port is VXLAN's also where another one is expected: tshark cannot be told otherwise.
    `needs_sentinels=False` is for files that were not recorded in windows (by hand, or by somebody else).
    """
    contents = read_file(path)
    if not contents.interfaces:
        raise WorldError(
            f"{path.name}: a header and nothing else: no tap was ever opened", hint="the lab has to add taps first"
        )
    windows = _windows(contents)
    if needs_sentinels and not windows:
        raise WorldError(
            f"{path.name}: {len(contents.packets)} packets and no sentinel: nothing proves that a tap was awake",
            hint="record within a window",
        )
    readings = _read_twice(contents, tuple(dict.fromkeys((VXLAN_PORT, *vxlan_ports))))
    frames: list[Frame] = []
    sentinels: list[Sentinel] = []
    for packet, headers, window in zip(contents.packets, readings, _window_of_each(contents), strict=True):
        tap = contents.interfaces[packet.interface].name
        text = _sentinel_text(headers)
        if text:
            sentinels.append(_sentinel(packet, tap, text))
        else:
            frames.append(Frame(packet.number, packet.time_ns / 1e9, tap, packet.direction, window, headers, path.name))
    taps = tuple(dict.fromkeys(interface.name for interface in contents.interfaces))
    return Capture(path, tuple(frames), taps, windows, _drops(contents), tuple(sentinels))


def _read_twice(contents: FileContents, vxlan_ports: tuple[int, ...]) -> list[tuple[Header, ...]]:
    name, packets = contents.path.name, contents.packets
    first = by_pyshark.read_headers(contents, vxlan_ports)
    theirs = by_scapy.read_packets(contents.path)
    if not len(first) == len(theirs) == len(packets):
        raise DecodersDisagree(
            name, "number of frames in a file of " + str(len(packets)), *map(str, (len(first), len(theirs)))
        )
    for packet, headers, data in zip(packets, first, theirs, strict=True):
        interface = contents.interfaces[packet.interface]
        where = f"{name} frame {packet.number} on {interface.name}"
        try:
            second = by_scapy.read_headers(interface.link_type, data, vxlan_ports)
        except struct.error as error:
            raise DecodersDisagree(where, "whole frame", " ".join(h.word for h in headers), str(error)) from error
        if headers != second:
            raise DecodersDisagree(where, *differences(headers, second)[0])
    return first


def _edge(packet: Packet) -> tuple[str, str] | None:
    """(window, begin or end) of a tap's own sentinel, from the comment that the recorder wrote."""
    words = packet.comment.split(" ")
    return (words[1], words[2]) if len(words) == 3 and words[0] == "window" else None


def _window_of_each(contents: FileContents) -> list[str]:
    """Each tap's frames belong to the window whose first sentinel that tap has seen, until it sees the second."""
    open_now = [""] * len(contents.interfaces)
    found = []
    for packet in contents.packets:
        edge = _edge(packet)
        if edge and edge[1] == "begin":
            open_now[packet.interface] = edge[0]
        found.append(open_now[packet.interface])
        if edge and edge[1] == "end":
            open_now[packet.interface] = ""
    return found


def _windows(contents: FileContents) -> dict[str, Window]:
    begins: dict[str, dict[int, int]] = {}
    ends: dict[str, dict[int, int]] = {}
    for packet in contents.packets:
        edge = _edge(packet)
        if edge:
            window, word = edge
            edges = begins if word == "begin" else ends
            edges.setdefault(window, {})[packet.interface] = packet.time_ns
    found = {}
    for name, times in begins.items():
        ended = ends.get(name, {})
        taps = frozenset(contents.interfaces[number].name for number in times if number in ended)
        end_s = max(ended.values()) / 1e9 if ended else None
        found[name] = Window(name, taps, min(times.values()) / 1e9, end_s)
    return found


def _drops(contents: FileContents) -> dict[str, int | None]:
    drops: dict[str, int | None] = {}
    for interface in contents.interfaces:  # a tap that was opened twice has two interfaces
        before = drops.get(interface.name, 0)
        drops[interface.name] = None if interface.dropped is None or before is None else before + interface.dropped
    return drops


def _sentinel_text(headers: tuple[Header, ...]) -> str:
    """A device that is not a real wire may carry a sentinel further, even inside VXLAN: the last headers decide."""
    last = headers[-1] if headers else None
    if not isinstance(last, Payload) or not last.data.startswith(_SENTINEL_START):
        return ""
    before = headers[-2] if len(headers) > 1 else None
    is_ours = before is None or (isinstance(before, Ethernet) and before.kind == _SENTINEL_TYPE)
    return last.data.decode(errors="replace") if is_ours else ""


def _sentinel(packet: Packet, tap: str, text: str) -> Sentinel:
    words = text.split(" ")
    window, edge = (words[2], words[3]) if len(words) > 3 else ("", "")
    return Sentinel(packet.number, tap, window, edge, _edge(packet) is not None, packet.time_ns / 1e9)
