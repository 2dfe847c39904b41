"""The catalogue of requirements: every promise that the suites hold a system to, as the table in docs/requirements.md.

`python -m tunlab.report.catalogue` writes the table anew; a test says when that is due.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Sequence
from pathlib import Path

from tunlab.check.requirement import Requirement, registry
from tunlab.errors import Bug, LabError
from tunlab.lab.topology import MODES

ROOT = Path(__file__).resolve().parents[2]
SUITES, PAGE = ROOT / "suites", ROOT / "docs" / "requirements.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
_COLUMNS = ("id", "what must hold", "level", "modes", "labs", "needs", "where it is written")


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
    rows: list[Sequence[str]] = [_COLUMNS, ["---"] * len(_COLUMNS), *map(_row, requirements)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def replaced(page: str, fresh: str) -> str:
    """The page with what stands between the two marks replaced. Raises LabError where the marks are not there."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise LabError(f"{PAGE.name}: no place for the table", hint=f"{BEGIN} and {END} on lines of their own")
    return f"{before}{BEGIN}\n{fresh}\n{END}{after}"


def _row(one: Requirement) -> Sequence[str]:
    cells = (one.id, one.title, one.level, _modes(one.modes), _labs(one), ", ".join(one.needs) or "-", one.source)
    return [cell.replace("|", "\\|") for cell in cells]


def _modes(modes: Sequence[str]) -> str:
    return "all" if set(modes) == set(MODES) else ", ".join(mode for mode in MODES if mode in modes)


def _labs(one: Requirement) -> str:
    """What the lab must have, in the words of `tunlab.check.where`: has_two_nodes → "two nodes"."""
    name = getattr(one.where, "__name__", "")
    return name.removeprefix("has_").replace("_", " ") if name else "all"


def main() -> None:
    """Write the table of docs/requirements.md anew."""
    PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8"), table(read_suites())), encoding="utf-8")


if __name__ == "__main__":
    main()
