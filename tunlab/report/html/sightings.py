"""What the captures of a run hold that is worth a picture: the frame a verdict names, and one packet's whole way.

A file has thousands of frames and a picture needs twenty: the bytes are searched first, and only what is found is
decoded, by scapy alone (the judge has already had both decoders agree).
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tunlab.errors import WorldError
from tunlab.trace.journey import Journey, Question, journey_of
from tunlab.wire.by_scapy import read_headers
from tunlab.wire.frames import Frame, Icmp
from tunlab.wire.pcapng import ETHERNET, FileContents, Packet, read_file

_VXLAN_PORTS = (4789, 8472)
_IPV4, _ICMP, _REQUEST, _REPLY = 0x0800, 1, 8, 0
_MOST_FRAMES = 64  # of one packet's way; more is a flood, and no picture of it helps


@dataclass(frozen=True)
class CaptureFile:
    """One capture of the run. `complaint` says why it cannot be read; then it holds nothing."""

    path: Path
    complaint: str = ""
    contents: FileContents | None = None

    @property
    def taps(self) -> tuple[str, ...]:
        """Where it looked."""
        return tuple(dict.fromkeys(one.name for one in self.contents.interfaces)) if self.contents else ()

    @property
    def count(self) -> int:
        """How many packets it holds."""
        return len(self.contents.packets) if self.contents else 0

    def frame(self, number: int) -> Frame | None:
        """The frame that Wireshark calls so; None where there is none, or where it cannot be decoded."""
        if self.contents is None or not 0 < number <= self.count:
            return None
        return _decoded(self.contents, self.contents.packets[number - 1])

    def way_of(self, frame: Frame) -> Journey | None:
        """Where the echo went that this frame belongs to; None where it is of none."""
        last = frame.last if frame.headers else None
        if not isinstance(last, Icmp) or last.identifier is None or last.sequence is None:
            return None
        return self._way(last.identifier, last.sequence)

    @cached_property
    def longest_way(self) -> Journey | None:
        """That of the echo which most taps have seen, answers included; None where there was no echo."""
        seen: Counter[tuple[int, int]] = Counter()
        if self.contents is not None:
            known = set()
            for packet in self.contents.packets:
                echo = _echo(packet, self.contents.interfaces[packet.interface].link_type)
                if echo is not None and (packet.interface, *echo) not in known:
                    known.add((packet.interface, *echo))
                    seen[echo[1:]] += 1
        return self._way(*max(seen, key=lambda one: seen[one])) if seen else None

    def _way(self, identifier: int, sequence: int) -> Journey | None:
        found = journey_of(Question("icmp", identifier), self._with_echo(identifier, sequence))
        return found if found.there else None

    def _with_echo(self, identifier: int, sequence: int) -> Iterator[Frame]:
        assert self.contents is not None
        mark, count = struct.pack(">HH", identifier, sequence), 0
        for packet in self.contents.packets:
            if mark in packet.data and count < _MOST_FRAMES:
                frame = _decoded(self.contents, packet)
                last = frame.last if frame is not None and frame.stack else None
                is_it = isinstance(last, Icmp) and (
                    last.quoted or (last.identifier, last.sequence) == (identifier, sequence)
                )
                if frame is not None and is_it:
                    count += 1
                    yield frame


def open_capture(path: Path) -> CaptureFile:
    """Read a capture; one that is broken or gone says so in its place."""
    try:
        return CaptureFile(path, contents=read_file(path))
    except WorldError as error:
        return CaptureFile(path, complaint=str(error).splitlines()[0])


def _decoded(contents: FileContents, packet: Packet) -> Frame | None:
    interface = contents.interfaces[packet.interface]
    try:
        headers = read_headers(interface.link_type, packet.data, _VXLAN_PORTS)
    except struct.error:
        return None
    return Frame(packet.number, packet.time_ns / 1e9, interface.name, packet.direction, "", headers, contents.path.name)


def _echo(packet: Packet, link_type: int) -> tuple[int, int, int] | None:
    """(type, identifier, sequence) of an ICMP echo that is wrapped in nothing, by its bytes alone."""
    data, at = packet.data, 14 if link_type == ETHERNET else 0
    if len(data) < at + 28 or (at and int.from_bytes(data[12:14]) != _IPV4):
        return None
    length = (data[at] & 15) * 4
    kind = data[at + length] if len(data) >= at + length + 8 else -1
    if data[at] >> 4 != 4 or data[at + 9] != _ICMP or kind not in (_REQUEST, _REPLY):
        return None
    identifier, sequence = struct.unpack_from(">HH", data, at + length + 4)
    return kind, identifier, sequence
