"""The oracle of routes, neighbours and encapsulation against tables that were written by hand."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest

from tunlab.lab.load import load_lab
from tunlab.lab.topology import Mode
from tunlab.oracle.network import Oracle
from tunlab.systems.install import Ipam
from tunlab.systems.recipe import Dialect

IPAM = Ipam(
    blocks={
        "node1": frozenset({IPv4Network("172.17.1.0/26")}),
        "node2": frozenset({IPv4Network("172.17.2.0/26")}),
        "node3": frozenset({IPv4Network("172.17.3.0/26"), IPv4Network("172.17.3.64/26")}),
    },
    tunnel_addresses={f"node{number}": IPv4Address(f"172.17.{number}.1") for number in (1, 2, 3)},
)
NODE2, NODE3, ROUTER = "192.168.100.101", "192.168.200.101", "192.168.100.1"
# What each mode makes of a packet from node1 to node2 (same subnet) and to node3 (behind a router).
CROSSING = {
    "ipip": ("ipip", "ipip"),
    "ipip-crosssubnet": ("none", "ipip"),
    "vxlan": ("vxlan", "vxlan"),
    "vxlan-crosssubnet": ("none", "vxlan"),
    "none": ("none", "none"),
}
# By which next hop and device node1 reaches the blocks of node2 and of node3.
WAYS = {
    "ipip": (f"via {NODE2} dev tunl0", f"via {NODE3} dev tunl0"),
    "ipip-crosssubnet": (f"via {NODE2} dev eth0", f"via {NODE3} dev tunl0"),
    "vxlan": ("via 172.17.2.1 dev vxlan.calico", "via 172.17.3.1 dev vxlan.calico"),
    "vxlan-crosssubnet": (f"via {NODE2} dev eth0", "via 172.17.3.1 dev vxlan.calico"),
    "none": (f"via {NODE2} dev eth0", f"via {ROUTER} dev eth0"),
}
DIALECT = Dialect(
    host_device_prefix="cali",
    tunnel_devices={"ipip": "tunl0", "vxlan": "vxlan.calico"},
    block_protocol=dict.fromkeys(("ipip", "vxlan", "none"), "bird"),
)
MTU_BYTES = {"ipip": 1480, "ipip-crosssubnet": 1480, "vxlan": 1450, "vxlan-crosssubnet": 1450, "none": 1500}


def _oracle(mode: Mode) -> Oracle:
    return Oracle(load_lab("mixed"), mode, DIALECT, IPAM, {})


@pytest.mark.parametrize("mode", CROSSING)
def test_what_each_mode_makes_of_a_packet(mode: Mode) -> None:
    oracle, (near, far) = _oracle(mode), CROSSING[mode]
    assert (oracle.carriage("node1", "node2"), oracle.carriage("node1", "node3")) == (near, far)
    assert (oracle.carriage("node2", "node1"), oracle.carriage("node3", "node1")) == (near, far)
    assert oracle.reaches("node1", "node1") and oracle.reaches("node1", "node2")
    assert oracle.reaches("node1", "node3") == oracle.reaches("node3", "node2") == (mode != "none")
    assert oracle.mtu_bytes("node1") == MTU_BYTES[mode]


@pytest.mark.parametrize("mode", WAYS)
def test_the_way_to_each_block(mode: Mode) -> None:
    to_node2, to_node3 = WAYS[mode]
    seen = {(one.destination, f"via {one.gateway} dev {one.device}") for one in _oracle(mode).block_routes("node1")}
    assert seen == {("172.17.2.0/26", to_node2), ("172.17.3.0/26", to_node3), ("172.17.3.64/26", to_node3)}


@pytest.mark.parametrize("mode", ["vxlan", "vxlan-crosssubnet"])
def test_the_tunnels_neighbours_and_fdb_name_every_other_node(mode: Mode) -> None:
    """The MAC is 66, then the first five bytes of the SHA-1 of the node's name: `printf node2 | sha1sum`."""
    oracle = _oracle(mode)
    macs = {"node2": "66:2d:bf:44:a6:8b", "node3": "66:a4:6f:e0:c4:da"}
    neighbours = {(one.address, one.mac) for one in oracle.vtep_neighbours("node1")}
    assert neighbours == {("172.17.2.1", macs["node2"]), ("172.17.3.1", macs["node3"])}
    fdb = {(one.mac, one.destination) for one in oracle.vtep_fdb("node1")}
    assert fdb == {(macs["node2"], NODE2), (macs["node3"], NODE3)}
