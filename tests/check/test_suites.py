"""Requirements whose suites need no lab to be tried: what they must see is put into a capture made by hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tunlab.check.stimuli import HOSTS, PAIRS, uplink_taps
from tunlab.lab.load import parse_lab
from tunlab.mutants.bite import load_proofs
from tunlab.wire.decode import Capture, Window
from tunlab.wire.frames import Arp, Ethernet, Frame, Mismatch

TWO_POOLS = """
description: Two nodes on one segment, and a pool for each of two tenants.
modes: [vxlan]
segments: [{name: lan, subnet: 10.1.0.0/24}]
routers: [{name: router1, interfaces: [{address: 10.1.0.1}]}]
nodes: [{name: node1, address: 10.1.0.11}, {name: node2, address: 10.1.0.12}]
pods: [{name: pod1, node: node1}, {name: pod2, node: node2}]
pools: [{cidr: 10.244.0.0/16}, {cidr: 10.99.0.0/16}]
"""


def _cell(asked_for: str) -> Any:
    """What a cell shows where on every wire somebody asks for the gateway, and on one for that address."""
    topology = parse_lab("two-pools", TWO_POOLS, place="two-pools.yaml")
    taps = uplink_taps(topology)
    asks = [(tap, "10.1.0.1") for tap in taps] + [(taps[-1], asked_for)]
    frames = tuple(
        Frame(
            number, 1.0, tap, "out", PAIRS,
            (Ethernet("02:00:00:00:00:01", "ff:ff:ff:ff:ff:ff", 0x0806),
             Arp(1, "02:00:00:00:00:01", "10.1.0.11", "00:00:00:00:00:00", target)),
            "made.pcapng",
        )
        for number, (tap, target) in enumerate(asks, start=1)
    )  # fmt: skip
    windows = {name: Window(name, frozenset(taps), 0.0, 2.0) for name in (PAIRS, HOSTS)}
    capture = Capture(Path("made.pcapng"), frames, taps, windows, dict.fromkeys(taps, 0), ())
    return cast(Any, SimpleNamespace(topology=topology, seen=SimpleNamespace(capture=capture)))


@pytest.mark.parametrize("asked_for", ["10.244.0.5", "10.99.0.5"], ids=["first-pool", "second-pool"])
def test_an_arp_for_an_address_of_any_pool_is_one_too_many(asked_for: str) -> None:
    proof = load_proofs()["VXLAN-08"]
    proof.test(_cell("10.1.0.12"))
    with pytest.raises(Mismatch, match=f"who has {asked_for}"):
        proof.test(_cell(asked_for))
