"""What the BGP speaker must do on this node: its sessions, what it announces, where its routes may not be written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from refnet.calc.speaker import SpeakerConfig, SpeakerPeer
from refnet.calc.wanted import Uplink
from refnet.calc.world import World
from refnet.model.address import IPAddress, IPNetwork, single
from refnet.model.bgp import BGP_PORT, BGPPeer, SecretKey
from refnet.model.bgp_filter import FilterRule
from refnet.model.node import Node

Secrets = Mapping[SecretKey, str]


def secrets_needed(world: World, own: Node, address: IPAddress) -> frozenset[SecretKey]:
    """The passwords of this node's sessions."""
    sessions = _Sessions(world, own, address, {})
    references = [peer.password for peer in world.bgp_peers if any(sessions.targets(peer))]
    return frozenset(reference for reference in (*references, world.bgp.mesh_password) if reference)


def speaker_config(world: World, own: Node, uplink: Uplink, secrets: Secrets) -> SpeakerConfig:
    """The speaker's task on the node behind this uplink. Peers given by hand replace a mesh session to the same.

    A session whose password is not in `secrets` is left out: without one it would be open to anybody.
    """
    address = uplink.address.ip
    sessions = _Sessions(world, own, address, secrets)
    settings = world.bgp.but(world.node_bgp.get(own.name))
    peers: dict[tuple[IPAddress, int], SpeakerPeer] = {}
    for peer in (*sessions.mesh(), *sessions.given()):
        peers[peer.address, peer.port or BGP_PORT] = peer
    return SpeakerConfig(
        router_id=address,
        as_number=sessions.as_number(own),
        peers=tuple(sorted(peers.values(), key=lambda peer: peer.name)),
        own_blocks=tuple(cidr for cidr, node in world.owners.items() if node == own.name),
        borrowed=tuple(_borrowed_here(world, own.name)),
        pools=tuple(sorted(pool.cidr for pool in world.pools)),
        encapsulated_pools=tuple(sorted(pool.cidr for pool in world.pools if pool.is_encapsulated())),
        unexported_pools=tuple(sorted(pool.cidr for pool in world.pools if pool.disable_bgp_export)),
        listen_port=settings.listen_port,
        is_bound=settings.bind_mode == "NodeIP",
        ignored_interfaces=settings.ignored_interfaces or (),
        advertised=settings.advertised or (),
        reachable_by=tuple(sorted(sessions.ways())),
        gateway=uplink.gateway,
    )


@dataclass(frozen=True)
class _Target:
    """Whom one BGPPeer object makes us talk to: an address, and the node behind it where it is one."""

    address: IPAddress
    as_number: int
    port: int | None
    node: Node | None


