"""One packet's way through a lab, put together from what every tap saw of it. Pure: frames in, hops out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tunlab.wire.frames import Frame, Icmp, Icmpv6, Ip, Tcp, Udp

_REQUESTS, _REPLIES = {Icmp: 8, Icmpv6: 128}, {Icmp: 0, Icmpv6: 129}


@dataclass(frozen=True, slots=True)
class Question:
    """What was sent: an echo with this identifier, or a datagram or connection to this port."""

    protocol: str  # icmp, udp or tcp
    mark: int

    def is_request(self, frame: Frame) -> bool:
        """Whether the frame carries the packet itself, whatever it is wrapped in; of a connection, its first."""
        last = frame.last
        if self.protocol == "icmp":
            return isinstance(last, Icmp | Icmpv6) and (last.kind, last.identifier) == (
                _REQUESTS[type(last)],
                self.mark,
            )
        if self.protocol == "udp":
            return isinstance(last, Udp) and last.destination_port == self.mark
        return isinstance(last, Tcp) and last.destination_port == self.mark and last.flags == "S"

    def is_reply(self, frame: Frame) -> bool:
        """Whether it carries the answer to it."""
        last = frame.last
        if self.protocol == "icmp":
            return isinstance(last, Icmp | Icmpv6) and (last.kind, last.identifier) == (_REPLIES[type(last)], self.mark)
        if self.protocol == "udp":
            return isinstance(last, Udp) and last.source_port == self.mark
        return isinstance(last, Tcp) and last.source_port == self.mark and last.flags in ("SA", "RA")

    def is_error(self, frame: Frame) -> bool:
        """Whether it carries an ICMP error that quotes the packet."""
        last = frame.last
        if not isinstance(last, Icmp | Icmpv6) or not last.quoted:
            return False
        for header in last.quoted:
            if isinstance(header, Icmp | Icmpv6) and self.protocol == "icmp" and header.identifier == self.mark:
                return True
            if isinstance(header, Udp | Tcp) and header.word == self.protocol and header.destination_port == self.mark:
                return True
        return False


@dataclass(frozen=True, slots=True)
class Hop:
    """One place on the way, and every sighting there, in order; the first and the last are how it came and went."""

    place: str
    sightings: tuple[Frame, ...]

    @property
    def first(self) -> Frame:
        """How it came, or how it was made."""
        return self.sightings[0]

    @property
    def last(self) -> Frame:
        """How it went, or how it arrived."""
        return self.sightings[-1]

    @property
    def came_by(self) -> str | None:
        """The device it came in by; None where it was made here."""
        return device_of(self.first) if self.first.direction == "in" else None

    @property
    def left_by(self) -> str | None:
        """The device it left by; None where it stayed."""
        return device_of(self.last) if self.last.direction == "out" else None

    @property
    def is_translated(self) -> bool:
        """Whether an address of the two that talk is another one afterwards."""
        return ends_of(self.first) != ends_of(self.last)


@dataclass(frozen=True, slots=True)
class Journey:
    """`there` is the packet's way, `back` the answer's, `errors` that of ICMP errors about it; empty where none was."""

    there: tuple[Hop, ...]
    back: tuple[Hop, ...]
    errors: tuple[Hop, ...]
    begun_s: float

    def since_start_s(self, frame: Frame) -> float:
        """Seconds since the packet was first seen."""
        return frame.time_s - self.begun_s


def journey_of(question: Question, frames: Iterable[Frame]) -> Journey:
    """Sort what was seen into ways and hops, in time order."""
    seen = sorted(frames, key=lambda frame: (frame.time_s, frame.number))
    there = [frame for frame in seen if question.is_request(frame)]
    back = [frame for frame in seen if question.is_reply(frame)]
    errors = [frame for frame in seen if question.is_error(frame)]
    if there and question.protocol != "icmp":  # answers are to this very packet, not to an earlier one
        back = [frame for frame in back if frame.time_s >= there[0].time_s]
    begun_s = there[0].time_s if there else 0.0
    return Journey(hops_of(there), hops_of(back), hops_of(errors), begun_s)


def hops_of(frames: Iterable[Frame]) -> tuple[Hop, ...]:
    """The way of one packet through the sightings of it, which stand in time order; what was seen twice counts once."""
    return _hops(_once(frames))


def _once(frames: Iterable[Frame]) -> list[Frame]:
    """Each tap passes a packet once in each direction; what comes later is a copy sent again."""
    known: set[tuple[str, str, str]] = set()
    kept = []
    for frame in frames:
        key = (frame.tap, frame.direction, frame.stack)
        if key not in known:
            known.add(key)
            kept.append(frame)
    return kept


def _hops(frames: list[Frame]) -> tuple[Hop, ...]:
    hops: list[Hop] = []
    for frame in frames:
        place = place_of(frame)
        if hops and hops[-1].place == place:
            hops[-1] = Hop(place, (*hops[-1].sightings, frame))
        else:
            hops.append(Hop(place, (frame,)))
    return tuple(Hop(hop.place, tuple(sorted(hop.sightings, key=_unwrapping))) for hop in hops)


def _unwrapping(frame: Frame) -> tuple[bool, int]:
    """The order within a place, which clocks are too coarse for: in before out, unwrapped after, wrapped after that."""
    is_out = frame.direction == "out"
    return is_out, len(frame.ips) if is_out else -len(frame.ips)


def place_of(frame: Frame) -> str:
    """The place of the tap that saw it."""
    return frame.tap.partition("/")[0]


def device_of(frame: Frame) -> str:
    """The device of the tap that saw it."""
    return frame.tap.partition("/")[2]


def ends_of(frame: Frame) -> tuple[str, str]:
    """The addresses of the two that talk, tunnelled or not."""
    inner: Ip = frame.innermost
    return inner.source, inner.destination
