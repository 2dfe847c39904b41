"""`./lab mutants --system`: another network gets the faults of its modes, and answers for what it is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunlab.command.mutants import choose
from tunlab.errors import LabError
from tunlab.mutants.bite import CORPUS, load_corpus, load_proofs
from tunlab.mutants.mutant import Mutant

PTP = "fixtures/systems/cni-ptp.yaml"


def test_another_system_bears_the_faults_of_its_modes_for_what_it_is_asked() -> None:
    proofs = load_proofs()
    corpus = load_corpus(proofs, sorted(Path(CORPUS).rglob("*.yaml")))
    chosen, left_out = choose(corpus, proofs, [], [], "auto", PTP)
    assert len(chosen) > 5 and len(chosen) + len(left_out) == len(corpus)
    assert {one.mode for one in chosen if isinstance(one, Mutant)} == {"none"}
    by_name = {one.name: one for one in corpus}
    demands = {id for one in chosen for id in one.caught_by}
    assert {need for id in demands for need in proofs[id].requirement.needs} <= {"block-routes", "host-routes"}
    assert all(set(one.caught_by) <= set(by_name[one.name].caught_by) for one in chosen)
    assert left_out["fdb-points-at-another-node"] == "cni-ptp does not offer vxlan"
    assert left_out["rules-are-written-once"] == "builds are of refnet"
    assert [one.caught_by for one in choose(corpus, proofs, ["none"], [one.name for one in chosen], "auto")[0]] == [
        by_name[one.name].caught_by for one in chosen
    ]
    with pytest.raises(LabError, match=r"^no mutant fits cni-ptp: builds are of refnet\n"):
        choose(corpus, proofs, [], ["rules-are-written-once"], "auto", PTP)
