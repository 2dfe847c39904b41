"""The catalogue of requirements: each is asked somewhere, and none goes unnoticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunlab.check.selection import Options
from tunlab.errors import LabError
from tunlab.lab.load import lab_names, load_lab
from tunlab.mutants.bite import load_proofs
from tunlab.mutants.trial import cell_for
from tunlab.report.catalogue import manifest, read_suites


def test_every_requirement_is_asked_in_some_lab_and_mode() -> None:
    labs = {name: load_lab(name) for name in lab_names()}
    options = Options(out=Path(), level="extended")
    proofs = load_proofs()
    assert [id for id, proof in proofs.items() if cell_for(proof, labs, options) is None] == []
    assert {one.id for one in read_suites()} == set(proofs)


def test_an_id_does_not_go_by_itself() -> None:
    suites = read_suites()
    assert manifest(suites, manifest(suites[1:])) == manifest(suites)
    message = rf"^manifest\.txt: {suites[0].id}: declared no more\n  hint: an id never changes"
    with pytest.raises(LabError, match=message):
        manifest(suites[1:], manifest(suites))