class _Sessions:
    """One node's sessions, while one calculation lasts."""

    def __init__(self, world: World, own: Node, address: IPAddress, secrets: Secrets) -> None:
        self.world = world
        self.own = own
        self.address = address
        self.secrets = secrets
        self.nodes = {node.address.ip: node for node in world.nodes.values() if node.address}

    def as_number(self, node: Node) -> int:
        return node.as_number or self.world.bgp.as_number

    def port(self, node: Node) -> int | None:
        """Where a node listens; None for the usual port."""
        port = self.world.bgp.but(self.world.node_bgp.get(node.name)).listen_port
        return None if port == BGP_PORT else port

    def mesh(self) -> Iterator[SpeakerPeer]:
        """All other nodes. Route reflectors are no part of the mesh: they have their sessions from BGPPeers."""
        bgp = self.world.bgp
        if not bgp.node_to_node_mesh_enabled or self.own.cluster_id:
            return
        if bgp.mesh_password and bgp.mesh_password not in self.secrets:
            return
        for address, node in self.nodes.items():
            if node.name == self.own.name or address == self.address or node.cluster_id:
                continue
            yield SpeakerPeer(
                name=_name("Mesh", address, self.port(node)),
                address=address,
                as_number=self.as_number(node),
                is_passive=_is_passive(self.address, address),
                is_everybodys=True,
                port=self.port(node),
                source=self.address,
                password=self.secrets[bgp.mesh_password] if bgp.mesh_password else "",
                restart_time_s=bgp.mesh_max_restart_time_s,
            )

    def given(self) -> Iterator[SpeakerPeer]:
        """Sessions from BGPPeer objects; one for this very node or a selection wins over a global one."""
        for peer in sorted(self.world.bgp_peers, key=lambda peer: (_is_for_some(peer), peer.name)):
            if peer.password and peer.password not in self.secrets:
                continue
            for target in self.targets(peer):
                if target.address != self.address:
                    yield self.session(peer, target)

    def ways(self) -> Iterator[tuple[IPAddress, IPAddress]]:
        """Peers with a neighbour of their own to reach them by."""
        for peer in self.world.bgp_peers:
            if peer.reachable_by and peer.peer_ip and self.is_local(peer):
                yield peer.peer_ip, peer.reachable_by

    def is_local(self, peer: BGPPeer) -> bool:
        """Whether a peering is one of ours."""
        if peer.node_selector:
            return peer.node_selector.matches(self.own.labels)
        return peer.node in ("", self.own.name)

    def targets(self, peer: BGPPeer) -> Iterator[_Target]:
        """Whom the object makes us talk to. With a peerSelector the selected nodes talk back by the same object."""
        if peer.peer_ip and peer.as_number:
            if self.is_local(peer):
                node = self.nodes.get(peer.peer_ip)
                port = peer.port or (self.port(node) if node else None)
                yield _Target(peer.peer_ip, peer.as_number, None if port == BGP_PORT else port, node)
        elif peer.peer_selector:
            is_local = self.is_local(peer)
            is_asked = peer.is_reversed and peer.peer_selector.matches(self.own.labels)
            for address, node in self.nodes.items():
                there = _Sessions(self.world, node, address, self.secrets)
                if (is_local and peer.peer_selector.matches(node.labels)) or (is_asked and there.is_local(peer)):
                    yield _Target(address, self.as_number(node), self.port(node), node)

    def session(self, peer: BGPPeer, target: _Target) -> SpeakerPeer:
        local_as = peer.local_as_number or self.as_number(self.own)
        is_client = local_as == target.as_number and (not target.node or target.node.cluster_id != self.own.cluster_id)
        waits = target.node is not None and not _is_for_some(peer) and _is_passive(self.address, target.address)
        filters = [self.world.bgp_filters[name] for name in peer.filters if name in self.world.bgp_filters]
        return SpeakerPeer(
            name=_name("Node" if _is_for_some(peer) else "Global", target.address, target.port),
            address=target.address,
            as_number=target.as_number,
            is_passive=waits,
            is_everybodys=bool(peer.peer_ip) and not _is_for_some(peer),
            local_as=peer.local_as_number,
            port=target.port,
            source=self.address if peer.source_address == "UseNodeIP" else None,
            password=self.secrets[peer.password] if peer.password else "",
            cluster_id=self.own.cluster_id if is_client else None,
            next_hop_mode=peer.next_hop_mode,
            restart_time_s=peer.max_restart_time_s,
            keepalive_time_s=peer.keepalive_time_s,
            allowed_local_as=peer.allowed_local_as,
            ttl_security=peer.ttl_security,
            imports=_joined([each.imports_of(self.address.version) for each in filters]),
            exports=_joined([each.exports_of(self.address.version) for each in filters]),
        )


def _joined(rules: list[tuple[FilterRule, ...]]) -> tuple[FilterRule, ...]:
    return tuple(rule for each in rules for rule in each)


def _is_for_some(peer: BGPPeer) -> bool:
    """Whether a peering is meant for some nodes, else for all."""
    return bool(peer.node or peer.node_selector)


def _name(kind: str, address: IPAddress, port: int | None) -> str:
    suffix = f"_port_{port}" if port else ""
    return f"{kind}_{str(address).replace('.', '_').replace(':', '_')}{suffix}"


def _is_passive(own: IPAddress, peer: IPAddress) -> bool:
    """Calico's rule: one side waits, lest two nodes connect twice. It compares texts: 10.0.0.10 < 10.0.0.9."""
    return str(peer) > str(own)


def _borrowed_here(world: World, me: str) -> Iterator[IPNetwork]:
    """Addresses of foreign blocks in use on this node."""
    for cidr, block in sorted(world.blocks.items()):
        if world.owners.get(cidr) == me:
            continue
        for ordinal, holder in sorted(block.owners.items()):
            if dict(holder.attributes).get("node") == me:
                yield single(block.address(ordinal))
