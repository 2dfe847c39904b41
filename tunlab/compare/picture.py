"""A comparison as one self-contained SVG: a panel per measure, a bar per mode, a line from the least to the most."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from tunlab.compare.figures import MEASURES, Comparison, Measure
from tunlab.layout import svg_page

_MARGIN, _PANEL, _GAP, _BAR, _LABEL, _VALUE = 24, 400, 24, 24, 132, 70
_COLOURS = {
    "none": "#5b9a68",
    "ipip": "#4f81b5",
    "ipip-crosssubnet": "#8fb0d3",
    "vxlan": "#c9733d",
    "vxlan-crosssubnet": "#dfa98a",
}
_STYLE = """.h{font-weight:600}.d{font-size:11px;fill:#55606c}
.w{stroke:#1c2733;stroke-width:1.5;fill:none}
@media (prefers-color-scheme:dark){.d{fill:#a6b1bd}.w{stroke:#e8edf2}}"""
_LINE_LETTERS = 128


def draw(told: Comparison) -> str:
    """The whole picture; everything that came from outside is escaped."""
    ground = told.ground
    title = f"{ground.source} → {ground.target} in {ground.lab}, {ground.system}: {ground.runs} rounds in turns"
    panels = [*(list(_panel(told, each)) for each in MEASURES), list(_headers(told))]
    height_each = 34 + len(told.contenders) * (_BAR + 6) + _GAP
    body = [f'<text class="h" x="{_MARGIN}" y="{_MARGIN + 8}">{escape(title)}</text>']
    for number, panel in enumerate(panels):
        x, y = _MARGIN + number % 2 * (_PANEL + _GAP), _MARGIN + 30 + number // 2 * height_each
        body.append(f'<g transform="translate({x},{y})">{"".join(panel)}</g>')
    y = _MARGIN + 30 + (len(panels) + 1) // 2 * height_each
    lines = [line for says in ground.says for line in _folded(says)]
    for number, line in enumerate(lines):
        body.append(f'<text class="d" x="{_MARGIN}" y="{y + number * 15}">{escape(line)}</text>')
    width, height = 2 * _MARGIN + 2 * _PANEL + _GAP, y + len(lines) * 15 + _MARGIN - 8
    return svg_page(width, height, title, _STYLE, body)


def _panel(told: Comparison, measure: Measure) -> Iterator[str]:
    better = "more" if measure.more_is_better else "less"
    yield f'<text class="h" y="14">{escape(measure.title)}<tspan class="d" dx="8">{better} is better</tspan></text>'
    spreads = [(one.mode, one.spreads[measure.key]) for one in told.contenders]
    scale = (_PANEL - _LABEL - _VALUE) / (max(spread.most for _, spread in spreads) or 1.0)
    for number, (mode, spread) in enumerate(spreads):
        y = 28 + number * (_BAR + 6)
        yield from _bar(mode, y, spread.median * scale, measure.show(spread.median), spread.most * scale)
        left, right, middle = _LABEL + spread.least * scale, _LABEL + spread.most * scale, y + _BAR / 2
        yield (
            f'<path class="w" d="M{left:.1f},{middle} H{right:.1f} M{left:.1f},{middle - 4} v8 '
            f'M{right:.1f},{middle - 4} v8"/>'
        )


def _headers(told: Comparison) -> Iterator[str]:
    first = told.contenders[0].headers
    title = f"headers round {first.payload_bytes} bytes of UDP on the wire"
    yield f'<text class="h" y="14">{escape(title)}<tspan class="d" dx="8">less is better</tspan></text>'
    scale = (_PANEL - _LABEL - _VALUE) / max(one.headers.header_bytes for one in told.contenders)
    for number, one in enumerate(told.contenders):
        size = one.headers.header_bytes
        yield f"<g><title>{escape(one.headers.stack)}</title>"
        yield from _bar(one.mode, 28 + number * (_BAR + 6), size * scale, str(size), size * scale)
        yield "</g>"


def _bar(mode: str, y: int, width: float, value: str, end: float) -> Iterator[str]:
    yield f'<text x="{_LABEL - 8}" y="{y + 17}" text-anchor="end">{escape(mode)}</text>'
    colour = _COLOURS.get(mode, "#888888")
    yield f'<rect x="{_LABEL}" y="{y}" width="{width:.1f}" height="{_BAR}" rx="3" fill="{colour}"/>'
    yield f'<text x="{_LABEL + end + 8:.1f}" y="{y + 17}">{escape(value)}</text>'


def _folded(text: str) -> Iterator[str]:
    line = ""
    for word in text.split():
        if line and len(line) + len(word) + 1 > _LINE_LETTERS:
            yield line
            line = word
        else:
            line = f"{line} {word}".strip()
    yield line
