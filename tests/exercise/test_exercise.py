"""The file of an exercise: right as a whole, or one message per mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunlab.errors import LabError
from tunlab.exercise.exercise import Known, load_exercises, parse_exercise
from tunlab.lab.load import lab_names, load_lab
from tunlab.mutants.bite import load_core, load_proofs

GOLDEN = Path(__file__).parents[1] / "golden" / "errors" / "exercises"
WHOLE = """
title: node1 has a blackhole route for pod3's address
level: 1
lab: mixed
mode: vxlan
plant: [{at: node1, run: "ip route add blackhole {pod_ip:pod3}/32"}]
survives: The agent leaves it alone.
symptom: {says: Nobody reaches pod3., at: pod1, run: "ping -c 1 {pod_ip:pod3}", shows: 100% packet loss}
hints: [One., Another one.]
graded_by: [STATE-01]
solution: [{at: node1, run: "ip route del blackhole {pod_ip:pod3}/32"}]
learned: The most exact route wins.
"""


@pytest.fixture(scope="module")
def known() -> Known:
    proofs = load_proofs()
    return Known(
        {name: load_lab(name) for name in lab_names()},
        {id: proof.requirement for id, proof in proofs.items()},
        {one.name: one for one in load_core(proofs)},
    )


def test_all_exercises_of_the_house_are_right(known: Known) -> None:
    assert len(load_exercises(known)) >= 20


def test_what_is_left_out_has_a_meaning(known: Known) -> None:
    one = parse_exercise("mine", WHOLE, place="mine.yaml", known=known)
    assert (one.name, one.freeze, one.besides, one.must, one.clear, one.mutant) == ("mine", False, None, (), (), "")


def test_a_mutant_brings_its_commands_and_whether_the_agents_are_held_still(known: Known) -> None:
    text = WHOLE.replace(
        WHOLE[WHOLE.index("plant:") : WHOLE.index("survives:")], "mutant: fdb-points-at-another-node\n"
    )
    one = parse_exercise("mine", text, place="mine.yaml", known=known)
    assert (one.plant, one.freeze) == (known.mutants["fdb-points-at-another-node"].do, True)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_wrong_file_is_refused_with_all_its_mistakes(path: Path, known: Known) -> None:
    with pytest.raises(LabError) as refused:
        parse_exercise(path.stem, path.read_text(), place=path.name, known=known)
    assert refused.value.message + "\n" == path.with_suffix(".txt").read_text()
    assert [line for line in refused.value.message.splitlines() if len(line) > 80] == []
