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
from itertools import islice, permutations
from pathlib import Path

from tunlab.errors import WorldError
from tunlab.trace.journey import Journey, Question, ends_of, journey_of
from tunlab.wire.by_scapy import read_headers
from tunlab.wire.frames import Frame, Icmp, Icmpv6, Tcp, Udp
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
        """Where the packet went that this frame belongs to: an echo, a datagram, the opening of a connection."""
        last = frame.last if frame.headers else None
        if isinstance(last, Icmp | Icmpv6) and last.identifier is not None and last.sequence is not None:
            return self._way(last.identifier, last.sequence)
        if isinstance(last, Udp | Tcp) and frame.ips and last.source_port != last.destination_port:
            return self._way_between(last.word, {last.source_port, last.destination_port}, set(ends_of(frame)))
        return None

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
        frames = islice(self._with_echo(identifier, sequence), _MOST_FRAMES)
        way = journey_of(Question("icmp", identifier), frames)
        return way if way.there else None

    def _way_between(self, word: str, ports: set[int], ends: set[str]) -> Journey | None:
        """That of the datagrams between two ports; who spoke first asked. Translation leaves one of the ends."""
        found = (
            frame
            for frame in self._holding(*(struct.pack(">HH", *pair) for pair in permutations(ports)))
            if frame.ips and (_quotes(frame) or (_ports(frame, word) == ports and ends & set(ends_of(frame))))
        )
        frames = list(islice(found, _MOST_FRAMES))
        first = min((one for one in frames if not _quotes(one)), key=lambda one: (one.time_s, one.number), default=None)
        if first is None or not isinstance(first.last, Udp | Tcp):
            return None
        way = journey_of(Question(word, first.last.destination_port), frames)
        return way if way.there else None

    def _with_echo(self, identifier: int, sequence: int) -> Iterator[Frame]:
        for frame in self._holding(struct.pack(">HH", identifier, sequence)):
            last = frame.last
            if isinstance(last, Icmp | Icmpv6) and (
                last.quoted or (last.identifier, last.sequence) == (identifier, sequence)
            ):
                yield frame

    def _holding(self, *marks: bytes) -> Iterator[Frame]:
        """The frames with one of these bytes in them, decoded."""
        assert self.contents is not None
        found = (one for one in self.contents.packets if any(mark in one.data for mark in marks))
        decoded = (_decoded(self.contents, one) for one in found)
        return (frame for frame in decoded if frame is not None and frame.stack)


def _quotes(frame: Frame) -> bool:
    return isinstance(frame.last, Icmp | Icmpv6) and bool(frame.last.quoted)


def _ports(frame: Frame, word: str) -> set[int]:
    last = frame.last
    return {last.source_port, last.destination_port} if isinstance(last, Udp | Tcp) and last.word == word else set()


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
