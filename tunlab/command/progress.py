"""What `./lab conform` shows while it runs: one live line on a terminal, one plain line per verdict elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol, TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from tunlab.check.verdict import Row, Verdict
from tunlab.report.table import console_for, one_line


class Progress(Protocol):
    """Somebody who watches a run."""

    def selected(self, count: int) -> None:
        """So many tests are to come."""

    def verdict(self, row: Row) -> None:
        """One more is known."""

    def tick(self) -> None:
        """Nothing came for a while."""

    def close(self) -> None:
        """The run is over."""


def progress_for(stream: TextIO, cells: int) -> Progress:
    """Live where somebody looks, plain where a file or a CI server does."""
    console = console_for(stream)
    return LiveLine(console, cells) if console.is_terminal else PlainLines(console, cells)


class PlainLines:
    """`[3/40] passed IPIP-03 mixed ipip 0.2 s`, flushed line by line."""

    def __init__(self, console: Console, cells: int) -> None:
        self._console = console
        self._cells = cells
        self._count = 0
        self._all = "?"

    def selected(self, count: int) -> None:
        self._all = str(count)
        self._say(f"{count} requirements to judge in {self._cells} labs and modes")

    def verdict(self, row: Row) -> None:
        self._count += 1
        text = f"{row.verdict.words} {row.id} {row.lab} {row.mode} {row.seconds:.1f} s"
        if row.verdict in (Verdict.FAILED, Verdict.BROKEN):
            text = one_line(row)
        self._say(f"[{self._count}/{self._all}] {text}")

    def tick(self) -> None:
        pass

    def close(self) -> None:
        self._say("")

    def _say(self, text: str) -> None:
        self._console.print(text, soft_wrap=True)
        self._console.file.flush()


class LiveLine:
    """One line that is rewritten; what failed or is broken is told above it at once."""

    def __init__(self, console: Console, cells: int) -> None:
        self._console = console
        self._cells = cells
        self._all = 0
        self._rows: list[Row] = []
        self._start = time.monotonic()
        self._live = Live(self._text(), console=console, auto_refresh=False, transient=True)
        self._live.start()

    def selected(self, count: int) -> None:
        self._all = count
        self.tick()

    def verdict(self, row: Row) -> None:
        self._rows.append(row)
        if row.verdict in (Verdict.FAILED, Verdict.BROKEN):
            self._live.console.print(Text(one_line(row)), soft_wrap=True)
        self.tick()

    def tick(self) -> None:
        self._live.update(self._text(), refresh=True)

    def close(self) -> None:
        self._live.stop()

    def _text(self) -> Text:
        seconds = time.monotonic() - self._start
        if not self._all:
            return Text(f"{seconds:4.0f} s  collecting")
        last = f"  {self._rows[-1].key}" if self._rows else "  opening the first labs"
        return Text(f"{seconds:4.0f} s  {len(self._rows)}/{self._all}{_counts(self._rows)}{last}", no_wrap=True)


def _counts(rows: Sequence[Row]) -> str:
    told = [(verdict.words, sum(row.verdict is verdict for row in rows)) for verdict in Verdict]
    return "".join(f"  {words} {count}" for words, count in told if count)
