"""All that a page tells of a run, read from its folder: nothing here knows of markup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tunlab.check.verdict import Key, Row, Verdict
from tunlab.errors import LabError
from tunlab.report.asserted import read_notes
from tunlab.report.bundle import BUNDLE
from tunlab.report.catalogue import Proofs, read_proofs
from tunlab.report.html.sightings import CaptureFile, open_capture
from tunlab.report.results import CANARY_LOG, JUNIT, RESULTS, Results, read_results, read_selection
from tunlab.wire.expect import Note

_FILES = (RESULTS, JUNIT, "pytest.log", CANARY_LOG, BUNDLE)


@dataclass(frozen=True)
class Story:
    """A run. `sources` say where a requirement is written, by its id; `notes` are of rows that passed."""

    folder: Path
    results: Results
    proofs: Proofs
    sources: Mapping[str, str]
    notes: Mapping[Key, Sequence[Note]]
    _captures: dict[str, CaptureFile] = field(default_factory=dict, repr=False)

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """Sorted by id, lab, mode."""
        return tuple(sorted(self.results.rows, key=lambda row: row.key))

    @property
    def wrong(self) -> list[Row]:
        """What failed or is broken."""
        return [row for row in self.rows if row.verdict in (Verdict.FAILED, Verdict.BROKEN)]

    @cached_property
    def captures(self) -> tuple[str, ...]:
        """The captures that rows name, as paths below the run's folder."""
        return tuple(sorted({path for row in self.rows for path in row.evidence if is_capture(path)}))

    @cached_property
    def files(self) -> tuple[str, ...]:
        """What else lies in the folder and helps."""
        return tuple(name for name in _FILES if (self.folder / name).is_file())

    def capture(self, path: str) -> CaptureFile:
        """One of `captures`, read once."""
        if path not in self._captures:
            self._captures[path] = open_capture(self._inside(path))
        return self._captures[path]

    def capture_of(self, row: Row, name: str = "") -> str:
        """The path of a row's capture, of that file name where one is given; "" where it has none."""
        found = [path for path in row.evidence if is_capture(path) and name in ("", Path(path).name)]
        return found[0] if found else ""

    def failure_of(self, row: Row) -> Path | None:
        """The folder of what was kept of a failure."""
        found = [self._inside(path) for path in row.evidence if not is_capture(path) and self._inside(path).is_dir()]
        return found[0] if found else None

    def lines(self, path: Path, most: int) -> Sequence[str]:
        """The last lines of a text file; none where it is gone."""
        try:
            return path.read_text(encoding="utf-8", errors="replace").splitlines()[-most:]
        except OSError:
            return ()

    def _inside(self, path: str) -> Path:
        """A path below the run's folder; results.json may name no other."""
        found = self.folder / path
        if not found.resolve().is_relative_to(self.folder.resolve()):
            raise LabError(f"{RESULTS}: names {path}, which is outside the run's folder", hint="it was written by hand")
        return found


def read_story(folder: Path) -> Story:
    """A run's story, of one that was cut off too. Raises LabError where the folder holds no results."""
    hint = "name a folder that `./lab conform` has written, such as captures/latest"
    try:
        results = read_results(folder)
        selection = read_selection(folder)
        if results is not None and results.baseline is not None:
            _check_comparison(results.baseline)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        why = f"no {error} in it" if isinstance(error, KeyError) else error
        raise LabError(f"{folder}: read the run's results: {why}", hint=hint) from error
    if results is None:
        raise LabError(f"{folder}: holds no {RESULTS}", hint=hint)
    sources = {one.id: one.source for one in selection.tests if one.source} if selection else {}
    return Story(folder, results, read_proofs(), sources, read_notes(folder))


def _check_comparison(told: Mapping[str, Any]) -> None:
    """Raises KeyError, TypeError or AttributeError for what `conform --baseline` would not have written."""
    told["run"], told["path"], told["totals"].items()
    for change in told["changes"]:
        for key in ("id", "lab", "mode", "kind", "before", "after"):
            change[key]


def is_capture(path: str) -> bool:
    """Whether a piece of evidence is a capture."""
    return path.endswith(".pcapng")
