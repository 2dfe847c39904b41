"""`./lab mutants --system`: another network gets the faults of its modes, and answers for what it is asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.command.typed import ROOT, type_line
from tunlab.command.mutants import choose
from tunlab.errors import LabError
from tunlab.mutants.bite import CORPUS, load_corpus, load_proofs
from tunlab.mutants.mutant import Mutant

PTP = "fixtures/systems/cni-ptp.yaml"
BRIDGE = "fixtures/systems/cni-bridge.yaml"
OWN = """
- name: route-is-gone
  mode: none
  lab: same-subnet
  freeze: true
  do: [{node: node1, run: "ip route del {route:node2}"}]
  undo: [{node: node1, run: "ip route add {route:node2}"}]
  caught_by: [NONE-03]
- name: asks-who-is-always-red
  mode: none
  lab: same-subnet
  freeze: true
  do: [{node: node1, run: "ip link add {host_prefix}0000 type dummy"}]
  undo: [{node: node1, run: "ip link del {host_prefix}0000"}]
  caught_by: [CNI-03]
- name: stays
  mode: none
  lab: same-subnet
  freeze: true
  do:
    - {pod: pod1, run: "ip route replace {default_route:pod1} metric 7"}
    - {node: node1, run: "ip addr add 192.168.236.60/32 dev {pod_route_dev:pod1}"}
    - {node: node1, run: "ip route replace {block:node2} via {gateway:node1} proto {proto:node2}"}
  caught_by: [NONE-02, NONE-03]
- name: another-after-it
  mode: none
  lab: same-subnet
  freeze: true
  do: [{pod: pod1, run: "sysctl -qw net.ipv4.ip_default_ttl=77"}]
  undo: [{pod: pod1, run: "sysctl -qw net.ipv4.ip_default_ttl=64"}]
  caught_by: [NONE-06]
"""


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


def test_faults_in_a_bridge_are_told_in_its_own_words_and_who_is_red_anyway_is_no_witness(tmp_path: Path) -> None:
    """Debian's `bridge` fails CNI-03 by itself, and repairs nothing: what stays costs a new lab and nobody else."""
    (tmp_path / "own.yaml").write_text(OWN)
    done = type_line("mutants", "--box", "namespaces", "--system", BRIDGE, "--from", str(tmp_path / "own.yaml"))
    (told,) = [word for word in done.stdout.split() if word.startswith("results=")]
    found = {one["name"]: one for one in json.loads((ROOT / told.partition("=")[2]).read_text())["mutants"]}
    assert {name: one["fate"] for name, one in found.items()} == {
        "route-is-gone": "killed", "asks-who-is-always-red": "broken", "stays": "killed", "another-after-it": "killed",
    }, done.stdout  # fmt: skip
    assert set(found["route-is-gone"]["red"]) == {"NONE-03"}
    assert not {id for one in found.values() for id in one["asked"]} & {"CNI-03"}
    (why,) = found["asks-who-is-always-red"]["complaints"]
    assert "CNI-03 is failed without any fault: node1: devices after: too much: veth" in why
    assert done.returncode == 2
