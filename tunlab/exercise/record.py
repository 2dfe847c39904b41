"""What is written down beside a standing lab of the exercise in it, and how far whoever works on it has come."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from tunlab.box.folder import write_whole
from tunlab.errors import WorldError
from tunlab.mutants.mutant import Step

FILE = "exercise.json"


@dataclass(frozen=True, slots=True)
class Record:
    """Commands stand here with every placeholder replaced, as they were when all was well.

    `is_secret` where it was drawn: then its name is not told before it is solved. Times are seconds since 1970.
    """

    exercise: str
    is_secret: bool
    symptom_at: str
    symptom_run: str
    solution: tuple[tuple[str, str], ...]
    begun_at: float
    seed: int | None = None
    hints: int = 0
    saw_solution: bool = False
    checks: int = 0
    red: tuple[str, ...] = ()
    solved_at: float | None = None

    @property
    def symptom(self) -> Step:
        """The command that shows it."""
        return Step(self.symptom_at, self.symptom_run)

    @property
    def name(self) -> str:
        """What it may be called aloud."""
        return "a drawn exercise" if self.is_secret and self.solved_at is None else self.exercise

    @property
    def minutes(self) -> float:
        """From its beginning to its solution, or until now."""
        return ((self.solved_at or time.time()) - self.begun_at) / 60

    def checked(self, red: tuple[str, ...], *, works: bool) -> Record:
        """After one more check."""
        solved_at = self.solved_at or (time.time() if works else None)
        return replace(self, checks=self.checks + 1, red=red, solved_at=solved_at)


def read_record(folder: Path) -> Record | None:
    """The record in a standing lab's folder; None where no exercise is in it. Raises WorldError for what is none."""
    path = folder / FILE
    try:
        found: dict[str, Any] = json.loads(path.read_text())
        if set(found) != {each.name for each in fields(Record)}:
            raise ValueError("its fields")
        solution = tuple((str(place), str(text)) for place, text in found["solution"])
        return Record(**{**found, "solution": solution, "red": tuple(found["red"])})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise WorldError(
            f"{folder.name}: {path}: not what this program wrote", hint=f"./lab down {folder.name} forgets it"
        ) from error


def write_record(folder: Path, record: Record) -> None:
    """Write it, whole or not at all."""
    write_json(folder / FILE, asdict(record))


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a file, whole or not at all."""
    write_whole(path, json.dumps(value, indent=1) + "\n")
