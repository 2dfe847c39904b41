"""A build mutant: refnet with one line of its source wrong, which the requirements that it names must turn red.

It costs a lab of its own, but reaches what no command in a finished lab can: decisions that are only made later.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tunlab.errors import LabError

FOLDER = Path(__file__).resolve().parents[2] / "fixtures" / "mutants" / "builds"
_FIELDS = ("name", "file", "replace", "with", "caught_by", "why")


@dataclass(frozen=True, slots=True)
class Build:
    """`replace` occurs exactly once in `file` (a path from the checkout's top); `caught_by` must all turn red."""

    name: str
    file: str
    replace: str
    by: str
    caught_by: tuple[str, ...]
    why: str


def load_builds(checkout: Path, ids: Mapping[str, Any], folder: Path = FOLDER) -> tuple[Build, ...]:
    """Every build mutant of a folder. Raises LabError that holds all mistakes, one line each."""
    builds: list[Build] = []
    mistakes: list[str] = []
    for path in sorted(folder.glob("*.yaml")):
        for entry in yaml.safe_load(path.read_text()) or []:
            wrong = list(_mistakes(entry, checkout, ids, {build.name for build in builds}))
            mistakes += [f"{path.name}: {entry.get('name', entry)}: {one}" for one in wrong]
            if not wrong:
                builds.append(
                    Build(
                        entry["name"],
                        entry["file"],
                        entry["replace"],
                        entry["with"],
                        tuple(entry["caught_by"]),
                        entry["why"],
                    )
                )
    if mistakes:
        raise LabError("\n".join(mistakes), hint="each entry has " + ", ".join(_FIELDS))
    return tuple(builds)


def _mistakes(entry: Mapping[str, Any], checkout: Path, ids: Mapping[str, Any], taken: set[str]) -> Iterator[str]:
    if set(entry) != set(_FIELDS):
        yield f"has {', '.join(entry)}"
        return
    if entry["name"] in taken:
        yield "the name is taken"
    path = checkout / entry["file"]
    if not entry["file"].startswith("refnet/") or not path.is_file():
        yield f"{entry['file']}: no file of refnet"
    elif (count := path.read_text().count(entry["replace"])) != 1:
        yield f"{entry['file']}: what is to be replaced occurs {count} times"
    if not entry["caught_by"]:
        yield "caught_by: names nobody"
    yield from (f"caught_by: {id}: no such requirement" for id in entry["caught_by"] if id not in ids)


def make_build(build: Build, checkout: Path, into: Path) -> Path:
    """A copy of refnet with the fault in it; its folder, for `--with refnet=DIR`."""
    home = into / "refnet"
    shutil.copytree(checkout / "refnet", home, ignore=shutil.ignore_patterns("__pycache__"))
    file = into / build.file
    file.write_text(file.read_text().replace(build.replace, build.by))
    return home
