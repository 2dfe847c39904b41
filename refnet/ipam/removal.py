"""Giving back what a whole pool or a whole node holds, before it is deleted; or a single address, by hand."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from refnet.errors import StoreConflict, StoreCorrupt
from refnet.ipam.allocator import Ipam, handle_counts, handle_value
from refnet.ipam.claims import RETRIES, all_blocks, disown, readable_blocks, same
from refnet.model.address import IPAddress, lies_in, read_network
from refnet.model.block import Block
from refnet.model.keys import (
    AFFINITIES,
    BGP_PEERS,
    BLOCKS,
    WORKLOAD_ENDPOINTS,
    AffinityKey,
    BlockKey,
    affinities_prefix,
    handle_key,
    parse_key,
    resource_key,
    status_key,
)
from refnet.store.etcd import Delete, Etcd, Put, Stored, Write


def release_pool(store: Etcd, stored: Stored) -> int:
    """Disable the pool, so that nothing new comes from it, then undo every node's claim on its blocks.

    Addresses in use stay allocated, in blocks that belong to nobody, until their pods go. Returns the pool's revision
    now. Raises StoreConflict if the pool is not as it was read.
    """
    spec = _spec_of(stored)
    try:
        cidr = read_network(str(spec.get("cidr")))
    except ValueError:
        return stored.revision  # nobody can have taken anything from it
    disabled = {**stored.value, "spec": {**spec, "disabled": True}}
    revision = store.update(stored.key, disabled, stored.revision)
    for key in store.prefix(AFFINITIES)[0]:
        parsed = parse_key(key)
        if isinstance(parsed, AffinityKey) and lies_in(parsed.cidr, cidr):
            disown(store, parsed)
    return revision


def release_node(store: Etcd, node: str) -> None:
    """Release every address that was given on the node, forget its endpoints and what was set for it, undo its claims.

    Another node of that name is to begin with nothing.
    """
    ipam = Ipam(store, node)
    owners = [owner for block, _ in readable_blocks(all_blocks(store)) for owner in block.owners.values()]
    for handle in sorted({owner.handle for owner in owners if ("node", node) in owner.attributes}):
        with contextlib.suppress(StoreCorrupt):  # of the handle: `ipam check` tells it
            ipam.release_handle(handle, node=node)
    for key, stored in store.prefix(WORKLOAD_ENDPOINTS)[0].items():
        if _spec_of(stored).get("node") == node:
            store.delete(key)
    for key in store.prefix(affinities_prefix(node))[0]:
        parsed = parse_key(key)
        if isinstance(parsed, AffinityKey):
            disown(store, parsed)
    for key, stored in store.prefix(BGP_PEERS)[0].items():
        if _spec_of(stored).get("node") == node:
            store.delete(key)
    for plural in ("felixconfigurations", "bgpconfigurations"):
        store.delete(resource_key(plural, f"node.{node}"))
    store.delete(status_key(node))


def _spec_of(stored: Stored) -> Mapping[str, Any]:
    """Empty where there is none: what others have written may be anything."""
    spec = stored.value.get("spec") if isinstance(stored.value, Mapping) else None
    return spec if isinstance(spec, Mapping) else {}


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
