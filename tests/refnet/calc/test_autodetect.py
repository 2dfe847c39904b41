"""Calico's ways of finding a node's address, over devices as the kernel shows them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface

import pytest

from refnet.calc.autodetect import LEGAL, Method, detect, parse_method
from refnet.calc.changes import Link


def link(index: int, name: str, *addresses: str) -> Link:
    return Link(name, index, 1500, True, tuple(IPv4Interface(address) for address in addresses))


HOST = (
    link(1, "lo", "127.0.0.1/8", "198.51.100.1/32"),
    link(2, "eth0", "169.254.7.7/16", "172.16.0.1/24"),
    link(3, "ens5", "10.0.0.1/24", "10.0.0.2/24"),
    link(4, "docker0", "172.17.0.1/16"),
    link(5, "veth1a2b", "10.9.0.1/24"),
    link(6, "tunl0", "10.65.0.1/32"),
    link(7, "vxlan.calico", "10.65.0.0/32"),
    link(8, "br-lan", "192.168.7.1/24"),
    link(9, "ens9"),
)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", "10.0.0.1/24"),
        ("first-found", "10.0.0.1/24"),
        ("skip-interface=ens.*", "172.16.0.1/24"),
        ("skip-interface=^ens, ^eth", None),
        ("interface=eth0", "172.16.0.1/24"),
        ("interface=eth", "10.9.0.1/24"),
        ("interface=^eth,docker", "172.17.0.1/16"),
        ("interface=wlan", None),
        ("cidr=172.16.0.0/12", "172.17.0.1/16"),
        ("cidr=172.16.0.0/24,10.1.0.0/16", "172.16.0.1/24"),
        ("cidr=203.0.113.0/24", None),
        ("can-reach=203.0.113.9", "10.0.0.2/24"),
    ],
    ids=lambda value: str(value) or "empty",
)
def test_each_method_finds_what_calico_would(text: str, wanted: str | None) -> None:
    found = detect(parse_method(text), HOST, IPv4Address("10.0.0.2"))
    assert found == (IPv4Interface(wanted) if wanted else None)


def test_the_order_in_which_devices_are_listed_is_no_matter() -> None:
    assert detect(Method(), reversed(HOST)) == detect(Method(), HOST)


def test_an_address_that_cannot_be_reached_from_afar_is_none() -> None:
    special = ("127.0.0.2/8", "169.254.0.1/16", "224.0.0.1/4", "255.255.255.255/32", "0.0.0.0/0")
    assert detect(Method(), [link(1, "eth0", *special)]) is None


@pytest.mark.parametrize(
    "text",
    ["first", "first-found=x", "interface", "interface=", "interface=(", "cidr=10.0.0.1", "cidr=eth0", "can-reach=a b",
     "can-reach=a,b", "can-reach=$(reboot)", f"interface={'a' * 201}"],
)  # fmt: skip
def test_a_wrong_method_is_told_with_all_that_are_legal(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_method(text)
    assert str(caught.value) == LEGAL


def test_a_method_that_needs_kubernetes_says_so() -> None:
    with pytest.raises(ValueError, match=r"^another method: this one asks the Kubernetes datastore"):
        parse_method("kubernetes-internal-ip")
