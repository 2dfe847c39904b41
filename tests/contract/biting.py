"""The mutants of fixtures/mutants/core.yaml, and what must come of each: shared by the files that plant them."""

from __future__ import annotations

from pathlib import Path

from tunlab.check.selection import Options
from tunlab.lab.topology import Mode
from tunlab.mutants.bite import by_cell, load_core, load_proofs
from tunlab.mutants.trial import try_faults

PROOFS = load_proofs()
MUTANTS = load_core(PROOFS)
CELLS = by_cell(MUTANTS)
IPIP = [cell for cell in sorted(CELLS) if cell[1].startswith("ipip")]
OTHERS = [cell for cell in sorted(CELLS) if cell not in IPIP]


def expect_all_noticed(lab: str, mode: Mode, folder: Path) -> None:
    """Plant the mutants of one lab and mode, one after the other, in a lab that was green."""
    outcomes = list(try_faults(lab, mode, CELLS[lab, mode], PROOFS, Options(out=folder)))
    for one in outcomes:
        print(f"{one.seconds:5.1f} s  {one.name}: {', '.join(one.red)}")
    assert [complaint for one in outcomes for complaint in one.complaints] == []
    assert {one.fate for one in outcomes} == {"killed"}
