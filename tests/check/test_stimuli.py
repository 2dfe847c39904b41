"""What is sent is decided before anything is: the sizes at the limit are those of each pair's own way."""

from __future__ import annotations

import itertools
from ipaddress import IPv4Address

import pytest

from tunlab.check.stimuli import IP_AND_ICMP_BYTES, Stimuli
from tunlab.lab.load import parse_lab
from tunlab.lab.topology import Mode
from tunlab.live.lab import Workload
from tunlab.oracle.network import Oracle
from tunlab.runtime.cni import Sandbox
from tunlab.systems.catalogue import find_system
from tunlab.systems.install import Ipam

JUMBO = """
description: Two nodes on a segment of 9000 bytes, one on a usual one.
modes: [ipip, vxlan, vxlan-crosssubnet, none]
segments:
  - {name: wide, subnet: 10.1.0.0/24, mtu: 9000}
  - {name: usual, subnet: 10.2.0.0/24}
routers:
  - name: router1
    interfaces: [{segment: wide, address: 10.1.0.1}, {segment: usual, address: 10.2.0.1}]
nodes:
  - {name: node1, segment: wide, address: 10.1.0.11}
  - {name: node2, segment: wide, address: 10.1.0.12}
  - {name: node3, segment: usual, address: 10.2.0.13}
pods: [{name: pod1, node: node1}, {name: pod2, node: node2}, {name: pod3, node: node3}]
pools: [{name: pool, cidr: 10.244.0.0/16}]
"""


def stimuli(mode: Mode) -> tuple[Oracle, Stimuli]:
    topology = parse_lab("jumbo", JUMBO, place="jumbo.yaml")
    pods = {
        pod.name: Workload(
            pod.name, pod.node, IPv4Address(f"10.244.0.{n}"), "cali", "", Sandbox(pod.name, pod.node), {}
        )
        for n, pod in enumerate(topology.pods, start=1)
    }
    dialect = find_system("refnet").recipe(topology, mode).dialect
    oracle = Oracle(topology, mode, dialect, Ipam(), pods)
    return oracle, Stimuli(oracle, itertools.count(1))


@pytest.mark.parametrize(
    ("mode", "wide", "narrow"), [("ipip", 8980, 1480), ("vxlan", 8950, 1450), ("vxlan-crosssubnet", 8950, 1450)]
)
def test_each_pair_is_asked_at_the_limit_of_its_own_way(mode: Mode, wide: int, narrow: int) -> None:
    oracle, sent = stimuli(mode)
    sizes = {(one.source, one.target, one.fits): one.size + IP_AND_ICMP_BYTES for one in sent.limits}
    between = {pair: narrow if "pod3" in pair else wide for pair in itertools.permutations(oracle.workloads, 2)}
    assert {pair[:2]: size for pair, size in sizes.items() if pair[2]} == between
    own = {"pod1": wide, "pod2": wide, "pod3": narrow}
    assert {pair[:2]: size for pair, size in sizes.items() if not pair[2]} == {
        pair: own[pair[0]] + 1 for pair in between
    }


def test_full_size_in_the_matrix_is_what_the_way_carries() -> None:
    _, sent = stimuli("vxlan")
    full = {
        (one.source, one.target): one.size + IP_AND_ICMP_BYTES
        for one in sent.questions()
        if (one.protocol, one.size_name) == ("icmp", "full")
    }
    assert (full["pod1", "pod2"], full["pod1", "pod3"], full["node1", "pod3"], full["pod1", "node1"]) == (
        8950, 1450, 1450, 8950,
    )  # fmt: skip
