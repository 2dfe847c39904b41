"""Stores to calculate from: each grows from an earlier one, and says what node1 must have then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Interface, IPv4Network
from typing import Any

from refnet.calc.wanted import Route, Uplink, Wanted

UPLINK = Uplink("eth0", 1500, IPv4Interface("192.0.2.1/24"))
RESOURCES = "/calico/resources/v3/projectcalico.org/"


@dataclass(frozen=True)
class Situation:
    """A store's content and what follows for node1. `routes` as a person would read them."""

    name: str
    store: dict[str, Any] = field(default_factory=dict)
    routes: frozenset[str] = frozenset()
    devices: frozenset[str] = frozenset()
    neighbours: frozenset[str] = frozenset()
    fdb: frozenset[str] = frozenset()
    peers: frozenset[str] | None = None

    def but(self, name: str, put: Mapping[str, Any], without: tuple[str, ...] = (), **expected: Any) -> Situation:
        store = {key: value for key, value in {**self.store, **put}.items() if key not in without}
        return replace(self, name=name, store=store, **expected)


def resource(kind: str, plural: str, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    value = {
        "apiVersion": "projectcalico.org/v3",
        "kind": kind,
        "metadata": {"name": name},
        "spec": dict(spec),
    }
    return {f"{RESOURCES}{plural}/{name}": value}


def pool(name: str = "default", cidr: str = "10.65.0.0/16", **spec: Any) -> dict[str, Any]:
    return resource("IPPool", "ippools", name, {"cidr": cidr, **spec})


def node(name: str, address: str, ipip: str = "", vxlan: str = "", **bgp: Any) -> dict[str, Any]:
    spec: dict[str, Any] = {"bgp": {"ipv4Address": address, **bgp}}
    if ipip:
        spec["bgp"]["ipv4IPIPTunnelAddr"] = ipip
    if vxlan:
        spec["ipv4VXLANTunnelAddr"] = vxlan
    return resource("Node", "nodes", name, spec)


def block(owner: str, cidr: str, borrowed: Mapping[int, str] | None = None, state: str = "confirmed") -> dict[str, Any]:
    """A block of `owner`; `borrowed` maps ordinals to other nodes that use them."""
    size = IPv4Network(cidr).num_addresses
    holders = dict(enumerate(sorted((borrowed or {}).items())))
    allocations: list[int | None] = [None] * size
    for index, (ordinal, _) in holders.items():
        allocations[ordinal] = index
    dashed = cidr.replace("/", "-")
    value = {
        "cidr": cidr,
        "affinity": f"host:{owner}",
        "allocations": allocations,
        "unallocated": [i for i in range(size) if allocations[i] is None],
        "attributes": [{"handle_id": f"h{i}", "secondary": {"node": n}} for i, (_, n) in holders.items()],
        "sequenceNumber": 7,
    }
    return {
        f"/calico/ipam/v2/assignment/ipv4/block/{dashed}": value,
        f"/calico/ipam/v2/host/{owner}/ipv4/block/{dashed}": {"state": state},
    }


def endpoint(owner: str, pod: str, address: str, interface: str) -> dict[str, Any]:
    name = f"{owner}-k8s-{pod}-eth0"
    spec = {
        "orchestrator": "k8s",
        "node": owner,
        "pod": pod,
        "endpoint": "eth0",
        "containerID": "c0",
        "interfaceName": interface,
        "ipNetworks": [f"{address}/32"],
    }
    value = {
        "apiVersion": "projectcalico.org/v3",
        "kind": "WorkloadEndpoint",
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    }
    return {f"{RESOURCES}workloadendpoints/default/{name}": value}


EMPTY = Situation("nothing is stored")
NODES = EMPTY.but(
    "two nodes share a subnet",
    node("node1", "192.0.2.1/24", "10.65.0.0", "10.65.0.1") | node("node2", "192.0.2.2/24", "10.65.1.0", "10.65.1.1"),
)
BLOCKS = NODES.but("each has a block", block("node1", "10.65.0.0/26") | block("node2", "10.65.1.0/26"))
IPIP = BLOCKS.but(
    "the pool is ipip",
    pool(ipipMode="Always"),
    routes=frozenset({"blackhole 10.65.0.0/26 proto 80", "10.65.1.0/26 via 192.0.2.2 dev tunl0 proto 80 onlink"}),
    devices=frozenset({"tunl0 1480 10.65.0.0/32"}),
    peers=frozenset({"Mesh_192_0_2_2 64512 passive"}),
)
FAR = IPIP.but(
    "a third node is far away",
    node("node3", "198.51.100.3/24", "10.65.2.0", "10.65.2.1") | block("node3", "10.65.2.0/26"),
    routes=IPIP.routes | {"10.65.2.0/26 via 198.51.100.3 dev tunl0 proto 80 onlink"},
    peers=frozenset({"Mesh_192_0_2_2 64512 passive", "Mesh_198_51_100_3 64512 passive"}),
)
IPIP_CROSS = FAR.but(
    "ipip only across subnets",
    pool(ipipMode="CrossSubnet"),
    routes=frozenset(
        {
            "blackhole 10.65.0.0/26 proto 80",
            "10.65.1.0/26 via 192.0.2.2 dev eth0 proto 80 onlink",
            "10.65.2.0/26 via 198.51.100.3 dev tunl0 proto 80 onlink",
        }
    ),
)
VXLAN = FAR.but(
    "the pool is vxlan",
    pool(vxlanMode="Always")
    | node("node1", "192.0.2.1/24", vxlan="10.65.0.1")
    | node("node2", "192.0.2.2/24", vxlan="10.65.1.1")
    | node("node3", "198.51.100.3/24", vxlan="10.65.2.1"),
    routes=frozenset(
        {
            "blackhole 10.65.0.0/26 proto 80",
            "10.65.1.0/26 via 10.65.1.1 dev vxlan.calico proto 80 onlink",
            "10.65.2.0/26 via 10.65.2.1 dev vxlan.calico proto 80 onlink",
        }
    ),
    devices=frozenset({"vxlan.calico 1450 10.65.0.1/32"}),
    neighbours=frozenset({"10.65.1.1 66:2d:bf:44:a6:8b", "10.65.2.1 66:a4:6f:e0:c4:da"}),
    fdb=frozenset({"66:2d:bf:44:a6:8b 192.0.2.2", "66:a4:6f:e0:c4:da 198.51.100.3"}),
    peers=None,
)
VXLAN_CROSS = VXLAN.but(
    "vxlan only across subnets",
    pool(vxlanMode="CrossSubnet"),
    routes=frozenset(
        {
            "blackhole 10.65.0.0/26 proto 80",
            "10.65.1.0/26 via 192.0.2.2 dev eth0 proto 80 onlink",
            "10.65.2.0/26 via 10.65.2.1 dev vxlan.calico proto 80 onlink",
        }
    ),
)
NONE = FAR.but("nothing is encapsulated", pool(), routes=frozenset(), devices=frozenset())
BORROWED = VXLAN.but(
    "node3 uses an address of node2's block",
    block("node2", "10.65.1.0/26", {7: "node3"}),
    routes=VXLAN.routes | {"10.65.1.7/32 via 10.65.2.1 dev vxlan.calico proto 80 onlink"},
)
PENDING = IPIP.but(
    "node2's claim is pending",
    block("node2", "10.65.1.0/26", state="pending"),
    routes=frozenset({"blackhole 10.65.0.0/26 proto 80"}),
)
NO_VTEP = VXLAN.but(
    "node2 has no tunnel address yet",
    node("node2", "192.0.2.2/24"),
    routes=VXLAN.routes - {"10.65.1.0/26 via 10.65.1.1 dev vxlan.calico proto 80 onlink"},
    neighbours=frozenset({"10.65.2.1 66:a4:6f:e0:c4:da"}),
    fdb=frozenset({"66:a4:6f:e0:c4:da 198.51.100.3"}),
)
STRAGGLER = VXLAN.but(
    "node2 has not left IPIP yet",
    node("node1", "192.0.2.1/24", "10.65.0.0", "10.65.0.1") | node("node2", "192.0.2.2/24", "10.65.1.0"),
    routes=VXLAN.routes - {"10.65.1.0/26 via 10.65.1.1 dev vxlan.calico proto 80 onlink"}
    | {"10.65.1.0/26 via 192.0.2.2 dev tunl0 proto 80 onlink"},
    devices=VXLAN.devices | {"tunl0 1480 10.65.0.0/32"},
    neighbours=NO_VTEP.neighbours,
    fdb=NO_VTEP.fdb,
)
STRAGGLER_NEAR = STRAGGLER.but(
    "node2 has not left IPIP yet, and needs no tunnel",
    pool(vxlanMode="CrossSubnet"),
    routes=VXLAN_CROSS.routes,
)
LINGERING = STRAGGLER.but(
    "node2 can be reached by VXLAN, and may not know yet that we can",
    node("node2", "192.0.2.2/24", "10.65.1.0", "10.65.1.1"),
    routes=VXLAN.routes,
    neighbours=VXLAN.neighbours,
    fdb=VXLAN.fdb,
)
BACK_IN_IPIP = STRAGGLER.but(
    "the pool is ipip again",
    pool(ipipMode="Always"),
    routes=FAR.routes,
    devices=FAR.devices,
    neighbours=frozenset(),
    fdb=frozenset(),
    peers=FAR.peers,
)
ROUTER = NONE.but(
    "a router is a peer",
    resource("BGPPeer", "bgppeers", "router", {"peerIP": "192.0.2.254", "asNumber": 64512}),
    peers=frozenset({"Global_192_0_2_254 64512", "Mesh_192_0_2_2 64512 passive", "Mesh_198_51_100_3 64512 passive"}),
)
NO_MESH = ROUTER.but(
    "there is no mesh",
    resource("BGPConfiguration", "bgpconfigurations", "default", {"nodeToNodeMeshEnabled": False, "asNumber": 65001}),
    peers=frozenset({"Global_192_0_2_254 64512"}),
)
BAD = IPIP.but(
    "half of the store is rubbish",
    {
        f"{RESOURCES}ippools/bad": {"kind": "IPPool"},
        f"{RESOURCES}nodes/bad": "no node",
        f"{RESOURCES}bgppeers/bad": 7,
        "/calico/ipam/v2/assignment/ipv4/block/10.65.9.0-26": {"cidr": "10.65.9.0/26"},
        "/calico/ipam/v2/host/node2/ipv4/block/10.65.9.0-26": [],
        "/calico/ipam/v2/host/node2/ipv4/block/what": {},
        "/elsewhere": None,
    },
)
ALL = (
    EMPTY,
    NODES,
    BLOCKS,
    IPIP,
    FAR,
    IPIP_CROSS,
    VXLAN,
    VXLAN_CROSS,
    NONE,
    BORROWED,
    PENDING,
    NO_VTEP,
    STRAGGLER,
    STRAGGLER_NEAR,
    LINGERING,
    BACK_IN_IPIP,
    ROUTER,
    NO_MESH,
    BAD,
)


def shown(want: Wanted) -> dict[str, Any]:
    """What is wanted, in a person's words, to compare with a situation's."""
    return {
        "routes": frozenset(_route(str(key.prefix), route) for key, route in want.routes.items()),
        "devices": frozenset(
            f"{device.name} {device.mtu_bytes} {''.join(str(a.address) for a in want.addresses if a.device == name)}"
            for name, device in want.tunnels.items()
        ),
        "neighbours": frozenset(f"{key.address} {mac}" for key, mac in want.neighbours.items()),
        "fdb": frozenset(f"{entry.mac} {entry.remote}" for entry in want.fdb),
        "peers": want.speaker
        and frozenset(f"{p.name} {p.as_number}{' passive' if p.is_passive else ''}" for p in want.speaker.peers),
    }


def _route(prefix: str, route: Route) -> str:
    if route.kind == "blackhole":
        return f"blackhole {prefix} proto {route.protocol}"
    onlink = " onlink" if route.is_onlink else ""
    via = f" via {route.via}" if route.via else ""
    return f"{prefix}{via} dev {route.device} proto {route.protocol}{onlink}"
