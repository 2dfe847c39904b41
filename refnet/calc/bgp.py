"""What BIRD must do on this node: its sessions, what it announces, and the ranges it may write into the kernel."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address

from refnet.calc.wanted import BirdConfig, BirdPeer
from refnet.calc.world import World
from refnet.model.address import IPNetwork, single
from refnet.model.node import Node


def bird_config(world: World, own: Node, address: IPv4Address) -> BirdConfig:
    """BIRD's task on the node with this address. Peers given by hand take the place of a mesh session to the same."""
    as_number = own.as_number or world.bgp.as_number
    peers: dict[IPv4Address, BirdPeer] = {}
    for peer in (*_mesh(world, own, address), *_given(world, own, address)):
        peers[peer.address] = peer
    return BirdConfig(
        router_id=address,
        as_number=as_number,
        peers=tuple(sorted(peers.values(), key=lambda peer: peer.name)),
        own_blocks=tuple(cidr for cidr, node in world.owners.items() if node == own.name),
        borrowed=tuple(_borrowed_here(world, own.name)),
        pools=tuple(sorted(pool.cidr for pool in world.pools)),
        kernel_pools=tuple(sorted(pool.cidr for pool in world.pools if not pool.is_encapsulated())),
        unexported_pools=tuple(sorted(pool.cidr for pool in world.pools if pool.disable_bgp_export)),
    )


def _mesh(world: World, own: Node, address: IPv4Address) -> Iterator[BirdPeer]:
    if not world.bgp.node_to_node_mesh_enabled:
        return
    for node in world.nodes.values():
        if node.address and node.name != own.name and node.address.ip != address:
            as_number = node.as_number or world.bgp.as_number
            yield _peer("Mesh", node.address.ip, as_number, _is_passive(address, node.address.ip))


def _given(world: World, own: Node, address: IPv4Address) -> Iterator[BirdPeer]:
    """Peers from BGPPeer objects; one for this very node wins over a global one."""
    node_addresses = {node.address.ip for node in world.nodes.values() if node.address}
    for peer in sorted(world.bgp_peers, key=lambda peer: (bool(peer.node), peer.name)):
        if peer.node in ("", own.name) and peer.peer_ip != address:
            is_passive = peer.peer_ip in node_addresses and not peer.node and _is_passive(address, peer.peer_ip)
            yield _peer("Node" if peer.node else "Global", peer.peer_ip, peer.as_number, is_passive)


def _peer(kind: str, address: IPv4Address, as_number: int, is_passive: bool) -> BirdPeer:
    return BirdPeer(f"{kind}_{str(address).replace('.', '_')}", address, as_number, is_passive)


def _is_passive(own: IPv4Address, peer: IPv4Address) -> bool:
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
