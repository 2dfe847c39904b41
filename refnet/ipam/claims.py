"""Claims of nodes on blocks: making one, taking over an idle one, giving one back.

A claim is `pending` until its block exists. One that a crash left pending is completed by the node's next walk, which
comes by the same block first.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

from refnet.errors import AlreadyExists, NoAddress, StoreConflict, StoreCorrupt
from refnet.ipam.view import View, read_pools
from refnet.ipam.walk import candidates, place_on_walk
from refnet.model.address import IPNetwork
from refnet.model.block import CONFIRMED, PENDING, Block, BlockAffinity, timestamp
from refnet.model.keys import BLOCKS, POOLS, AffinityKey, BlockKey, affinity_key, block_key, parse_key
from refnet.model.pool import Pool, pool_of
from refnet.model.value import changed
from refnet.store.etcd import Delete, Etcd, Guard, Put, Stored, Write

RETRIES = 100
"""Each lost race means that somebody else won it, so this many rivals at once are served."""

IDLE_AFTER_S = 60
"""A claim younger than this on an empty block is taken for one whose first address is on its way."""


class Claims:
    """Makes blocks the node's own."""

    def __init__(self, store: Etcd, node: str) -> None:
        self.store = store
        self.node = node

    def claim(self, cidr: IPNetwork) -> Block:
        """Make the block this node's own; claiming it again is fine.

        Raises AlreadyExists if it belongs to another node (or to none), NoAddress if it is no block of a pool.
        """
        found, _ = self.store.snapshot(POOLS)
        pool = pool_of(read_pools(found), cidr.network_address)
        if pool is None or pool.disabled or pool.block_of(cidr.network_address) != cidr:
            legal = f"those of {pool.cidr} are /{pool.block_size}" if pool else "no pool contains it"
            raise NoAddress(f"ipam: block {cidr}: is not a block of an enabled pool: {legal}")
        for _ in range(RETRIES):
            claim = self._pending_claim(cidr)
            block = Block.fresh(cidr, self.node)
            confirmed = BlockAffinity(self.node, cidr, CONFIRMED).to_value()
            guards = [Guard(block_key(cidr), 0), Guard(claim.key, claim.revision)]
            if self.store.txn(guards, [Put(block_key(cidr), block.to_value()), Put(claim.key, confirmed)]):
                return block
            present, _ = self.store.snapshot(block_key(cidr), claim.key)
            kept, now = present.get(block_key(cidr)), present.get(claim.key)
            if kept is None:
                continue
            block = Block.from_value(cidr, kept.value)
            if block.node != self.node:
                if now and now.revision == claim.revision:
                    self.store.txn([Guard(now.key, now.revision)], [Delete(now.key)])
                raise AlreadyExists(f"ipam: block {cidr}: belongs to {block.node or 'no node'}")
            if now and (now.value == confirmed or self.store.txn(same(kept, now), [Put(now.key, confirmed)])):
                return block
        raise StoreConflict(f"ipam: {self.node}: lost {RETRIES} races for block {cidr}")

    def claim_another(self, view: View, pools: Sequence[Pool], blocks: Mapping[str, Stored]) -> str:
        """Claim one more block of one of the pools; an empty text, or the reason why there is none to be had.

        `blocks` are all blocks of the store. One that another process of this node has claimed since the view was taken
        serves as well.
        """
        if not view.settings.auto_allocate_blocks:
            return "own blocks are full, and autoAllocateBlocks is false"
        unseen = [cidr for cidr in self._own(blocks) if cidr not in view.claims and _is_in(cidr, pools)]
        if unseen:
            self.claim(unseen[0])
            return ""
        self._give_up_lost_claims(view.found, blocks)
        own = [cidr for cidr in view.claims if cidr.version == pools[0].cidr.version]
        if len(own) >= view.settings.block_limit:
            return f"all {len(own)} own blocks are full, and {view.settings.block_limit} is the limit"
        if self._claim_unclaimed(pools, blocks) or self._take_over(pools, blocks):
            return ""
        return "own blocks are full, all others are claimed"

    def give_back_unselected(self, view: View) -> None:
        """Give back the node's empty blocks in pools that do not select it any more."""
        for cidr in view.unselected():
            disown(self.store, AffinityKey(self.node, cidr), only_empty=True)

    def _claim_unclaimed(self, pools: Sequence[Pool], blocks: Mapping[str, Stored]) -> bool:
        taken = [key.cidr for key in map(parse_key, blocks) if isinstance(key, BlockKey)]
        for pool in pools:
            rivals = {cidr for cidr in taken if cidr.overlaps(pool.cidr)}
            same_size = all(cidr.prefixlen == pool.block_size for cidr in rivals)
            for cidr in candidates(pool, self.node):
                if cidr in rivals or (not same_size and any(cidr.overlaps(rival) for rival in rivals)):
                    continue
                try:
                    self.claim(cidr)
                except AlreadyExists:
                    continue
                return True
        return False

    def _take_over(self, pools: Sequence[Pool], blocks: Mapping[str, Stored]) -> bool:
        """Make an empty block of another node our own, if its claim is old; whether there was one."""
        old = timestamp(time.time() - IDLE_AFTER_S)
        for block, kept in blocks_on_walk(pools, blocks, self.node):
            cidr = block.cidr
            if block.owners or not block.node or (block.claimed_at or "") >= old:
                continue
            theirs = self.store.get(affinity_key(block.node, cidr))
            mine = changed(
                block, affinity=f"host:{self.node}", claimed_at=timestamp(), sequence=block.sequence + 1
            )  # guarded, as an address may be given from it just now
            confirmed = BlockAffinity(self.node, cidr, CONFIRMED).to_value()
            writes: list[Write] = [Put(kept.key, mine.to_value()), Put(affinity_key(self.node, cidr), confirmed)]
            writes += [Delete(theirs.key)] if theirs else []
            if self.store.txn(same(kept, *([theirs] if theirs else [])), writes):
                return True
        return False

    def _own(self, blocks: Mapping[str, Stored]) -> list[IPNetwork]:
        """Blocks that say they are ours; no other is read, for there may be thousands."""
        mark = f"host:{self.node}"
        ours = {
            key: kept
            for key, kept in blocks.items()
            if isinstance(kept.value, dict) and kept.value.get("affinity") == mark
        }
        return [block.cidr for block, _ in readable_blocks(ours)]

    def _give_up_lost_claims(self, found: Mapping[str, Stored], blocks: Mapping[str, Stored]) -> None:
        """Delete pending claims of this node on what another one has got: the claimant died before it could."""
        for key, claim in found.items():
            parsed = parse_key(key)
            if isinstance(parsed, AffinityKey) and claim.value == {"state": PENDING}:
                kept = blocks.get(block_key(parsed.cidr))
                if kept and any(block.node != self.node for block, _ in readable_blocks({kept.key: kept})):
                    self.store.txn(same(claim), [Delete(key)])

    def _pending_claim(self, cidr: IPNetwork) -> Stored:
        """The node's claim on the block as stored, made now if there is none."""
        key = affinity_key(self.node, cidr)
        value = BlockAffinity(self.node, cidr, PENDING).to_value()
        for _ in range(RETRIES):
            present = self.store.get(key)
            if present:
                return present
            try:
                return Stored(key, value, self.store.create(key, value))
            except StoreConflict:
                continue  # another process of this node was quicker; its claim serves as well
        raise StoreConflict(f"ipam: {self.node}: lost {RETRIES} races for the claim on {cidr}")


