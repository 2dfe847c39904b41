"""What one user has solved so far: $XDG_STATE_HOME/tunlab/exercises.json, or ~/.local/state/tunlab/exercises.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from tunlab.box.folder import state_folder
from tunlab.errors import WorldError
from tunlab.exercise.record import Record, write_json


@dataclass(frozen=True, slots=True)
class Solved:
    """How often an exercise was solved, and the quickest time, in minutes, without a look at its solution."""

    times: int = 0
    best_minutes: float | None = None
    hints: int = 0


def progress_file() -> Path:
    """Where it is kept."""
    return state_folder() / "exercises.json"


def read_progress() -> dict[str, Solved]:
    """By exercise; nothing where there is no file. Raises WorldError for one that this program has not written."""
    path = progress_file()
    try:
        found: Mapping[str, Mapping[str, object]] = json.loads(path.read_text())
        return {name: Solved(**one) for name, one in found.items()}  # type: ignore[arg-type]
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise WorldError(f"{path}: not what this program wrote", hint=f"remove it: rm {path}") from error


def note_solved(record: Record) -> None:
    """Put one more solution down. Raises WorldError where the folder cannot be written."""
    told = read_progress()
    before = told.get(record.exercise, Solved())
    own = [] if record.saw_solution else [record.minutes]
    best = min([*own, *([before.best_minutes] if before.best_minutes is not None else [])], default=None)
    told[record.exercise] = Solved(before.times + 1, None if best is None else round(best, 1), record.hints)
    path = progress_file()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_json(path, {name: asdict(one) for name, one in sorted(told.items())})
    except OSError as error:
        raise WorldError(
            f"{path}: {str(error.strerror).lower()}", hint="XDG_STATE_HOME names another folder"
        ) from error
