"""The pieces of a lesson's Markdown: its front matter, headings, fenced blocks and the prose between. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

OURS = ("run", "change", "meanwhile", "shows", "ask", "let")
_FENCE = re.compile(r"```([a-z]*)[ \t]*(.*)")


@dataclass(frozen=True, slots=True)
class Piece:
    """A heading (`##`), a block of ours (its kind), or prose; the line of its first word, and of its body's."""

    kind: str
    line: int
    head: str = ""
    body: str = ""


class Unended(ValueError):
    """A fence that is opened on this line and never closed."""

    def __init__(self, line: int) -> None:
        super().__init__(line)
        self.line = line


def divide(text: str) -> tuple[str | None, list[Piece]]:
    """The front matter (None where there is none) and the pieces, in order. Raises Unended."""
    lines = text.splitlines()
    front, start = None, 0
    if lines[:1] == ["---"] and "---" in lines[1:]:
        start = lines.index("---", 1) + 1
        front = "\n".join(lines[1 : start - 1])
    return front, list(_pieces(lines, start))


def _pieces(lines: Sequence[str], at: int) -> Iterator[Piece]:
    prose: list[str] = []
    began = at + 1
    while at < len(lines):
        line = lines[at]
        end = at + 1
        fence = _FENCE.fullmatch(line)
        if fence:
            end = _end_of(lines, at)
        ours = (fence is not None and fence[1] in OURS) or line.startswith("## ")
        if ours and any(map(str.strip, prose)):
            yield Piece("prose", began, body="\n".join(prose).strip())
        if fence is not None and ours:
            yield Piece(fence[1], at + 1, fence[2].strip(), "\n".join(lines[at + 1 : end - 1]))
        elif ours:
            yield Piece("##", at + 1, line.removeprefix("## ").strip())
        else:
            prose += lines[at:end]
        if ours:
            prose, began = [], end + 1
        at = end
    if any(map(str.strip, prose)):
        yield Piece("prose", began, body="\n".join(prose).strip())


def _end_of(lines: Sequence[str], at: int) -> int:
    """The line after the one that closes the fence of line `at`."""
    for end in range(at + 1, len(lines)):
        if lines[end].rstrip() == "```":
            return end + 1
    raise Unended(at + 1)
