"""Two runs compared: what got worse since an earlier results.json, and what that means for the exit code.

A row is worse when it failed and had not failed before, or when it is no longer offered and was. A row that fails as it
failed before is no news. What is broken is always worse, whatever it was: nobody knows what the system does there. A
new row counts by itself. A row that is gone is worse if it had passed and this run was asked for it; `-k` asks for
less, and so do fewer labs or modes or a lower level. What other parts judge is not asked of a part.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tunlab.check.verdict import Key, Row, Verdict
from tunlab.errors import LabError
from tunlab.report.results import RESULTS, RUN_ID, Results, exit_code

WORSE, BETTER, NEW, GONE, SAME, NOT_ASKED = KINDS = ("worse", "better", "new", "gone", "same", "not_asked")


@dataclass(frozen=True)
class Change:
    """What became of one row; `before` or `after` is "" where there was none."""

    id: str
    lab: str
    mode: str
    kind: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.kind} {self.id} {self.lab} {self.mode}: {self.before or 'nothing'} → {self.after or 'nothing'}"


@dataclass(frozen=True)
class Comparison:
    """All changes, sorted; `run` is the earlier run's name."""

    path: str
    run: str
    changes: tuple[Change, ...]

    def of(self, kind: str) -> list[Change]:
        """The changes of one kind."""
        return [one for one in self.changes if one.kind == kind]

    @property
    def exit(self) -> int:
        """0 nothing is worse · 1 something is · 2 something is broken."""
        worse = self.of(WORSE)
        if any(one.after == Verdict.BROKEN for one in worse):
            return 2
        return 1 if worse else 0

    def to_json(self) -> dict[str, Any]:
        """As it stands in results.json; rows that are as before are only counted."""
        told = [asdict(one) for one in self.changes if one.kind not in (SAME, NOT_ASKED)]
        counts = {kind: len(self.of(kind)) for kind in KINDS}
        return {"path": self.path, "run": self.run, "totals": counts, "changes": told}

    def lines(self) -> list[str]:
        """For people: every change that matters, and a line that counts."""
        shown = [str(one) for kind in (WORSE, GONE, NEW, BETTER) for one in self.of(kind)]
        counts = ", ".join(f"{len(self.of(kind))} {kind.replace('_', ' ')}" for kind in KINDS)
        return [*shown, f"compared with {self.path} ({self.run}): {counts}"]


def read_baseline(text: str, shard: str = "") -> Results:
    """The results of an earlier run: its results.json, or the folder that holds it. Raises LabError.

    A run that came to no end or is broken is refused: what it does not know could not be seen to get worse. A part of a
    run is refused where a part is to be judged (`shard`): parts that know other seconds share out in another way.
    """
    path = Path(text) / RESULTS if Path(text).is_dir() else Path(text)
    hint = "name the results.json of an earlier run"
    try:
        found = Results.from_json(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise LabError(f"--baseline: {path}: {str(error.strerror).lower()}", hint=hint) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LabError(f"--baseline: {path}: holds no results", hint=hint) from error
    if why := _ignorance(found):
        raise LabError(f"--baseline: {path}: {why}", hint="name the results.json of a run that ended with 0 or 1")
    if shard and (part := found.options.get("shard")):
        why = f"is part {part} of a run, which cannot share out the whole"
        raise LabError(f"--baseline: {path}: {why}", hint="name that of a run without --shard, the same for all parts")
    return found


def _ignorance(earlier: Results) -> str:
    """What a run does not know of what it was to judge; "" if it knows all. Its own exit code may follow from a
    comparison, so the rows are asked."""
    if earlier.exit is None:
        return "its run has come to no end"
    if broken := sum(row.verdict is Verdict.BROKEN for row in earlier.rows):
        return f"its run is broken: {broken} of {len(earlier.rows)} rows, and nothing is known of what those judge"
    return "its run judged nothing" if exit_code(earlier.rows) == 2 else ""


def compare(before: Results, after: Results, path: str, elsewhere: Collection[Key] = ()) -> Comparison:
    """What became of each row of either run; `elsewhere` are the rows that other parts of the same whole judge."""
    changes = sorted(_changes(before, after, elsewhere), key=lambda one: (one.id, one.lab, one.mode))
    return Comparison(path, before.run, tuple(changes))


def _changes(before: Results, after: Results, elsewhere: Collection[Key]) -> Iterator[Change]:
    old = {row.key: row for row in before.rows}
    new = {row.key: row for row in after.rows}
    for key, row in new.items():
        was = old.get(key)
        yield _change(key, _kind(was, row), was, row)
    others = _left_to_others(old.keys() - new.keys(), new, elsewhere)
    for key in old.keys() - new.keys():
        was = old[key]
        kind = GONE if key not in others and _is_asked(was, after) else NOT_ASKED
        yield _change(key, WORSE if kind == GONE and was.verdict is Verdict.PASSED else kind, was, None)


def _left_to_others(gone: Collection[Key], own: Collection[Key], elsewhere: Collection[Key]) -> set[Key]:
    """Of rows that are gone here those for which another part answers.

    It judges them, or other parts alone have a share in their lab and mode. What no part has any share in, all answer
    for: of a lab that is lost nobody else would tell.
    """
    judged = set(elsewhere)
    theirs = {(key.lab, key.mode) for key in elsewhere} - {(key.lab, key.mode) for key in own}
    return {key for key in gone if key in judged or (key.lab, key.mode) in theirs}


def _kind(was: Row | None, row: Row) -> str:
    if row.verdict is Verdict.BROKEN:
        return WORSE  # never old news: what it would have been is not known
    if was is None:
        return WORSE if row.verdict is Verdict.FAILED else NEW
    if row.verdict is was.verdict:
        return SAME
    if row.verdict is Verdict.FAILED:
        return WORSE
    if row.verdict is Verdict.NOT_OFFERED:
        return WORSE if was.verdict is Verdict.PASSED else SAME
    return BETTER


def _change(key: Key, kind: str, was: Row | None, row: Row | None) -> Change:
    return Change(key.id, key.lab, key.mode, kind, was.verdict.value if was else "", row.verdict.value if row else "")


def _is_asked(row: Row, run: Results) -> bool:
    """Whether a run with these options would have judged that row."""
    options = run.options
    return (
        row.id != RUN_ID
        and not options.get("k")
        and (not options.get("mode") or row.mode in options["mode"])
        and (not options.get("lab") or row.lab in options["lab"])
        and (options.get("level") == "extended" or row.level == "core")
    )
