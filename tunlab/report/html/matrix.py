"""The heat map: a line per requirement, a column per mode and lab; signs tell what colours tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from tunlab.check.verdict import Key, Row
from tunlab.lab.topology import MODES
from tunlab.report.html.markup import Child, Element, h
from tunlab.report.html.words import SIGNS, to_row, told

NEWS = {"worse": "▾", "better": "▴", "new": "•"}
_LAST = len(MODES)


def matrix(rows: Sequence[Row], news: Mapping[Key, str]) -> Element:
    """The whole table; `news` says what became of a row since the baseline. Tab reaches one cell, arrows the rest."""
    columns = sorted({(row.mode, row.lab) for row in rows}, key=lambda one: (_rank(one[0]), one))
    found = {row.key: row for row in rows}
    ids = dict.fromkeys(row.id for row in rows)
    titles = {row.id: row.title for row in rows}
    modes = [(mode, len(list(own))) for mode, own in groupby(columns, key=lambda one: one[0])]
    keys = (Key(id, lab, mode) for id in ids for mode, lab in columns)
    first = next((key for key in keys if key in found), None)
    return h(
        "table",
        h(
            "thead",
            h(
                "tr",
                h("th", "requirement", scope="col", rowspan=2),
                [h("th", mode, scope="colgroup", colspan=count) for mode, count in modes],
            ),
            h("tr", [h("th", h("span", lab), scope="col", class_="lab") for _, lab in columns]),
        ),
        h(
            "tbody",
            [
                h(
                    "tr",
                    h("th", h("a", id, href=f"{to_row(Key(id, '', '')).rstrip('/')}", title=titles[id]), scope="row"),
                    [_cell(found.get(Key(id, lab, mode)), news, first) for mode, lab in columns],
                )
                for id in ids
            ],
        ),
        role="grid",
        aria_describedby="keys",
        id="grid",
    )


def _cell(row: Row | None, news: Mapping[Key, str], first: Key | None) -> Element:
    if row is None:
        return h("td")
    kind = news.get(row.key, "")
    mark: Child = h("sup", NEWS[kind]) if kind in NEWS else None
    label = told(row) + (f", {kind} than before" if kind in ("worse", "better") else ", new" if kind else "")
    link = h(
        "a",
        SIGNS[row.verdict],
        mark,
        href=to_row(row.key),
        aria_label=label,
        title=label,
        tabindex=0 if row.key == first else -1,
    )
    return h("td", link, class_=row.verdict.value)


def _rank(mode: str) -> int:
    known: Sequence[str] = MODES
    return known.index(mode) if mode in known else _LAST
