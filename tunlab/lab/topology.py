"""A lab as it is meant to be: segments, routers, nodes, pods, and the questions that everything above asks about them.

Values only. A Topology is made by `tunlab.lab.load` after every check has passed; nothing here looks at a kernel.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Literal, NamedTuple, get_args

from tunlab.errors import Bug, LabError

Mode = Literal["ipip", "ipip-crosssubnet", "vxlan", "vxlan-crosssubnet", "none"]
MODES: tuple[Mode, ...] = get_args(Mode)
NoneReach = Literal["full", "by pair", "never"]
UPLINK = "eth0"
NODE_AS = 64512  # unless a manifest says otherwise
NODE_SPEAKERS, ROUTER_SPEAKERS = ("bird", "gobgp"), ("bird", "frr")
BRIDGE = "br0"


class Port(NamedTuple):
    """One end of a link: a device in the namespace of a host or a segment."""

    host: str
    device: str


@dataclass(frozen=True, slots=True)
class Segment:
    """One layer-2 network with the one subnet that lives on it; `mtu` in bytes, Ethernet header not counted.

    In a lab with two families `subnet6` and `gateway6` are the same for IPv6; everywhere else they are None.
    """

    name: str
    subnet: IPv4Network
    gateway: IPv4Address
    mtu: int = 1500
    subnet6: IPv6Network | None = None
    gateway6: IPv6Address | None = None


@dataclass(frozen=True, slots=True)
class Attachment:
    """A host's device on a segment, with its address there (and its IPv6 address, in a lab that has both)."""

    segment: str
    device: str
    address: IPv4Interface
    address6: IPv6Interface | None = None


RouterPort = Attachment


@dataclass(frozen=True, slots=True)
class StaticRoute:
    """How a router reaches a lab segment that it is not connected to."""

    destination: IPv4Network
    via: IPv4Address
    device: str


@dataclass(frozen=True, slots=True)
class StaticRoute6:
    """The same for IPv6."""

    destination: IPv6Network
    via: IPv6Address
    device: str


@dataclass(frozen=True, slots=True)
class BgpSpeaker:
    """What makes a router learn pod routes: it takes them from every node; over eBGP it passes them on, too."""

    as_number: int
    program: str = "bird"


@dataclass(frozen=True, slots=True)
class Router:
    """A plain Linux router. It has no default route, so a packet for an unknown pod dies here, visibly."""

    name: str
    interfaces: tuple[RouterPort, ...]
    routes: tuple[StaticRoute, ...] = ()
    bgp: BgpSpeaker | None = None
    routes6: tuple[StaticRoute6, ...] = ()

    @property
    def attachments(self) -> tuple[Attachment, ...]:
        return self.interfaces


@dataclass(frozen=True, slots=True)
class Node:
    """A host on which agent and CNI plugin run. `block` is the pinned IPAM block, where the lab pins one."""

    name: str
    aliases: tuple[str, ...]
    segment: str
    address: IPv4Interface
    gateway: IPv4Address
    block: IPv4Network | None = None
    address6: IPv6Interface | None = None
    gateway6: IPv6Address | None = None
    speaker: str = "bird"

    @property
    def attachments(self) -> tuple[Attachment, ...]:
        return (Attachment(self.segment, UPLINK, self.address, self.address6),)


@dataclass(frozen=True, slots=True)
class Store:
    """The host that runs etcd. It stands on the first segment and is no node.

    `proxies`: how many gRPC proxies run there too, through which agents watch the store.
    """

    name: str
    segment: str
    address: IPv4Interface
    gateway: IPv4Address
    proxies: int = 0

    @property
    def attachments(self) -> tuple[Attachment, ...]:
        return (Attachment(self.segment, UPLINK, self.address),)


@dataclass(frozen=True, slots=True)
class Outsider:
    """A host that is no part of the pod network: no agent, no plugin, no route to a pod. It stands for the Internet."""

    name: str
    segment: str
    address: IPv4Interface
    gateway: IPv4Address

    @property
    def attachments(self) -> tuple[Attachment, ...]:
        return (Attachment(self.segment, UPLINK, self.address),)


Host = Node | Store | Router | Outsider


@dataclass(frozen=True, slots=True)
class Pod:
    """A workload that a CNI ADD will make; `address` where the lab pins one, `labels` as pairs."""

    name: str
    node: str
    namespace: str = "default"
    address: IPv4Address | None = None
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Pool:
    """The addresses that pods get, cut into blocks of `block_size` prefix bits."""

    name: str
    cidr: IPv4Network
    block_size: int = 26


@dataclass(frozen=True, slots=True)
class Pool6:
    """The IPv6 addresses that pods get beside the others."""

    name: str
    cidr: IPv6Network
    block_size: int = 122


