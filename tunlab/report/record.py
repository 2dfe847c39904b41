"""The clerk of a run: takes in rows as they come, keeps the files on disk up to date, and tells whoever watches."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunlab.check.verdict import Row
from tunlab.report.junit import write_junit
from tunlab.report.results import Results, complete, exit_code, read_selection, run_row

EVENTS_VARIABLE = "TUNLAB_EVENTS"  # the number of an open descriptor that takes one JSON line per event
_WRITE_EVERY_S = 0.5


class Recorder:
    """Writes results.json and junit.xml at most twice a second, and once more at the end."""

    def __init__(self, folder: Path, results: Results) -> None:
        self._folder = folder
        self._results = results
        self._written_at = 0.0
        self._events = int(os.environ.get(EVENTS_VARIABLE, "-1"))

    def selected(self) -> int:
        """Collection is done; answers how many tests were selected."""
        selection = read_selection(self._folder)
        count = len(selection.tests) if selection else 0
        self._tell(selected=count)
        return count

    def add(self, row: Row) -> None:
        """One more verdict."""
        self._results.rows.append(row)
        self._tell(row=row.to_json())
        if time.monotonic() - self._written_at >= _WRITE_EVERY_S:
            self._write()

    def learn(self, about: Mapping[str, str], cells: Mapping[str, float]) -> None:
        """What a cell says of itself, and what those took that are closed."""
        self._results.learn(about)
        self._results.cells |= cells
        self._tell(about=dict(about), cells=dict(cells))

    def finish(self, reason: str) -> int:
        """The end: every selected test has exactly one row, or is broken for `reason`. Answers the exit code."""
        finish(self._results, self._folder, reason)
        self._write()
        assert self._results.exit is not None
        return self._results.exit

    def _write(self) -> None:
        self._results.write(self._folder)
        write_junit(self._results, self._folder)
        self._written_at = time.monotonic()

    def _tell(self, **event: Any) -> None:
        if self._events < 0:
            return
        try:
            os.write(self._events, json.dumps(event).encode() + b"\n")
        except BrokenPipeError:
            self._events = -1  # nobody watches any more; the files still tell


def finish(results: Results, folder: Path, reason: str) -> None:
    """Complete the rows with what was selected, and set the exit code. Nothing selected is broken: a row says so."""
    selection = read_selection(folder)
    tests = selection.tests if selection else ()
    if selection is None:
        results.rows.append(run_row(f"nothing was collected: {reason}"))
    else:
        results.share = selection.share
        results.rows.extend(run_row(mistake) for mistake in selection.mistakes)
        if not tests and not selection.mistakes:
            results.rows.append(run_row("no requirement was selected by " + describe_options(results.options)))
    results.rows = complete(tests, results.rows, reason)
    results.exit = exit_code(results.rows)


def describe_options(options: Mapping[str, Any]) -> str:
    """The options as one would type them."""
    words = []
    for name, given in options.items():
        value = [f"{part}={path}" for part, path in given.items()] if isinstance(given, Mapping) else given
        text = ",".join(value) if isinstance(value, list | tuple) else str(value)
        if value not in (None, "", [], (), False, {}):
            words.append(f"-{name} {text}" if len(name) == 1 else f"--{name} {text}")
    return " ".join(words) or "the default options"
