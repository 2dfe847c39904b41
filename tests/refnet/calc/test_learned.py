"""Routes that GoBGP has learnt: what the agent writes, what it leaves, and what stays until all is heard."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

from refnet.calc.changes import Have, changes
from refnet.calc.learned import with_learned
from refnet.calc.network import wanted
from refnet.calc.wanted import UNICAST, Route, RouteKey, Wanted
from refnet.calc.world import read_world
from refnet.model.address import IPAddress, IPNetwork
from tests.refnet.calc import situations as s
from tests.refnet.calc.test_changes import have_of

NEAR, FAR = IPv4Address("192.0.2.2"), IPv4Address("198.51.100.3")
KERNEL = Have(
    routes={
        RouteKey(IPv4Network("192.0.2.0/24")): Route(UNICAST, 2, None, "eth0", is_link_scope=True),
        RouteKey(IPv4Network("0.0.0.0/0")): Route(UNICAST, 4, IPv4Address("192.0.2.254"), "eth0"),
    }
)


def want_of(situation: s.Situation, learned: dict[str, IPv4Address], *, is_settled: bool = True) -> Wanted:
    want = wanted(read_world(situation.store, "node1"), "node1", s.UPLINK, "gobgp")
    told: dict[IPNetwork, IPAddress] = {IPv4Network(cidr): hop for cidr, hop in learned.items()}
    return with_learned(want, told, KERNEL, is_settled=is_settled)


def test_a_route_leads_to_its_node_or_to_the_router_on_the_way() -> None:
    want = want_of(s.NONE, {"10.65.1.0/26": NEAR, "10.65.2.0/26": FAR, "0.0.0.0/0": NEAR})
    assert s.shown(want)["routes"] == {
        "10.65.1.0/26 via 192.0.2.2 dev eth0 proto 80",
        "10.65.2.0/26 via 192.0.2.254 dev eth0 proto 80",
        "blackhole 10.65.0.0/26 proto 80",
    }


def test_what_a_tunnel_carries_is_not_taken_from_peers() -> None:
    assert s.shown(want_of(s.IPIP, {"10.65.1.0/26": FAR}))["routes"] == s.IPIP.routes


def test_until_all_is_heard_the_kernel_keeps_what_it_has() -> None:
    before = want_of(s.NONE, {"10.65.1.0/26": NEAR})
    have = replace(have_of(before), routes={**KERNEL.routes, **have_of(before).routes})
    assert changes(have, want_of(s.NONE, {}, is_settled=False)).routes.drop == {}
    assert list(changes(have, want_of(s.NONE, {})).routes.drop) == [RouteKey(IPv4Network("10.65.1.0/26"))]
