"""IPv6 in a real kernel: what is wanted comes about and is seen again; what the kernel makes by itself is nobody's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from refnet.apply.apply import bring_about
from refnet.apply.flows import forget_flows
from refnet.apply.read import has_ipv6, read_kernel
from refnet.calc.changes import Have, changes
from refnet.calc.wanted import Wanted
from tests.refnet.apply.sandbox import Place, World
from tests.refnet.calc import situations as s
from tests.refnet.calc import six


@pytest.fixture(scope="module")
def node() -> Iterator[Place]:
    world = World()
    place = world.node(1)
    place.must(
        "sysctl -qw net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.default.disable_ipv6=0",
        f"ip addr add {six.UPLINK6.address} dev eth0 nodad",
    )
    yield place
    world.close()


@pytest.mark.parametrize(
    ("off", "addresses", "speaks"),
    [("0\n", "", True), ("1\n", "", False), ("1\n", "fe80... cali1\n", True), (None, None, False)],
    ids=["on", "off", "off but for one device", "unknown to the kernel"],
)
def test_a_kernel_speaks_ipv6_where_any_device_may(
    tmp_path: Path, off: str | None, addresses: str | None, speaks: bool
) -> None:
    for name, text in (("off", off), ("addresses", addresses)):
        if text is not None:
            (tmp_path / name).write_text(text)
    assert has_ipv6(tmp_path / "addresses", tmp_path / "off") is speaks


def test_connections_of_an_address_are_forgotten_and_others_are_not(node: Place) -> None:
    node.must(
        "ip link set lo up; ip addr add 10.9.9.1/32 dev lo; ip addr add fd00:9::1/128 dev lo nodad",
        "iptables-legacy -A INPUT -m conntrack --ctstate NEW; ip6tables-legacy -A INPUT -m conntrack --ctstate NEW",
        "ping -nqc1 10.9.9.1; ping -nqc1 127.0.0.1; ping -nqc1 fd00:9::1",
    )

    def followed() -> list[bool]:
        listed = node.run(["sh", "-c", "conntrack -L; conntrack -L -f ipv6"], "").out
        return [f"dst={address} " in listed for address in ("10.9.9.1", "127.0.0.1", "fd00:9::1")]

    assert followed() == [True, True, True]
    forget_flows([ip_address("10.9.9.1"), ip_address("fd00:9::1")], node.run)
    assert followed() == [False, True, False]
    forget_flows([ip_address("10.9.9.1")], node.run)  # what is not there is fine


def want_of(node: Place, **pool: str) -> Wanted:
    uplink = read_kernel(node.run).uplink(six.UPLINK6.address.ip)
    assert uplink
    return six.want_of(six.store(**pool), uplink6=replace(uplink, mtu_bytes=s.UPLINK.mtu_bytes))


def settle(node: Place, want: Wanted) -> Have:
    outcome = bring_about(want, read_kernel(node.run), node.run)
    assert outcome.reason == ""
    have = read_kernel(node.run)
    assert not changes(have, want)
    return have


def test_every_mode_comes_about_after_every_other_and_leaves_nothing(node: Place) -> None:
    before = node.must("ip -6 route show table main", "ip -br link")
    for mode in ("Always", "CrossSubnet", "Always", "Never", "CrossSubnet"):
        want = want_of(node, vxlanMode=mode)
        have = settle(node, want)
        assert {key: have.routes[key] for key in want.routes} == want.routes
        assert (have.tunnels, have.addresses) == (want.tunnels, want.addresses)
        assert have.neighbours == want.neighbours
        assert have.fdb.keys() == want.fdb
    settle(node, want_of(node, vxlanMode="Never"))
    assert node.must("ip -6 route show table main", "ip -br link") == before


DAMAGE = {
    "route-deleted": "ip -6 route del fd00:10::40/122",
    "route-elsewhere": "ip -6 route replace fd00:10::40/122 via 2001:db8:1::2 dev eth0",
    "blackhole-deleted": "ip -6 route del blackhole fd00:10::/122 dev lo",
    "route-too-many": "ip -6 route add fd00:99::/64 dev vxlan-v6.calico",
    "neighbour-deleted": "ip -6 neigh del fd00:10::41 dev vxlan-v6.calico",
    "fdb-deleted": f"bridge fdb del {six.MAC2} dev vxlan-v6.calico",
    "address-deleted": "ip -6 addr del fd00:10::1/128 dev vxlan-v6.calico",
    "address-too-many": "ip -6 addr add fd00:10::9/128 dev vxlan-v6.calico",
    "mtu": "ip link set vxlan-v6.calico mtu 1400",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_what_is_damaged_is_mended(node: Place, damage: str) -> None:
    want = want_of(node, vxlanMode="Always")
    settle(node, want)
    node.must(damage)
    assert changes(read_kernel(node.run), want)
    settle(node, want)
