"""The judge bites what only happens later: refnet with a line wrong turns the requirements red that its entry names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tunlab.check.bite import ROOT, Judged, Proof, ask, load_proofs
from tunlab.check.build import Build, load_builds, make_build
from tunlab.check.cell import open_cell
from tunlab.check.scene import open_scene
from tunlab.check.selection import Options, choose_cells
from tunlab.check.verdict import Verdict, judge
from tunlab.errors import LabError
from tunlab.lab.load import lab_names, load_lab

PROOFS = load_proofs()
BUILDS = load_builds(ROOT, PROOFS)
LABS = {name: load_lab(name) for name in lab_names()}


@contextmanager
def opened(proof: Proof, options: Options) -> Iterator[Any]:
    """The cell that is cheapest of those that the requirement is asked in."""
    declared = proof.requirement
    cells = [key for key in choose_cells(LABS, options) if declared.applies(LABS[key.lab], key.mode)]
    key = cells[-1]  # what takes long comes first
    lab, mode = LABS[key.lab], key.mode
    cell: Any = (
        open_scene(lab, mode, declared.scene, options)  # type: ignore[arg-type]
        if declared.scene
        else open_cell(lab, mode, options)  # type: ignore[arg-type]
    )
    try:
        yield cell
    finally:
        cell.close()


def verdict_of(proof: Proof, options: Options) -> Judged:
    """What the requirement says of this build; a build with which no lab gets up is as red as can be."""
    try:
        with opened(proof, options) as cell:
            cell.begin(proof.requirement)
            return ask(cell, proof)
    except Exception as error:  # noqa: BLE001 - whose fault it is, is exactly what is asked
        return Judged(*judge(error))


@pytest.mark.parametrize("build", BUILDS, ids=[build.name for build in BUILDS])
def test_every_wrong_build_turns_what_it_names_red(build: Build, tmp_path: Path) -> None:
    home = make_build(build, ROOT, tmp_path)
    options = Options(out=tmp_path, level="extended", with_={"refnet": str(home)})
    said = {id: verdict_of(PROOFS[id], options) for id in build.caught_by}
    for id, one in said.items():
        print(f"{build.name}: {id}: {one.verdict}: {one.reason.splitlines()[:1]}")
    assert {id: one.verdict for id, one in said.items()} == dict.fromkeys(build.caught_by, Verdict.FAILED)


def test_a_wrong_entry_is_refused_with_every_mistake(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(
        "- {name: a, file: refnet/nothing.py, replace: x, with: y, caught_by: [NOPE-01], why: z}\n"
        "- {name: b, file: refnet/__init__.py, replace: '\"', with: y, caught_by: [], why: z}\n"
        "- {name: c}\n"
    )
    with pytest.raises(LabError) as refused:
        load_builds(ROOT, {}, tmp_path)
    assert str(refused.value).splitlines() == [
        "x.yaml: a: refnet/nothing.py: no file of refnet",
        "x.yaml: a: caught_by: NOPE-01: no such requirement",
        "x.yaml: b: refnet/__init__.py: what is to be replaced occurs 8 times",
        "x.yaml: b: caught_by: names nobody",
        "x.yaml: c: has name",
        "  hint: each entry has name, file, replace, with, caught_by, why",
    ]
