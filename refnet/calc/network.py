"""From the cluster's state and who we are to what this node must have. Pure: the same world gives the same answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface

from refnet.calc.bgp import Secrets, speaker_config
from refnet.calc.mtu import pod_mtu_bytes, tunnel_mtu_bytes
from refnet.calc.wanted import (
    BLACKHOLE,
    EVERYWHERE,
    IPIP_DEVICE,
    PROTO_BOOT,
    PROTO_REFNET,
    UNICAST,
    VXLAN_DEVICE,
    VXLAN_PORT,
    VXLAN_VNI,
    AddressKey,
    FdbKey,
    NeighbourKey,
    Route,
    RouteKey,
    TunnelDevice,
    Uplink,
    Vxlan,
    Wanted,
)
from refnet.calc.world import World
from refnet.model.address import IPAddress, IPNetwork, by_family, single
from refnet.model.names import vtep_mac
from refnet.model.node import Node
from refnet.model.pool import Pool, pool_of

BACKENDS = ("bird", "vxlan", "none")
SPEAKERS = ("bird",)
HOST_PREFIX = 32
_KINDS = {IPIP_DEVICE: "ipip", VXLAN_DEVICE: "vxlan"}


@dataclass(frozen=True)
class Destination:
    """Addresses that live on another node: one of its blocks, or one address borrowed from somebody else's block."""

    prefix: IPNetwork
    node: str
    pool: Pool


def wanted(
    world: World,
    me: str,
    uplink: Uplink,
    backend: str = "bird",
    *,
    secrets: Secrets | None = None,
) -> Wanted:
    """What node `me`, reached through `uplink`, must have. Other nodes without an address are not reachable yet."""
    world = world.of_family(4)
    own = world.nodes.get(me) or Node(name=me, address=uplink.address)
    network = _Network(world, own, uplink)
    tunnels = dict(network.tunnels())
    remotes = sorted(network.destinations(), key=lambda destination: destination.prefix)
    vteps = {node.name: node for node in network.vteps()}
    routes = {RouteKey(d.prefix): route for d in remotes if (route := network.route(d))}
    routes |= {RouteKey(n): Route(BLACKHOLE, PROTO_REFNET) for n in network.own_blocks() if network.is_ours(n)}
    routes |= dict(network.loose_tunnel_addresses(vteps.values()))
    speaks = backend in SPEAKERS and has_bird_pool(world)
    speaker = speaker_config(world, own, uplink.address.ip, secrets or {}) if speaks else None
    has_bird = speaker if backend == "bird" else None
    return Wanted(
        pod_mtu_bytes=pod_mtu_bytes(tunnels, uplink.mtu_bytes, world.felix),
        tunnels=tunnels,
        addresses=frozenset(network.tunnel_addresses()),
        neighbours={NeighbourKey(VXLAN_DEVICE, _vtep(n)): vtep_mac(n.name) for n in vteps.values()},
        fdb=frozenset(FdbKey(VXLAN_DEVICE, vtep_mac(n.name), str(_ip(n))) for n in vteps.values()),
        routes=routes,
        workload_routes=dict(_workload_routes(world, me)),
        speaker=speaker,
        no_bird_in=None if backend == "none" else (has_bird.encapsulated_pools if has_bird else EVERYWHERE),
    )


def has_bird_pool(world: World) -> bool:
    """Whether any pool needs BGP: with VXLAN pools alone nobody may listen on port 179."""
    return any(pool.vxlan_mode == "Never" and _is_used(world, pool) for pool in world.pools)


def unserved_pools(world: World, backend: str) -> str:
    """Why a pool carries nothing with this backend, or "": without BIRD nobody learns a bare pool's routes."""
    bare = [pool.name for pool in world.pools if not pool.is_encapsulated() and _is_used(world, pool)]
    if backend != "vxlan" or not bare:
        return ""
    return f"pool {bare[0]}: not encapsulated, and CALICO_NETWORKING_BACKEND=vxlan runs no BIRD: bird serves both"


def _is_used(world: World, pool: Pool) -> bool:
    """A disabled pool without blocks only keeps its range from being translated: nothing is carried for it."""
    return not pool.disabled or any(cidr.network_address in pool.cidr for cidr in world.owners)


def tunnel_pools(world: World) -> Mapping[str, tuple[Pool, ...]]:
    """For each tunnel device the pools whose traffic it carries; a device without pools is not wanted."""
    return {
        IPIP_DEVICE: tuple(pool for pool in world.pools if pool.ipip_mode != "Never"),
        VXLAN_DEVICE: tuple(pool for pool in world.pools if pool.vxlan_mode != "Never"),
    }


