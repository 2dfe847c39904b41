"""Where an address comes from when several pools, nodes and rules have a say, against a real etcd."""

from __future__ import annotations

import time
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from typing import Any

import pytest

from refnet.errors import NoAddress
from refnet.ipam import Ipam
from refnet.ipam.walk import candidates
from refnet.model.block import Block, timestamp
from refnet.model.ipam import IPAMConfiguration, IPReservation
from refnet.model.keys import IP_RESERVATIONS, IPAM_CONFIG, block_key, ipam_configuration_key, node_key, pool_key
from refnet.model.pool import Pool
from refnet.model.selector import Selector
from refnet.store.etcd import Etcd

from .test_allocator import add_pool, books, everything


def node_with(store: Etcd, name: str, **labels: str) -> None:
    node = {"apiVersion": "projectcalico.org/v3", "kind": "Node", "metadata": {"name": name, "labels": labels}}
    store.put(node_key(name), node)


def reserve(store: Etcd, *cidrs: str) -> None:
    reservation = IPReservation("kept", tuple(IPv4Network(cidr) for cidr in cidrs))
    store.put(IP_RESERVATIONS + "kept", reservation.to_resource())


def fill(store: Etcd, node: str, count: int) -> list[Any]:
    return [Ipam(store, node).auto_assign(f"net.{node}-{i}", {"node": node}) for i in range(count)]


def test_a_node_without_blocks_to_claim_borrows_and_the_block_keeps_its_owner(store: Etcd) -> None:
    add_pool(store, "10.65.0.0/29", block_size=30)
    fill(store, "node1", 4)
    lender = fill(store, "node2", 1)[0]
    borrowed = Ipam(store, "node1").auto_assign("net.late", {"node": "node1"})
    assert borrowed in IPv4Network((lender, 30), strict=False)
    given, claims = books(store)
    assert given["net.late"] == {str(borrowed)}
    assert sorted(claims.values()) == ["node1", "node2"]
    Ipam(store, "node1").release_handle("net.late")
    assert sorted(books(store)[1].values()) == ["node1", "node2"]


def test_strict_affinity_lets_nobody_borrow(store: Etcd) -> None:
    add_pool(store, "10.65.0.0/29", block_size=30)
    fill(store, "node1", 4)
    fill(store, "node2", 1)
    store.put(ipam_configuration_key(), IPAMConfiguration(strict_affinity=True).to_resource())
    before = everything(store)
    with pytest.raises(NoAddress, match="and strictAffinity forbids to borrow\n"):
        Ipam(store, "node1").auto_assign("net.late", {})
    assert everything(store) == before


def test_an_address_of_another_nodes_block_may_be_asked_for(store: Etcd) -> None:
    add_pool(store, "10.65.0.0/24")
    Ipam(store, "node2").claim_block(IPv4Network("10.65.0.0/28"))
    assert Ipam(store, "node1").assign(IPv4Address("10.65.0.5"), "net.a", {"node": "node1"}) == IPv4Address("10.65.0.5")
    assert books(store)[1] == {"10.65.0.0/28": "node2"}


@pytest.mark.parametrize(("age_s", "owner"), [(3600, "node1"), (0, "node2")], ids=["old", "young"])
def test_an_idle_block_is_taken_over_once_its_claim_is_old(store: Etcd, age_s: int, owner: str) -> None:
    add_pool(store, "10.65.0.0/29", block_size=30)
    fill(store, "node1", 4)
    (free,) = (c for c in IPv4Network("10.65.0.0/29").subnets(new_prefix=30) if str(c) not in books(store)[1])
    Ipam(store, "node2").claim_block(free)
    kept = store.get(block_key(free))
    assert kept
    store.put(kept.key, {**kept.value, "affinity_claim_time": timestamp(time.time() - age_s)})
    address = Ipam(store, "node1").auto_assign("net.late", {})
    assert address in free
    assert books(store)[1][str(free)] == owner


def test_a_misshapen_block_of_another_node_is_passed_by(store: Etcd) -> None:
    pool = add_pool(store, "10.65.0.0/28", block_size=30)
    blocks = list(candidates(pool, "node1"))
    for cidr in blocks[1:]:
        Ipam(store, "node2").claim_block(cidr)
    store.put(block_key(blocks[1]), {"cidr": "nonsense"})
    fill(store, "node1", 4)
    assert Ipam(store, "node1").auto_assign("net.late", {}) in blocks[2]


