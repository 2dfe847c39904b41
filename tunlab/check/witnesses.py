"""What watches a lab while something is done to it: a steady ping that counts losses, a monitor of kernel changes."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tunlab.box.box import Box
from tunlab.errors import WorldError
from tunlab.wait import eventually

_WITNESS = "198.51.100.254"  # TEST-NET-2: no lab routes it
_ANSWER = re.compile(r"^\[([0-9.]+)\] .*icmp_seq=([0-9]+) .*time=")
_SUMMARY = re.compile(r"^([0-9]+) packets transmitted, ([0-9]+) received", re.MULTILINE)
_TAIL_S = 0.5  # what was sent so shortly before the end may still be on its way


@dataclass
class Flow:
    """What became of a steady ping: packets sent and lost, and the longest time without an answer, in seconds."""

    sent: int = 0
    lost: int = 0
    longest_gap_s: float = 0.0

    def check(self, *, at_most_lost: float) -> None:
        """At most this share of the packets was lost. Raises AssertionError, and WorldError where none was sent."""
        if not self.sent:
            raise WorldError("steady ping: nothing was sent, so nothing can have been lost")
        share = self.lost / self.sent
        assert share <= at_most_lost, f"{self}: {share:.1%}, at most {at_most_lost:.0%} wanted"

    def __str__(self) -> str:
        return f"{self.lost} of {self.sent} packets lost, at most {self.longest_gap_s:.2f} s without an answer"


@dataclass
class Changes:
    """The lines that a monitor printed."""

    lines: list[str] = field(default_factory=list)


@contextmanager
def flowing(box: Box, source: str, address: str, every_s: float, log: str) -> Iterator[Flow]:
    """Ping all the while, from before the block (the first answers are there) to its end. Like: ping -i 0.02 ADDRESS

    Raises SystemFault where no answer comes before anything was done, and WorldError where the ping itself fails.
    """
    argv = ["stdbuf", "-oL", "ping", "-n", "-D", "-i", f"{every_s:g}", address]
    pid = box.spawn(source, argv, log=log)
    path, flow = box.run_dir / log, Flow()
    try:
        eventually(
            lambda: _answers(path),
            lambda seen: len(seen) >= 3,
            within_s=10.0,
            what=f"{source} → {address}: the steady ping is answered",
            slowness=box.slowness,
        )
        yield flow
    finally:
        box.signal(source, pid, "INT")
        _ended(box, source, pid)
    _conclude(flow, path, every_s)


def _conclude(flow: Flow, path: Path, every_s: float) -> None:
    text, answers = path.read_text(errors="replace"), _answers(path)
    summary = _SUMMARY.search(text)
    if summary is None:
        raise WorldError(f"ping: {text.strip().splitlines()[-1:]}: has no summary")
    flow.sent = int(summary[1])
    arrived = {sequence for _, sequence in answers}
    unsettled = math.ceil(_TAIL_S / every_s)
    last = max(*arrived, flow.sent - unsettled)
    flow.lost = last - len([sequence for sequence in arrived if sequence <= last])
    times = [moment for moment, _ in answers]
    silent_end_s = max(0.0, (last - max(arrived)) * every_s)
    flow.longest_gap_s = max([silent_end_s, *(later - sooner for sooner, later in itertools.pairwise(times))])


def _answers(path: Path) -> list[tuple[float, int]]:
    """When each answer came, and to which packet."""
    found = (_ANSWER.match(line) for line in path.read_text(errors="replace").splitlines()) if path.exists() else ()
    return [(float(match[1]), int(match[2])) for match in found if match]


@contextmanager
def monitored(box: Box, place: str, objects: Sequence[str], log: str) -> Iterator[Changes]:
    """What `ip monitor` says of these objects (route, neigh, link, address) during the block.

    A route of its own before and after shows that it was listening. Raises WorldError where that is not seen.
    """
    pid = box.spawn(place, ["stdbuf", "-oL", "ip", "-o", "monitor", *dict.fromkeys([*objects, "route"])], log=log)
    path = box.run_dir / log
    changes = Changes()
    begun = _bear_witness(box, place, path, 0)
    try:
        yield changes
        _bear_witness(box, place, path, begun)
    finally:
        box.signal(place, pid, "TERM")
        _ended(box, place, pid)
    lines = path.read_text(errors="replace").splitlines()
    changes.lines += [line for line in lines if _WITNESS not in line]


def _bear_witness(box: Box, place: str, path: Path, already: int) -> int:
    """Make and delete a route until the monitor tells of it; how many such lines there are now."""

    def told() -> int:
        for verb in ("add", "del"):
            box.run(place, ["ip", "route", verb, "blackhole", _WITNESS, "metric", "4242"], check=False)
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        return sum(_WITNESS in line for line in lines)

    return eventually(
        told,
        lambda count: count > already,
        within_s=10.0,
        what=f"{place}: ip monitor tells of a route that was just made",
        blame="lab",
        slowness=box.slowness,
    )


def _ended(box: Box, place: str, pid: int) -> None:
    eventually(
        lambda: box.exit_code(place, pid),
        lambda code: code is not None,
        within_s=10.0,
        what=f"{place}: process {pid} ends",
        blame="lab",
        slowness=box.slowness,
    )
