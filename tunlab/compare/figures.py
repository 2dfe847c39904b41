"""What was measured, as values: medians with the least and the most, and the document compare.json."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tunlab.lab.topology import Mode

COMPARE, PICTURE, PNG, SCHEMA = "compare.json", "compare.svg", "compare.png", "tunlab/compare/v1"


@dataclass(frozen=True, slots=True)
class Measure:
    """One thing that is measured: its key in compare.json, what a reader calls it, and whether more is better.

    A reading divided by `unit` is what tables and pictures show, with so many digits behind the point.
    """

    key: str
    title: str
    more_is_better: bool
    unit: float = 1.0
    digits: int = 0

    def show(self, value: float) -> str:
        """A reading as people read it."""
        return f"{value / self.unit:,.{self.digits}f}"


MEASURES = (
    Measure("tcp_bit_per_s", "TCP, Mbit/s", True, 1e6),
    Measure("udp_bit_per_s", "UDP, Mbit/s", True, 1e6),
    Measure("packets_per_s", "small packets, 1,000/s", True, 1e3, 1),
    Measure("latency_median_s", "round trip, median, µs", False, 1e-6),
    Measure("latency_p99_s", "round trip, 99 %, µs", False, 1e-6),
    Measure("cpu_s_per_byte", "CPU, ns per byte of TCP", False, 1e-9, 2),
)


@dataclass(frozen=True, slots=True)
class Headers:
    """One datagram between the pods as it crossed the first wire: its headers, outermost first, and its bytes."""

    stack: str
    payload_bytes: int
    frame_bytes: int

    @property
    def header_bytes(self) -> int:
        """What was on the wire beside the payload."""
        return self.frame_bytes - self.payload_bytes


@dataclass(frozen=True, slots=True)
class Spread:
    """Several readings of one measure."""

    readings: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.readings)

    @property
    def least(self) -> float:
        return min(self.readings)

    @property
    def most(self) -> float:
        return max(self.readings)

    def to_json(self) -> dict[str, Any]:
        """For compare.json."""
        return {"median": self.median, "least": self.least, "most": self.most, "readings": list(self.readings)}


@dataclass(frozen=True)
class Contender:
    """One mode: what its pods may send, its headers on the wire, and the spread of every measure by key."""

    mode: Mode
    mtu_bytes: int
    headers: Headers
    spreads: Mapping[str, Spread]

    @classmethod
    def of(cls, mode: Mode, mtu_bytes: int, headers: Headers, rounds: Sequence[Mapping[str, float]]) -> Contender:
        """From one mapping of readings per round."""
        spreads = {each.key: Spread(tuple(one[each.key] for one in rounds)) for each in MEASURES}
        return cls(mode, mtu_bytes, headers, spreads)


@dataclass(frozen=True)
class Ground:
    """Where and how it was measured; `says` tells a reader what that does to the figures."""

    lab: str
    system: str
    source: str
    target: str
    box: str
    why_box: str
    kernel: str
    cpus: int
    load: float
    congestion_control: str
    iperf3: str
    seconds: int
    runs: int
    says: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """The whole: the ground, and every mode in the order in which it was asked for."""

    started: str
    ground: Ground
    contenders: tuple[Contender, ...]

    def best(self, measure: Measure) -> Contender:
        """The mode whose median is best."""
        pick = max if measure.more_is_better else min
        return pick(self.contenders, key=lambda one: one.spreads[measure.key].median)

    def rounds_won(self, one: Contender, measure: Measure) -> int:
        """In how many rounds no other mode was better than this one."""
        better = max if measure.more_is_better else min
        columns = zip(*(each.spreads[measure.key].readings for each in self.contenders), strict=True)
        own = one.spreads[measure.key].readings
        return sum(better(column) == reading for column, reading in zip(columns, own, strict=True))

    def to_json(self) -> dict[str, Any]:
        """The document compare.json; its schema is docs/compare.schema.json. Seconds, bits and bytes throughout."""
        return {
            "schema": SCHEMA,
            "started": self.started,
            **asdict(self.ground),
            "says": list(self.ground.says),
            "modes": {one.mode: _contender(one) for one in self.contenders},
        }


def _contender(one: Contender) -> dict[str, Any]:
    headers = one.headers
    return {
        "mtu_bytes": one.mtu_bytes,
        "stack": headers.stack,
        "payload_bytes": headers.payload_bytes,
        "frame_bytes": headers.frame_bytes,
        "header_bytes": headers.header_bytes,
        **{key: spread.to_json() for key, spread in one.spreads.items()},
    }
