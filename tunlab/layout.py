"""How a table stands in a terminal, and what every picture of ours has around it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

# What is on the page may stand on black: a picture is seen on pages of either kind.
_STYLE = (
    "svg{font:13px system-ui,sans-serif;fill:#1c2733}.page{fill:#fff}"
    "@media (prefers-color-scheme:dark){svg{fill:#e8edf2}.page{fill:#14181d}}"
)


def columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A line per row, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def svg_page(width: float, height: float, title: str, style: str, body: Sequence[str]) -> str:
    """A whole SVG file, light or dark as its reader's system; `title` is what a screen reader says of it.

    What brings no `fill` of its own has the page's ink.
    """
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
        f'viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}"><style>{_STYLE}{style}</style>'
        f'<rect class="page" width="{width:g}" height="{height:g}"/>{"".join(body)}</svg>\n'
    )
