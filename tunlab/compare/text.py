"""A comparison for people at a terminal; fits 80 columns, and says what it may not be read for."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tunlab.compare.figures import MEASURES, Comparison


def print_comparison(told: Comparison, console: Console) -> None:
    """A row per measure and mode; then the headers, and what box and kernel do to the figures."""
    table = Table(box=None, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0))
    for name in ("measure", "mode"):
        table.add_column(name, no_wrap=True)
    for name in ("median", "least", "most", "of the best"):
        table.add_column(name, justify="right", no_wrap=True)
    for measure in MEASURES:
        best = told.best(measure).spreads[measure.key]
        for number, one in enumerate(told.contenders):
            spread = one.spreads[measure.key]
            shown = [measure.show(each) for each in (spread.median, spread.least, spread.most)]
            style = "bold" if spread is best else ""
            share = f"{100 * spread.median / best.median:.0f} %" if best.median else "-"
            table.add_row("" if number else measure.title, Text(one.mode, style), *shown, share)
    console.print(table)
    console.print()
    for line in (*header_lines(told), *verdicts(told)):
        console.print(Text(line))
    console.print()
    for line in told.ground.says:
        console.print(Text(line))


def header_lines(told: Comparison) -> list[str]:
    """What each mode puts round the same payload, from a captured frame."""
    least = min(one.headers.header_bytes for one in told.contenders)
    lines = []
    for one in told.contenders:
        size = one.headers.header_bytes
        more = f", {size - least} more" if size > least else ""
        lines.append(
            f"{one.mode}: {size} bytes of headers{more}: [{one.headers.stack}]; a pod's MTU is {one.mtu_bytes}"
        )
    return lines


def verdicts(told: Comparison) -> list[str]:
    """Who was best in how many rounds: a swing of the machine hits all modes of a round alike, not all rounds."""
    if len(told.contenders) < 2:
        return []
    lines = []
    for measure in MEASURES:
        best = told.best(measure)
        won, all_rounds = told.rounds_won(best, measure), told.ground.runs
        how = "in every round" if won == all_rounds else f"in {won} of {all_rounds} rounds: no clear order"
        lines.append(f"{measure.title}: {best.mode} was best {how}")
    return lines
