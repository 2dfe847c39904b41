"""The node's own address over time: given, found, lost for a moment, changed."""

from __future__ import annotations

from ipaddress import IPv4Interface

import pytest

from refnet.agent.own_address import OwnAddress
from refnet.agent.settings import Settings, read_settings
from refnet.calc.changes import Have, Link

A, B, STORED = IPv4Interface("10.0.0.1/24"), IPv4Interface("10.0.0.2/24"), IPv4Interface("10.0.0.9/24")


def settings(**told: str) -> Settings:
    return read_settings({"NODENAME": "node1", "ETCD_ENDPOINTS": "http://10.0.0.250:2379", **told})


def have(*addresses: IPv4Interface) -> Have:
    return Have(links={"eth0": Link("eth0", 2, 1500, True, addresses)})


def silent(*_: object, **__: object) -> None:
    """A log that nobody reads."""


def seen(told: Settings, *looks: tuple[Have, IPv4Interface | None]) -> list[str]:
    """What each look comes to: the address, or why there is none."""
    own = OwnAddress(told, silent)
    return [str(own.look(kernel, stored) or own.reason) for kernel, stored in looks]


def test_what_is_detected_is_followed_and_a_gap_forgets_nothing() -> None:
    found = seen(settings(IP="autodetect"), (have(A), STORED), (have(), STORED), (have(B), STORED))
    assert found == [str(A), str(A), str(B)]


def test_an_empty_setting_keeps_what_the_node_object_has() -> None:
    assert seen(settings(), (have(A), None), (have(B), A), (have(B), STORED)) == [str(A), str(A), str(STORED)]


def test_none_never_looks() -> None:
    why = "IP=none, and the Node object has no address"
    assert seen(settings(IP="none"), (have(A), None), (have(A), STORED)) == [why, str(STORED)]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("10.0.0.2/16", ["10.0.0.2/16", "10.0.0.2/16"]),
        ("10.0.0.2", ["no device has the address 10.0.0.2", "10.0.0.2/24"]),
    ],
    ids=["with-its-length", "alone"],
)
def test_a_given_address_is_taken_as_it_is_or_with_the_devices_length(given: str, found: list[str]) -> None:
    assert seen(settings(IP=given), (have(A), STORED), (have(A, B), STORED)) == found


def test_what_finds_nothing_says_how_it_looked() -> None:
    told = settings(IP="autodetect", IP_AUTODETECTION_METHOD="interface=wlan.*,eth1")
    why = "no device has an address that IP_AUTODETECTION_METHOD=interface=wlan.*,eth1 would take"
    assert seen(told, (have(A), None), (have(A), STORED)) == [why, str(STORED)]


def test_can_reach_asks_the_kernel_for_the_way() -> None:
    own = OwnAddress(settings(IP="autodetect", IP_AUTODETECTION_METHOD="can-reach=127.0.0.1"), silent)
    loopback = Have(links={"lo": Link("lo", 1, 65536, True, (IPv4Interface("127.0.0.1/8"),))})
    assert own.look(loopback, None) is None  # the way starts at 127.0.0.1, which is nobody's address from afar
