"""From the cluster's state and who we are to what this node must have. Pure: the same world gives the same answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_interface

from refnet.calc.bgp import Secrets, speaker_config
from refnet.calc.mtu import pod_mtu_bytes, tunnel_mtu_bytes
from refnet.calc.speaker import SpeakerConfig
from refnet.calc.wanted import (
    BLACKHOLE,
    EVERYWHERE,
    IPIP_DEVICE,
    IPV6_METRIC,
    PROTO_BOOT,
    PROTO_REFNET,
    UNICAST,
    VXLAN6_DEVICE,
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

BACKENDS = ("bird", "gobgp", "vxlan", "none")
SPEAKERS = ("bird", "gobgp")
_KINDS = {IPIP_DEVICE: "ipip", VXLAN_DEVICE: "vxlan", VXLAN6_DEVICE: "vxlan"}
_VXLAN = {4: VXLAN_DEVICE, 6: VXLAN6_DEVICE}


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
    uplink6: Uplink | None = None,
    secrets: Secrets | None = None,
) -> Wanted:
    """What node `me` must have. Other nodes without an address are not reachable yet.

    `uplink` reaches the others by IPv4, `uplink6` by IPv6: without it the node has nothing to do with that family.
    """
    speaks = backend in SPEAKERS and has_bird_pool(world)

    def of(version: int, through: Uplink) -> Wanted:
        half = world.of_family(version)
        own = half.nodes.get(me) or Node(name=me, address=through.address)
        speaker = speaker_config(half, own, through, secrets or {}) if speaks else None
        return _wanted(half, own, through, backend, speaker)

    four = of(4, uplink)
    return _both(four, of(6, uplink6)) if uplink6 else four


def _wanted(world: World, own: Node, uplink: Uplink, backend: str, speaker: SpeakerConfig | None) -> Wanted:
    """One family's half."""
    network = _Network(world, own, uplink)
    tunnels = dict(network.tunnels())
    remotes = sorted(network.destinations(), key=lambda destination: destination.prefix)
    vteps = {node.name: (node, vtep_mac(node.name, network.version)) for node in network.vteps()}
    routes = {network.key(d.prefix): route for d in remotes if (route := network.route(d))}
    routes |= {network.key(n): Route(BLACKHOLE, PROTO_REFNET) for n in network.own_blocks() if network.is_ours(n)}
    routes |= dict(network.loose_tunnel_addresses(node for node, _ in vteps.values()))
    has_bird = speaker if backend == "bird" else None
    return Wanted(
        pod_mtu_bytes=pod_mtu_bytes(tunnels, uplink.mtu_bytes, world.felix),
        tunnels=tunnels,
        addresses=frozenset(network.tunnel_addresses()),
        neighbours={NeighbourKey(network.vxlan, _vtep(node)): mac for node, mac in vteps.values()},
        fdb=frozenset(FdbKey(network.vxlan, mac, str(_ip(node))) for node, mac in vteps.values()),
        routes=routes,
        workload_routes=dict(network.workload_routes()),
        speaker=speaker,
        no_bird_in=None if backend == "none" else (has_bird.encapsulated_pools if has_bird else EVERYWHERE),
    )