class _Network:
    """One node's view of the others, while one calculation lasts."""

    def __init__(self, world: World, own: Node, uplink: Uplink) -> None:
        self.world = world
        self.own = own
        self.uplink = uplink
        # The mask in our own Node object decides what is the same subnet (asymmetric masks are legal), see calico 3.3.
        self.subnet = (own.address or uplink.address).network
        self.pools = tunnel_pools(world)
        self.others = {n.name: n for n in world.nodes.values() if n.address and n.name != own.name}

    def tunnels(self) -> Iterator[tuple[str, TunnelDevice]]:
        felix = self.world.felix
        for device, pools in self.pools.items():
            if pools:
                mtu_bytes = tunnel_mtu_bytes(device, self.uplink.mtu_bytes, felix)
                yield device, TunnelDevice(device, _KINDS[device], mtu_bytes, self._vxlan(device))

    def _vxlan(self, device: str) -> Vxlan | None:
        if device != VXLAN_DEVICE:
            return None
        vni, port = self.world.felix.vxlan_vni or VXLAN_VNI, self.world.felix.vxlan_port or VXLAN_PORT
        return Vxlan(vni, port, self.uplink.address.ip, self.uplink.name, vtep_mac(self.own.name))

    def tunnel_addresses(self) -> Iterator[AddressKey]:
        own = {IPIP_DEVICE: self.own.ipip_tunnel_address, VXLAN_DEVICE: self.own.vxlan_tunnel_address}
        for device, address in own.items():
            if address and self.pools[device]:
                yield AddressKey(device, IPv4Interface((address, HOST_PREFIX)))

    def own_blocks(self) -> Iterator[IPNetwork]:
        """Our blocks that want a blackhole: not single addresses, those are their own host route."""
        for cidr, node in self.world.owners.items():
            if node == self.own.name and cidr.prefixlen < HOST_PREFIX:
                yield cidr

    def is_ours(self, cidr: IPNetwork) -> bool:
        """Whether the block's routes are ours to program; those of unencapsulated pools are BIRD's."""
        pool = pool_of(self.world.pools, cidr.network_address)
        return bool(pool and pool.is_encapsulated())

    def destinations(self) -> Iterator[Destination]:
        for cidr, node in self.world.owners.items():
            pool = pool_of(self.world.pools, cidr.network_address)
            if node in self.others and pool:
                yield Destination(cidr, node, pool)
        for address, node in borrowed_addresses(self.world):
            pool = pool_of(self.world.pools, address)
            if node in self.others and pool:
                yield Destination(single(address), node, pool)

    def route(self, to: Destination) -> Route | None:
        """The route for one destination; None if it is BIRD's, or if the other node has no tunnel address yet."""
        node = self.others[to.node]
        mode = next((m for m in (to.pool.ipip_mode, to.pool.vxlan_mode) if m != "Never"), "Never")
        if mode == "CrossSubnet" and _ip(node) in self.subnet:
            return Route(UNICAST, PROTO_REFNET, _ip(node), self.uplink.name, is_onlink=True)
        if to.pool.ipip_mode != "Never":
            # The next hop is a node, not a tunnel address: an IPIP device without a remote end sends the outer packet
            # to whatever the route names. It is on no subnet of the device, hence onlink.
            return Route(UNICAST, PROTO_REFNET, _ip(node), IPIP_DEVICE, is_onlink=True)
        if to.pool.vxlan_mode != "Never" and node.vxlan_tunnel_address:
            return Route(UNICAST, PROTO_REFNET, _vtep(node), VXLAN_DEVICE, is_onlink=True)
        return None

    def vteps(self) -> Iterator[Node]:
        """Every other node with a tunnel address: each needs a neighbour and an FDB entry (Calico's VTEPs).

        Also one to which CrossSubnet sends nothing through the tunnel now: it may, the moment an address changes.
        """
        if self.pools[VXLAN_DEVICE]:
            yield from (node for node in self.others.values() if node.vxlan_tunnel_address)

    def loose_tunnel_addresses(self, vteps: Iterable[Node]) -> Iterator[tuple[RouteKey, Route]]:
        """Routes to tunnel addresses that lie in no block of their own node, else replies to them go astray."""
        for node in vteps:
            address = _vtep(node)
            owner = next((n for cidr, n in self.world.owners.items() if address in cidr), "")
            if owner != node.name:
                yield RouteKey(single(address)), Route(UNICAST, PROTO_REFNET, None, VXLAN_DEVICE, False, True)


def borrowed_addresses(world: World) -> Iterator[tuple[IPAddress, str]]:
    """Addresses in use on another node than the one that owns their block, with the node that uses them."""
    for cidr, block in sorted(world.blocks.items(), key=lambda item: by_family(item[0])):
        owner = world.owners.get(cidr, "")
        for ordinal, holder in sorted(block.owners.items()):
            node = dict(holder.attributes).get("node", owner)
            if node and node != owner:
                yield block.address(ordinal), node


def _workload_routes(world: World, me: str) -> Iterator[tuple[RouteKey, Route]]:
    for endpoint in world.endpoints:
        if endpoint.node == me:
            for address in endpoint.addresses:
                route = Route(UNICAST, PROTO_BOOT, None, endpoint.interface, is_link_scope=True)
                yield RouteKey(single(address)), route


def _ip(node: Node) -> IPv4Address:
    assert node.address  # the others are those with an address
    return node.address.ip


def _vtep(node: Node) -> IPv4Address:
    assert node.vxlan_tunnel_address  # vteps are those with one
    return node.vxlan_tunnel_address
