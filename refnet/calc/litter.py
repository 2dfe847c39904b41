"""What of a node's addresses and blocks nobody uses now. Whether for long enough to give it back, the agent knows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from refnet.calc.world import World
from refnet.model.address import FAMILIES, IPAddress, IPNetwork, by_family
from refnet.model.keys import WORKLOAD_ENDPOINTS

_TUNNEL = "-tunnel-addr-"


@dataclass(frozen=True)
class Leak:
    """An allocation without an endpoint; `sequence` tells it from a later one of the same address."""

    address: IPAddress
    handle: str
    sequence: int


def leaks(world: World, me: str) -> Iterator[Leak]:
    """Addresses given to pods on this node that no endpoint of it has.

    None at all while an endpoint cannot be read: it may be the user. Tunnel addresses have a keeper of their own.
    """
    if any(invalid.key.startswith(WORKLOAD_ENDPOINTS) for invalid in world.invalid):
        return
    used = {address for endpoint in world.endpoints if endpoint.node == me for address in endpoint.addresses}
    for cidr in sorted(world.blocks, key=by_family):
        block = world.blocks[cidr]
        for ordinal, owner in sorted(block.owners.items()):
            address = block.address(ordinal)
            is_pods = dict(owner.attributes).get("node") == me and _TUNNEL not in owner.handle
            if is_pods and address not in used:
                yield Leak(address, owner.handle, block.sequences.get(ordinal, 0))


def spare_blocks(world: World, me: str) -> Iterator[IPNetwork]:
    """The node's blocks without an address in use, but never its last one of a family (calico 2.10)."""
    for version in FAMILIES:
        own = [cidr for cidr, node in world.owners.items() if node == me and cidr.version == version]
        empty = [cidr for cidr in sorted(own, key=by_family) if cidr in world.blocks and not world.blocks[cidr].owners]
        yield from empty if len(empty) < len(own) else empty[1:]