def _both(four: Wanted, six: Wanted) -> Wanted:
    """Two families on one node. They share the pods' MTU, which both must be able to carry, and the speaker."""
    is_ours = four.no_bird_in is not None and six.no_bird_in is not None
    return replace(
        four,
        pod_mtu_bytes=min(four.pod_mtu_bytes, six.pod_mtu_bytes),
        families=(4, 6),
        tunnels={**four.tunnels, **six.tunnels},
        addresses=four.addresses | six.addresses,
        neighbours={**four.neighbours, **six.neighbours},
        fdb=four.fdb | six.fdb,
        routes={**four.routes, **six.routes},
        workload_routes={**four.workload_routes, **six.workload_routes},
        speaker=replace(four.speaker, six=six.speaker) if four.speaker else None,
        no_bird_in=(*(four.no_bird_in or ()), *(six.no_bird_in or ())) if is_ours else None,
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
    vxlan = [pool for pool in world.pools if pool.vxlan_mode != "Never"]
    return {
        IPIP_DEVICE: tuple(pool for pool in world.pools if pool.ipip_mode != "Never"),
        VXLAN_DEVICE: tuple(pool for pool in vxlan if pool.cidr.version == 4),
        VXLAN6_DEVICE: tuple(pool for pool in vxlan if pool.cidr.version == 6),
    }


def left_in_ipip(world: World, me: str) -> dict[str, Node]:
    """Other nodes that may send by IPIP still, though the pools have gone over to VXLAN: they hold an address in it."""
    pools = tunnel_pools(world)
    if pools[IPIP_DEVICE] or not pools[VXLAN_DEVICE]:
        return {}
    others = (node for node in world.nodes.values() if node.address and node.name != me)
    return {node.name: node for node in others if node.ipip_tunnel_address}


def stragglers(world: World, me: str) -> frozenset[str]:
    """Those of them that are reached by IPIP alone: a node has no address in VXLAN before it takes VXLAN in.

    While there are any, nobody gives its address in IPIP back. So both ways of a pair are open until neither is used.
    """
    return frozenset(name for name, node in left_in_ipip(world, me).items() if not node.vxlan_tunnel_address)


class _Network:
    """One node's view of the others in one family, while one calculation lasts."""

    def __init__(self, world: World, own: Node, uplink: Uplink) -> None:
        self.world = world
        self.own = own
        self.uplink = uplink
        self.version = uplink.address.version
        self.host_prefix = uplink.address.max_prefixlen
        self.vxlan = _VXLAN[self.version]
        # The mask in our own Node object decides what is the same subnet (asymmetric masks are legal), see calico 3.3.
        self.subnet = (own.address or uplink.address).network
        self.pools = tunnel_pools(world)
        self.others = {n.name: n for n in world.nodes.values() if n.address and n.name != own.name}
        self.lingers = self.version == 4 and bool(left_in_ipip(world, own.name))
        self.stragglers = stragglers(world, own.name) if self.version == 4 else frozenset[str]()

    def tunnels(self) -> Iterator[tuple[str, TunnelDevice]]:
        felix = self.world.felix
        for device, pools in self.pools.items():
            if pools or (device == IPIP_DEVICE and self.lingers):
                mtu_bytes = tunnel_mtu_bytes(device, self.uplink.mtu_bytes, felix)
                yield device, TunnelDevice(device, _KINDS[device], mtu_bytes, self._vxlan(device))

    def _vxlan(self, device: str) -> Vxlan | None:
        if device != self.vxlan:
            return None
        vni, port = self.world.felix.vxlan_vni or VXLAN_VNI, self.world.felix.vxlan_port or VXLAN_PORT
        return Vxlan(vni, port, self.uplink.address.ip, self.uplink.name, vtep_mac(self.own.name, self.version))

    def key(self, prefix: IPNetwork) -> RouteKey:
        """What the kernel will know a route by: in IPv6 one without a metric is given one."""
        return RouteKey(prefix, 0 if self.version == 4 else IPV6_METRIC)

    def tunnel_addresses(self) -> Iterator[AddressKey]:
        own = {IPIP_DEVICE: self.own.ipip_tunnel_address, self.vxlan: self.own.vxlan_tunnel_address}
        for device, address in own.items():
            # The kernel drops all routes through a device with its last address.
            if address and (self.pools[device] or (device == IPIP_DEVICE and self.lingers)):
                yield AddressKey(device, ip_interface((address, self.host_prefix)))

    def workload_routes(self) -> Iterator[tuple[RouteKey, Route]]:
        for endpoint in self.world.endpoints:
            if endpoint.node == self.own.name:
                for address in endpoint.addresses:
                    yield self.key(single(address)), self.link_route(PROTO_BOOT, endpoint.interface)

    def link_route(self, protocol: int, device: str) -> Route:
        """What is right behind a device. IPv6 routes have no scope."""
        return Route(UNICAST, protocol, None, device, is_link_scope=self.version == 4)

    def own_blocks(self) -> Iterator[IPNetwork]:
        """Our blocks that want a blackhole: not single addresses, those are their own host route."""
        for cidr, node in self.world.owners.items():
            if node == self.own.name and cidr.prefixlen < self.host_prefix:
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
        if to.pool.ipip_mode != "Never" or to.node in self.stragglers:
            # The next hop is a node, not a tunnel address: an IPIP device without a remote end sends the outer packet
            # to whatever the route names. It is on no subnet of the device, hence onlink.
            return Route(UNICAST, PROTO_REFNET, _ip(node), IPIP_DEVICE, is_onlink=True)
        if to.pool.vxlan_mode != "Never" and node.vxlan_tunnel_address:
            return Route(UNICAST, PROTO_REFNET, _vtep(node), self.vxlan, is_onlink=True)
        return None

    def vteps(self) -> Iterator[Node]:
        """Every other node with a tunnel address: each needs a neighbour and an FDB entry (Calico's VTEPs).

        Also one to which CrossSubnet sends nothing through the tunnel now: it may, the moment an address changes.
        """
        if self.pools[self.vxlan]:
            yield from (node for node in self.others.values() if node.vxlan_tunnel_address)

    def loose_tunnel_addresses(self, vteps: Iterable[Node]) -> Iterator[tuple[RouteKey, Route]]:
        """Routes to tunnel addresses that lie in no block of their own node, else replies to them go astray."""
        for node in vteps:
            address = _vtep(node)
            owner = next((n for cidr, n in self.world.owners.items() if address in cidr), "")
            if owner != node.name:
                yield self.key(single(address)), self.link_route(PROTO_REFNET, self.vxlan)


def borrowed_addresses(world: World) -> Iterator[tuple[IPAddress, str]]:
    """Addresses in use on another node than the one that owns their block, with the node that uses them."""
    for cidr, block in sorted(world.blocks.items(), key=lambda item: by_family(item[0])):
        owner = world.owners.get(cidr, "")
        for ordinal, holder in sorted(block.owners.items()):
            node = dict(holder.attributes).get("node", owner)
            if node and node != owner:
                yield block.address(ordinal), node


def _ip(node: Node) -> IPAddress:
    assert node.address  # the others are those with an address
    return node.address.ip


def _vtep(node: Node) -> IPAddress:
    assert node.vxlan_tunnel_address  # vteps are those with one
    return node.vxlan_tunnel_address
