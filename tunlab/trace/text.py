"""A trace for people at a terminal, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.markup import escape

from tunlab.trace.journey import Hop, device_of
from tunlab.trace.tracing import Trace
from tunlab.wire.frames import Frame

SCHEMA = "tunlab/trace/v1"


def print_trace(trace: Trace, console: Console) -> None:
    """Every hop with its devices, headers and decisions; how it ended last."""
    console.print(f"[bold]{escape(title(trace))}[/bold]", soft_wrap=True, highlight=False)
    for name, hops in ways(trace):
        console.print(f"\n[bold]{name}[/bold]")
        for number, hop in enumerate(hops, start=1):
            for line in _lines(trace, number, hop):
                console.print(line, soft_wrap=True, highlight=False)
    console.print()
    console.print(ending(trace), soft_wrap=True, highlight=False)


def ways(trace: Trace) -> list[tuple[str, tuple[Hop, ...]]]:
    """The ways that there were, with what they are called."""
    journey = trace.journey
    named = (("there", journey.there), ("back", journey.back), ("ICMP error", journey.errors))
    return [(name, hops) for name, hops in named if hops]


def title(trace: Trace) -> str:
    """What was sent, in one line."""
    sent = trace.packet
    return f"{sent.source} → {sent.target} ({sent.address})  {sent.protocol}, {sent.size_bytes} bytes of payload"


def ending(trace: Trace) -> str:
    """How it ended, for a rich console."""
    if trace.death is not None:
        return f"[red]{escape(str(trace.death))}[/red]\n  what would help: {escape(trace.death.remedy)}"
    by = trace.result.get("by") or trace.packet.address
    how = "answered" if trace.result["outcome"] == "answered" else "refused, as nobody listens there,"
    return f"[green]{how} by {escape(str(by))} in {1000 * float(trace.result['rtt_s']):.2f} ms[/green]"


def through(hop: Hop) -> str:
    """The devices of a hop, in order."""
    devices: list[str] = []
    for frame in hop.sightings:
        if not devices or devices[-1] != device_of(frame):
            devices.append(device_of(frame))
    return " → ".join(devices)


def _lines(trace: Trace, number: int, hop: Hop) -> Iterator[str]:
    after_ms = 1000 * trace.journey.since_start_s(hop.first)
    mtu = trace.mtu_bytes.get(hop.place, {}).get(hop.left_by or hop.came_by or "")
    facts = [f"ttl {hop.last.outer.ttl}", *([f"mtu {mtu}"] if mtu else []), f"{after_ms:.3f} ms"]
    kind = " (segment)" if hop.place in trace.segments else ""
    place = f"[cyan]{escape(hop.place)}[/cyan]{kind}"
    yield f"{number:3} {place}  {escape(through(hop))}  [dim]{', '.join(facts)}[/dim]"
    stacks = [hop.first] if hop.first.headers == hop.last.headers else [hop.first, hop.last]
    for frame in stacks if hop.place not in trace.segments else []:
        yield f"      {escape(frame.direction or '-'):3} {escape(_headers(frame))}"
    for decision in trace.decisions.get(hop, ()):
        colour = "red" if decision.what == "dropped by rule" else "dim"
        if decision.is_decisive:
            says = f"{decision.what}: {decision.says}   # {decision.command}"
            yield f"      [{colour}]{escape(says)}[/{colour}]"


def _headers(frame: Frame) -> str:
    return " | ".join(str(header) for header in frame.headers if header.word)


def as_json(trace: Trace) -> dict[str, Any]:
    """The whole trace as data."""
    return {
        "schema": SCHEMA,
        "source": trace.packet.source,
        "target": trace.packet.target,
        "address": trace.packet.address,
        "protocol": trace.packet.protocol,
        "size_bytes": trace.packet.size_bytes,
        "outcome": trace.result["outcome"],
        "answered_by": trace.result.get("by"),
        "rtt_s": trace.result.get("rtt_s"),
        "ways": {name: [_hop(trace, hop) for hop in hops] for name, hops in ways(trace)},
        "death": None
        if trace.death is None
        else {
            "place": trace.death.place,
            "device": trace.death.device,
            "why": trace.death.why,
            "remedy": trace.death.remedy,
            "is_answer": trace.death.is_answer,
        },
    }


def _hop(trace: Trace, hop: Hop) -> dict[str, Any]:
    return {
        "place": hop.place,
        "came_by": hop.came_by,
        "left_by": hop.left_by,
        "mtu_bytes": trace.mtu_bytes.get(hop.place, {}).get(hop.left_by or hop.came_by or ""),
        "sightings": [
            {
                "device": device_of(frame),
                "direction": frame.direction,
                "since_start_s": round(trace.journey.since_start_s(frame), 9),
                "ttl": frame.outer.ttl,
                "stack": frame.stack,
                "headers": [str(header) for header in frame.headers if header.word],
            }
            for frame in hop.sightings
        ],
        "decisions": [
            {"what": one.what, "says": one.says, "command": one.command} for one in trace.decisions.get(hop, ())
        ],
    }
