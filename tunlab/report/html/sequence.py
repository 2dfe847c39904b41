"""One packet's way as a sequence diagram: a life line per place, an arrow per hop, drawn from what the taps saw."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from tunlab.report.html.markup import Element, h
from tunlab.trace.journey import Hop, Journey, device_of
from tunlab.wire.frames import Frame

_LEFT, _COLUMN, _TOP, _ROW = 70, 190, 44, 46


def diagram(journey: Journey) -> Element:
    """The drawing, and the same in words for whoever cannot see it."""
    ways = [("request", journey.there), ("reply", journey.back), ("ICMP error", journey.errors)]
    hops = [hop for _, way in ways for hop in way]
    places = list(dict.fromkeys(hop.place for hop in hops))
    arrows = [(name, *pair) for name, way in ways for pair in pairwise(way)]
    width, height = _LEFT * 2 + _COLUMN * (len(places) - 1), _TOP + _ROW * (len(arrows) + 1)
    words = [f"{name}: {' → '.join(hop.place for hop in way)}" for name, way in ways if way]
    return h(
        "figure",
        h("figcaption", "; ".join(words)),
        h(
            "div",
            h(
                "svg",
                list(_lines(places, height)),
                [
                    part
                    for row, (name, one, other) in enumerate(arrows)
                    for part in _arrow(journey, name, one, other, places, _TOP + _ROW * (row + 1))
                ],
                viewBox=f"0 0 {width} {height}",
                width=width,
                height=height,
                role="img",
                aria_label="; ".join(words),
            ),
            class_="wide",
            tabindex=0,
        ),
        class_="way",
    )


def _lines(places: Sequence[str], height: int) -> Iterator[Element]:
    for number, place in enumerate(places):
        x = _LEFT + _COLUMN * number
        yield h("line", x1=x, y1=_TOP - 8, x2=x, y2=height - 6, class_="life")
        yield h("text", place, x=x, y=_TOP - 18, class_="place")


def _arrow(journey: Journey, name: str, one: Hop, other: Hop, places: Sequence[str], y: int) -> Iterator[Element]:
    """From a place to the next: what left the one, with the stack it had on the way."""
    begin, end = (_LEFT + _COLUMN * places.index(hop.place) for hop in (one, other))
    step = 6 if end > begin else -6
    kind = "error" if name == "ICMP error" else name
    yield h("path", d=f"M{begin},{y} H{end - step}", class_=f"arrow {kind}")
    yield h("path", d=f"M{end},{y} l{-step * 1.6},-4 v8 z", class_=f"head {kind}")
    left, right = min(begin, end) + 6, min(begin, end) + _COLUMN / 2
    frame = one.last
    yield h("text", _stack(frame), h("title", frame.describe()), x=right, y=y - 6, class_="stack")
    after_ms = 1000 * journey.since_start_s(frame)
    yield h("text", f"at {device_of(frame)} · {after_ms:.2f} ms{_ttl(frame)}", x=left, y=y + 13, class_="note")


def _stack(frame: Frame) -> str:
    """Without the outermost Ethernet header, which every wire has."""
    return frame.stack.removeprefix("eth ") or "data"


def _ttl(frame: Frame) -> str:
    return f" · ttl {'/'.join(str(one.ttl) for one in frame.ips)}" if frame.ips else ""
