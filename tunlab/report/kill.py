"""kill.json and kill.svg: which requirement notices which mutant, the score, and what a ping alone would have told."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from tunlab.layout import svg_page
from tunlab.mutants.trial import BROKEN, FATES, KILLED, SURVIVED, Outcome
from tunlab.report.junit import printable
from tunlab.report.results import write_atomically

KILL, PICTURE, SCHEMA = "kill.json", "kill.svg", "tunlab/kill/v1"
_SIDE, _LEFT, _TOP, _LINE = 12, 320, 90, 16
_COLOUR = {"red": "#c0392b", "green": "#dfe8df", "broken": "#8e44ad", "none": "none"}
_FATE_COLOUR = {"killed": "", "survived": "#c0392b", "stillborn": "#999999", "broken": "#8e44ad"}


@dataclass
class Kills:
    """The document as it grows; `exit` is None until the run has ended. `left_out` says what no box here carries."""

    run: str
    started: str
    options: Mapping[str, Any]
    outcomes: list[Outcome] = field(default_factory=list)
    left_out: Mapping[str, str] = field(default_factory=dict)
    exit: int | None = None

    @property
    def totals(self) -> dict[str, int]:
        """How many mutants have each fate."""
        return {fate: sum(one.fate == fate for one in self.outcomes) for fate in FATES}

    @property
    def score(self) -> float | None:
        """The share of those that were alive and could be tried; None where there was none."""
        killed, survived = self.totals[KILLED], self.totals[SURVIVED]
        return killed / (killed + survived) if killed + survived else None

    @property
    def verdict(self) -> int:
        """0 all that were alive are killed, 1 one survived, 2 one could not be tried, or there was none."""
        if self.totals[BROKEN] or self.score is None:
            return 2
        return 0 if self.score == 1 else 1

    @property
    def noticed(self) -> dict[str, list[str]]:
        """The killed, by who would have noticed: a ping between all pods, headers and tables alone, or not known."""
        killed = [one for one in self.outcomes if one.fate == KILLED]
        kinds = {"ping": True, "headers_or_tables_alone": False, "not_pinged": None}
        return {word: [one.name for one in killed if one.noticed_by_ping is seen] for word, seen in kinds.items()}

    def to_json(self) -> dict[str, Any]:
        """The document; mutants in the order of their names."""
        outcomes = sorted(self.outcomes, key=lambda one: one.name)
        return {
            "schema": SCHEMA,
            "run": self.run,
            "started": self.started,
            "options": dict(self.options),
            "totals": self.totals,
            "score": self.score,
            "exit": self.exit,
            "noticed": self.noticed,
            "left_out": dict(self.left_out),
            "mutants": [one.to_json() for one in outcomes],
            "matrix": {one.name: matrix_row(one) for one in outcomes},
        }

    def write(self, folder: Path) -> None:
        """Replace kill.json and kill.svg in that folder."""
        write_atomically(folder / KILL, json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n")
        write_atomically(folder / PICTURE, picture(self.outcomes))


def matrix_row(one: Outcome) -> dict[str, str]:
    """What each requirement that was asked said of one mutant: red, green or broken."""
    asked = sorted({*one.asked, *one.red, *one.broken})
    return {id: "red" if id in one.red else "broken" if id in one.broken else "green" for id in asked}


def picture(outcomes: Iterable[Outcome]) -> str:
    """The kill matrix as SVG: a line per mutant, a column per requirement."""
    rows = sorted(outcomes, key=lambda one: (one.lab, one.mode, one.name))
    ids = sorted({id for one in rows for id in matrix_row(one)})
    width, height = _LEFT + len(ids) * _SIDE + 20, _TOP + len(rows) * _SIDE + 5 * _LINE
    parts: list[str] = []
    for number, id in enumerate(ids):
        x, y = _LEFT + number * _SIDE + 10, _TOP - 4
        parts.append(f'<text transform="translate({x},{y}) rotate(-90)">{escape(id)}</text>')
    for number, one in enumerate(rows):
        parts += _line(one, ids, _TOP + number * _SIDE)
    parts += _legend(_TOP + len(rows) * _SIDE + _LINE)
    killed = sum(one.fate == KILLED for one in rows)
    title = f"The kill matrix: {killed} of {len(rows)} mutants were noticed"
    return svg_page(width, height, title, "svg{font:10px monospace}", [f"\n{part}" for part in parts])


def _line(one: Outcome, ids: Sequence[str], y: int) -> list[str]:
    said = matrix_row(one)
    told = f"{one.name} ({one.lab} {one.mode}): {one.fate}"
    label = one.name if len(one.name) <= 46 else f"{one.name[:45]}…"
    fill = f' fill="{_FATE_COLOUR[one.fate]}"' if _FATE_COLOUR[one.fate] else ""
    lines = [
        f'<text x="{_LEFT - 6}" y="{y + 10}" text-anchor="end"{fill}>{escape(label)}'
        f"<title>{escape(printable(told))}</title></text>"
    ]
    for number, id in enumerate(ids):
        if id not in said and id not in one.missed:
            continue
        x, word = _LEFT + number * _SIDE, said.get(id, "green")
        reason = (one.red.get(id) or one.broken.get(id) or "").split("\n", 1)[0]
        title = printable(f"{one.name}: {id} {word} {reason}".strip())
        lines.append(
            f'<rect x="{x + 1}" y="{y + 1}" width="{_SIDE - 2}" height="{_SIDE - 2}" fill="{_COLOUR[word]}" '
            f"data-mutant={quoteattr(one.name)} data-id={quoteattr(id)}><title>{escape(title)}</title></rect>"
        )
        if id in one.missed:
            lines.append(f'<text x="{x + 3}" y="{y + 10}" fill="#c0392b">×</text>')
    return lines


def _legend(y: int) -> list[str]:
    words = {
        "red": "turned red",
        "green": "asked, and noticed nothing",
        "broken": "could not tell",
        "none": "not asked",
    }
    lines = []
    for number, (word, text) in enumerate(words.items()):
        at = y + number * _LINE
        lines.append(f'<rect x="{_LEFT}" y="{at}" width="10" height="10" fill="{_COLOUR[word]}" stroke="#999999"/>')
        lines.append(f'<text x="{_LEFT + 16}" y="{at + 9}">{text}</text>')
    return [*lines, f'<text x="{_LEFT + 220}" y="{y + 9}">× should have noticed</text>']