def test_a_reserved_address_is_given_to_nobody_but_who_asks_for_it(store: Etcd) -> None:
    add_pool(store, "10.65.0.0/29", block_size=29)
    reserve(store, "10.65.0.0/31", "10.65.0.4/32")
    assert {str(address) for address in fill(store, "node1", 5)} == {f"10.65.0.{i}" for i in (2, 3, 5, 6, 7)}
    with pytest.raises(NoAddress):
        Ipam(store, "node1").auto_assign("net.late", {})
    assert Ipam(store, "node1").assign(IPv4Address("10.65.0.4"), "net.late", {}) == IPv4Address("10.65.0.4")


def test_a_pool_serves_the_nodes_that_its_selector_names(store: Etcd) -> None:
    for rack, cidr in (("a", "10.65.0.0/24"), ("b", "10.66.0.0/24")):
        selector = Selector.parse(f"rack == '{rack}'")
        add_pool(store, cidr, rack, node_selector=selector)
        node_with(store, f"node-{rack}", rack=rack)
    assert fill(store, "node-a", 1)[0] in IPv4Network("10.65.0.0/24")
    assert fill(store, "node-b", 1)[0] in IPv4Network("10.66.0.0/24")
    before = everything(store)
    with pytest.raises(NoAddress) as caught:
        Ipam(store, "node-c").auto_assign("net.c", {})
    assert caught.value.message == "ipam: no enabled IPPool gives addresses to a Workload"
    assert caught.value.hint == 'a selects rack == "a"; b selects rack == "b"; node-c is not among them'
    assert everything(store) == before
    asked = Ipam(store, "node-c").auto_assign("net.c", {}, pools=("b",))
    assert asked in IPv4Network("10.66.0.0/24")


def test_empty_blocks_of_a_pool_that_turned_away_are_given_back_and_used_ones_stay(store: Etcd) -> None:
    add_pool(store, "10.65.0.0/24", "old")
    node_with(store, "node1", rack="a")
    ipam = Ipam(store, "node1")
    used = fill(store, "node1", 1)[0]
    ipam.claim_block(IPv4Network("10.65.0.240/28"))
    pool = Pool("old", IPv4Network("10.65.0.0/24"), 28, node_selector=Selector.parse("rack == 'b'"))
    store.put(pool_key("old"), pool.to_resource())
    add_pool(store, "10.66.0.0/24", "new")
    assert ipam.auto_assign("net.late", {}) in IPv4Network("10.66.0.0/24")
    claims = books(store)[1]
    assert "10.65.0.240/28" not in claims
    assert claims[str(IPv4Network((used, 28), strict=False))] == "node1"


def test_without_automatic_blocks_only_those_claimed_by_hand_serve(store: Etcd) -> None:
    add_pool(store, "10.65.0.0/24")
    store.put(IPAM_CONFIG, {"strict_affinity": True, "auto_allocate_blocks": False})
    with pytest.raises(NoAddress, match="autoAllocateBlocks is false"):
        fill(store, "node1", 1)
    Ipam(store, "node1").claim_block(IPv4Network("10.65.0.16/28"))
    assert fill(store, "node1", 1)[0] in IPv4Network("10.65.0.16/28")


def test_both_families_live_side_by_side(store: Etcd) -> None:
    add_pool(store, "10.65.0.0/24")
    six = IPv6Network("fd00:10:65::/48")
    store.put(pool_key("six"), Pool("six", six, 122).to_resource())
    ipam = Ipam(store, "node1")
    pairs = [(ipam.auto_assign(f"net.{i}", {}), ipam.auto_assign(f"net.{i}", {}, version=6)) for i in range(66)]
    assert all(one in IPv4Network("10.65.0.0/24") and other in six for one, other in pairs)
    assert len({other for _, other in pairs}) == 66
    assert ipam.addresses_of("net.3") == pairs[3]
    assert ipam.release_handle("net.3") == pairs[3]
    blocks = [kv for key, kv in everything(store).items() if "/ipv6/block/" in key and "/assignment/" in key]
    assert len(blocks) == 2
    with pytest.raises(NoAddress, match=r"^ipam: no enabled IPv6 IPPool default gives addresses to a Workload$"):
        ipam.auto_assign("net.x", {}, version=6, pools=("default",))


def test_a_block_of_another_size_in_the_way_is_walked_around(store: Etcd) -> None:
    add_pool(store, "10.65.0.0/28", block_size=30)
    for cidr in ("10.65.0.0/29", "10.65.0.8/30"):
        block = Block.fresh(IPv4Network(cidr), "node2")
        store.put(block_key(block.cidr), block.to_value())
    assert fill(store, "node1", 1)[0] in IPv4Network("10.65.0.12/30")
