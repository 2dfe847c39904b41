"""What is wanted comes about in a real kernel, is seen there again, and nothing of other people's is touched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

import pytest

from refnet.apply.apply import bring_about, enable_forwarding
from refnet.apply.process import Finished, run
from refnet.apply.read import read_kernel
from refnet.calc.autodetect import Method, detect
from refnet.calc.changes import Have, changes
from refnet.calc.network import wanted
from refnet.calc.wanted import Uplink, Wanted
from refnet.calc.world import read_world
from refnet.errors import KernelRefused
from tests.refnet.apply.sandbox import Place, World
from tests.refnet.calc import situations as s


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    world = World()
    yield world
    world.close()


@pytest.fixture(scope="module")
def numbers() -> Iterator[int]:
    return iter(range(1, 100))


@pytest.fixture
def node(world: World, numbers: Iterator[int]) -> Place:
    """A node of the test's own."""
    return world.node(next(numbers))


def want_of(node: Place, situation: s.Situation) -> Wanted:
    have = read_kernel(node.run)
    address = detect(Method(), have.links.values())
    assert address
    uplink = have.uplink(address.ip)
    assert uplink
    return wanted(read_world(situation.store, "node1"), "node1", uplink)


def settle(node: Place, want: Wanted) -> None:
    outcome = bring_about(want, read_kernel(node.run), node.run)
    assert outcome.reason == ""


@pytest.mark.parametrize(
    "situation", [s.VXLAN, s.VXLAN_CROSS, s.BORROWED, s.NONE, s.NO_VTEP], ids=lambda s: s.name.replace(" ", "-")
)
def test_a_wanted_state_comes_about_and_is_seen_again(node: Place, situation: s.Situation) -> None:
    want = want_of(node, situation)
    settle(node, want)
    have = read_kernel(node.run)
    assert not changes(have, want)
    assert {key: have.routes[key] for key in want.routes} == want.routes
    assert have.tunnels == want.tunnels
    assert (have.addresses, have.neighbours) == (want.addresses, want.neighbours)
    assert have.fdb.keys() == want.fdb


def test_any_situation_follows_any_other_without_leftovers(node: Place) -> None:
    before = node.must("ip route", "ip -br link", "ip -br addr")
    for situation in (s.VXLAN, s.VXLAN_CROSS, s.NO_VTEP, s.BORROWED, s.VXLAN, s.NONE, s.VXLAN_CROSS, s.NONE):
        settle(node, want_of(node, situation))
    assert node.must("ip route", "ip -br link", "ip -br addr") == before


DAMAGE = {
    "route-deleted": "ip route del 10.65.1.0/26",
    "route-replaced": "ip route replace 10.65.1.0/26 via 172.16.0.254",
    "route-with-a-rival-in-front": "ip route prepend 10.65.1.0/26 via 172.16.0.254",
    "route-of-protocol-80-too-many": "ip route add 10.99.0.0/16 via 172.16.0.254 proto 80",
    "blackhole-deleted": "ip route del blackhole 10.65.0.0/26",
    "stray-route-on-the-device": "ip route add 10.99.0.0/16 dev vxlan.calico",
    "several-next-hops": "ip route replace 10.65.1.0/26 proto 80 nexthop via 172.16.0.254 nexthop via 172.16.0.253",
    "neighbour-deleted": "ip neigh del 10.65.1.1 dev vxlan.calico",
    "neighbour-changed": "ip neigh replace 10.65.1.1 lladdr 66:00:00:00:00:01 dev vxlan.calico nud permanent",
    "neighbour-no-longer-permanent": "ip neigh replace 10.65.1.1 lladdr 66:2d:bf:44:a6:8b dev vxlan.calico nud stale",
    "neighbour-too-many": "ip neigh add 10.65.7.1 lladdr 66:00:00:00:00:01 dev vxlan.calico nud permanent",
    "fdb-deleted": "bridge fdb del 66:2d:bf:44:a6:8b dev vxlan.calico",
    "fdb-changed": "bridge fdb replace 66:2d:bf:44:a6:8b dev vxlan.calico dst 192.0.2.9 self permanent",
    "fdb-too-many": "bridge fdb add 66:00:00:00:00:01 dev vxlan.calico dst 192.0.2.9 self permanent",
    "fdb-flood-entry": "bridge fdb append 00:00:00:00:00:00 dev vxlan.calico dst 192.0.2.9 self permanent",
    "fdb-another-port": "bridge fdb replace 66:2d:bf:44:a6:8b dev vxlan.calico dst 192.0.2.2 port 9 self permanent",
    "address-too-many": "ip addr add 10.65.0.9/32 dev vxlan.calico",
    "address-deleted": "ip addr del 10.65.0.1/32 dev vxlan.calico",
    "address-with-a-peer": "ip addr add 10.65.0.8 peer 10.65.0.9 dev vxlan.calico",
    "mtu": "ip link set vxlan.calico mtu 1400",
    "down": "ip link set vxlan.calico down",
    "mac": "ip link set vxlan.calico address 66:00:00:00:00:01",
    "device-deleted": "ip link del vxlan.calico",
    "device-of-another-vni": "ip link del vxlan.calico; ip link add vxlan.calico type vxlan id 7 dstport 4789 dev eth0",
    "ttl": "ip link set vxlan.calico type vxlan ttl 5",
    "tos": "ip link set vxlan.calico type vxlan tos 4",
    "df": "ip link set vxlan.calico type vxlan df set",
    "ageing": "ip link set vxlan.calico type vxlan ageing 5",
    "default-remote": "ip link set vxlan.calico type vxlan remote 192.0.2.9 dev eth0",
    "learning": "ip link set vxlan.calico type vxlan learning",
    "device-with-the-inner-ttl": (
        "ip link del vxlan.calico; ip link add vxlan.calico address 66:f9:37:c3:7e:94 type vxlan id 4096"
        " local 172.16.0.201 dev eth0 dstport 4789 nolearning ttl inherit"
    ),
    "device-of-another-kind": "ip link del vxlan.calico && ip link add vxlan.calico type veth peer name other",
}


