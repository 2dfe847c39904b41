"""Giving back what a whole pool or a whole node holds, before it is deleted; or a single address, by hand."""

from __future__ import annotations

from refnet.errors import StoreConflict
from refnet.ipam.allocator import Ipam, handle_counts, handle_value
from refnet.ipam.claims import RETRIES, disown, same
from refnet.model.address import IPAddress, lies_in, read_network
from refnet.model.block import Block
from refnet.model.keys import (
    AFFINITIES,
    BLOCKS,
    WORKLOAD_ENDPOINTS,
    AffinityKey,
    BlockKey,
    affinities_prefix,
    handle_key,
    parse_key,
)
from refnet.store.etcd import Delete, Etcd, Put, Stored, Write


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


def release_address(store: Etcd, address: IPAddress, *, handle: str = "", sequence: int = 0) -> bool:
    """Take an address back from whoever has it; whether anybody had.

    With a handle and the number of its allocation only from that one: an address that was given anew stays. A handle
    that is missing in the books does not keep it.
    """
    for _ in range(RETRIES):
        found = _block_with(store, address)
        if found is None:
            return False
        kept, block = found
        owner = block.owner_of(address)
        deed = block.sequences.get(block.ordinal(address), 0)
        if owner is None or (handle and (owner.handle, deed) != (handle, sequence)):
            return False
        after = block.release_address(address, owner.handle)
        writes: list[Write] = [Put(kept.key, after.to_value()) if after.owners or after.node else Delete(kept.key)]
        guards = same(kept)
        stored = store.get(handle_key(owner.handle))
        if stored:
            counts = handle_counts(stored)
            counts[block.cidr] = len(after.addresses_of(owner.handle))
            left = {cidr: count for cidr, count in counts.items() if count}
            writes.append(Put(stored.key, handle_value(owner.handle, left)) if left else Delete(stored.key))
            guards += same(stored)
        if store.txn(guards, writes):
            return True
    raise StoreConflict(f"ipam: lost {RETRIES} races to release {address}")


def _block_with(store: Etcd, address: IPAddress) -> tuple[Stored, Block] | None:
    """The block an address lies in, also where its pool is gone; None if there is none."""
    for key, stored in store.prefix(BLOCKS)[0].items():
        parsed = parse_key(key)
        if isinstance(parsed, BlockKey) and address in parsed.cidr:
            return stored, Block.from_value(parsed.cidr, stored.value)
    return None
