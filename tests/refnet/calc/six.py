"""A cluster of two families, as the store has it: node1 and node2 on one subnet, node3 elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv6Interface
from typing import Any

from refnet.calc.network import wanted
from refnet.calc.wanted import Uplink, Wanted
from refnet.calc.world import read_world
from tests.refnet.calc import situations as s

UPLINK6 = Uplink("eth0", 1500, IPv6Interface("2001:db8:1::1/64"))
POOL = "fd00:10::/64"
# By hand: 66 and the first five bytes of `printf node2-v6 | sha1sum`, and of node3-v6.
MAC2, MAC3 = "66:32:42:ed:de:d5", "66:71:6e:25:e2:07"


def node(name: str, address: str, address6: str, tunnel6: str = "", **bgp: Any) -> dict[str, Any]:
    stored = s.node(name, address, vxlan="", ipv6Address=address6, **bgp)
    (value,) = stored.values()
    if tunnel6:
        value["spec"]["ipv6VXLANTunnelAddr"] = tunnel6
    return stored


def block(owner: str, cidr: str) -> dict[str, Any]:
    size, dashed = 64, cidr.replace("/", "-")
    value = {
        "cidr": cidr,
        "affinity": f"host:{owner}",
        "allocations": [None] * size,
        "unallocated": list(range(size)),
        "attributes": [],
        "sequenceNumber": 7,
    }
    return {
        f"/calico/ipam/v2/assignment/ipv6/block/{dashed}": value,
        f"/calico/ipam/v2/host/{owner}/ipv6/block/{dashed}": {"state": "confirmed"},
    }


def store(**pool: Any) -> dict[str, Any]:
    """Everything, with an IPv6 pool of that encapsulation."""
    return {
        **s.pool("six", POOL, blockSize=122, **pool),
        **node("node1", "192.0.2.1/24", "2001:db8:1::1/64", "fd00:10::1"),
        **node("node2", "192.0.2.2/24", "2001:db8:1::2/64", "fd00:10::41"),
        **node("node3", "198.51.100.3/24", "2001:db8:3::3/64", "fd00:10::81"),
        **block("node1", "fd00:10::/122"),
        **block("node2", "fd00:10::40/122"),
        **block("node3", "fd00:10::80/122"),
    }


def want_of(content: Mapping[str, Any], uplink6: Uplink | None = UPLINK6) -> Wanted:
    return wanted(read_world(content, "node1"), "node1", s.UPLINK, uplink6=uplink6)
