"""`./lab replay`: builds the cells of a bundle again and judges the same requirements."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

from tunlab.check.manifests import MANIFESTS, MANIFESTS_VARIABLE
from tunlab.check.verdict import Row
from tunlab.command import conform
from tunlab.lab.load import LABS_DIR, LABS_VARIABLE
from tunlab.report.bundle import Bundle, read_bundle
from tunlab.report.results import RESULTS
from tunlab.report.table import console_for


def replay(
    bundle: str, box: str = "", out: str = "", places: conform.Places | None = None, stream: TextIO | None = None
) -> int:
    """Judge again what failed or was broken in a bundle's run (all of it, where nothing was). Raises LabError.

    Labs, parts and manifests are the bundle's own; the suites are this checkout's.
    """
    places = places or conform.Places()
    with tempfile.TemporaryDirectory(prefix="tunlab-replay-") as scratch, ExitStack() as meanwhile:
        folder = Path(scratch)
        found = read_bundle(Path(bundle), folder)
        theirs = {LABS_VARIABLE: str(folder / "labs"), MANIFESTS_VARIABLE: str(folder / "manifests")}
        meanwhile.enter_context(_environment({**theirs, **found.environment}))
        _add_own(LABS_DIR, "*.yaml", folder / "labs")
        _add_own(MANIFESTS, "*/*.yaml", folder / "manifests")
        options, rows = found.data["options"], found.again
        system = folder / "system.yaml"
        code, run = conform.run(
            system=str(system) if system.is_file() else found.data["system"],
            modes=sorted({row.mode for row in rows}),
            labs=sorted({row.lab for row in rows}),
            level=options.get("level", "core"),
            box=box or options.get("box", "auto"),
            expression=" or ".join(sorted({_expression(row) for row in rows})),
            out=out,
            parts=[f"{part}={folder / place}" for part, place in sorted(found.places.items())],
            places=places,
            stream=stream,
        )
        console = console_for(stream or sys.stdout)
        for what in found.strange():
            console.print(f"replay: {what}", soft_wrap=True)
        for line in _compared(found, rows, json.loads((run / RESULTS).read_text())["requirements"]):
            console.print(line, soft_wrap=True)
        return code


def _expression(row: Row) -> str:
    """What `-k` says for one row; a mode whose name another begins with comes along, and is not compared."""
    return f"({row.id} and {row.lab}-{row.mode})"


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Meanwhile these stand in the environment, here and in every process started: what has a name is the bundle's."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _add_own(ours: Path, names: str, theirs: Path) -> None:
    """What the bundle does not hold is the checkout's: the canaries need a lab, too, a new test its manifest."""
    for path in ours.glob(names):
        place = theirs / path.relative_to(ours)
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)


def _compared(bundle: Bundle, rows: list[Row], again: list[dict[str, object]]) -> Iterator[str]:
    """What each row was, and what it is now."""
    now = {(one["id"], one["lab"], one["mode"]): str(one["verdict"]) for one in again}
    same = 0
    for row in rows:
        seen = now.get((row.id, row.lab, row.mode), "not judged")
        same += seen == row.verdict.value
        yield f"replay {row.id} {row.lab} {row.mode}: was {row.verdict.value}, is {seen}"
    yield f"replay of {bundle.data['run']}: {same} of {len(rows)} as they were"
