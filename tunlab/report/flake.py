"""flake.json: what repeated runs came to, each row's pass rate, the slowest waits, and the first step that went bad."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tunlab.check.verdict import Key, Verdict
from tunlab.report.results import Results, read_results, write_atomically

FLAKE, SCHEMA = "flake.json", "tunlab/flake/v1"
_SLOWEST = 10


@dataclass(frozen=True)
class Run:
    """One repetition; `exit` is what `conform` ended with."""

    name: str
    exit: int
    seconds: float
    totals: Mapping[str, int]


@dataclass(frozen=True)
class Wait:
    """How long something was waited for, of how long it might have; None: it never came."""

    what: str
    seconds: float | None
    within_s: float
    run: str

    @property
    def share(self) -> float:
        """How much of its time it used up; more than 1 for what came late or never."""
        if self.seconds is None:
            return float("inf")
        return self.seconds / self.within_s if self.within_s else 0.0


@dataclass
class Flakes:
    """The document as it grows; `first_bad` is the first verdict that was not as it should be, with its run."""

    run: str
    started: str
    options: Mapping[str, Any]
    runs: list[Run] = field(default_factory=list)
    verdicts: dict[Key, list[Verdict]] = field(default_factory=dict)
    waits: list[Wait] = field(default_factory=list)
    first_bad: Mapping[str, str] | None = None
    exit: int | None = None

    def add(self, run: Run, results: Results | None, waits: Iterable[Wait]) -> None:
        """Take in one repetition; one without results is one more bad run."""
        self.runs.append(run)
        for row in results.rows if results else ():
            self.verdicts.setdefault(row.key, []).append(row.verdict)
        # What used up most of its time is what breaks next, be it long or short.
        self.waits = sorted([*self.waits, *waits], key=lambda wait: (-wait.share, wait.what))[:_SLOWEST]

    @property
    def verdict(self) -> int:
        """0 every run was clean, 1 a requirement failed in one, 2 something was broken, or there was no run."""
        codes = {run.exit for run in self.runs}
        return 0 if codes == {0} else 1 if codes and codes <= {0, 1} else 2

    def rates(self) -> list[dict[str, Any]]:
        """Each row's share of runs in which it passed, of those in which it was judged; the worst first."""
        told = []
        for key, seen in self.verdicts.items():
            judged = [one for one in seen if one is not Verdict.NOT_OFFERED]
            passed = judged.count(Verdict.PASSED)
            rate = round(passed / len(judged), 4) if judged else None
            told.append({**asdict(key), "passed": passed, "judged": len(judged), "rate": rate})
        return sorted(told, key=lambda one: (one["rate"] is None, one["rate"], one["id"], one["lab"], one["mode"]))

    @classmethod
    def read(cls, folder: Path) -> Flakes:
        """The series in a folder as far as it went. Raises OSError, ValueError, KeyError, TypeError: there is none."""
        told = json.loads((folder / FLAKE).read_text(encoding="utf-8"))
        if told["schema"] != SCHEMA:
            raise ValueError(told["schema"])
        flakes = cls(told["run"], told["started"], told["options"], first_bad=told["first_bad"])
        for run in told["runs"]:
            flakes.add(Run(**run), read_results(folder / run["name"]), ())
        flakes.waits = [Wait(**wait) for wait in told["slowest_waits"]]
        return flakes

    def to_json(self) -> dict[str, Any]:
        """The document."""
        return {
            "schema": SCHEMA,
            "run": self.run,
            "started": self.started,
            "options": dict(self.options),
            "exit": self.exit,
            "runs": [asdict(run) for run in self.runs],
            "requirements": self.rates(),
            "slowest_waits": [asdict(wait) for wait in self.waits],
            "first_bad": dict(self.first_bad) if self.first_bad else None,
        }

    def write(self, folder: Path) -> None:
        """Replace flake.json in that folder."""
        write_atomically(folder / FLAKE, json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n")


def read_waits(path: Path, run: str) -> list[Wait]:
    """What the processes of a run have put down of their waits."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [Wait(run=run, **json.loads(line)) for line in lines]
