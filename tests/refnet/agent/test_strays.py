"""A route into a pod's device that no endpoint explains goes after its moment; every other one stays."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Network

import pytest

from refnet.agent.strays import GRACE_S, Strays
from refnet.calc.changes import Have, Link, changes
from refnet.calc.network import wanted
from refnet.calc.wanted import PROTO_BOOT, PROTO_KERNEL, Route, RouteKey
from refnet.calc.world import read_world
from refnet.model.address import IPNetwork
from tests.refnet.calc import situations as s

POD = RouteKey(IPv4Network("10.65.0.5/32"))
TO_POD = Route("unicast", PROTO_BOOT, None, "cali1", is_link_scope=True)
WANT = wanted(read_world(s.VXLAN.store | s.endpoint("node1", "a", "10.65.0.5", "cali1"), "node1"), "node1", s.UPLINK)
RIGHT = Have(links={"cali1": Link("cali1", 9, 1450, True)}, routes={**WANT.routes, POD: TO_POD})


def with_route(prefix: str, route: Route) -> tuple[Have, RouteKey]:
    network: IPNetwork = IPv6Network(prefix) if ":" in prefix else IPv4Network(prefix)
    key = RouteKey(network)
    return replace(RIGHT, routes={**RIGHT.routes, key: route}), key


def dropped(strays: Strays, have: Have, now: float) -> list[RouteKey]:
    """Which of the routes into pods' devices go, looked at now."""
    gone = changes(have, strays.with_overdue(WANT, have, now)).routes.drop
    return [key for key, route in gone.items() if route.device.startswith("cali")]


@pytest.mark.parametrize(
    ("prefix", "route"),
    [
        ("10.0.9.9/32", TO_POD),
        ("10.0.9.0/24", replace(TO_POD, protocol=4)),
        ("10.65.0.6/32", replace(TO_POD, device="cali2")),
        ("198.51.100.0/24", Route("unicast", 4, IPv4Address("169.254.1.1"), "cali1")),
    ],
    ids=["another address", "a whole network", "an endpoint that is gone", "a way through a pod"],
)
def test_a_stray_goes_when_its_moment_is_over(prefix: str, route: Route) -> None:
    strays, (have, key) = Strays(), with_route(prefix, route)
    assert dropped(strays, have, 100.0) == []
    assert strays.deadline() == 100.0 + GRACE_S
    assert dropped(strays, have, 100.0 + GRACE_S - 0.1) == []
    assert dropped(strays, have, 100.0 + GRACE_S) == [key]
    assert strays.deadline() == float("inf")  # what the kernel refused to take away is no reason to run in circles


def test_whose_endpoint_came_in_time_stays_and_a_new_one_begins_anew() -> None:
    strays, (have, key) = Strays(), with_route("10.65.0.6/32", replace(TO_POD, device="cali2"))
    assert dropped(strays, have, 100.0) == []
    assert dropped(strays, RIGHT, 105.0) == []
    assert dropped(strays, have, 111.0) == []
    strays.forget()
    assert dropped(strays, have, 130.0) == []
    assert dropped(strays, have, 140.0) == [key]


@pytest.mark.parametrize(
    ("prefix", "route"),
    [
        ("10.65.0.5/32", TO_POD),
        ("10.0.9.9/32", replace(TO_POD, protocol=PROTO_KERNEL)),
        ("10.0.9.9/32", replace(TO_POD, device="eth0")),
        ("fd00::9/128", replace(TO_POD, is_link_scope=False)),
    ],
    ids=["an endpoint's", "the kernel's", "another device's", "a family that nothing is said of"],
)
def test_no_other_is_a_stray(prefix: str, route: Route) -> None:
    strays, (have, _) = Strays(), with_route(prefix, route)
    assert dropped(strays, have, 100.0) == dropped(strays, have, 200.0) == []
