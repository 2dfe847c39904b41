"""The verdict table for people, and the one last line for machines; fits 80 columns and needs no terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tunlab.check.verdict import Row, Verdict
from tunlab.lab.topology import MODES
from tunlab.report.results import Results, exit_code, totals_of

_STYLE = {Verdict.PASSED: "green", Verdict.FAILED: "bold red", Verdict.BROKEN: "bold magenta"}
_MOST_ALIKE = 5  # more rows that are broken for one reason are told in one line
_WORD = {Verdict.PASSED: "ok", Verdict.FAILED: "FAILED", Verdict.BROKEN: "BROKEN", Verdict.NOT_OFFERED: "n/o"}


class Output(Console):
    """A console of which a reader that goes away (`| head`) is no mistake: who runs the line ends quietly."""

    def on_broken_pipe(self) -> None:
        """Rich would end the process with 1."""
        raise BrokenPipeError


def console_for(stream: TextIO, *, markup: bool = False) -> Console:
    """A console that uses colours and the real width on a terminal, 80 plain columns elsewhere.

    No emoji: rich reads one in the middle of fd00:100::1.
    """
    width = None if stream.isatty() else 80
    return Output(file=stream, width=width, highlight=False, markup=markup, emoji=False)


def print_table(results: Results, console: Console) -> None:
    """A line per requirement, a column per mode; then one line for each row that failed or is broken."""
    rows = sorted(results.rows, key=lambda row: row.key)
    modes = [mode for mode in (*MODES, "-") if any(row.mode == mode for row in rows)]
    table = Table(box=None, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0))
    table.add_column("id", no_wrap=True)
    table.add_column("requirement", ratio=1)
    for mode in modes:
        table.add_column(mode.replace("-cross", "-\ncross\n"), no_wrap=True)
    for id, title in dict.fromkeys((row.id, row.title) for row in rows):
        cells = [_cell([row for row in rows if (row.id, row.title, row.mode) == (id, title, mode)]) for mode in modes]
        table.add_row(id, Text(title), *cells)
    console.print(table)
    console.print()
    alike = _broken_alike(rows)
    for row in rows:
        if row.verdict in (Verdict.FAILED, Verdict.BROKEN) and row.reason not in alike:
            console.print(Text(one_line(row), _STYLE[row.verdict]), soft_wrap=True)
    for reason, count in alike.items():
        console.print(Text(f"BROKEN ({count}): {_visible(reason)}", _STYLE[Verdict.BROKEN]), soft_wrap=True)
    for reason, count in _not_offered(rows).items():
        console.print(Text(f"not offered ({count}): {reason}"), soft_wrap=True)
    if exit_code(rows) == 2 and not any(row.verdict is Verdict.BROKEN for row in rows):
        console.print("nothing was judged, and that proves nothing")


def _broken_alike(rows: Sequence[Row]) -> dict[str, int]:
    """The reasons that many rows are broken for, as all that were to come when a run was interrupted."""
    counts = Counter(row.reason for row in rows if row.verdict is Verdict.BROKEN)
    return {reason: count for reason, count in counts.items() if count > _MOST_ALIKE}


def one_line(row: Row) -> str:
    """What is wrong with one row, on one line; names the capture, if the reason itself does not."""
    lines = row.reason.splitlines()
    reason = lines[0] if lines else "nobody said why"
    capture = next((path for path in row.evidence if path.endswith(".pcapng")), "")
    where = f" [{capture}]" if capture and Path(capture).name not in reason else ""
    return _visible(f"{_WORD[row.verdict]} {row.id} {row.lab} {row.mode}: {reason}{where}")


def last_line(results: Results, path: Path) -> str:
    """The machine-readable end of a run."""
    counts = " ".join(f"{name}={count}" for name, count in totals_of(results.rows).items())
    return f"tunlab: exit={results.exit} {counts} results={path}"


def canary_line(results: Results) -> str:
    """What the canaries say of the judge itself, in one line; "" while nothing is known."""
    if not results.canaries:
        return ""
    told = [f"{one.name} by {', '.join(one.caught_by) or 'NOBODY'}" for one in results.canaries]
    noticed = sum(bool(one.caught_by) for one in results.canaries)
    return f"canaries: {noticed} of {len(told)} noticed: {'; '.join(told)}"


def share_line(results: Results) -> str:
    """Which part of the whole this was; parts of one whole name the same partition. "" for a run that is no part."""
    if results.share is None:
        return ""
    count = len(results.share.cells)
    cells = f"{count} cell{'' if count == 1 else 's'}"
    return f"part {results.options['shard']}: {cells} of partition {results.share.partition}"


def _cell(rows: Sequence[Row]) -> Text:
    """All labs of one mode in six columns: the worst verdict; how many, when they all passed."""
    if not rows:
        return Text("-", "dim")
    for verdict in (Verdict.BROKEN, Verdict.FAILED, Verdict.NOT_OFFERED):
        if any(row.verdict is verdict for row in rows):
            return Text(_WORD[verdict], _STYLE.get(verdict, "dim"))
    return Text(f"ok {len(rows)}" if len(rows) > 1 else "ok", _STYLE[Verdict.PASSED])


def _not_offered(rows: Sequence[Row]) -> dict[str, int]:
    reasons = [_visible((row.reason.splitlines() or [""])[0]) for row in rows if row.verdict is Verdict.NOT_OFFERED]
    return {reason: reasons.count(reason) for reason in dict.fromkeys(reasons)}


def _visible(text: str) -> str:
    """Control characters written out: a packet's bytes must not command the terminal."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
