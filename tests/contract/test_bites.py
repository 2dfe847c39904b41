"""The judge bites: every fault of fixtures/mutants/core.yaml turns the requirements red that it names.

One lab for each lab and mode, the faults in it one after the other; what takes long comes first.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.contract.biting import MUTANTS, OTHERS, PROOFS, expect_all_noticed
from tunlab.box.machine import machine
from tunlab.check.cell import LabCell, open_cell
from tunlab.check.selection import Options
from tunlab.check.verdict import Verdict
from tunlab.errors import WorldError
from tunlab.lab.load import load_lab
from tunlab.lab.topology import Mode
from tunlab.mutants.bite import Proof, Teeth
from tunlab.mutants.mutant import WITNESSES, Step


@pytest.mark.parametrize(("lab", "mode"), OTHERS, ids=["-".join(cell) for cell in OTHERS])
def test_every_fault_turns_what_it_names_red_in_a_lab_that_was_green(lab: str, mode: Mode, tmp_path: Path) -> None:
    expect_all_noticed(lab, mode, tmp_path)


def test_most_faults_of_the_corpus_pass_every_ping() -> None:
    hidden = [mutant for mutant in MUTANTS if mutant.visible_to_ping is False]
    assert all(mutant.why and mutant.visible_to_ping is not None for mutant in MUTANTS)
    assert len(MUTANTS) >= 24
    assert len(hidden) > 0.8 * len(MUTANTS)
    assert {mutant.mode for mutant in MUTANTS} == {"ipip", "ipip-crosssubnet", "vxlan", "vxlan-crosssubnet", "none"}


def test_there_is_one_canary_for_each_kind_of_witness_in_the_mode_that_is_cheapest_here() -> None:
    assert sorted(mutant.canary for mutant in MUTANTS if mutant.canary and mutant.mode == "vxlan") == sorted(WITNESSES)
    assert machine().choose("vxlan")[1].ok


def _always_red(cell: LabCell) -> None:
    raise AssertionError("as ever")


def test_blind_proofs_dead_mutants_and_faults_that_stay_are_found_out(tmp_path: Path) -> None:
    blind = {"VXLAN-06": Proof(PROOFS["VXLAN-06"].requirement, lambda cell: None)}
    red = {"VXLAN-06": Proof(PROOFS["VXLAN-06"].requirement, _always_red)}
    (fdb,) = [mutant for mutant in MUTANTS if mutant.name == "canary-fdb"]
    dead = replace(fdb, name="dead", do=(Step("node1", "true"),), undo=())
    stays = replace(fdb, name="stays", do=(Step("pod1", "sysctl -qw net.ipv4.ip_forward=1"),), undo=())
    unseen = [  # nobody asks about these, and yet they are there: they survive
        replace(fdb, name=do, do=(Step("node1", do),), undo=(Step("node1", undo),))
        for do, undo in (
            ("ip rule add from 203.0.113.9 lookup main", "ip rule del from 203.0.113.9 lookup main"),
            ("ip route add 203.0.113.0/24 dev lo table 77", "ip route flush table 77"),
            ("iptables-legacy -P INPUT DROP", "iptables-legacy -P INPUT ACCEPT"),
            ("ip6tables-legacy -P INPUT DROP", "ip6tables-legacy -P INPUT ACCEPT"),
            ("tc qdisc add dev eth0 root pfifo limit 99", "tc qdisc del dev eth0 root"),
        )
    ]
    opened: list[LabCell] = []

    def open_one() -> LabCell:
        opened.append(open_cell(load_lab(fdb.lab), fdb.mode, Options(out=tmp_path)))
        return opened[-1]

    teeth = Teeth(open_one, blind, repaired_within_s=0.5)
    try:
        assert [one.verdict for one in teeth.baseline().values()] == [Verdict.PASSED]
        first, second = teeth.bite(fdb), teeth.bite(dead)
        assert (first.missed, first.is_stillborn, first.leftover) == (("VXLAN-06",), False, "")
        assert (second.is_stillborn, second.leftover) == (True, "")
        for quiet in unseen:
            bitten = teeth.bite(quiet)
            assert (bitten.missed, bitten.is_stillborn, bitten.leftover) == (("VXLAN-06",), False, ""), quiet.name
        third = teeth.bite(stays)
        assert "pod1: too much: /proc/sys/net/ipv4/ip_forward:1" in third.leftover.split("; ")
        assert len(opened) == 1
        teeth.proofs = red
        with pytest.raises(WorldError, match="VXLAN-06 is failed without any fault: as ever"):
            teeth.bite(fdb)
        teeth.proofs = blind
        teeth.baseline()
        assert teeth.bite(dead).leftover == ""
        assert len(opened) == 2, "a lab that is not as before is used for nothing else"
    finally:
        teeth.close()
