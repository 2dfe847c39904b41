"""A BGP speaker's task as values, whichever program speaks: BIRD and GoBGP are told the same."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address

from refnet.model.address import IPAddress, IPNetwork
from refnet.model.bgp import Advertised
from refnet.model.bgp_filter import FilterRule


@dataclass(frozen=True)
class SpeakerPeer:
    """One BGP session. `name` is the protocol's name in BIRD: Mesh_…, Global_…, Node_…. None: the speaker's default.

    `source` is our address in it. A reflector's `cluster_id` makes the peer its client.
    """

    name: str
    address: IPAddress
    as_number: int
    is_passive: bool = False
    # Every node has this session, so each need tell only what is its own.
    is_everybodys: bool = False
    local_as: int | None = None
    port: int | None = None
    source: IPAddress | None = None
    password: str = ""
    cluster_id: IPv4Address | None = None
    next_hop_mode: str = "Auto"
    restart_time_s: int | None = None
    keepalive_time_s: int | None = None
    allowed_local_as: int | None = None
    ttl_security: int | None = None
    imports: tuple[FilterRule, ...] = ()
    exports: tuple[FilterRule, ...] = ()


@dataclass(frozen=True)
class SpeakerConfig:
    """Whom to talk to, what to announce, and which ranges the speaker's routes may not be written to the kernel in."""

    router_id: IPAddress
    as_number: int
    peers: tuple[SpeakerPeer, ...]
    own_blocks: tuple[IPNetwork, ...]
    # Addresses of foreign blocks that live here: announced one by one, because they are exceptions to their block.
    borrowed: tuple[IPNetwork, ...]
    pools: tuple[IPNetwork, ...]
    encapsulated_pools: tuple[IPNetwork, ...] = ()
    unexported_pools: tuple[IPNetwork, ...] = ()
    listen_port: int | None = None
    is_bound: bool = False
    ignored_interfaces: tuple[str, ...] = ()
    advertised: tuple[Advertised, ...] = ()
    # Peers that are on no subnet of ours, and the neighbour to reach them by.
    reachable_by: tuple[tuple[IPAddress, IPAddress], ...] = ()
    # The next hop of the node's default route: whoever is behind it is reached by it, also before the kernel was read.
    gateway: IPAddress | None = None
    # The same for IPv6 on a node that has it: sessions of their own; its router_id is no number and not used.
    six: SpeakerConfig | None = None

    def session_count(self) -> int:
        """How many sessions there are to be, over both families."""
        return len(self.peers) + (self.six.session_count() if self.six else 0)
