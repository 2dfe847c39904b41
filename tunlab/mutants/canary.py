"""Before the judge is believed: three faults, one per kind of witness, must be noticed in a throw-away lab.

A process of its own beside a run: `python -m tunlab.mutants.canary FOLDER` writes FOLDER/canaries.json. The lab has the
checkout's own refnet on it, whatever system the run judges: it is the judge who is tried here, not the accused.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from tunlab.box.machine import machine
from tunlab.check.cell import open_cell
from tunlab.check.selection import Options
from tunlab.child import die_with_asker
from tunlab.errors import TunlabError, WorldError
from tunlab.lab.load import load_lab
from tunlab.mutants.bite import Teeth, by_cell, load_core, load_proofs
from tunlab.mutants.mutant import Mutant

CANARIES = "canaries.json"


def choose(canaries: Iterable[Mutant], can: Callable[[str, str], bool]) -> tuple[str, tuple[Mutant, ...]]:
    """The box, and the canaries of the lab and mode that is cheapest there: namespaces before uml, then the file's
    order. Raises WorldError where no box can carry any of their modes."""
    cells = by_cell(mutant for mutant in canaries if mutant.canary)
    for box in ("namespaces", "uml"):
        for (_, mode), mutants in cells.items():
            if can(box, mode):
                return box, tuple(mutants)
    raise WorldError(f"no box here can carry {' or '.join(mode for _, mode in cells)}", hint="./lab doctor")


def sing(out: Path) -> list[dict[str, Any]]:
    """Plant every canary and look; `caught_by` stays empty for one that was missed. Raises TunlabError where that
    cannot be tried."""
    proofs = load_proofs()
    box, mutants = choose(load_core(proofs), lambda box, mode: machine().can(box, mode).ok)
    lab, mode = mutants[0].lab, mutants[0].mode
    wanted = {id for mutant in mutants for id in mutant.caught_by}
    options = Options(out=out / "canaries", box=box)
    teeth = Teeth(lambda: open_cell(load_lab(lab), mode, options), {id: proofs[id] for id in sorted(wanted)})
    try:
        return [_told(teeth, mutant) for mutant in mutants]
    finally:
        teeth.close()


def _told(teeth: Teeth, mutant: Mutant) -> dict[str, Any]:
    begun = time.monotonic()
    bite = teeth.bite(mutant)
    caught = [] if bite.missed else sorted(mutant.caught_by)
    return {"name": mutant.name, "caught_by": caught, "seconds": round(time.monotonic() - begun, 3)}


def main(argv: Sequence[str]) -> int:
    """Try, and write what came of it; whatever goes wrong is told there, too."""
    die_with_asker()
    out = Path(argv[1])
    told: dict[str, Any] = {"canaries": [], "error": ""}
    try:
        told["canaries"] = sing(out)
    except TunlabError as error:
        told["error"] = str(error)
    part = out / f".{CANARIES}"
    part.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    part.replace(out / CANARIES)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
