"""A trace as one self-contained SVG: a column of places, and beside each the headers as nested boxes."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from tunlab.layout import svg_page
from tunlab.trace.journey import Hop
from tunlab.trace.text import through, title, ways
from tunlab.trace.tracing import Trace
from tunlab.wire.frames import Frame, Header

_MARGIN, _ROW, _BOX, _LETTER = 24, 92, 30, 6.9
_HEADERS_AT = _MARGIN + 270
_COLOURS = {
    "eth": "#dbe4ee", "arp": "#dbe4ee", "ip": "#cfe8cf", "ipv6": "#cfe8cf", "udp": "#fde8c4", "tcp": "#fde8c4",
    "vxlan": "#f6cfd6", "icmp": "#e6d8f2", "icmpv6": "#e6d8f2",
}  # fmt: skip
_STYLE = """svg{max-width:100%;height:auto}.h{font-weight:600}.d{font-size:11px;fill:#55606c}
.m{font:11px ui-monospace,monospace}.bad{fill:#a4161a}.line{stroke:#8a97a5;stroke-width:1.5;fill:none}
.node{fill:#f4f6f8;stroke:#8a97a5}.gone{fill:#fdecec;stroke:#a4161a}
@media (prefers-color-scheme:dark){.d{fill:#a6b1bd}.node{fill:#222a33}
.head text{fill:#1c2733}.bad{fill:#ff8a8a}.gone{fill:#3a1d20}}"""


def draw(trace: Trace) -> str:
    """The whole picture; everything that came from names and packets is escaped."""
    body: list[str] = [f'<text class="h" x="{_MARGIN}" y="{_MARGIN + 8}">{escape(title(trace))}</text>']
    y = _MARGIN + 34
    for name, hops in ways(trace):
        body.append(f'<text class="h" x="{_MARGIN}" y="{y + 6}">{escape(name)}</text>')
        y += 18
        for hop in hops:
            if hop.place in trace.segments:
                continue
            is_last = trace.death is not None and hop.place == trace.death.place and hop is hops[-1]
            body += _row(trace, hop, y, is_gone=is_last)
            y += _ROW
            body.append(f'<path class="line" d="M{_MARGIN + 80},{y - 22} v18"/>' if hop is not hops[-1] else "")
    colour = "h bad" if trace.death else "h"
    body.append(f'<text class="{colour}" x="{_MARGIN}" y="{y + 8}">{escape(_end(trace))}</text>')
    if trace.death is not None:
        body.append(f'<text x="{_MARGIN}" y="{y + 28}">what would help: {escape(trace.death.remedy)}</text>')
    height = y + 44
    frames = [frame for _, hops in ways(trace) for hop in hops for frame in (hop.first, hop.last)]
    width = max([600, *(_HEADERS_AT + _MARGIN + sum(each for _, _, each in _boxes(frame)) for frame in frames)])
    return svg_page(width, height, title(trace), _STYLE, body)


def _row(trace: Trace, hop: Hop, y: int, *, is_gone: bool) -> Iterator[str]:
    after_ms = 1000 * trace.journey.since_start_s(hop.first)
    yield f'<rect class="{"gone" if is_gone else "node"}" x="{_MARGIN}" y="{y}" width="250" height="70" rx="6"/>'
    yield f'<text class="h" x="{_MARGIN + 10}" y="{y + 20}">{escape(hop.place)}</text>'
    yield f'<text class="d" x="{_MARGIN + 10}" y="{y + 38}">{escape(_short(through(hop), 42))}</text>'
    yield f'<text class="d" x="{_MARGIN + 10}" y="{y + 56}">ttl {hop.last.outer.ttl}, {after_ms:.3f} ms</text>'
    frames = [hop.first] if hop.first.headers == hop.last.headers else [hop.first, hop.last]
    for number, frame in enumerate(frames):
        yield from _headers(frame, _HEADERS_AT, y + number * 36)


def _headers(frame: Frame, x: int, y: int) -> Iterator[str]:
    """Outermost on the left, each header a box; its addresses or ports are its title."""
    for header, detail, width in _boxes(frame):
        colour = _COLOURS.get(header.word, "#e5e5e5")
        yield f'<g class="head"><title>{escape(str(header))}</title>'
        yield f'<rect x="{x}" y="{y}" width="{width - 4}" height="{_BOX}" rx="4" fill="{colour}" stroke="#8a97a5"/>'
        yield f'<text class="m" x="{x + 6}" y="{y + 12}">{escape(header.word)}</text>'
        yield f'<text class="m" x="{x + 6}" y="{y + 25}">{escape(detail)}</text></g>'
        x += width


def _boxes(frame: Frame) -> list[tuple[Header, str, int]]:
    """Each header that has a word, what its box says, and the box's width with the gap behind it."""
    told = [(header, _detail(str(header), header.word)) for header in frame.headers if header.word]
    return [(header, detail, round(18 + _LETTER * max(len(header.word), len(detail)))) for header, detail in told]


def _detail(text: str, word: str) -> str:
    rest = text.removeprefix(word).strip()
    if word == "eth":
        source, _, target = rest.partition(" > ")
        return f"…{source[-5:]}>…{target[12:17]}"
    if word in ("ip", "ipv6"):
        return rest.split(" ttl ")[0].split(" hop limit")[0].replace(" > ", ">")
    return _short(rest, 22)


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _end(trace: Trace) -> str:
    if trace.death is not None:
        return str(trace.death)
    by = trace.result.get("by") or trace.packet.address
    return f"{trace.result['outcome']} by {by} in {1000 * float(trace.result['rtt_s']):.2f} ms"