def all_blocks(store: Etcd) -> dict[str, Stored]:
    return store.prefix(BLOCKS)[0]


def readable_blocks(found: Mapping[str, Stored]) -> Iterator[tuple[Block, Stored]]:
    """The blocks among stored keys, without misshapen ones, each read as its turn comes: there may be thousands.

    Those are told by the agents and by `ipam check`, and must not keep anybody from the good ones.
    """
    for key, kept in found.items():
        parsed = parse_key(key)
        if isinstance(parsed, BlockKey):
            try:
                block = Block.from_value(parsed.cidr, kept.value)
            except StoreCorrupt:
                continue
            yield block, kept


def blocks_on_walk(pools: Sequence[Pool], blocks: Mapping[str, Stored], node: str) -> Iterator[tuple[Block, Stored]]:
    """The readable blocks of the pools in the order in which the node comes by them on its walk."""
    parsed = [(key.cidr, text) for text in blocks if isinstance(key := parse_key(text), BlockKey)]
    for pool in pools:
        places = {place_on_walk(pool, node, cidr): text for cidr, text in parsed if _is_in(cidr, [pool])}
        yield from readable_blocks({places[place]: blocks[places[place]] for place in sorted(places)})


def disown(store: Etcd, claim: AffinityKey, *, only_empty: bool = False) -> None:
    """Delete the claim together with its block, or, if the block is in use, clear the block's owner.

    With `only_empty` a block in use stays as it is. One that cannot be read stays in any case: who knows who uses it.
    """
    key, place = affinity_key(claim.node, claim.cidr), block_key(claim.cidr)
    for _ in range(RETRIES):
        present, _ = store.snapshot(key, place)
        kept = present.get(place)
        guards, writes = same(*present.values()), list[Write]([Delete(key)])
        readable = [block for block, _ in readable_blocks({kept.key: kept})] if kept else []
        if only_empty and kept and not readable:
            return
        for block in readable:
            if only_empty and block.owners:
                return
            if block.node == claim.node:
                ownerless = changed(block, affinity=None, sequence=block.sequence + 1)
                writes.append(Put(place, ownerless.to_value()) if block.owners else Delete(place))
        if store.txn(guards, writes):
            return
    raise StoreConflict(f"ipam: release block {claim.cidr} of {claim.node}: lost {RETRIES} races")


def _is_in(cidr: IPNetwork, pools: Sequence[Pool]) -> bool:
    return any(cidr.network_address in pool.cidr for pool in pools)


def same(*stored: Stored) -> list[Guard]:
    """Guards that hold while these are as they were read."""
    return [Guard(one.key, one.revision) for one in stored]
