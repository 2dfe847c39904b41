"""What a node must have follows from the present store and nothing else."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

import pytest

from refnet.agent.patience import Patience
from refnet.calc.network import has_bird_pool, unserved_pools, wanted
from refnet.calc.tunnel_addresses import address_tasks
from refnet.calc.wanted import RouteKey, Uplink, Wanted
from refnet.calc.world import read_world
from tests.refnet.calc import situations as s

Order = Callable[[Sequence[s.Situation]], Sequence[s.Situation]]


def want_of(store: Mapping[str, Any], uplink: Uplink = s.UPLINK, backend: str = "bird") -> Wanted:
    return wanted(read_world(store, "node1"), "node1", uplink, backend)


def expected(situation: s.Situation) -> dict[str, Any]:
    fields = ("routes", "devices", "neighbours", "fdb", "peers")
    return {field: getattr(situation, field) for field in fields}


def forwards(worlds: Sequence[s.Situation]) -> Sequence[s.Situation]:
    return worlds


def backwards(worlds: Sequence[s.Situation]) -> Sequence[s.Situation]:
    return worlds[::-1]


def with_gaps(worlds: Sequence[s.Situation]) -> Sequence[s.Situation]:
    return [w for world in worlds for w in (s.EMPTY, world)]


def shuffled(worlds: Sequence[s.Situation]) -> Sequence[s.Situation]:
    return random.Random(7).sample(worlds, len(worlds))


def by_key(before: Mapping[str, Any], after: Mapping[str, Any], seed: int) -> Iterator[tuple[str, Any]]:
    """The single changes that lead from one store to the next, in some order."""
    keys = sorted(before.keys() | after.keys())
    random.Random(seed).shuffle(keys)
    return ((key, after.get(key)) for key in keys if before.get(key) != after.get(key))


@pytest.mark.parametrize("situation", s.ALL, ids=lambda situation: situation.name.replace(" ", "-"))
def test_a_store_implies_exactly_this(situation: s.Situation) -> None:
    assert s.shown(want_of(situation.store)) == expected(situation)


@pytest.mark.parametrize("order", [forwards, backwards, with_gaps, shuffled], ids=lambda f: f.__name__)
@pytest.mark.parametrize("seed", [1, 2])
def test_what_is_wanted_depends_on_the_present_store_only(order: Order, seed: int) -> None:
    store: dict[str, Any] = {}
    for situation in order(s.ALL):
        for key, value in by_key(dict(store), situation.store, seed):
            store.pop(key, None)
            if value is not None or key in situation.store:
                store[key] = value
            want_of(store)  # every state on the way must be bearable
        assert want_of(store) == want_of(situation.store), situation.name
        assert s.shown(want_of(store)) == expected(situation), situation.name


def test_bad_objects_are_listed_and_the_rest_works_on() -> None:
    world = read_world(s.BAD.store, "node1")
    assert [invalid.key.rpartition("/")[2] for invalid in world.invalid] == [
        "10.65.9.0-26",
        "10.65.9.0-26",
        "bad",
        "bad",
        "bad",
    ]
    assert all(invalid.reason and "\n" not in invalid.reason for invalid in world.invalid)


def test_of_two_nodes_with_one_address_the_later_name_is_listed_and_left_out() -> None:
    world = read_world(s.IPIP.store | s.node("node9", "192.0.2.2/24"), "node1")
    assert [(i.key, i.reason) for i in world.invalid] == [("nodes/node9", "has the address of node node2 (192.0.2.2)")]
    assert "node9" not in world.nodes


def test_of_two_claims_the_one_that_the_block_names_counts() -> None:
    store = {**s.IPIP.store, "/calico/ipam/v2/host/node3/ipv4/block/10.65.1.0-26": {"state": "confirmed"}}
    world = read_world(store, "node1")
    assert world.owners[IPv4Network("10.65.1.0/26")] == "node2"
    assert [i.reason for i in world.invalid] == ["claimed by node2 and node3, the block names node2"]


def test_a_claim_wider_than_a_pool_is_listed_and_leads_nowhere() -> None:
    for cidr in ("10.0.0.0/7", "10.64.0.0/15"):
        key = f"/calico/ipam/v2/host/node2/ipv4/block/{cidr.replace('/', '-')}"
        world = read_world({**s.IPIP.store, key: {"state": "confirmed"}}, "node1")
        assert IPv4Network(cidr) not in world.owners
        assert [i.reason for i in world.invalid] == ["claimed by node2, wider than pool default"]


def test_a_node_that_is_down_does_not_keep_the_others_in_ipip_for_ever() -> None:
    said: list[tuple[object, ...]] = []
    patience = Patience(lambda level, text, **about: said.append((level, text, about)))
    world = read_world(s.FAR.store | s.pool(vxlanMode="Always"), "node1")
    assert patience.look(world, "node1", 100.0) == world
    assert (patience.waits_for, patience.deadline()) == (("node2", "node3"), 160.0)
    after = patience.look(world, "node1", 160.0)
    want = wanted(after, "node1", s.UPLINK)
    assert ("tunl0" in want.tunnels, patience.waits_for, patience.deadline()) == (False, (), float("inf"))
    assert after == patience.look(world, "node1", 200.0)
    assert said == [
        ("info", "waits for nodes to leave IPIP", {"nodes": ["node2", "node3"]}),
        ("warning", "waits no longer for nodes to leave IPIP", {"nodes": ["node2", "node3"]}),
    ]
    calm = read_world(s.IPIP.store, "node1")
    assert patience.look(calm, "node1", 300.0) == calm
    assert patience.look(world, "node1", 301.0) == world


def test_a_pool_that_overlaps_an_earlier_name_is_listed_and_left_out() -> None:
    world = read_world(s.IPIP.store | s.pool("other", "10.65.0.0/20", vxlanMode="Always"), "node1")
    assert [pool.name for pool in world.pools] == ["default"]
    assert [i.reason for i in world.invalid] == ["10.65.0.0/20 overlaps pool default (10.65.0.0/16)"]


def test_the_own_mask_alone_decides_what_is_the_same_subnet() -> None:
    narrow = want_of(s.IPIP_CROSS.store | s.node("node1", "192.0.2.1/31", "10.65.0.0"))
    assert narrow.routes[RouteKey(IPv4Network("10.65.1.0/26"))].device == "tunl0"
    wide = want_of(s.IPIP_CROSS.store | s.node("node2", "192.0.2.2/32", "10.65.1.0"))
    assert wide.routes[RouteKey(IPv4Network("10.65.1.0/26"))].device == "eth0"


@pytest.mark.parametrize(
    ("situation", "mtu_bytes"), [(s.IPIP, 1480), (s.VXLAN, 1450), (s.NONE, 1500)], ids=["ipip", "vxlan", "none"]
)
def test_the_pod_mtu_leaves_room_for_the_encapsulation(situation: s.Situation, mtu_bytes: int) -> None:
    assert want_of(situation.store).pod_mtu_bytes == mtu_bytes
    jumbo = replace(s.UPLINK, mtu_bytes=9000)
    assert want_of(situation.store, jumbo).pod_mtu_bytes == mtu_bytes + 7500


@pytest.mark.parametrize("backend", ["vxlan", "none"])
def test_without_the_bird_backend_there_is_no_bird_but_the_tunnels_work(backend: str) -> None:
    want = want_of(s.IPIP.store, backend=backend)
    assert want.speaker is None
    assert s.shown(want)["routes"] == s.IPIP.routes


def test_bird_may_write_only_the_pools_that_are_not_encapsulated() -> None:
    both = s.NONE.store | s.pool("far", "10.66.0.0/16", ipipMode="Always")
    bird = want_of(both).speaker
    assert bird
    assert bird.encapsulated_pools == (IPv4Network("10.66.0.0/16"),)
    assert bird.pools == (IPv4Network("10.65.0.0/16"), IPv4Network("10.66.0.0/16"))
    assert want_of(both).no_bird_in == bird.encapsulated_pools


def test_a_borrowed_address_is_announced_by_its_user_alone() -> None:
    store = s.NONE.store | s.block("node2", "10.65.1.0/26", {7: "node1"})
    mine = want_of(store).speaker
    theirs = wanted(
        read_world(store, "node2"), "node2", replace(s.UPLINK, address=IPv4Interface("192.0.2.2/24"))
    ).speaker
    assert mine and mine.borrowed == (IPv4Network("10.65.1.7/32"),)
    assert theirs and theirs.borrowed == ()


def test_the_side_whose_address_is_the_greater_text_waits_for_the_other() -> None:
    store = s.pool() | s.node("node1", "10.0.0.9/24") | s.node("node2", "10.0.0.10/24")
    uplinks = {
        n: replace(s.UPLINK, address=IPv4Interface(a))
        for n, a in {"node1": "10.0.0.9/24", "node2": "10.0.0.10/24"}.items()
    }
    birds = {name: wanted(read_world(store, name), name, uplink).speaker for name, uplink in uplinks.items()}
    assert {name: [p.is_passive for p in bird.peers] for name, bird in birds.items() if bird} == {
        "node1": [False],
        "node2": [True],
    }


def test_workload_routes_come_from_this_nodes_endpoints_alone() -> None:
    store = (
        s.IPIP.store | s.endpoint("node1", "a", "10.65.0.5", "cali1") | s.endpoint("node2", "b", "10.65.1.5", "cali2")
    )
    (only,) = want_of(store).workload_routes.items()
    assert (str(only[0].prefix), only[1].device, only[1].is_link_scope) == ("10.65.0.5/32", "cali1", True)


def test_a_tunnel_address_outside_its_nodes_blocks_gets_a_route_of_its_own() -> None:
    store = s.VXLAN.store | s.node("node2", "192.0.2.2/24", vxlan="10.65.77.1")
    route = want_of(store).routes[RouteKey(IPv4Network("10.65.77.1/32"))]
    assert (route.via, route.device, route.is_link_scope) == (None, "vxlan.calico", True)


def tasks(store: Mapping[str, Any]) -> list[tuple[str, tuple[str, ...]]]:
    world = read_world(store, "node1")
    return [(task.handle, task.pools) for task in address_tasks(world, world.nodes["node1"])]


def allocated(address: str, handle: str) -> dict[str, Any]:
    store = s.block("node1", "10.65.0.0/26", {int(IPv4Address(address)) & 63: "node1"})
    value = store["/calico/ipam/v2/assignment/ipv4/block/10.65.0.0-26"]
    value["attributes"][0]["handle_id"] = handle
    return store


def test_a_node_without_a_tunnel_address_takes_one_from_the_modes_pools() -> None:
    store = s.pool(ipipMode="Always") | s.node("node1", "192.0.2.1/24")
    assert tasks(store) == [("ipip-tunnel-addr-node1", ("default",))]


def test_a_tunnel_address_that_is_allocated_to_the_node_is_kept() -> None:
    held = allocated("10.65.0.3", "ipip-tunnel-addr-node1")
    store = s.pool(ipipMode="Always") | s.node("node1", "192.0.2.1/24", ipip="10.65.0.3") | held
    assert tasks(store) == []


def test_a_tunnel_address_that_belongs_to_another_handle_is_replaced() -> None:
    held = allocated("10.65.0.3", "somebody")
    store = s.pool(ipipMode="Always") | s.node("node1", "192.0.2.1/24", ipip="10.65.0.3") | held
    assert tasks(store) == [("ipip-tunnel-addr-node1", ("default",))]


def test_after_a_change_of_mode_the_old_address_goes_back() -> None:
    held = allocated("10.65.0.3", "ipip-tunnel-addr-node1")
    store = s.pool(vxlanMode="Always") | s.node("node1", "192.0.2.1/24", ipip="10.65.0.3") | held
    taken, given_back = tasks(store)
    assert taken == ("vxlan-tunnel-addr-node1", ("default",)), "first, so that others always know a way"
    assert given_back == ("ipip-tunnel-addr-node1", ())


def test_nothing_is_to_be_done_where_no_tunnel_is_wanted_and_none_was_left() -> None:
    assert tasks(s.pool() | s.node("node1", "192.0.2.1/24")) == []


def test_a_disabled_pool_without_blocks_needs_no_bird() -> None:
    """It keeps a range from being translated, as tutorials write it; in VXLAN nobody may listen on port 179 for it."""
    kept_from_nat = s.pool("outside", "10.0.0.0/8", disabled=True)
    store = (
        s.resource("IPPool", "ippools", "default", {"cidr": "192.168.0.0/16", "vxlanMode": "Always"}) | kept_from_nat
    )
    assert not has_bird_pool(read_world(store, "node1"))
    assert has_bird_pool(read_world(store | s.block("node1", "10.65.0.0/26"), "node1"))


@pytest.mark.parametrize(
    ("backend", "modes", "reason"),
    [
        ("vxlan", {"vxlanMode": "Always"}, ""),
        ("vxlan", {"ipipMode": "CrossSubnet"}, ""),
        ("bird", {}, ""),
        ("none", {}, ""),
        (
            "vxlan",
            {},
            "pool default: not encapsulated, and CALICO_NETWORKING_BACKEND=vxlan runs no BIRD: bird serves both",
        ),
    ],
    ids=["vxlan", "ipip", "bird", "somebody-elses-bird", "bare"],
)
def test_a_backend_that_cannot_serve_a_pool_is_told(backend: str, modes: dict[str, str], reason: str) -> None:
    assert unserved_pools(read_world(s.pool(**modes), "node1"), backend) == reason
