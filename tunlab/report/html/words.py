"""Verdicts as signs and words, and where a row is told on the page."""

from __future__ import annotations

from urllib.parse import quote

from tunlab.check.verdict import Key, Row, Verdict
from tunlab.report.html.markup import Element, h

SIGNS = {Verdict.PASSED: "✓", Verdict.FAILED: "✗", Verdict.BROKEN: "!", Verdict.NOT_OFFERED: "–"}
ENDS = {
    0: "nothing failed",
    1: "a requirement failed",
    2: "something is broken, or nothing was judged",
    None: "the run has not come to its end",
}


def place_of(key: Key) -> str:
    """The id of a row's element, which is what a deep link names."""
    return f"{key.id}/{key.lab}/{key.mode}"


def to_row(key: Key) -> str:
    """A link to it."""
    return "#" + quote(place_of(key), safe="/")


def sign(verdict: Verdict) -> Element:
    """The verdict's sign, with its word for a reader that sees no signs."""
    return h("span", SIGNS[verdict], h("span", f" {verdict.words}", class_="unseen"), class_=f"sign {verdict.value}")


def told(row: Row) -> str:
    """A row in one breath."""
    return f"{row.id} {row.lab} {row.mode}: {row.verdict.words}"
