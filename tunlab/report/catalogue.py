"""The catalogue of requirements: every promise that the suites hold a system to, as the table in docs/requirements.md
and on the terminal, with the mutants that turn each of them red.

`python -m tunlab.report.catalogue` writes it anew, with suites/manifest.txt and the table of abilities in
docs/drivers.md; a test says when that is due.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from tunlab.check.requirement import MANIFEST, Requirement, registry
from tunlab.errors import Bug, LabError
from tunlab.lab.topology import MODES
from tunlab.paths import ROOT
from tunlab.systems.recipe import ABILITIES

SUITES, PAGE = ROOT / "suites", ROOT / "docs" / "requirements.md"
DRIVERS = ROOT / "docs" / "drivers.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
MUTANTS, UNPROVEN = ROOT / "fixtures" / "mutants", ROOT / "fixtures" / "unproven.yaml"
_COLUMNS = ("id", "what must hold", "level", "modes", "labs", "needs", "where it is written", "mutants")


@dataclass(frozen=True)
class Proofs:
    """By requirement: the mutants that must turn it red, and why none can where there is none."""

    mutants: Mapping[str, Sequence[str]]
    reasons: Mapping[str, str]

    def words(self, id: str, *, mark: str = "") -> str:
        """The mutants, or why there is none; `mark` stands around the word for what nobody has proved."""
        if id in self.mutants:
            return ", ".join(self.mutants[id])
        return f"none can: {self.reasons[id]}" if id in self.reasons else f"{mark}unproven{mark}"


def read_proofs(mutants: Path = MUTANTS, unproven: Path = UNPROVEN) -> Proofs:
    """What the files of mutants promise in `caught_by`; whether it is so, `./lab mutants` and tests/contract say."""
    found: dict[str, list[str]] = {}
    for path in sorted(mutants.rglob("*.yaml")):
        for entry in yaml.safe_load(path.read_text(encoding="utf-8")) or ():
            for id in entry["caught_by"]:
                found.setdefault(id, []).append(entry["name"])
    return Proofs(found, yaml.safe_load(unproven.read_text(encoding="utf-8")) or {})


def read_suites(folder: Path = SUITES) -> tuple[Requirement, ...]:
    """Every requirement that the files of a folder declare, sorted by id. Raises Bug where two share an id."""
    files = sorted(path.resolve() for path in folder.glob("test_*.py"))
    for path in files:
        spec = importlib.util.spec_from_file_location(f"suites.{path.stem}", path)
        if spec is None or spec.loader is None:
            raise Bug(f"{path}: not a Python file")
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    homes = {str(path) for path in files}
    found = [one for one in registry().values() if one.declared_at.partition("::")[0] in homes]
    return tuple(sorted(found, key=lambda one: one.id))


def table(requirements: Iterable[Requirement]) -> str:
    """The requirements as a Markdown table, in the order given."""
    proofs = read_proofs()
    rows: list[Sequence[str]] = [_COLUMNS, ["---"] * len(_COLUMNS), *(_row(one, proofs) for one in requirements)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def abilities_table(requirements: Iterable[Requirement]) -> str:
    """What a driver may claim, and how many requirements each claim lets in."""
    asked = [ability for one in requirements for ability in one.needs]
    rows = [f"| `{name}` | {claim} | {asked.count(name)} |" for name, claim in ABILITIES.items()]
    return "\n".join(("| ability | claim | requirements that need it |", "| --- | --- | --- |", *rows))


def manifest(requirements: Iterable[Requirement], before: str = "") -> str:
    """Every id on a line of its own: what a run must find declared, or it is broken.

    Raises LabError where an id of the manifest `before` is gone: others have it in their baselines and gates.
    """
    ids = [one.id for one in requirements]
    if gone := sorted(set(before.split()) - set(ids)):
        hint = "an id never changes; who gives one up takes it out of the manifest by hand"
        raise LabError(f"{MANIFEST}: {', '.join(gone)}: declared no more", hint=hint)
    return "".join(f"{id}\n" for id in ids)


def replaced(page: str, fresh: str) -> str:
    """The page with what stands between the two marks replaced. Raises LabError where the marks are not there."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise LabError(f"{PAGE.name}: no place for the table", hint=f"{BEGIN} and {END} on lines of their own")
    return f"{before}{BEGIN}\n{fresh}\n{END}{after}"


def _row(one: Requirement, proofs: Proofs) -> Sequence[str]:
    needs, bitten = ", ".join(one.needs) or "-", proofs.words(one.id, mark="**")
    cells = (one.id, one.title, one.level, modes_of(one), labs_of(one), needs, one.source, bitten)
    return [cell.replace("|", "\\|") for cell in cells]


def modes_of(one: Requirement) -> str:
    """The modes that it is asked in; "all" for all of them."""
    return "all" if set(one.modes) == set(MODES) else ", ".join(mode for mode in MODES if mode in one.modes)


def labs_of(one: Requirement) -> str:
    """Its labs, or what a lab must have, in the words of `tunlab.oracle.where`: has_two_nodes → "two nodes"."""
    if one.labs:
        return ", ".join(one.labs)
    name = getattr(one.where, "__name__", "").strip("_")
    return name.removeprefix("has_").replace("_", " ") if name else "all"


def main() -> None:
    """Write the tables of docs/requirements.md and docs/drivers.md and the suites' manifest anew."""
    suites = read_suites()
    path = SUITES / MANIFEST
    path.write_text(manifest(suites, path.read_text(encoding="utf-8")), encoding="utf-8")
    for page, fresh in ((PAGE, table(suites)), (DRIVERS, abilities_table(suites))):
        page.write_text(replaced(page.read_text(encoding="utf-8"), fresh), encoding="utf-8")


if __name__ == "__main__":
    main()