@dataclass(frozen=True, slots=True)
class BgpPeer:
    """A speaker outside the mesh with which every node holds a session (a global BGPPeer)."""

    name: str
    peer_ip: IPv4Address
    as_number: int


@dataclass(frozen=True, slots=True)
class Topology:
    """A whole lab. Names are unique over everything that has one; hosts, segments and nodes keep the file's order."""

    name: str
    description: str
    segments: tuple[Segment, ...]
    routers: tuple[Router, ...]
    store: Store
    nodes: tuple[Node, ...]
    pods: tuple[Pod, ...]
    pools: tuple[Pool, ...]
    bgp_peers: tuple[BgpPeer, ...]
    modes: tuple[Mode, ...]
    pools6: tuple[Pool6, ...] = ()
    outsiders: tuple[Outsider, ...] = ()

    # --- names ------------------------------------------------------------------------------------------------------

    @property
    def hosts(self) -> tuple[Host, ...]:
        """Routers, nodes, the store and outsiders: everything that has an address on a segment."""
        return (*self.routers, *self.nodes, self.store, *self.outsiders)

    def node(self, name_or_alias: str) -> Node:
        """The node of that name or alias. Raises LabError with the legal names."""
        for node in self.nodes:
            if name_or_alias == node.name or name_or_alias in node.aliases:
                return node
        raise self._unknown("node", name_or_alias, (each for node in self.nodes for each in (node.name, *node.aliases)))

    def pod(self, name: str) -> Pod:
        """The pod of that name. Raises LabError with the legal names."""
        for pod in self.pods:
            if pod.name == name:
                return pod
        raise self._unknown("pod", name, (pod.name for pod in self.pods))

    def segment(self, name: str) -> Segment:
        """The segment of that name. Raises LabError with the legal names."""
        for segment in self.segments:
            if segment.name == name:
                return segment
        raise self._unknown("segment", name, (segment.name for segment in self.segments))

    def router(self, name: str) -> Router:
        """The router of that name. Raises LabError with the legal names."""
        for router in self.routers:
            if router.name == name:
                return router
        raise self._unknown("router", name, (router.name for router in self.routers))

    def host(self, name_or_alias: str) -> Host:
        """The node, router, store or outsider of that name or alias. Raises LabError with the legal names."""
        for host in self.hosts:
            if name_or_alias == host.name or (isinstance(host, Node) and name_or_alias in host.aliases):
                return host
        raise self._unknown("host", name_or_alias, (host.name for host in self.hosts))

    def place(self, name_or_alias: str) -> str:
        """The canonical name of anything that has one here, be it host, segment or pod. Raises LabError."""
        plain = [segment.name for segment in self.segments] + [pod.name for pod in self.pods]
        if name_or_alias in plain:
            return name_or_alias
        known = [each for host in self.hosts for each in (host.name, *(host.aliases if isinstance(host, Node) else ()))]
        if name_or_alias not in known:
            raise self._unknown("place", name_or_alias, (*known, *plain))
        return self.host(name_or_alias).name

    def pods_on(self, node: str) -> tuple[Pod, ...]:
        """The pods of one node, in the file's order."""
        name = self.node(node).name
        return tuple(pod for pod in self.pods if pod.node == name)

    @property
    def has_ipv6(self) -> bool:
        """Whether its nodes have addresses of both families."""
        return any(segment.subnet6 is not None for segment in self.segments)

    # --- links ------------------------------------------------------------------------------------------------------

    def attached(self, segment: str) -> tuple[tuple[Host, Attachment], ...]:
        """Every host on a segment, with its end of the link; the segment's own end is Port(segment, host.name)."""
        name = self.segment(segment).name
        return tuple((host, each) for host in self.hosts for each in host.attachments if each.segment == name)

    def mac(self, host: str, device: str) -> str:
        """The MAC that the lab gives a device, such as `02:5f:0e:81:3c:a7`.

        A hash of `host/device`, so that two builds of a lab, and any two boxes, show the same frames; 02 says
        unicast and locally administered.
        """
        digest = hashlib.sha256(f"{self.place(host)}/{device}".encode()).digest()
        return ":".join(f"{octet:02x}" for octet in (0x02, *digest[:5]))

    def uplink_mtu(self, node: str) -> int:
        """Bytes that an IP packet may have on a node's uplink."""
        return self.segment(self.node(node).segment).mtu

    # --- ways -------------------------------------------------------------------------------------------------------

    def same_subnet(self, a: str, b: str) -> bool:
        """Whether two hosts share a segment, so that neither needs a router to reach the other."""
        return bool({each.segment for each in self.host(a).attachments} & {e.segment for e in self.host(b).attachments})

    def next_hop(self, a: str, b: str) -> IPv4Address:
        """Where host `a` sends a packet for host `b`: `b` itself on a shared segment, else a router's address."""
        return self._step(self.host(a), self._target(a, b))[1]

    def next_hop6(self, a: str, b: str) -> IPv6Address:
        """The same for the IPv6 address of node `b`. Raises LabError in a lab without IPv6."""
        source, target = self.node(a), self.node(b)
        if source.gateway6 is None or target.address6 is None:
            raise LabError(f"{self.name}: the lab has no IPv6", hint="give every segment a subnet6")
        return target.address6.ip if source.segment == target.segment else source.gateway6

    def next_hop_port(self, a: str, b: str) -> Port:
        """The device whose MAC is the destination of the frames that `a` sends towards `b`."""
        return self._owner(self.next_hop(a, b))

    def next_hop_mac(self, a: str, b: str) -> str:
        """The destination MAC of the frames that `a` sends towards `b`."""
        return self.mac(*self.next_hop_port(a, b))

    def hops(self, a: str, b: str) -> tuple[Port, ...]:
        """Every device that a packet from host `a` to host `b` passes, segment ports included, in order.

        It follows the routes that the plan installs, so where a lab has two ways, `hops(b, a)` may be another one.
        """
        here, target = self.host(a), self._target(a, b)
        passed: list[Port] = []
        for _ in range(len(self.hosts)):
            out, address = self._step(here, target)
            arrival = self._owner(address)
            there = self.host(arrival.host)
            passed += [
                Port(here.name, out.device),
                Port(out.segment, here.name),
                Port(out.segment, there.name),
                arrival,
            ]
            if address == target:
                return tuple(passed)
            here = there
        raise Bug(f"{self.name}: way from {a} to {b}: it goes in a circle: {passed}")

    def routers_between(self, a: str, b: str) -> tuple[str, ...]:
        """The routers that a packet from `a` to `b` passes, in order; none on a shared segment."""
        ends = {self.host(a).name, self.host(b).name}
        names = {router.name for router in self.routers} - ends
        return tuple(dict.fromkeys(port.host for port in self.hops(a, b) if port.host in names))

    # --- what mode none can do --------------------------------------------------------------------------------------

    def knows_pod_routes(self, router: str) -> bool:
        """Whether a router can deliver to pods: it speaks BGP, and the lab tells the nodes to peer with it."""
        found = self.router(router)
        own = {each.address.ip for each in found.interfaces}
        return found.bgp is not None and any(peer.peer_ip in own for peer in self.bgp_peers)

    def none_reaches(self, a: str, b: str) -> bool:
        """Whether pods of nodes `a` and `b` can talk without encapsulation.

        Bare pod packets need every router on the way there, and on the way back, to know the pods' blocks.
        """
        if self.node(a) == self.node(b):
            return True
        return all(self.knows_pod_routes(each) for each in (*self.routers_between(a, b), *self.routers_between(b, a)))

    def none_reach(self) -> NoneReach:
        """What mode none can do in this lab: all pairs of nodes, some, or not one."""
        answers = {self.none_reaches(a.name, b.name) for a in self.nodes for b in self.nodes if a != b}
        if answers <= {True}:
            return "full"
        return "never" if answers == {False} else "by pair"

    # --- inside -----------------------------------------------------------------------------------------------------

    def _target(self, a: str, b: str) -> IPv4Address:
        """The address of `b` that is meant when `a` sends to it: the one on a shared segment where there is one."""
        source, target = self.host(a), self.host(b)
        if source == target:
            raise LabError(f"{self.name}: way from {a} to {b}: they are one host", hint="name two different hosts")
        near = {each.segment for each in source.attachments}
        return next((each for each in target.attachments if each.segment in near), target.attachments[0]).address.ip

    def _step(self, host: Host, target: IPv4Address) -> tuple[Attachment, IPv4Address]:
        """The routing decision of one host: the device a packet leaves by, and the next hop's address."""
        for each in host.attachments:
            if target in each.address.network:
                return each, target
        if not isinstance(host, Router):
            return host.attachments[0], host.gateway
        for route in host.routes:
            if target in route.destination:
                return next(each for each in host.interfaces if each.device == route.device), route.via
        raise Bug(f"{self.name}: {host.name}: no route to {target}, although every segment is reachable")

    def _owner(self, address: IPv4Address) -> Port:
        for host in self.hosts:
            for each in host.attachments:
                if each.address.ip == address:
                    return Port(host.name, each.device)
        raise Bug(f"{self.name}: {address}: nobody holds this address")

    def _unknown(self, kind: str, name: str, legal: Iterable[str]) -> LabError:
        names = tuple(legal)
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"legal: {', '.join(names) or 'none here'}"
        return LabError(f"{self.name}: {kind} {name}: no such {kind} in this lab", hint=hint)
