"""A file of mutants is right as a whole or answered with one message per mistake; the corpus holds the exact texts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunlab.errors import LabError
from tunlab.lab.load import lab_names, load_lab
from tunlab.mutants.bite import Bite, load_proofs
from tunlab.mutants.mutant import PLACEHOLDERS, Known, Mutant, Step, fill, load_mutants, parse_mutants
from tunlab.node.tables import Link, Neighbour, Tables, lasting

CORPUS = Path(__file__).parents[1] / "golden" / "errors" / "mutants"
WRONG = sorted(CORPUS.glob("*.yaml"))
KNOWN = Known(
    {name: load_lab(name) for name in lab_names()},
    {id: proof.requirement for id, proof in load_proofs().items()},
)
RIGHT = """
- name: one
  mode: vxlan
  lab: mixed
  freeze: true
  do:
    - {node: node1, run: "ip route replace {route:node2} via {tunnel_ip:node2} dev {tunnel}"}
    - {pod: pod1, run: "x() { echo ${HOME:-{}}; }"}
  caught_by: [STATE-01, VXLAN-06]
  visible_to_ping: false
  why: |
    A sentence
    on two lines.
"""


class Echo:
    def word(self, name: str, about: str, place: str) -> str:
        return f"<{name} {about}{' of ' + place if name in ('route', 'proto') else ''}>"


def right() -> Mutant:
    (found,) = parse_mutants(RIGHT, place="x.yaml", known=KNOWN)
    assert isinstance(found, Mutant)
    return found


@pytest.mark.parametrize("path", WRONG, ids=lambda path: path.stem)
def test_a_wrong_file_gets_exactly_these_messages(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CORPUS)
    with pytest.raises(LabError) as caught:
        load_mutants(Path(path.name), KNOWN)
    assert str(caught.value) + "\n" == path.with_suffix(".txt").read_text(encoding="utf-8")
    for mistake in caught.value.mistakes:
        assert [line[:6] for line in mistake.splitlines() if line[:2] == "  " and line[2] != " "] == [
            "  lega",
            "  hint",
        ]
        assert max(map(len, mistake.splitlines())) <= 80


def test_every_wrong_file_has_its_messages_beside_it() -> None:
    assert {path.stem for path in WRONG} == {path.stem for path in CORPUS.glob("*.txt")}


def test_a_missing_file_and_one_of_bytes_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bytes.yaml").write_bytes(b"\xff\xfe\x00")
    for name, first in (("none.yaml", "no such file or directory"), ("bytes.yaml", "not UTF-8 text")):
        with pytest.raises(LabError) as caught:
            load_mutants(Path(name), KNOWN)
        assert str(caught.value).splitlines()[0] == f"{name}: {first}"


def test_a_right_file_comes_back_as_it_was_meant() -> None:
    mutant = right()
    assert (mutant.lab, mutant.mode, mutant.freeze, mutant.canary, mutant.undo) == ("mixed", "vxlan", True, "", ())
    assert mutant.caught_by == ("STATE-01", "VXLAN-06")
    assert mutant.places == ("node1", "pod1")
    assert mutant.why == "A sentence on two lines."


def test_filling_in_replaces_every_placeholder_and_leaves_the_shells_own_braces_alone() -> None:
    mutant = right()
    assert [fill(step, Echo()) for step in mutant.do] == [
        "ip route replace <route node2 of node1> via <tunnel_ip node2> dev <tunnel >",
        "x() { echo ${HOME:-{}}; }",
    ]
    everything = " ".join("{" + name + (":node1" if kind else "") + "}" for name, kind in PLACEHOLDERS.items())
    assert "{" not in fill(Step("node1", everything), Echo())


def mutant(*caught_by: str) -> Mutant:
    step = Step("node1", "true")
    return Mutant("one", "mixed", "vxlan", True, (step,), (), caught_by, False, "", "Because.")


def test_what_was_missed_and_what_else_went_red_are_told_apart() -> None:
    red = {"VXLAN-06": "seen", "STATE-01": "seen"}
    bite = Bite(mutant("VXLAN-06", "VXLAN-07"), red, {}, frozenset(red), False, False, "", 1.0)
    assert (bite.missed, bite.beside) == (("VXLAN-07",), ("STATE-01",))


def test_what_comes_and_goes_by_itself_is_no_part_of_a_lasting_state() -> None:
    def tables(index: int, *neighbours: Neighbour) -> Tables:
        link = Link("vxlan.calico", index, None, 1450, "66:00:00:00:00:01", True, "vxlan", {"id": 4096})
        return Tables("node1", {link.name: link}, frozenset(), frozenset(), frozenset(neighbours), frozenset(), "")

    before = sorted(lasting(tables(3)))
    assert sorted(lasting(tables(9, Neighbour("10.0.0.2", "eth0", "02:00:00:00:00:02", "REACHABLE")))) == before
    for lasts in (
        Neighbour("10.0.0.2", "eth0", "02:00:00:00:00:02", "PERMANENT"),
        Neighbour("10.0.0.2", "vxlan.calico", "66:00:00:00:00:02", "STALE"),
    ):
        assert sorted(lasting(tables(3, lasts))) != before
