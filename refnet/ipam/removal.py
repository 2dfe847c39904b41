"""Giving back what a whole pool or a whole node holds, before it is deleted."""

from __future__ import annotations

from refnet.ipam.allocator import Ipam
from refnet.ipam.claims import disown
from refnet.model.address import lies_in, read_network
from refnet.model.block import Block
from refnet.model.keys import (
    AFFINITIES,
    BLOCKS,
    WORKLOAD_ENDPOINTS,
    AffinityKey,
    BlockKey,
    affinities_prefix,
    parse_key,
)
from refnet.store.etcd import Etcd, Stored


def release_pool(store: Etcd, stored: Stored) -> None:
    """Disable the pool, so that nothing new comes from it, then undo every node's claim on its blocks.

    Addresses in use stay allocated, in blocks that belong to nobody, until their pods go.
    """
    store.put(stored.key, {**stored.value, "spec": {**stored.value.get("spec", {}), "disabled": True}})
    cidr = read_network(stored.value["spec"]["cidr"])
    for key in store.prefix(AFFINITIES)[0]:
        parsed = parse_key(key)
        if isinstance(parsed, AffinityKey) and lies_in(parsed.cidr, cidr):
            disown(store, parsed)


def release_node(store: Etcd, node: str) -> None:
    """Release every address that was given on the node, forget its endpoints, and undo its claims."""
    ipam = Ipam(store, node)
    handles = set()
    for key, stored in store.prefix(BLOCKS)[0].items():
        parsed = parse_key(key)
        if isinstance(parsed, BlockKey):
            owners = Block.from_value(parsed.cidr, stored.value).owners.values()
            handles |= {owner.handle for owner in owners if ("node", node) in owner.attributes}
    for handle in sorted(handles):
        ipam.release_handle(handle, node=node)
    for key, stored in store.prefix(WORKLOAD_ENDPOINTS)[0].items():
        if isinstance(stored.value, dict) and stored.value.get("spec", {}).get("node") == node:
            store.delete(key)
    for key in store.prefix(affinities_prefix(node))[0]:
        parsed = parse_key(key)
        if isinstance(parsed, AffinityKey):
            disown(store, parsed)
