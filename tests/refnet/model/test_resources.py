"""What a person writes is read whole, every mistake is named, and what is understood can be written again."""

from __future__ import annotations

from typing import Any

import pytest

from refnet.errors import InvalidResource
from refnet.model.kinds import kind_of
from refnet.model.pool import Pool


def resource(kind: str, name: str = "one", **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default"} if kind == "WorkloadEndpoint" else {"name": name}
    return {"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": metadata, "spec": spec}


VALID = {
    "pool": resource("IPPool", cidr="10.65.0.0/16", vxlanMode="CrossSubnet", natOutgoing=True, blockSize=28),
    "pool of IPv6": resource("IPPool", cidr="fd00:10:65::/48", vxlanMode="Always", blockSize=124),
    "node": resource("Node", bgp={"ipv4Address": "192.0.2.1/24", "ipv4IPIPTunnelAddr": "10.65.0.1", "asNumber": 65001}),
    "empty node": resource("Node"),
    "peer": resource("BGPPeer", peerIP="192.0.2.9", asNumber=64512, node="node1"),
    "bgp": resource("BGPConfiguration", "default", nodeToNodeMeshEnabled=False, asNumber=64513),
    "felix": resource(
        "FelixConfiguration", "default", ipipMTU=1440, routeRefreshInterval="90s", mtuIfacePattern="^ens"
    ),
    "felix with failsafe ports": resource(
        "FelixConfiguration",
        "default",
        failsafeInboundHostPorts=[{"protocol": "tcp", "port": 22, "net": "10.0.0.0/8"}],
        failsafeOutboundHostPorts=[],
    ),
    "felix of a node": resource("FelixConfiguration", "node.a", defaultEndpointToHostAction="Accept", vxlanVNI=7),
    "endpoint": resource(
        "WorkloadEndpoint",
        "node1-k8s-a-eth0",
        orchestrator="k8s",
        node="node1",
        pod="a",
        endpoint="eth0",
        containerID="c1",
        interfaceName="cali1",
        ipNetworks=["10.65.0.1/32", "fd00:10:65::1/128"],
        mac="02:00:00:00:00:01",
        profiles=["net"],
    ),
}


@pytest.mark.parametrize("written", VALID.values(), ids=VALID.keys())
def test_what_is_understood_reads_again_as_the_same(written: dict[str, Any]) -> None:
    kind = kind_of(written)
    value = kind.read(written)
    again = value.to_resource()
    assert kind.read(again) == value
    assert written["spec"].items() <= again["spec"].items()
    assert kind.unknown(again) == ()


WRONG: dict[str, tuple[dict[str, Any], list[tuple[str, str, str]]]] = {
    "no cidr": (resource("IPPool"), [("spec.cidr", "missing", "a network such as 192.168.0.0/16 or fd00:10:244::/48")]),
    "host bits": (
        resource("IPPool", cidr="10.0.0.1/24"),
        [("spec.cidr", '"10.0.0.1/24"', "a network such as 192.168.0.0/16 or fd00:10:244::/48")],
    ),
    "both encapsulations": (
        resource("IPPool", cidr="10.0.0.0/24", ipipMode="Always", vxlanMode="Always"),
        [("spec.vxlanMode", '"Always"', "Never")],
    ),
    "block size": (
        resource("IPPool", cidr="10.0.0.0/24", blockSize=19),
        [("spec.blockSize", "19", "a whole number, 20 to 32")],
    ),
    "pool smaller than a block": (
        resource("IPPool", cidr="10.0.0.0/27"),
        [("spec.cidr", '"10.0.0.0/27"', "a network of /26 or larger, one block at least")],
    ),
    "felix's name": (
        resource("FelixConfiguration", "node1"),
        [("metadata.name", '"node1"', "default, or node. and the name of a node")],
    ),
    "felix's fields": (
        resource("FelixConfiguration", "default", ipipMTU=-1, routeRefreshInterval=90, mtuIfacePattern="["),
        [
            ("spec.ipipMTU", "-1", "a whole number, 0 to 65535"),
            ("spec.mtuIfacePattern", '"["', "a regular expression of at most 200 characters"),
            ("spec.routeRefreshInterval", "90", "a duration such as 90s or 1m30s"),
        ],
    ),
    "link-local": (
        resource("IPPool", cidr="169.254.0.0/20"),
        [("spec.cidr", '"169.254.0.0/20"', "a network outside 169.254.0.0/16")],
    ),
    "IPv6 block size": (
        resource("IPPool", cidr="fd00::/48", blockSize=26),
        [("spec.blockSize", "26", "a whole number, 116 to 128")],
    ),
    "IPv6 link-local": (
        resource("IPPool", cidr="fe80::/64"),
        [("spec.cidr", '"fe80::/64"', "a network outside fe80::/10")],
    ),
    "zone": (
        resource("IPPool", cidr="fd00::%x/48"),
        [("spec.cidr", '"fd00::%x/48"', "a network such as 192.168.0.0/16 or fd00:10:244::/48")],
    ),
    "endpoint's network": (
        {**VALID["endpoint"], "spec": {**VALID["endpoint"]["spec"], "ipNetworks": ["fd00::/64"]}},
        [("spec.ipNetworks", '["fd00::/64"]', "a list of single addresses, 10.0.0.1/32 or fd00::1/128")],
    ),
    "ipip on IPv6": (
        resource("IPPool", cidr="fd00::/48", ipipMode="Always"),
        [("spec.ipipMode", '"Always"', "Never")],
    ),
    "everything": (
        {"apiVersion": "v1", "kind": "IPPool", "metadata": {"name": "Bad_Name"}, "spec": {"cidr": 5, "disabled": "no"}},
        [
            ("apiVersion", '"v1"', "projectcalico.org/v3"),
            ("metadata.name", '"Bad_Name"', "a DNS name, lower case (RFC 1123)"),
            ("spec.cidr", "5", "a network such as 192.168.0.0/16 or fd00:10:244::/48"),
            ("spec.disabled", '"no"', "true, false"),
        ],
    ),
    "empty bgp": (
        resource("Node", bgp={}),
        [("spec.bgp", "{}", "at least ipv4Address or ipv6Address, or no bgp at all")],
    ),
    "peer without a number": (
        resource("BGPPeer", peerIP="192.0.2.9"),
        [("spec.asNumber", "missing", "an AS number, 1 to 4294967295")],
    ),
    "filter's conditions": (
        resource("BGPFilter", importV4=[{"action": "Accept", "communities": {"values": ["1:2"]}, "priority": 5}]),
        [
            ("spec.importV4[0].communities", '{"values": ["1:2"]}', "leave the rule out"),
            ("spec.importV4[0].priority", "5", "leave the rule out"),
        ],
    ),
    "way of the other family": (
        resource("BGPPeer", peerIP="192.0.2.9", asNumber=1, reachableBy="fd00::1"),
        [("spec.reachableBy", '"fd00::1"', "an IPv4 address")],
    ),
    "endpoint of another name": (
        {**VALID["endpoint"], "metadata": {"name": "node1-k8s-b-eth0"}},
        [("metadata.name", '"node1-k8s-b-eth0"', "node1-k8s-a-eth0")],
    ),
}


@pytest.mark.parametrize(("written", "mistakes"), WRONG.values(), ids=WRONG.keys())
def test_every_mistake_is_named_with_what_is_legal(
    written: dict[str, Any], mistakes: list[tuple[str, str, str]]
) -> None:
    with pytest.raises(InvalidResource) as caught:
        kind_of(written).read(written)
    assert [(m.path, m.given, m.legal) for m in caught.value.mistakes] == mistakes


def test_fields_without_effect_are_named_by_their_path() -> None:
    written = resource("Node", bgp={"ipv4Address": "192.0.2.1/24", "color": "red"}, speed=1)
    assert kind_of(written).unknown(written) == ("spec.bgp.color", "spec.speed")
    domains = resource("GlobalNetworkSet", nets=["10.0.0.0/8"], allowedEgressDomains=["example.com"])
    assert kind_of(domains).unknown(domains) == ("spec.allowedEgressDomains",)


def test_a_value_equals_its_like_and_never_changes() -> None:
    one, other = (Pool.from_resource(VALID["pool"]) for _ in range(2))
    assert one == other
    assert hash(one) == hash(other)
    assert one != Pool(one.name, one.cidr)
    with pytest.raises(AttributeError, match=r"^Pool\.name: a value does not change$"):
        one.name = "two"  # type: ignore[misc]
    with pytest.raises(TypeError, match=r"^Pool: lacks cidr$"):
        Pool("one")  # type: ignore[call-arg]
