"""MTUs follow the host's network cards, or what somebody said."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Interface

import pytest

from refnet.calc.changes import Link
from refnet.calc.mtu import host_mtu_bytes
from refnet.calc.network import wanted
from refnet.calc.wanted import Uplink
from refnet.calc.world import read_world
from refnet.model.felix import FelixConfiguration
from tests.refnet.calc import situations as s

CARDS = (
    Link("eth0", 2, 1500, True, (IPv4Interface("192.0.2.1/24"),)),
    Link("ens5", 3, 9000, True),
    Link("eth1", 4, 1280, False),
    Link("bond0", 5, 1400, True),
    Link("cali1", 6, 1000, True),
)


@pytest.mark.parametrize(
    ("pattern", "wanted_bytes"), [(None, 1500), ("^ens", 9000), ("bond", 1400), ("^nothing$", 1500)]
)
def test_the_smallest_card_that_is_up_counts(pattern: str | None, wanted_bytes: int) -> None:
    assert host_mtu_bytes(CARDS, s.UPLINK, FelixConfiguration(mtu_pattern=pattern)) == wanted_bytes


@pytest.mark.parametrize(
    ("situation", "felix", "device_bytes", "pod_bytes"),
    [
        (s.IPIP, {}, 8980, 8980),
        (s.VXLAN, {}, 8950, 8950),
        (s.NONE, {}, None, 9000),
        (s.IPIP, {"ipipMTU": 1440}, 1440, 1440),
        (s.VXLAN, {"vxlanMTU": 1300, "ipipMTU": 1200}, 1300, 1300),
        (s.VXLAN, {"vxlanMTU": 0}, 8950, 8950),
        (s.NONE, {"vxlanMTU": 1300}, None, 9000),
    ],
    ids=["ipip", "vxlan", "none", "ipip-said", "vxlan-said", "zero-means-auto", "said-for-another-mode"],
)
def test_tunnels_and_pods_follow_the_uplink_or_the_setting(
    situation: s.Situation, felix: dict[str, int], device_bytes: int | None, pod_bytes: int
) -> None:
    store = situation.store | s.resource("FelixConfiguration", "felixconfigurations", "default", felix)
    want = wanted(read_world(store, "node1"), "node1", replace(s.UPLINK, mtu_bytes=9000))
    assert [device.mtu_bytes for device in want.tunnels.values()] == ([device_bytes] if device_bytes else [])
    assert want.pod_mtu_bytes == pod_bytes


def test_port_and_vni_are_the_settings() -> None:
    spec = {"vxlanPort": 8472, "vxlanVNI": 1}
    store = s.VXLAN.store | s.resource("FelixConfiguration", "felixconfigurations", "default", spec)
    (device,) = wanted(read_world(store, "node1"), "node1", s.UPLINK).tunnels.values()
    assert device.vxlan and (device.vxlan.port, device.vxlan.vni) == (8472, 1)


def test_an_uplink_knows_its_own() -> None:
    assert host_mtu_bytes((), Uplink("eth0", 1460, IPv4Interface("192.0.2.1/24")), FelixConfiguration()) == 1460
