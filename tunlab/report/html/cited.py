"""What a reason says word for word: which frame, which of its fields, what was seen and what was wanted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields

from tunlab.wire.frames import Frame, Header, Ipv4, Ipv6

_CITED = re.compile(
    r"(?P<file>[^\s/]+\.pcapng) frame (?P<number>\d+) on (?P<tap>\S+): "
    r"(?:(?P<field>[a-z_0-9]+(?:\.[a-z_0-9]+)?): )?(?P<rest>.*)"
)
_BESIDE = re.compile(r"(?:(?P<what>.*): )?seen (?P<seen>.*?),? wanted (?P<wanted>.*)")


@dataclass(frozen=True)
class Beside:
    """What was wanted beside what was seen; `field` as suites write it, such as outer.ttl, "" where none is named."""

    field: str
    seen: str
    wanted: str
    is_met: bool = False


@dataclass(frozen=True)
class Cited:
    """A frame of a capture that a reason points at, and the comparison that went wrong, where it tells one."""

    file: str
    number: int
    beside: Beside | None


def cited_in(reason: str) -> Cited | None:
    """The first frame that a reason names."""
    for line in reason.splitlines():
        if found := _CITED.search(line):
            told = _BESIDE.fullmatch(found["rest"])
            beside = Beside(found["field"] or "", told["seen"], told["wanted"]) if told else None
            return Cited(found["file"], int(found["number"]), beside)
    return None


def beside_in(reason: str) -> Beside | None:
    """What the first line says was seen and wanted, whatever it is about."""
    told = _BESIDE.search(reason.splitlines()[0]) if reason else None
    return Beside("", told["seen"], told["wanted"]) if told else None


def header_of(frame: Frame, field: str) -> int | None:
    """The place in its stack of the header that a field names; None for the whole frame, or where it has no such."""
    owner, dot, _ = field.partition(".")
    if not dot:
        return None
    ips = [number for number, one in enumerate(frame.headers) if isinstance(one, Ipv4 | Ipv6)]
    words = [header.word for header in frame.headers]
    known = {
        "outer": ips[:1],
        "inner": ips[-1:] if len(ips) > 1 else [],
        "innermost": ips[-1:],
        "last": [number for number, word in enumerate(words) if word][-1:],
        "ethernet": [number for number, word in enumerate(words) if word == "eth"][:1],
        "inner_ethernet": [number for number, word in enumerate(words) if word == "eth"][1:2],
    }
    found = known.get(owner, [number for number, word in enumerate(words) if word == owner][:1])
    return found[0] if found else None


def fields_of(header: Header) -> Iterator[tuple[str, str]]:
    """A header's fields for people; what it does not have is left out."""
    for field in fields(header):
        value = getattr(header, field.name)
        if value is None or field.name == "quoted":
            continue
        if isinstance(value, bytes):
            value = value[:16].hex() + ("…" if len(value) > 16 else "")
        elif (
            field.name in ("kind", "flags", "checksum")
            and isinstance(value, int)
            and header.word in ("eth", "udp", "vxlan")
        ):
            value = f"{value:#06x}"
        elif isinstance(value, bool):
            value = "yes" if value else "no"
        yield field.name.replace("_", " "), str(value)
