"""IPAM of one node. Many processes on many nodes may run this at once: every write is a guarded transaction.

An address and its handle change in the same transaction, so a crash at any point leaks nothing; a claim is `pending`
until its block exists, and a pending claim that a crash left behind is completed by the next walk, which comes by the
same block first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from refnet.errors import AlreadyExists, InvalidResource, NoAddress, StoreConflict, StoreCorrupt
from refnet.ipam.walk import candidates
from refnet.model.address import IPAddress, IPNetwork, by_family, lies_in, read_network
from refnet.model.block import CONFIRMED, PENDING, Block, BlockAffinity, Owner
from refnet.model.keys import (
    BLOCKS,
    IPAM_CONFIG,
    POOLS,
    AffinityKey,
    BlockKey,
    affinities_prefix,
    affinity_key,
    block_key,
    handle_key,
    parse_key,
)
from refnet.model.pool import Pool, pool_of
from refnet.store.etcd import Delete, Etcd, Guard, Put, Stored, Write

TYPE_CHECKING = False  # typing costs 3 ms of start-up
if TYPE_CHECKING:
    from typing import Any

RETRIES = 100
"""Each lost race means that somebody else won it, so this many rivals at once are served."""

DEFAULT_BLOCKS_PER_NODE = 20


class Ipam:
    """Takes addresses for `node` from the store's pools and gives them back."""

    def __init__(self, store: Etcd, node: str) -> None:
        self.store = store
        self.node = node

    def auto_assign(
        self,
        handle: str,
        attributes: Mapping[str, str],
        *,
        use: str = "Workload",
        pools: Sequence[str] = (),
        version: int = 4,
    ) -> IPAddress:
        """Give the handle an address of that family for `use` (Workload, Tunnel), if wanted from certain pools only.

        Taken from the node's own blocks first, then from a block claimed for it. Raises NoAddress when every block of
        the pools belongs to some node and the own ones are full: nothing is borrowed from other nodes yet.
        """
        for _ in range(RETRIES):
            found, _ = self.store.snapshot(POOLS, affinities_prefix(self.node), IPAM_CONFIG, handle_key(handle))
            eligible = choose_pools(read_pools(found), use, pools, version)
            own = [cidr for cidr in self._confirmed(found) if any(lies_in(cidr, pool.cidr) for pool in eligible)]
            blocks = self.store.snapshot(*map(block_key, own))[0] if own else {}
            stored = found.get(handle_key(handle))
            took: IPAddress | None = None
            for cidr in own:
                kept = blocks.get(block_key(cidr))
                if kept and (taken := self._take_next(cidr, kept, Owner(handle, _pairs(attributes)))):
                    block, took = taken
                    if self._commit(block, kept, handle, stored):
                        return took
                    break
            if took is None:
                self._claim_any(eligible, own, found)
        raise StoreConflict(f"ipam: {self.node}: lost {RETRIES} races for an address")

    def assign(self, address: IPAddress, handle: str, attributes: Mapping[str, str]) -> IPAddress:
        """Give the handle that very address. Raises AlreadyExists if it is in use, NoAddress if it cannot be ours."""
        for _ in range(RETRIES):
            found, _ = self.store.snapshot(POOLS, handle_key(handle))
            pool = pool_of(read_pools(found), address)
            if pool is None or not pool.gives("Workload"):
                raise NoAddress(f"ipam: address {address}: lies in no enabled pool for workloads")
            cidr = pool.block_of(address)
            kept = self.store.get(block_key(cidr))
            if kept is None:
                self.claim_block(cidr)
                continue
            block = Block.from_value(cidr, kept.value)
            if block.node != self.node:
                owner = f"block {cidr} of {block.node or 'no node'}"
                raise NoAddress(f"ipam: address {address}: lies in {owner}; nothing is borrowed yet")
            block = block.assign(address, Owner(handle, _pairs(attributes)))
            if self._commit(block, kept, handle, found.get(handle_key(handle))):
                return address
        raise StoreConflict(f"ipam: {self.node}: lost {RETRIES} races for {address}")

    def claim_block(self, cidr: IPNetwork) -> Block:
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
            if now and (now.value == confirmed or self.store.txn(_same(kept, now), [Put(now.key, confirmed)])):
                return block
        raise StoreConflict(f"ipam: {self.node}: lost {RETRIES} races for block {cidr}")

    def release_handle(self, handle: str, **only: str) -> tuple[IPAddress, ...]:
        """Take back what the handle has; with `only`, what was given with these attributes. Returns the addresses.

        A handle that has nothing is fine. A block that becomes empty and belongs to no node is removed.
        """
        return self._release(handle, lambda block: block.release(handle, **only))

    def release_address(self, address: IPAddress, handle: str) -> bool:
        """Take back one address if the handle has it; whether it had."""
        return bool(self._release(handle, lambda block: block.release_address(address, handle)))

    def _release(self, handle: str, change: Callable[[Block], Block]) -> tuple[IPAddress, ...]:
        for _ in range(RETRIES):
            stored = self.store.get(handle_key(handle))
            if stored is None:
                return ()
            counts = _handle_counts(stored)
            blocks = self.store.snapshot(*map(block_key, counts))[0] if counts else {}
            guards, writes, freed = [Guard(stored.key, stored.revision)], list[Write](), list[IPAddress]()
            for cidr in tuple(counts):
                kept = blocks.get(block_key(cidr))
                if kept is None:
                    del counts[cidr]
                    continue
                before = Block.from_value(cidr, kept.value)
                after = change(before)
                counts[cidr] = len(after.addresses_of(handle))
                if not counts[cidr]:
                    del counts[cidr]
                if after is not before:
                    freed += [a for a in before.addresses_of(handle) if not after.owner_of(a)]
                    guards.append(Guard(kept.key, kept.revision))
                    writes.append(Put(kept.key, after.to_value()) if after.owners or after.node else Delete(kept.key))
            writes.append(Put(stored.key, _handle_value(handle, counts)) if counts else Delete(stored.key))
            if self.store.txn(guards, writes):
                return tuple(freed)
        raise StoreConflict(f"ipam: {self.node}: lost {RETRIES} races to release {handle}")

    def addresses_of(self, handle: str) -> tuple[IPAddress, ...]:
        """What the handle has, lowest first."""
        stored = self.store.get(handle_key(handle))
        if stored is None:
            return ()
        counts = _handle_counts(stored)
        blocks = self.store.snapshot(*map(block_key, counts))[0] if counts else {}
        kept = ((cidr, blocks.get(block_key(cidr))) for cidr in counts)
        found = (a for cidr, s in kept if s for a in Block.from_value(cidr, s.value).addresses_of(handle))
        return tuple(sorted(found, key=by_family))

    def _confirmed(self, found: Mapping[str, Stored]) -> list[IPNetwork]:
        own = []
        for key, stored in found.items():
            parsed = parse_key(key)
            if isinstance(parsed, AffinityKey):
                affinity = BlockAffinity.from_value(parsed.node, parsed.cidr, stored.value)
                if affinity.state == CONFIRMED:
                    own.append(parsed.cidr)
        return sorted(own, key=by_family)

    def _take_next(self, cidr: IPNetwork, kept: Stored, owner: Owner) -> tuple[Block, IPAddress] | None:
        block = Block.from_value(cidr, kept.value)
        return block.assign_next(owner) if block.node == self.node else None

    def _commit(self, block: Block, kept: Stored, handle: str, stored: Stored | None) -> bool:
        """Write the block with one address more, and the handle that says so."""
        counts = _handle_counts(stored) if stored else {}
        counts[block.cidr] = counts.get(block.cidr, 0) + 1
        key = handle_key(handle)
        guards = [Guard(kept.key, kept.revision), Guard(key, stored.revision if stored else 0)]
        return self.store.txn(guards, [Put(kept.key, block.to_value()), Put(key, _handle_value(handle, counts))])

    def _claim_any(self, pools: Sequence[Pool], own: Sequence[IPNetwork], found: Mapping[str, Stored]) -> None:
        """Claim one more block of one of the pools, or raise NoAddress saying why not."""
        config = found.get(IPAM_CONFIG)
        settings = config.value if config and isinstance(config.value, dict) else {}
        limit = settings.get("maxBlocksPerHost") or DEFAULT_BLOCKS_PER_NODE
        names = ", ".join(f"{pool.name} ({pool.cidr})" for pool in pools)
        if len(own) >= limit:
            raise NoAddress(f"ipam: {self.node}: all {len(own)} own blocks are full, and {limit} is the limit")
        blocks = self.store.prefix(BLOCKS)[0]
        self._give_up_lost_claims(found, blocks)
        taken = [key.cidr for key in map(parse_key, blocks) if isinstance(key, BlockKey)]
        for pool in pools:
            rivals = {cidr for cidr in taken if cidr.overlaps(pool.cidr)}
            same_size = all(cidr.prefixlen == pool.block_size for cidr in rivals)
            for cidr in candidates(pool, self.node):
                if cidr in rivals or (not same_size and any(cidr.overlaps(rival) for rival in rivals)):
                    continue
                try:
                    self.claim_block(cidr)
                except AlreadyExists:
                    continue
                return
        raise NoAddress(
            f"ipam: {self.node}: no free address in {names}: own blocks are full, all others are claimed",
            hint="add an IPPool, or delete pods; `refnetctl ipam show --show-blocks` tells",
        )

    def _give_up_lost_claims(self, found: Mapping[str, Stored], blocks: Mapping[str, Stored]) -> None:
        """Delete pending claims of this node on what another one has got: the claimant died before it could."""
        for key, claim in found.items():
            parsed = parse_key(key)
            if isinstance(parsed, AffinityKey) and claim.value == {"state": PENDING}:
                kept = blocks.get(block_key(parsed.cidr))
                if kept and Block.from_value(parsed.cidr, kept.value).node != self.node:
                    self.store.txn(_same(claim), [Delete(key)])

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


