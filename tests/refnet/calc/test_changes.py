"""From have and want to the least work, on what is ours alone."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

import pytest

from refnet.calc.changes import Have, Link, changes
from refnet.calc.delta import Delta
from refnet.calc.network import wanted
from refnet.calc.wanted import PROTO_BIRD, AddressKey, FdbKey, NeighbourKey, Route, RouteKey, TunnelDevice, Wanted
from refnet.calc.world import read_world
from tests.refnet.calc import situations as s

REMOTE = RouteKey(IPv4Network("10.65.1.0/26"))
FOREIGN = Route("unicast", 4, IPv4Address("192.0.2.9"), "eth0")


def want_of(situation: s.Situation) -> Wanted:
    return wanted(read_world(situation.store, "node1"), "node1", s.UPLINK)


def have_of(want: Wanted) -> Have:
    """A kernel that is just as wanted."""
    return Have(
        links={name: Link(name, i, d.mtu_bytes, True) for i, (name, d) in enumerate(want.tunnels.items())},
        tunnels=want.tunnels,
        addresses=want.addresses,
        neighbours=want.neighbours,
        fdb=dict.fromkeys(want.fdb, "permanent"),
        routes=dict(want.routes),
    )


VXLAN, IPIP, NONE = want_of(s.VXLAN), want_of(s.IPIP), want_of(s.NONE)


@pytest.mark.parametrize("situation", s.ALL, ids=lambda situation: situation.name.replace(" ", "-"))
def test_nothing_is_done_when_all_is_as_wanted(situation: s.Situation) -> None:
    want = want_of(situation)
    assert not changes(have_of(want), want)


def test_a_delta_turns_have_into_want() -> None:
    delta = Delta.between({"a": 1, "b": 2, "c": 3}, {"b": 2, "c": 4, "d": 5})
    assert (delta.put, delta.drop) == ({"c": 4, "d": 5}, {"a": 1})


def test_a_device_that_differs_in_what_cannot_change_is_made_anew_with_all_that_hangs_on_it() -> None:
    device = VXLAN.tunnels["vxlan.calico"]
    assert device.vxlan
    other = replace(device, vxlan=replace(device.vxlan, vni=7))
    todo = changes(replace(have_of(VXLAN), tunnels={"vxlan.calico": other}), VXLAN)
    assert todo.replaced == ("vxlan.calico",)
    assert [d.name for d in todo.created] == ["vxlan.calico"]
    assert set(todo.addresses.put) == VXLAN.addresses
    assert todo.neighbours.put == VXLAN.neighbours
    assert set(todo.fdb.put) == VXLAN.fdb
    assert set(todo.routes.put) == {key for key, r in VXLAN.routes.items() if r.device == "vxlan.calico"}


@pytest.mark.parametrize(
    "change", [{"mtu_bytes": 1400}, {"is_up": False}], ids=["a-wrong-mtu", "a-device-that-is-down"]
)
def test_a_mere_setting_is_corrected_in_place(change: dict[str, object]) -> None:
    wrong = replace(VXLAN.tunnels["vxlan.calico"], **change)  # type: ignore[arg-type]
    todo = changes(replace(have_of(VXLAN), tunnels={"vxlan.calico": wrong}), VXLAN)
    assert (todo.replaced, todo.created, todo.adjusted) == ((), (), tuple(VXLAN.tunnels.values()))


def test_a_strangers_route_stays_unless_it_stands_where_ours_must() -> None:
    elsewhere = RouteKey(IPv4Network("10.99.0.0/16"))
    have = have_of(IPIP)
    todo = changes(replace(have, routes={**have.routes, elsewhere: FOREIGN, REMOTE: FOREIGN}), IPIP)
    assert todo.routes == Delta(put={REMOTE: IPIP.routes[REMOTE]}, drop={})


def test_our_route_behind_a_strangers_goes_first_because_the_kernel_refuses_doubles() -> None:
    have = have_of(IPIP)
    todo = changes(
        replace(have, routes={**have.routes, REMOTE: FOREIGN}, shadowed=((REMOTE, IPIP.routes[REMOTE]),)), IPIP
    )
    assert todo.shadowed == ((REMOTE, IPIP.routes[REMOTE]),)
    assert set(todo.routes.put) == {REMOTE}


def test_any_route_through_our_vxlan_device_is_ours() -> None:
    stray = RouteKey(IPv4Network("10.99.0.0/16"))
    have = have_of(VXLAN)
    todo = changes(replace(have, routes={**have.routes, stray: replace(FOREIGN, device="vxlan.calico")}), VXLAN)
    assert set(todo.routes.drop) == {stray}


@pytest.mark.parametrize(
    ("want", "is_dropped"),
    [(VXLAN, True), (IPIP, True), (NONE, False), (replace(VXLAN, no_bird_in=None), False)],
    ids=["vxlan", "ipip", "none", "somebody-elses-bird"],
)
def test_what_bird_left_behind_goes_where_it_may_no_longer_write(want: Wanted, is_dropped: bool) -> None:
    left = RouteKey(IPv4Network("10.65.9.0/26"))
    have = have_of(want)
    todo = changes(replace(have, routes={**have.routes, left: replace(FOREIGN, protocol=PROTO_BIRD)}), want)
    assert (left in todo.routes.drop) is is_dropped


def test_an_unwanted_tunl0_loses_its_addresses_and_goes_down_but_stays() -> None:
    key = AddressKey("tunl0", IPv4Interface("10.65.0.0/32"))
    have = Have(tunnels={"tunl0": TunnelDevice("tunl0", "ipip", 1480)}, addresses=frozenset({key}))
    todo = changes(have, NONE)
    assert (todo.downed, todo.deleted, set(todo.addresses.drop)) == (("tunl0",), (), {key})


def test_an_unwanted_vxlan_device_is_deleted_without_touching_one_by_one_what_vanishes_with_it() -> None:
    todo = changes(have_of(VXLAN), NONE)
    assert todo.deleted == ("vxlan.calico",)
    assert not (todo.addresses or todo.neighbours or todo.fdb)
    assert set(todo.routes.drop) == {RouteKey(IPv4Network("10.65.0.0/26"))}


def test_strange_neighbours_and_fdb_entries_on_our_device_go() -> None:
    neighbour = NeighbourKey("vxlan.calico", IPv4Address("10.65.9.1"))
    entry = FdbKey("vxlan.calico", "66:00:00:00:00:01", "192.0.2.9")
    have = have_of(VXLAN)
    have = replace(have, neighbours={**have.neighbours, neighbour: "x"}, fdb={**have.fdb, entry: "permanent"})
    todo = changes(have, VXLAN)
    assert (set(todo.neighbours.drop), set(todo.fdb.drop)) == ({neighbour}, {entry})


@pytest.mark.parametrize(
    ("links", "is_put"),
    [({}, False), ({"cali1": Link("cali1", 5, 1480, False)}, False), ({"cali1": Link("cali1", 5, 1480, True)}, True)],
    ids=["no-device-yet", "device-down", "device-up"],
)
def test_a_workload_route_is_repaired_only_while_its_device_is_up(links: dict[str, Link], is_put: bool) -> None:
    want = wanted(read_world(s.NONE.store | s.endpoint("node1", "a", "10.65.0.5", "cali1"), "node1"), "node1", s.UPLINK)
    todo = changes(Have(links=links), want)
    assert (RouteKey(IPv4Network("10.65.0.5/32")) in todo.routes.put) is is_put


def test_the_uplink_is_the_device_that_owns_the_address() -> None:
    links = {
        "eth0": Link("eth0", 2, 1500, True, (IPv4Interface("192.0.2.1/24"),)),
        "eth1": Link("eth1", 3, 9000, True, (IPv4Interface("198.51.100.1/24"),)),
    }
    have = Have(links=links)
    assert have.uplink(IPv4Address("192.0.2.1")) == s.UPLINK
    assert have.uplink(IPv4Address("192.0.2.2")) is None


@pytest.mark.parametrize(
    ("routes", "gateway"),
    [
        ({}, None),
        ({(0, "eth0"): "192.0.2.254"}, "192.0.2.254"),
        ({(100, "eth0"): "192.0.2.254", (0, "eth0"): "192.0.2.253"}, "192.0.2.253"),
        ({(0, "eth1"): "198.51.100.1", (100, "eth0"): "192.0.2.254"}, None),
    ],
    ids=["no-default-route", "one", "the-better-of-two", "another-device-has-the-better-one"],
)
def test_the_uplinks_gateway_is_that_of_the_best_default_route(routes: Any, gateway: str | None) -> None:
    link = Link("eth0", 2, 1500, True, (IPv4Interface("192.0.2.1/24"),))
    everything = IPv4Network("0.0.0.0/0")
    told = {
        RouteKey(everything, metric): Route("unicast", 4, via=IPv4Address(via), device=device)
        for (metric, device), via in routes.items()
    }
    uplink = Have(links={"eth0": link}, routes=told).uplink(IPv4Address("192.0.2.1"))
    assert uplink is not None
    assert uplink.gateway == (IPv4Address(gateway) if gateway else None)
