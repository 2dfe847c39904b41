"""Tables as calicoctl prints them: columns parted by blanks for resources, boxes for status and IPAM."""

from __future__ import annotations

from collections.abc import Sequence

from refnet.model.names import printable

_MIN_WIDTH, _PADDING = 5, 3


def columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Left-aligned columns, each followed by at least three blanks; ends with an empty line."""
    lines = [header, *_shown(rows)]
    widths = [max(_MIN_WIDTH, *(len(line[i]) + _PADDING for line in lines)) for i in range(len(header))]
    return "".join("".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + "\n" for line in lines) + "\n"


def _shown(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """What stands in the store must not steer the terminal."""
    return [[printable(cell) for cell in row] for row in rows]


def box(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A drawn box: header centred, cells to the left, no newline at its end."""
    rows = _shown(rows)
    widths = [max(len(line[i]) for line in (header, *rows)) for i in range(len(header))]
    rule = "+" + "+".join("-" * (width + 2) for width in widths) + "+"
    top = "| " + " | ".join(c.center(w) for c, w in zip(header, widths, strict=True)) + " |"
    body = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in rows]
    return "\n".join([rule, top, rule, *body, rule])