def read_pools(found: Mapping[str, Stored]) -> tuple[Pool, ...]:
    """The pools among stored keys, by name; those that mean nothing here are left out."""
    pools = []
    for key in sorted(found):
        if key.startswith(POOLS):
            try:
                pools.append(Pool.from_resource(found[key].value))
            except InvalidResource:
                continue  # of another Calico's making: refnetctl would have refused it
    return tuple(pools)


def choose_pools(pools: Sequence[Pool], use: str, wanted: Sequence[str], version: int = 4) -> tuple[Pool, ...]:
    """The pools that may serve: the wanted ones in that order, else all automatic ones. Raises NoAddress if none."""
    pools = [pool for pool in pools if pool.cidr.version == version]
    kind = "IPPool" if version == 4 else "IPv6 IPPool"
    if not wanted:
        eligible = tuple(pool for pool in pools if pool.gives(use) and pool.assignment_mode == "Automatic")
        if not eligible:
            raise NoAddress(f"ipam: no enabled {kind} gives addresses to a {use}", hint="refnetctl apply -f POOL.yaml")
        return eligible
    chosen = []
    for name in wanted:
        match = next((pool for pool in pools if name in (pool.name, str(pool.cidr)) and pool.gives(use)), None)
        if match is None:
            raise NoAddress(f"ipam: no enabled {kind} {name} gives addresses to a {use}")
        chosen.append(match)
    return tuple(chosen)


def _handle_counts(stored: Stored) -> dict[IPNetwork, int]:
    try:
        return {read_network(cidr): int(count) for cidr, count in stored.value["block"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreCorrupt(f"{stored.key}: misshapen handle: {error}") from error


def _handle_value(handle: str, counts: Mapping[IPNetwork, int]) -> dict[str, Any]:
    return {"handleID": handle, "block": {str(cidr): count for cidr, count in counts.items()}, "deleted": False}


def _pairs(attributes: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(attributes.items()))


def _same(*stored: Stored) -> list[Guard]:
    return [Guard(one.key, one.revision) for one in stored]
