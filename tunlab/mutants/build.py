"""Mutants that are built in, not planted: a *build* is refnet with one line of its source wrong, a *wrapper* a shell
script in the plugin's place, which may call the real one. The requirements that each names must turn red.

It costs a lab of its own, but reaches what no command in a finished lab can: decisions that are only made later.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunlab.lab.mistakes import KeyPath, Mistake, meant, shown
from tunlab.paths import ROOT
from tunlab.systems.refnet import wrap_plugin

_PARTS = ("cni",)
_PREVENTS = "true where no lab gets up with it, and that is what is to be noticed"
_FIELDS: Mapping[str, Mapping[str, str]] = {
    "build": {
        "name": "small letters, digits and dashes",
        "file": "a file of refnet, from the checkout's top",
        "replace": "text that occurs exactly once in the file",
        "with": "what stands there instead",
        "caught_by": "a list of requirement ids",
        "why": "a sentence",
        "lab": "the only lab to ask in; left out for the cheapest",
        "prevents_start": _PREVENTS,
    },
    "wrap": {
        "name": "small letters, digits and dashes",
        "wrap": "{cni: SCRIPT}: shell text in the plugin's place; $REAL is the real one",
        "caught_by": "a list of requirement ids",
        "why": "a sentence",
        "lab": "the only lab to ask in; left out for the cheapest",
        "prevents_start": _PREVENTS,
    },
}
_OPTIONAL = ("lab", "why", "prevents_start")
_EXAMPLE = "see fixtures/mutants/builds/core.yaml"


@dataclass(frozen=True, slots=True)
class Build:
    """`replace` occurs exactly once in `file` (a path from the checkout's top); `caught_by` must all turn red.

    That no lab gets up with it proves nothing of a requirement, unless it `prevents_start` by intent.
    """

    name: str
    file: str
    replace: str
    by: str
    caught_by: tuple[str, ...]
    why: str
    lab: str = ""
    prevents_start: bool = False
    kind: str = "build"

    def make(self, into: Path, checkout: Path = ROOT) -> dict[str, str]:
        """A copy of refnet with the fault in it; what to put in which part's place.

        What is compiled comes along, or every program of every lab would do that anew; not of the file with the fault.
        """
        home = into / "refnet"
        file = into / self.file
        stale, being_written = f"{file.stem}.*.pyc", "*.pyc.*"
        shutil.copytree(checkout / "refnet", home, ignore=shutil.ignore_patterns(stale, being_written))
        file.write_text(file.read_text().replace(self.replace, self.by))
        return {"refnet": str(home)}


@dataclass(frozen=True, slots=True)
class Wrap:
    """`script` runs in the plugin's place, with its arguments and input; `caught_by` must all turn red."""

    name: str
    script: str
    caught_by: tuple[str, ...]
    why: str
    lab: str = ""
    prevents_start: bool = False
    kind: str = "wrap"

    def make(self, into: Path) -> dict[str, str]:
        """The script as a program, the real plugin beside it; what to put in which part's place."""
        return {"cni": str(wrap_plugin(self.script, into))}


def kind_of(entry: Mapping[Any, Any]) -> str:
    """What an entry is meant to be: a build, a wrapper, or ("fault") one that is planted in a finished lab."""
    return "build" if "file" in entry or "replace" in entry else "wrap" if "wrap" in entry else "fault"


def read_built(entry: Mapping[str, Any]) -> Build | Wrap:
    """The value of an entry that has no mistakes."""
    rest = (tuple(entry["caught_by"]), " ".join(entry.get("why", "").split()), entry.get("lab", ""))
    stays_down = entry.get("prevents_start", False)
    if kind_of(entry) == "wrap":
        return Wrap(entry["name"], entry["wrap"]["cni"], *rest, stays_down)
    return Build(entry["name"], entry["file"], entry["replace"], entry["with"], *rest, stays_down)


def built_mistakes(
    path: KeyPath, entry: Mapping[Any, Any], ids: Iterable[str], labs: Iterable[str], checkout: Path = ROOT
) -> Iterator[Mistake]:
    """What is wrong with a build or a wrapper."""
    fields = _FIELDS[kind_of(entry)]
    for key in entry:
        if key not in fields:
            yield Mistake((*path, str(key)), "unknown key", ", ".join(fields), meant(str(key), fields, "delete it"))
    for key, legal in fields.items():
        if key not in entry:
            if key not in _OPTIONAL:
                yield Mistake((*path, key), "missing", legal, f"add `{key}:`")
        elif not _FITS[key](entry[key]):
            yield Mistake((*path, key), f"{shown(entry[key])}: does not fit", legal, _EXAMPLE)
    named, known = entry.get("caught_by"), tuple(ids)
    for number, name in enumerate(named if isinstance(named, list) else ()):
        if name not in known:
            hint = meant(str(name), known, "see suites/ for those there are")
            yield Mistake(
                (*path, "caught_by", number), f"{shown(name)}: no such requirement", "an id such as IPIP-03", hint
            )
    if "lab" in entry and entry["lab"] not in (names := tuple(labs)):
        hint = meant(str(entry["lab"]), names, "name one")
        yield Mistake((*path, "lab"), f"{shown(entry['lab'])}: no such lab", ", ".join(names), hint)
    if _is_text(entry.get("file")):
        yield from _source_mistakes(path, entry, checkout)


def _source_mistakes(path: KeyPath, entry: Mapping[Any, Any], checkout: Path) -> Iterator[Mistake]:
    name, old = entry["file"], entry.get("replace")
    file = checkout / name
    if not name.startswith("refnet/") or ".." in Path(name).parts or not file.is_file():
        yield Mistake((*path, "file"), f"{shown(name)}: no file of refnet", _FIELDS["build"]["file"], _EXAMPLE)
    elif _is_text(old) and (count := file.read_text().count(old)) != 1:
        what = f"{shown(old)}: occurs {count} times in {name}"
        yield Mistake((*path, "replace"), what, "exactly once", "take more or less of the line")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


_FITS: Mapping[str, Callable[[Any], bool]] = {
    "name": lambda value: _is_text(value) and all((one.isalnum() and one.isascii()) or one == "-" for one in value),
    "file": _is_text,
    "replace": lambda value: isinstance(value, str) and bool(value),
    "with": lambda value: isinstance(value, str),
    "wrap": lambda value: isinstance(value, dict) and set(value) == set(_PARTS) and _is_text(value["cni"]),
    "caught_by": lambda value: isinstance(value, list) and bool(value),
    "why": _is_text,
    "lab": _is_text,
    "prevents_start": lambda value: isinstance(value, bool),
}
