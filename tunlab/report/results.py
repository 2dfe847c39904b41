"""results.json: the rows of a run, their completeness, its totals and exit code; written atomically as rows come."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunlab.check.verdict import Key, Row, Verdict, worst

SCHEMA = "tunlab/results/v1"
RESULTS, JUNIT, SELECTION = "results.json", "junit.xml", "selection.json"
CANARIES, CANARY_LOG = "canaries.json", "canaries.log"
RUN_ID = "RUN-00"  # the row that stands for the run itself, when something other than a requirement went wrong


@dataclass(frozen=True)
class Canary:
    """A fault that was planted to see whether it is noticed; `caught_by` is empty for one that was not."""

    name: str
    caught_by: tuple[str, ...]
    seconds: float


def read_canaries(folder: Path) -> tuple[tuple[Canary, ...], str]:
    """What canaries.json says: the canaries, and why there are none. Nobody wrote it: that is the reason."""
    path = folder / CANARIES
    if not path.exists():
        return (), f"the canaries came to no end (see {CANARY_LOG})"
    told = json.loads(path.read_text(encoding="utf-8"))
    found = [Canary(one["name"], tuple(one["caught_by"]), one["seconds"]) for one in told["canaries"]]
    return tuple(found), told["error"] or ("" if found else "no canary was planted")


def blindness(canaries: Iterable[Canary], error: str) -> list[Row]:
    """A broken row of the run itself for each reason not to believe the judge."""
    if error:
        return [run_row(f"the judge may be blind: the canaries were not tried: {error}")]
    missed = [one.name for one in canaries if not one.caught_by]
    return [run_row(f"the judge is blind: canary {name} was not noticed") for name in missed]


@dataclass(frozen=True)
class Selected:
    """A test that was chosen to run: exactly one row must come of it."""

    id: str
    title: str
    level: str
    lab: str
    mode: str
    nodeid: str
    scene: str = ""
    source: str = ""

    @property
    def key(self) -> Key:
        """Of the row that must come of it."""
        return Key(self.id, self.lab, self.mode)

    def broken(self, reason: str) -> Row:
        """The row for a test that has told nothing."""
        return Row(self.id, self.title, self.level, self.lab, self.mode, Verdict.BROKEN, 0.0, (), reason)


@dataclass(frozen=True)
class Share:
    """What one of several runs judges of the whole: its cells, and the partition, on which all parts must agree."""

    cells: tuple[str, ...]
    partition: str


def run_row(reason: str, title: str = "The run itself works", lab: str = "-", mode: str = "-") -> Row:
    """The synthetic broken row for what is wrong with the run as a whole."""
    return Row(RUN_ID, title, "core", lab, mode, Verdict.BROKEN, 0.0, (), reason)


def complete(selected: Iterable[Selected], rows: Iterable[Row], reason: str) -> list[Row]:
    """Exactly one row for each selected test, sorted: missing → broken for `reason`; told twice or unasked → broken.

    Rows of the run itself are kept, one for each lab and mode, with all their reasons.
    """
    wanted = {one.key: one for one in selected}
    found: dict[Key, list[Row]] = {}
    for row in rows:
        found.setdefault(row.key, []).append(row)
    result = [one.broken(reason) for key, one in wanted.items() if key not in found]
    for key, several in found.items():
        first, told = several[0], ", ".join(row.verdict.words for row in several)
        if key.id == RUN_ID:
            lines = dict.fromkeys(line for row in several for line in row.reason.splitlines())
            result.append(_rebroken(first, "\n".join(lines)))
        elif key not in wanted:
            result.append(_rebroken(first, f"nobody selected this, yet it was judged {told}"))
        elif len(several) > 1:
            result.append(_rebroken(first, f"judged {len(several)} times: {told}"))
        else:
            result.append(first)
    return sorted(result, key=lambda row: row.key)


def _rebroken(row: Row, reason: str) -> Row:
    return Row(row.id, row.title, row.level, row.lab, row.mode, Verdict.BROKEN, row.seconds, row.evidence, reason)


def totals_of(rows: Iterable[Row]) -> dict[str, int]:
    """How many rows have each verdict; every verdict is there."""
    verdicts = [row.verdict for row in rows]
    return {verdict.value: verdicts.count(verdict) for verdict in Verdict}


def exit_code(rows: Sequence[Row]) -> int:
    """0 nothing failed or broken · 1 something failed and nothing is broken · 2 something is broken, or nothing judged.

    A run in which no requirement was judged, be it because none was selected or none is offered, proves nothing.
    """
    judged = [row for row in rows if row.verdict is not Verdict.NOT_OFFERED]
    if not judged:
        return 2
    return {Verdict.PASSED: 0, Verdict.FAILED: 1}.get(worst(*(row.verdict for row in judged)), 2)


@dataclass
class Results:
    """The document as it grows; `exit` is None until the run has ended."""

    run: str
    started: str
    system: str
    options: Mapping[str, Any]
    about: dict[str, set[str]] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    exit: int | None = None
    canaries: tuple[Canary, ...] = ()
    cells: dict[str, float] = field(default_factory=dict)
    baseline: Mapping[str, Any] | None = None
    share: Share | None = None

    def learn(self, about: Mapping[str, str]) -> None:
        """Take in what a cell says of itself; values that differ between cells stand side by side."""
        for name, value in about.items():
            if value:
                self.about.setdefault(name, set()).add(value)

    def to_json(self) -> dict[str, Any]:
        """The document; rows sorted by id, lab, mode."""
        known = {name: ", ".join(sorted(values)) for name, values in sorted(self.about.items())}
        return {
            "schema": SCHEMA,
            "run": self.run,
            "started": self.started,
            "system": self.system,
            "system_version": known.pop("system_version", ""),
            "box": known.pop("box", ""),
            "kernel": known.pop("kernel", ""),
            "tools": known,
            "options": dict(self.options),
            "totals": totals_of(self.rows),
            "exit": self.exit,
            "canaries": [{**vars(one), "caught_by": list(one.caught_by)} for one in self.canaries],
            "cells": dict(sorted(self.cells.items())),
            **({"share": _share_to_json(self.share)} if self.share is not None else {}),
            **({"baseline": dict(self.baseline)} if self.baseline is not None else {}),
            "requirements": [row.to_json() for row in sorted(self.rows, key=lambda row: row.key)],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Results:
        """Back from results.json."""
        known = {**data["tools"], **{name: data[name] for name in ("system_version", "box", "kernel")}}
        return cls(
            run=data["run"],
            started=data["started"],
            system=data["system"],
            options=data["options"],
            about={name: set(value.split(", ")) for name, value in known.items() if value},
            rows=[Row.from_json(row) for row in data["requirements"]],
            exit=data["exit"],
            canaries=tuple(Canary(one["name"], tuple(one["caught_by"]), one["seconds"]) for one in data["canaries"]),
            cells=dict(data.get("cells", {})),
            baseline=data.get("baseline"),
            share=_share_from_json(data.get("share")),
        )

    def write(self, folder: Path) -> None:
        """Replace results.json in that folder."""
        write_atomically(folder / RESULTS, json.dumps(self.to_json(), indent=2, ensure_ascii=False) + "\n")


def _share_to_json(share: Share) -> dict[str, Any]:
    return {"cells": list(share.cells), "partition": share.partition}


def _share_from_json(data: Mapping[str, Any] | None) -> Share | None:
    return Share(tuple(data["cells"]), data["partition"]) if data else None


@dataclass(frozen=True)
class Selection:
    """What collection found: the tests that must be judged, what is wrong with the suites, and what others judge."""

    tests: tuple[Selected, ...]
    mistakes: tuple[str, ...]
    share: Share | None = None
    elsewhere: tuple[Key, ...] = ()

    def write(self, folder: Path) -> None:
        """Replace selection.json in that folder. Every worker writes the same."""
        tests = [vars(one) for one in sorted(self.tests, key=lambda one: one.key)]
        told: dict[str, Any] = {"tests": tests, "mistakes": list(self.mistakes)}
        if self.share is not None:
            told |= {"share": _share_to_json(self.share), "elsewhere": [vars(key) for key in sorted(self.elsewhere)]}
        text = json.dumps(told, indent=2, ensure_ascii=False)
        write_atomically(folder / SELECTION, text + "\n")


def read_selection(folder: Path) -> Selection | None:
    """What must be judged; None if collection never got that far."""
    path = folder / SELECTION
    if not path.exists():
        return None
    data = json.loads(path.read_text(encoding="utf-8"))
    return Selection(
        tuple(Selected(**test) for test in data["tests"]),
        tuple(data["mistakes"]),
        _share_from_json(data.get("share")),
        tuple(Key(**key) for key in data.get("elsewhere", ())),
    )


def read_results(folder: Path, name: str = RESULTS) -> Results | None:
    """The results so far; None if there are none yet."""
    path = folder / name
    return Results.from_json(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def write_atomically(path: Path, text: str) -> None:
    """Temporary file, fsync, rename: a reader sees the old text or the new. Lone surrogates are written escaped."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
