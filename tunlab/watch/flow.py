"""Frames of many taps put together to packets on their way. Pure: frames and a clock in, what viewers are told out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tunlab.trace.journey import Hop, device_of, hops_of
from tunlab.wire.frames import Arp, Frame, Header, Icmp, Icmpv6, Tcp, Udp

QUIET_S = 0.25  # a packet that no tap has told of for so long has come to its end
_LONGEST_S = 2.0
_MOST_OPEN = 200
_BGP = 179

Key = tuple[object, ...]


def key_of(frame: Frame) -> Key | None:
    """What is the same of a packet wherever it is seen, wrapped or not, translated or not; None: nothing to go by."""
    last = frame.last if any(header.word for header in frame.headers) else None
    identification = getattr(frame.innermost, "identification", None) if frame.ips else None
    match last:
        case Arp():
            return ("arp", last.operation, last.sender_ip, last.target_ip)
        case Icmp() | Icmpv6():
            number = (last.identifier, last.sequence) if last.identifier is not None else identification
            return (last.word, last.kind, last.code, number, str(last.quoted))
        case Tcp():
            return ("tcp", last.source_port, last.destination_port, last.flags, last.sequence, last.payload_bytes)
        case Udp():
            return ("udp", last.source_port, last.destination_port, last.length, identification)
    if not frame.ips:
        return None
    inner = frame.innermost
    return ("ip", inner.source, inner.destination, inner.protocol, identification, getattr(inner, "fragment_offset", 0))


@dataclass(slots=True)
class _Open:
    """A packet that may still go on."""

    frames: list[Frame]
    began_s: float
    touched_s: float


class Flow:
    """Packets as they come together; times are the caller's own clock's."""

    def __init__(self) -> None:
        self._open: dict[Key, _Open] = {}
        self._done: list[list[Frame]] = []

    def take(self, frame: Frame, now_s: float) -> None:
        """One more sighting."""
        key = key_of(frame)
        if key is None:
            return
        known = self._open.get(key)
        if known is not None and any(_same_sighting(each, frame) for each in known.frames):
            self._done.append(self._open.pop(key).frames)  # it was sent again
            known = None
        if known is None:
            if len(self._open) >= _MOST_OPEN:
                self._done.append(self._open.pop(next(iter(self._open))).frames)
            known = self._open[key] = _Open([], now_s, now_s)
        known.frames.append(frame)
        known.touched_s = now_s

    def finished(self, now_s: float) -> list[list[Frame]]:
        """The packets that have come to their end since the last call, oldest first, each in time order."""
        ended = [
            key
            for key, each in self._open.items()
            if now_s - each.touched_s >= QUIET_S or now_s - each.began_s >= _LONGEST_S
        ]
        done, self._done = self._done + [self._open.pop(key).frames for key in ended], []
        return [sorted(frames, key=lambda frame: frame.time_s) for frames in done]


def _same_sighting(one: Frame, other: Frame) -> bool:
    return (one.tap, one.direction, one.stack) == (other.tap, other.direction, other.stack)


# ------------------------------------------------------------------ what viewers are told
def told_frame(frame: Frame, begun_s: float, pods: Mapping[str, str]) -> dict[str, Any]:
    """One line of the list of frames."""
    return {
        "number": frame.number,
        "since_start_s": round(frame.time_s - begun_s, 6),
        "tap": frame.tap,
        "direction": frame.direction,
        "subject": subject_of(frame, pods),
        "stack": frame.stack,
        "headers": [str(header) for header in frame.headers if header.word],
    }


def told_packet(frames: Iterable[Frame], pods: Mapping[str, str]) -> dict[str, Any]:
    """A packet and its way; `pods` are names by address. Hops and sightings read as those of `./lab trace --json`."""
    hops = hops_of(frames)
    first = hops[0].first
    return {
        "title": title_of(first, pods),
        "subject": subject_of(first, pods),
        "hops": [_told_hop(hop, first.time_s) for hop in hops],
    }


def _told_hop(hop: Hop, begun_s: float) -> dict[str, Any]:
    sightings = [
        {
            "device": device_of(frame),
            "direction": frame.direction,
            "since_start_s": round(frame.time_s - begun_s, 6),
            "stack": frame.stack,
            "headers": [str(header) for header in frame.headers if header.word],
        }
        for frame in hop.sightings
    ]
    return {"place": hop.place, "came_by": hop.came_by, "left_by": hop.left_by, "sightings": sightings, "decisions": []}


def title_of(frame: Frame, pods: Mapping[str, str]) -> str:
    """A packet in a few words: who to whom, and its last header."""
    if not frame.ips:
        return str(frame.last)
    inner = frame.innermost
    source, target = (pods.get(address, address) for address in (inner.source, inner.destination))
    return f"{source} → {target}  {frame.last if frame.last is not inner else f'protocol {inner.protocol}'}"


def subject_of(frame: Frame, pods: Mapping[str, str]) -> str:
    """What the packet is for: pods, arp, bgp, or other."""
    if any(address in pods for ip in frame.ips for address in (ip.source, ip.destination)):
        return "pods"
    last: Header | None = frame.last if any(header.word for header in frame.headers) else None
    if isinstance(last, Arp):
        return "arp"
    if isinstance(last, Tcp) and _BGP in (last.source_port, last.destination_port):
        return "bgp"
    return "other"


def without_checksums(headers: tuple[Header, ...]) -> tuple[Header, ...]:
    """The headers of a frame of which only the beginning is there: no checksum over the whole can be judged."""
    return tuple(
        replace(header, checksum_ok=None) if isinstance(header, Tcp | Udp | Icmp | Icmpv6) else header
        for header in headers
    )
