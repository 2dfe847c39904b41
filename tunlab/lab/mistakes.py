"""What is wrong with a description: where, what, the legal values, a hint; and how that reads on 80 columns."""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass

from tunlab.errors import LabError

COLUMNS = 80
LONGEST_VALUE = 40
KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake at one place of a file. An empty path means the file as a whole."""

    path: KeyPath
    what: str
    legal: str
    hint: str

    def text(self, where: str) -> str:
        """The message, on lines of at most 80 columns; `where` is the file, with the line number where it is known."""
        place = f"{where}: {written(self.path)}: " if self.path else f"{where}: "
        return "\n".join([_wrap("", place + self.what), _wrap("  legal: ", self.legal), _wrap("  hint: ", self.hint)])


def refuse(mistakes: Iterable[str]) -> LabError:
    """The error for a whole description: its text is all messages, one below the other."""
    texts = tuple(mistakes)
    return LabError("\n".join(texts), mistakes=texts)


def written(path: KeyPath) -> str:
    """`("nodes", 1, "address")` as a person says it: `nodes[1].address`."""
    text = ""
    for key in path:
        text += f"[{key}]" if isinstance(key, int) else f".{shown(key)}" if text else shown(key)
    return text


def shown(value: object) -> str:
    """A value from a file as a message quotes it: short, and told apart from nothing."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "a mapping"
    text = str(value)
    if not text.strip() or not text.isprintable():
        text = repr(text)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"


def meant(value: str, legal: Iterable[str], otherwise: str) -> str:
    """A hint: the legal value that is nearest to what was written, or `otherwise`."""
    near = difflib.get_close_matches(value, list(legal), n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else otherwise


def _wrap(label: str, text: str) -> str:
    # A path or an address cut in two could no longer be copied: only spaces break.
    return textwrap.fill(
        label + text,
        COLUMNS,
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )
