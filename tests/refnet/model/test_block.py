"""A block gives each address once, longest-free first, and reads back what Calico would store."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from refnet.errors import AlreadyExists, StoreCorrupt
from refnet.model.block import Block, BlockAffinity, Owner

CIDR = IPv4Network("10.65.0.0/30")
A, B = Owner("net.a", (("node", "node1"),)), Owner("net.b")


def taken(block: Block, *owners: Owner) -> Block:
    for owner in owners:
        step = block.assign_next(owner)
        assert step
        block = step[0]
    return block


def test_a_freed_address_comes_round_last() -> None:
    block = taken(Block.fresh(CIDR, "node1"), A, B).release("net.a")
    given = []
    while step := block.assign_next(A):
        block, address = step
        given.append(str(address))
    assert given == ["10.65.0.2", "10.65.0.3", "10.65.0.0"]


def test_a_taken_address_is_refused_by_its_owner() -> None:
    block = taken(Block.fresh(CIDR, "node1"), A)
    with pytest.raises(AlreadyExists, match=r"^address 10\.65\.0\.0: in use by net\.a$"):
        block.assign(IPv4Address("10.65.0.0"), B)


def test_release_can_be_narrowed_to_attributes_or_one_address() -> None:
    first = Owner("net.a", (("interface", "eth0"),))
    second = Owner("net.a", (("interface", "eth1"),))
    block = taken(Block.fresh(CIDR, "node1"), first, second)
    assert block.release("net.a", interface="eth1").addresses_of("net.a") == (IPv4Address("10.65.0.0"),)
    assert block.release("net.a", interface="eth2") is block
    assert block.release_address(IPv4Address("10.65.0.0"), "net.a").addresses_of("net.a") == (IPv4Address("10.65.0.1"),)
    assert block.release_address(IPv4Address("10.65.0.0"), "net.b") is block


def test_the_stored_form_is_calicos() -> None:
    block = taken(Block.fresh(CIDR, "node1"), A, B)
    value = block.to_value()
    assert value["cidr"] == "10.65.0.0/30"
    assert value["affinity"] == "host:node1"
    assert value["allocations"] == [0, 1, None, None]
    assert value["unallocated"] == [2, 3]
    assert value["attributes"] == [
        {"handle_id": "net.a", "secondary": {"node": "node1"}},
        {"handle_id": "net.b", "secondary": {}},
    ]
    assert value["sequenceNumberForAllocation"].keys() == {"0", "1"}
    assert Block.from_value(CIDR, value) == block


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"cidr": "10.65.0.4/30"}, "ValueError: says it is 10.65.0.4/30"),
        ({"allocations": [0]}, "ValueError: 1 allocations for 4 addresses"),
        ({"allocations": [0, 7, None, None]}, "ValueError: allocation 1 names attribute 7 of 2"),
        ({"unallocated": [0, 2, 3]}, "ValueError: unallocated and allocations contradict each other"),
        ({"unallocated": [2, 2, 3]}, "ValueError: unallocated and allocations contradict each other"),
    ],
    ids=["another cidr", "too few", "no such owner", "free and taken", "free twice"],
)
def test_a_block_that_contradicts_itself_is_refused(change: dict[str, Any], reason: str) -> None:
    value = {**taken(Block.fresh(CIDR, "node1"), A, B).to_value(), **change}
    with pytest.raises(StoreCorrupt) as caught:
        Block.from_value(CIDR, value)
    assert str(caught.value) == f"block 10.65.0.0/30: misshapen: {reason}"


def test_an_empty_state_means_confirmed_and_an_unknown_one_is_refused() -> None:
    assert BlockAffinity.from_value("node1", CIDR, {"state": ""}) == BlockAffinity("node1", CIDR, "confirmed")
    with pytest.raises(StoreCorrupt, match=r"^affinity of node1 on 10\.65\.0\.0/30: state 'mine'$"):
        BlockAffinity.from_value("node1", CIDR, {"state": "mine"})
