"""What IPv6 adds to a node: the same calculation with another family's addresses."""

from __future__ import annotations

import random
from dataclasses import replace
from ipaddress import IPv6Network
from typing import Any

import pytest

from refnet.calc.changes import Have, changes
from refnet.calc.tunnel_addresses import address_tasks
from refnet.calc.wanted import RouteKey, Wanted
from refnet.calc.world import read_world
from tests.refnet.calc import situations as s
from tests.refnet.calc import six
from tests.refnet.calc.test_changes import have_of

TUNNELLED = {
    "blackhole fd00:10::/122 proto 80",
    "fd00:10::40/122 via fd00:10::41 dev vxlan-v6.calico proto 80 onlink",
    "fd00:10::80/122 via fd00:10::81 dev vxlan-v6.calico proto 80 onlink",
}
CROSSED = TUNNELLED - {"fd00:10::40/122 via fd00:10::41 dev vxlan-v6.calico proto 80 onlink"} | {
    "fd00:10::40/122 via 2001:db8:1::2 dev eth0 proto 80 onlink"
}


@pytest.mark.parametrize(
    ("mode", "routes"), [("Always", TUNNELLED), ("CrossSubnet", CROSSED)], ids=["always", "crosssubnet"]
)
def test_vxlan_over_ipv6_has_a_device_of_its_own_and_the_mtu_that_is_left(mode: str, routes: set[str]) -> None:
    want = six.want_of(six.store(vxlanMode=mode))
    shown = s.shown(want)
    assert shown["routes"] == routes
    assert shown["devices"] == {"vxlan-v6.calico 1430 fd00:10::1/128"}
    assert shown["neighbours"] == {f"fd00:10::41 {six.MAC2}", f"fd00:10::81 {six.MAC3}"}
    assert shown["fdb"] == {f"{six.MAC2} 2001:db8:1::2", f"{six.MAC3} 2001:db8:3::3"}
    assert (want.pod_mtu_bytes, want.speaker) == (1430, None)
    assert {key.priority for key in want.routes} == {1024}


def test_without_a_tunnel_the_routes_are_birds_over_sessions_between_ipv6_addresses() -> None:
    want = six.want_of(six.store())
    assert (want.routes, want.tunnels, want.pod_mtu_bytes) == ({}, {}, 1500)
    assert want.speaker and want.speaker.six
    assert [(peer.name, str(peer.source)) for peer in want.speaker.six.peers] == [
        ("Mesh_2001_db8_1__2", "2001:db8:1::1"),
        ("Mesh_2001_db8_3__3", "2001:db8:1::1"),
    ]
    assert want.speaker.session_count() == 4
    assert [str(cidr) for cidr in want.speaker.six.own_blocks] == ["fd00:10::/122"]
    assert want.speaker.own_blocks == ()


def test_a_node_without_an_ipv6_address_has_nothing_to_do_with_that_family() -> None:
    want = six.want_of(six.store(vxlanMode="Always"), uplink6=None)
    assert (want.routes, want.tunnels, want.neighbours, want.pod_mtu_bytes) == ({}, {}, {}, 1500)


def test_a_node_that_others_cannot_reach_yet_is_left_out() -> None:
    store = six.store(vxlanMode="Always") | six.node("node2", "192.0.2.2/24", "2001:db8:1::2/64")
    assert s.shown(six.want_of(store))["fdb"] == {f"{six.MAC3} 2001:db8:3::3"}


@pytest.mark.parametrize("seed", range(3))
def test_the_order_in_which_the_store_came_to_be_leaves_no_trace(seed: int) -> None:
    keys = list((store := six.store(vxlanMode="CrossSubnet")).items())
    random.Random(seed).shuffle(keys)
    assert six.want_of(dict(keys)) == six.want_of(store)


def test_two_nodes_with_one_ipv6_address_are_told_apart_by_refusing_the_second() -> None:
    store = six.store() | six.node("node3", "198.51.100.3/24", "2001:db8:1::2/64")
    world = read_world(store, "node1")
    assert [invalid.reason for invalid in world.invalid] == ["has the address of node node2 (2001:db8:1::2)"]


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "an IPv4 one": ({"ipv6Address": "192.0.2.1/24"}, "spec.bgp.ipv6Address"),
    "with a zone": ({"ipv6Address": "fe80::1%eth0/64"}, "spec.bgp.ipv6Address"),
    "a number": ({"ipv6Address": 6}, "spec.bgp.ipv6Address"),
}


@pytest.mark.parametrize(("bgp", "path"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_ipv6_address_makes_the_node_object_invalid_and_nothing_else(bgp: dict[str, Any], path: str) -> None:
    store = six.store() | s.node("node2", "192.0.2.2/24", **bgp)
    world = read_world(store, "node1")
    assert [path in invalid.reason for invalid in world.invalid] == [True]
    assert sorted(world.nodes) == ["node1", "node3"]


def test_the_tunnel_gets_an_address_of_the_ipv6_pool_under_calicos_handle() -> None:
    world = read_world(six.store(vxlanMode="Always"), "node1")
    (task,) = address_tasks(world, world.nodes["node1"])
    assert (task.device, task.handle, task.version) == ("vxlan-v6.calico", "vxlan-v6-tunnel-addr-node1", 6)
    assert (dict(task.attributes)["type"], task.pools) == ("vxlanV6TunnelAddress", ("six",))
    without = replace(world.nodes["node1"], address6=None, vxlan6_tunnel_address=None)
    assert list(address_tasks(world, without)) == []


def test_a_route_to_its_own_next_hop_goes_before_one_over_another_device_comes() -> None:
    key = RouteKey(IPv6Network("fd00:10::40/122"), 1024)
    crossed, tunnelled = (six.want_of(six.store(vxlanMode=mode)) for mode in ("CrossSubnet", "Always"))
    todo = changes(have_of(crossed), tunnelled)
    assert todo.shadowed == ((key, crossed.routes[key]),)
    assert todo.routes.put == {key: tunnelled.routes[key]}
    assert changes(have_of(tunnelled), crossed).shadowed == ()  # its next hop, a node, lies elsewhere


def test_what_is_right_is_left_alone() -> None:
    want = six.want_of(six.store(vxlanMode="Always"))
    assert not changes(have_of(want), want)
    gone: Wanted = six.want_of(six.store(vxlanMode="Always"), uplink6=None)
    todo = changes(have_of(want), gone)
    assert todo.deleted == ("vxlan-v6.calico",)
    assert set(todo.routes.drop) == {RouteKey(IPv6Network("fd00:10::/122"), 1024)}
    assert not changes(Have(), gone)
