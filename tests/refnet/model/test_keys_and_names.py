"""Keys and names are Calico's, and a key says again what it was made of."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

import pytest

from refnet.model import keys
from refnet.model.names import host_veth_name, host_veth_name_of_container, vtep_mac, workload_endpoint_name

BLOCK = IPv4Network("10.65.0.0/26")
BLOCK6 = IPv6Network("fd00:10:65::40/122")


@pytest.mark.parametrize(
    ("key", "text", "meaning"),
    [
        (
            keys.pool_key("default"),
            "/calico/resources/v3/projectcalico.org/ippools/default",
            keys.ResourceKey("ippools", "default"),
        ),
        (
            keys.workload_endpoint_key("default", "node1-k8s-a-eth0"),
            "/calico/resources/v3/projectcalico.org/workloadendpoints/default/node1-k8s-a-eth0",
            keys.ResourceKey("workloadendpoints", "node1-k8s-a-eth0", "default"),
        ),
        (keys.block_key(BLOCK), "/calico/ipam/v2/assignment/ipv4/block/10.65.0.0-26", keys.BlockKey(BLOCK)),
        (
            keys.affinity_key("node1", BLOCK),
            "/calico/ipam/v2/host/node1/ipv4/block/10.65.0.0-26",
            keys.AffinityKey("node1", BLOCK),
        ),
        (
            keys.block_key(BLOCK6),
            "/calico/ipam/v2/assignment/ipv6/block/fd00:10:65::40-122",
            keys.BlockKey(BLOCK6),
        ),
        (
            keys.affinity_key("node1", BLOCK6),
            "/calico/ipam/v2/host/node1/ipv6/block/fd00:10:65::40-122",
            keys.AffinityKey("node1", BLOCK6),
        ),
        (keys.handle_key("net.c1"), "/calico/ipam/v2/handle/net.c1", keys.HandleKey("net.c1")),
        (keys.status_key("node1"), "/calico/felix/v2/no-region/host/node1/status", keys.StatusKey("node1")),
    ],
    ids=["pool", "endpoint", "block", "affinity", "block of IPv6", "affinity of IPv6", "handle", "status"],
)
def test_a_key_is_calicos_and_parses_back(key: str, text: str, meaning: keys.Key) -> None:
    assert key == text
    assert keys.parse_key(key) == meaning


@pytest.mark.parametrize(
    "key",
    [
        "/calico/ipam/v2/assignment/ipv6/block/fd00---122",
        "/calico/ipam/v2/assignment/ipv6/block/10.65.0.0-26",
        "/calico/ipam/v2/assignment/ipv4/block/fd00::-122",
        "/calico/ipam/v2/assignment/ipv6/block/fd00::%x-122",
        "/calico/ipam/v2/assignment/ipv6/block/fd00:0::-122",
        "/calico/ipam/v2/assignment/ipv4/block/10.65.0.1-26",
        "/calico/ipam/v2/assignment/ipv4/block/",
        "/calico/ipam/v2/host/node1/ipv6/block/x",
        "/calico/resources/v3/projectcalico.org/workloadendpoints/no-namespace",
        "/calico/resources/v3/projectcalico.org/nodes/",
        "/calico/v1/Ready",
        "",
    ],
)
def test_a_key_of_others_means_nothing(key: str) -> None:
    assert keys.parse_key(key) is None


def test_computed_names_are_calicos() -> None:
    assert host_veth_name("default", "podA") == "cali7f94ce7c295"
    assert host_veth_name("default", "podB") == "cali92cf1f5e9f6"
    assert host_veth_name_of_container("0123456789abcdef") == "cali0123456789a"
    assert vtep_mac("remotehostname") == "66:3e:ca:a4:db:65"
    assert workload_endpoint_name("node-1", "k8s", "my-pod", "eth0") == "node--1-k8s-my--pod-eth0"