@pytest.fixture(scope="module")
def vxlan_node(world: World) -> Place:
    return world.node(201)


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_seen_and_mended(vxlan_node: Place, damage: str) -> None:
    want = want_of(vxlan_node, s.VXLAN)
    settle(vxlan_node, want)
    vxlan_node.must(DAMAGE[damage])
    assert changes(read_kernel(vxlan_node.run), want)
    settle(vxlan_node, want)
    assert not changes(read_kernel(vxlan_node.run), want)


def test_what_belongs_to_others_stays(node: Place) -> None:
    node.must(
        "ip link add other type veth peer name pod",
        "ip link set other up",
        "ip addr add 10.99.0.1/24 dev other",
        "ip route add 10.98.0.0/16 via 172.16.0.254 proto static",
        "ip route add 10.65.1.0/26 via 172.16.0.254 metric 7",
        "ip neigh add 172.16.0.77 lladdr 66:00:00:00:00:01 dev eth0 nud permanent",
        "ip route add 10.66.0.5 dev other scope link",
    )
    before = node.must("ip route", "ip neigh show nud permanent")
    settle(node, want_of(node, s.VXLAN))
    after = node.must("ip route", "ip neigh show nud permanent").splitlines()
    assert [line for line in before.splitlines() if line not in after] == []


def test_a_workload_route_that_somebody_took_away_comes_back(node: Place) -> None:
    node.must("ip link add cali1 type veth peer name pod", "ip link set cali1 up", "ip link set pod up")
    want = want_of(node, s.NONE.but("a pod", s.endpoint("node1", "a", "10.65.0.5", "cali1")))
    settle(node, want)
    assert node.json("ip -j route show 10.65.0.5")[0]["dev"] == "cali1"


def test_a_kernel_without_ipip_is_the_reason_in_one_line() -> None:
    def refuse(argv: Sequence[str], stdin: str = "") -> Finished:
        assert tuple(argv) == ("ip", "-force", "-batch", "-")
        assert stdin.splitlines()[:2] == ["link add tunl0 type ipip", "link set tunl0 mtu 1480 up"]
        # What iproute2 6.1 said on such a kernel.
        said = 'Error: Unknown device type.\nCommand failed -:1\nCannot find device "tunl0"\nCommand failed -:2\n'
        return Finished(1, "", said)

    want = wanted(read_world(s.IPIP.store, "node1"), "node1", s.UPLINK)
    outcome = bring_about(want, Have(), refuse, Have)
    assert outcome.reason == "this kernel has no ipip: tunl0 cannot be made (Unknown device type)"


def test_a_refused_line_is_told_and_the_others_happen(node: Place) -> None:
    want = want_of(node, s.VXLAN)
    key, route = next((k, r) for k, r in want.routes.items() if r.via)
    bad = replace(want, routes={**want.routes, key: replace(route, is_onlink=False)})
    outcome = bring_about(bad, read_kernel(node.run), node.run)
    assert outcome.reason == (
        f"kernel refused `route replace {key.prefix} via {route.via} dev vxlan.calico proto 80`: "
        "Nexthop has invalid gateway"
    )
    assert set(outcome.have.routes) >= want.routes.keys() - {key}


def test_tools_that_cannot_tell_the_whole_raise_instead_of_telling_half(node: Place) -> None:
    def half(argv: Sequence[str], stdin: str = "") -> Finished:
        done = node.run(argv, stdin)
        return replace(done, out=done.out[: len(done.out) // 2])

    with pytest.raises(KernelRefused, match=r"^kernel: ip -N -d -j -batch -: exit code 0, \d answers of 3$"):
        read_kernel(half)


def test_an_interrupted_answer_is_asked_for_again(node: Place) -> None:
    answers: list[Finished] = []

    def once_bad(argv: Sequence[str], stdin: str = "") -> Finished:
        answers.append(node.run(argv, stdin))
        return answers[-1] if len(answers) > 1 else Finished(1, "", "Dump was interrupted")

    assert read_kernel(once_bad) == read_kernel(node.run)


def test_the_uplink_is_found_with_its_mtu_and_gateway(world: World) -> None:
    node = world.node(202)
    node.must("ip link set eth0 mtu 1400")
    assert read_kernel(node.run).uplink(IPv4Address("172.16.0.202")) == Uplink(
        "eth0", 1400, IPv4Interface("172.16.0.202/24"), IPv4Address("172.16.0.254")
    )


def test_a_program_gets_its_input_whole_and_its_output_is_read_whole() -> None:
    text = "x" * 1_000_000
    assert run(["cat"], text) == Finished(0, text, "")
    assert run(["sh", "-c", "echo oops >&2; exit 3"]) == Finished(3, "", "oops\n")
    with pytest.raises(FileNotFoundError):
        run(["no-such-program-anywhere"])


def test_forwarding_that_cannot_be_enabled_says_so() -> None:
    with pytest.raises(KernelRefused, match=r"^kernel: net\.ipv4\.ip_forward = 1: No such file or directory$"):
        enable_forwarding(Path("/nonexistent/ip_forward"))
