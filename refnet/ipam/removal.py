"""Giving back what a whole pool or a whole node holds, before it is deleted."""

from __future__ import annotations

from collections.abc import Callable

from refnet.errors import StoreConflict
from refnet.ipam.allocator import RETRIES, Ipam
from refnet.model.address import lies_in, read_network
from refnet.model.block import Block
from refnet.model.keys import (
    AFFINITIES,
    BLOCKS,
    WORKLOAD_ENDPOINTS,
    AffinityKey,
    BlockKey,
    affinities_prefix,
    block_key,
    parse_key,
)
from refnet.model.value import changed
from refnet.store.etcd import Delete, Etcd, Guard, Put, Stored, Write


def release_pool(store: Etcd, stored: Stored) -> None:
    """Disable the pool, so that nothing new comes from it, then undo every node's claim on its blocks.

    Addresses in use stay allocated, in blocks that belong to nobody, until their pods go.
    """
    store.put(stored.key, {**stored.value, "spec": {**stored.value.get("spec", {}), "disabled": True}})
    cidr = read_network(stored.value["spec"]["cidr"])
    for key in store.prefix(AFFINITIES)[0]:
        parsed = parse_key(key)
        if isinstance(parsed, AffinityKey) and lies_in(parsed.cidr, cidr):
            _disown(store, key, parsed)


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
            _disown(store, key, parsed)


def _disown(store: Etcd, key: str, claim: AffinityKey) -> None:
    """Delete the claim together with its block, or, if the block is in use, clear the block's owner."""

    def attempt() -> bool:
        present, _ = store.snapshot(key, block_key(claim.cidr))
        kept = present.get(block_key(claim.cidr))
        guards, writes = [Guard(s.key, s.revision) for s in present.values()], list[Write]([Delete(key)])
        if kept:
            block = Block.from_value(claim.cidr, kept.value)
            if block.node == claim.node:
                ownerless = changed(block, affinity=None, sequence=block.sequence + 1)
                writes.append(Put(kept.key, ownerless.to_value()) if block.owners else Delete(kept.key))
        return store.txn(guards, writes)

    _persist(attempt, f"ipam: release block {claim.cidr} of {claim.node}")


def _persist(attempt: Callable[[], bool], what: str) -> None:
    if not any(attempt() for _ in range(RETRIES)):
        raise StoreConflict(f"{what}: lost {RETRIES} races")
