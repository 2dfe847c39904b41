"""The cluster as the store describes it, read whole: bad objects are listed and left out, everything else works on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from refnet.calc.policy.read import PLURALS as POLICING_PLURALS
from refnet.calc.policy.read import Policing, PolicingReader
from refnet.errors import RefnetError
from refnet.model.address import IPAddress, IPNetwork, by_family, lies_in
from refnet.model.bgp import BGPConfiguration, BGPPeer
from refnet.model.bgp_filter import BGPFilter
from refnet.model.block import CONFIRMED, Block, BlockAffinity
from refnet.model.controllers import KubeControllersConfiguration
from refnet.model.endpoint import WorkloadEndpoint
from refnet.model.felix import DEFAULT, NODE_PREFIX, FelixConfiguration
from refnet.model.ipam import IPAMConfiguration, IPReservation
from refnet.model.keys import (
    AffinityKey,
    BlockKey,
    ResourceKey,
    parse_key,
)
from refnet.model.node import Node
from refnet.model.pool import Pool
from refnet.model.value import changed


class _Named(Protocol):
    """Any object that knows its name."""

    @property
    def name(self) -> str: ...


T = TypeVar("T", bound=_Named)
_PLURALS = frozenset(
    {
        "bgpconfigurations",
        "bgpfilters",
        "bgppeers",
        "felixconfigurations",
        "ipamconfigurations",
        "ippools",
        "ipreservations",
        "kubecontrollersconfigurations",
        "nodes",
        "workloadendpoints",
        *POLICING_PLURALS,
    }
)
# A reason may quote what is wrong, and that may be a megabyte.
_LONGEST_REASON = 300


@dataclass(frozen=True, order=True)
class Invalid:
    """A stored object that means nothing to us, and why; on one line."""

    key: str
    reason: str


@dataclass(frozen=True)
class World:
    """The present cluster. Mappings and tuples are sorted: how the store came to be like this leaves no trace."""

    pools: tuple[Pool, ...] = ()
    nodes: Mapping[str, Node] = field(default_factory=dict)
    owners: Mapping[IPNetwork, str] = field(default_factory=dict)
    blocks: Mapping[IPNetwork, Block] = field(default_factory=dict)
    endpoints: tuple[WorkloadEndpoint, ...] = ()
    bgp_peers: tuple[BGPPeer, ...] = ()
    bgp: BGPConfiguration = field(default_factory=BGPConfiguration)
    felix: FelixConfiguration = field(default_factory=FelixConfiguration)
    node_bgp: Mapping[str, BGPConfiguration] = field(default_factory=dict)
    bgp_filters: Mapping[str, BGPFilter] = field(default_factory=dict)
    policing: Policing = field(default_factory=Policing)
    controllers: KubeControllersConfiguration = field(default_factory=KubeControllersConfiguration)
    invalid: tuple[Invalid, ...] = ()

    def without_ipip(self, names: Iterable[str]) -> World:
        """The world as if these nodes had given their addresses in IPIP back."""
        gone = {name: replace(self.nodes[name], ipip_tunnel_address=None) for name in names}
        return replace(self, nodes={**self.nodes, **gone})

    def of_family(self, version: int) -> World:
        """The world as one of the two families sees it: pools, blocks and all addresses of that one alone."""
        return replace(
            self,
            nodes={name: node.seen_by(version) for name, node in self.nodes.items()},
            pools=tuple(pool for pool in self.pools if pool.cidr.version == version),
            owners={cidr: node for cidr, node in self.owners.items() if cidr.version == version},
            blocks={cidr: block for cidr, block in self.blocks.items() if cidr.version == version},
            bgp_peers=tuple(peer for peer in self.bgp_peers if not peer.peer_ip or peer.peer_ip.version == version),
            endpoints=tuple(
                changed(endpoint, addresses=tuple(a for a in endpoint.addresses if a.version == version))
                for endpoint in self.endpoints
            ),
        )


def node_with(world: World, addresses: Iterable[IPAddress], me: str) -> str:
    """The name of another node that has one of these addresses; empty if none has."""
    wanted = set(addresses)
    others = (node for name, node in world.nodes.items() if name != me)
    return next((o.name for o in others if any(one and one.ip in wanted for one in (o.address, o.address6))), "")


def read_world(entries: Mapping[str, Any], me: str, felix: FelixConfiguration | None = None) -> World:
    """The world in these keys and their decoded values. Never raises: what is wrong is in `invalid`.

    `felix` are the node's own settings from its environment: they win over the node's and the cluster's object.

    Keys of no interest here (handles, status, endpoints of other nodes, other programs) are skipped unread.
    """
    reader = _Reader(me, felix or FelixConfiguration())
    for key in sorted(entries):
        reader.read(key, entries[key])
    return reader.world()


class _Reader:
    """Collects objects kind by kind while one reading lasts."""

    def __init__(self, me: str, felix: FelixConfiguration) -> None:
        self.me = me
        self.felix = {"environment": felix}
        self.pools: list[tuple[str, Pool]] = []
        self.nodes: dict[str, Node] = {}
        self.claims: dict[IPNetwork, list[str]] = {}
        self.blocks: dict[IPNetwork, Block] = {}
        self.endpoints: list[WorkloadEndpoint] = []
        self.peers: list[BGPPeer] = []
        self.bgp = BGPConfiguration()
        self.node_bgp: dict[str, BGPConfiguration] = {}
        self.filters: dict[str, BGPFilter] = {}
        self.policing = PolicingReader()
        self.controllers = KubeControllersConfiguration()
        self.invalid: list[Invalid] = []

    def read(self, key: str, value: Any) -> None:
        parsed = parse_key(key)
        try:
            if isinstance(parsed, ResourceKey) and parsed.plural in _PLURALS:
                self._read_resource(key, parsed, value)
            elif isinstance(parsed, AffinityKey):
                if BlockAffinity.from_value(parsed.node, parsed.cidr, value).state == CONFIRMED:
                    self.claims.setdefault(parsed.cidr, []).append(parsed.node)
            elif isinstance(parsed, BlockKey):
                self.blocks[parsed.cidr] = Block.from_value(parsed.cidr, value)
        except RefnetError as error:
            self._refuse(key, error.message)

    def _read_resource(self, key: str, parsed: ResourceKey, value: Any) -> None:
        match parsed.plural:
            case "ippools":
                self.pools.append((key, self._named(parsed.name, value, Pool.from_resource)))
            case "nodes":
                self.nodes[parsed.name] = self._named(parsed.name, value, Node.from_resource)
            case "bgppeers":
                self.peers.append(self._named(parsed.name, value, BGPPeer.from_resource))
            case "felixconfigurations" if parsed.name in (DEFAULT, NODE_PREFIX + self.me):
                self.felix[parsed.name] = self._named(parsed.name, value, FelixConfiguration.from_resource)
            case "bgpconfigurations":
                configuration = self._named(parsed.name, value, BGPConfiguration.from_resource)
                if configuration.node:
                    self.node_bgp[configuration.node] = configuration
                else:
                    self.bgp = configuration
            case "bgpfilters":
                self.filters[parsed.name] = self._named(parsed.name, value, BGPFilter.from_resource)
            case "kubecontrollersconfigurations":
                self.controllers = self._named(parsed.name, value, KubeControllersConfiguration.from_resource)
            case "ipreservations":
                self._named(parsed.name, value, IPReservation.from_resource)  # the plugin reads it: here it is checked
            case "ipamconfigurations":
                self._named(parsed.name, value, IPAMConfiguration.from_resource)
            case "workloadendpoints":
                if _node_of(value) in (None, self.me):
                    endpoint = self._named(parsed.name, value, WorkloadEndpoint.from_resource)
                    self.endpoints.append(endpoint)
                else:
                    self.policing.note_stranger(value)
            case _:
                self.policing.read(parsed, value)

    def _named(self, name: str, value: Any, read: Callable[[object], T]) -> T:
        """The object, if it calls itself what its key calls it; else two keys could speak for one name."""
        found = read(value)
        if found.name != name:
            raise RefnetError(f"calls itself {found.name}")
        return found

    def _refuse(self, key: str, reason: str) -> None:
        self.invalid.append(Invalid(key, " ".join(reason[:_LONGEST_REASON].split())))

    def world(self) -> World:
        for peer in self.peers:
            for name in (name for name in peer.filters if name not in self.filters):
                self._refuse(f"bgppeers/{peer.name}", f"filter {name[:60]}: there is no such BGPFilter")
        policing, refused = self.policing.policing()
        for key, reason in refused:
            self._refuse(key, reason)
        pools = tuple(self._apart())
        return World(
            pools=pools,
            nodes=self._distinct_nodes(),
            owners=dict(self._owners(pools)),
            blocks=self.blocks,
            endpoints=tuple(self.endpoints),
            bgp_peers=tuple(self.peers),
            bgp=self.bgp,
            felix=self._settings(),
            node_bgp=self.node_bgp,
            bgp_filters=self.filters,
            policing=policing,
            controllers=self.controllers,
            invalid=tuple(sorted(self.invalid)),
        )

    def _settings(self) -> FelixConfiguration:
        """What counts on this node: its environment, then its own object, then the cluster's."""
        settings = FelixConfiguration()
        for name in (DEFAULT, NODE_PREFIX + self.me, "environment"):
            if name in self.felix:
                settings = self.felix[name].over(settings)
        return settings

    def _apart(self) -> Iterable[Pool]:
        """Pools without those that overlap an earlier name's: which mode would count in the overlap?"""
        kept: list[Pool] = []
        for key, pool in self.pools:
            rival = next((other for other in kept if other.cidr.overlaps(pool.cidr)), None)
            if rival:
                self._refuse(key, f"{pool.cidr} overlaps pool {rival.name} ({rival.cidr})")
            else:
                kept.append(pool)
        return kept

    def _distinct_nodes(self) -> Mapping[str, Node]:
        """Nodes without those that claim another's address; we ourselves come first, then by name."""
        taken: dict[object, str] = {}
        kept: dict[str, Node] = {}
        for name in sorted(self.nodes, key=lambda name: (name != self.me, name)):
            addresses = [one.ip for one in (self.nodes[name].address, self.nodes[name].address6) if one]
            if rival := next((address for address in addresses if address in taken), None):
                self._refuse(f"nodes/{name}", f"has the address of node {taken[rival]} ({rival})")
                continue
            taken |= dict.fromkeys(addresses, name)
            kept[name] = self.nodes[name]
        return dict(sorted(kept.items()))

    def _owners(self, pools: Iterable[Pool]) -> Iterable[tuple[IPNetwork, str]]:
        """Who owns each block. Of two confirmed claims the one that the block itself names counts, else neither.

        None counts that is wider than a pool in it: its route would lead foreign networks to the claimant.
        """
        for cidr, nodes in sorted(self.claims.items(), key=lambda item: by_family(item[0])):
            narrow = next((pool for pool in pools if pool.cidr.overlaps(cidr) and not lies_in(cidr, pool.cidr)), None)
            if narrow:
                self._refuse(f"block/{cidr}", f"claimed by {' and '.join(nodes)}, wider than pool {narrow.name}")
                continue
            block = self.blocks.get(cidr)
            named = block.node if block else ""
            if len(nodes) == 1 and named in ("", nodes[0]):
                yield cidr, nodes[0]
                continue
            self._refuse(f"block/{cidr}", f"claimed by {' and '.join(nodes)}, the block names {named or 'nobody'}")
            if named in nodes:
                yield cidr, named


def _node_of(value: Any) -> object:
    """The node a stored endpoint names, without reading the rest: other nodes' endpoints are many."""
    spec = value.get("spec") if isinstance(value, Mapping) else None
    return spec.get("node") if isinstance(spec, Mapping) else None
