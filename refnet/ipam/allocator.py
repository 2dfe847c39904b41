"""IPAM of one node. Many processes on many nodes may run this at once: every write is a guarded transaction.

An address and its handle change in the same transaction, so a crash at any point leaks nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence

from refnet.errors import AlreadyExists, NoAddress, StoreConflict, StoreCorrupt
from refnet.ipam.claims import RETRIES, Claims, all_blocks, blocks_on_walk, readable_blocks
from refnet.ipam.view import View, seen_by
from refnet.model.address import IPAddress, IPNetwork, by_family, read_network
from refnet.model.block import Block, Owner
from refnet.model.keys import block_key, handle_key
from refnet.model.pool import Pool, pool_of
from refnet.store.etcd import Delete, Etcd, Guard, Put, Stored, Write

TYPE_CHECKING = False  # typing costs 3 ms of start-up
if TYPE_CHECKING:
    from typing import Any


class Ipam:
    """Takes addresses for `node` from the store's pools and gives them back."""

    def __init__(self, store: Etcd, node: str) -> None:
        self.store = store
        self.node = node
        self._claims = Claims(store, node)

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

        Taken from the node's own blocks first, then from a block claimed for it, in the end from another node's block,
        unless strictAffinity forbids that. Reserved addresses are left out. Raises NoAddress, saying why there is none.
        """
        owner = Owner(handle, _pairs(attributes))
        for _ in range(RETRIES):
            view = View(self.store.snapshot(*seen_by(self.node), handle_key(handle))[0], self.node)
            eligible = view.eligible(use, pools, version)
            if not pools:
                self._claims.give_back_unselected(view)
            took = self._attempt(view, eligible, owner)
            if took:
                return took
        raise StoreConflict(f"ipam: {self.node}: lost {RETRIES} races for an address")

    def _attempt(self, view: View, eligible: tuple[Pool, ...], owner: Owner) -> IPAddress | None:
        """One try with what the view shows; None: a race was lost, or a block claimed, so look again."""
        own = view.own_blocks(eligible)
        kept = self.store.snapshot(*map(block_key, own))[0] if own else {}
        present = {key: kept[key] for key in map(block_key, own) if key in kept}
        mine = ((block, stored) for block, stored in readable_blocks(present) if block.node == self.node)
        found, took = self._take_from(mine, view, owner)
        if found:
            return took
        everybodys = all_blocks(self.store)
        reason = self._claims.claim_another(view, eligible, everybodys)
        if not reason:
            return None
        if view.settings.strict_affinity:
            reason += ", and strictAffinity forbids to borrow"
        else:
            found, took = self._take_from(blocks_on_walk(eligible, everybodys, self.node), view, owner)
            if found:
                return took
            reason += ", nobody has one to lend"
        names = ", ".join(f"{pool.name} ({pool.cidr})" for pool in eligible)
        raise NoAddress(
            f"ipam: {self.node}: no free address in {names}: {reason}",
            hint="add an IPPool, or delete pods; `refnetctl ipam show --show-blocks` tells",
        )

    def _take_from(
        self, blocks: Iterable[tuple[Block, Stored]], view: View, owner: Owner
    ) -> tuple[bool, IPAddress | None]:
        """Whether there is a free address in one of these blocks; and that address, None if a race for it was lost."""
        for block, kept in blocks:
            taken = block.assign_next(owner, view.is_reserved)
            if taken:
                after, address = taken
                is_ours = self._commit(after, kept, owner.handle, view.found.get(handle_key(owner.handle)))
                return True, address if is_ours else None
        return False, None

    def assign(self, address: IPAddress, handle: str, attributes: Mapping[str, str]) -> IPAddress:
        """Give the handle that very address, also a reserved one, or one of another node's block if that is allowed.

        Raises AlreadyExists if it is in use, NoAddress if it cannot be ours.
        """
        for _ in range(RETRIES):
            view = View(self.store.snapshot(*seen_by(self.node), handle_key(handle))[0], self.node)
            pool = pool_of(view.pools, address)
            if pool is None or not pool.gives("Workload"):
                raise NoAddress(f"ipam: address {address}: lies in no enabled pool for workloads")
            cidr = pool.block_of(address)
            kept = self.store.get(block_key(cidr))
            if kept is None:
                with contextlib.suppress(AlreadyExists):  # somebody else was quicker: then it is borrowed
                    self._claims.claim(cidr)
                continue
            block = Block.from_value(cidr, kept.value)
            if block.node != self.node and view.settings.strict_affinity:
                owner = f"block {cidr} of {block.node or 'no node'}"
                raise NoAddress(f"ipam: address {address}: lies in {owner}, and strictAffinity forbids to borrow")
            block = block.assign(address, Owner(handle, _pairs(attributes)))
            if self._commit(block, kept, handle, view.found.get(handle_key(handle))):
                return address
        raise StoreConflict(f"ipam: {self.node}: lost {RETRIES} races for {address}")

    def claim_block(self, cidr: IPNetwork) -> Block:
        """Make the block this node's own; see Claims.claim."""
        return self._claims.claim(cidr)

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
            counts = handle_counts(stored)
            blocks = self.store.snapshot(*map(block_key, counts))[0] if counts else {}
            guards, writes, freed = [Guard(stored.key, stored.revision)], list[Write](), list[IPAddress]()
            for cidr in [cidr for cidr in counts if block_key(cidr) not in blocks]:
                del counts[cidr]
            for before, kept in readable_blocks(blocks):  # what is in another one the handle keeps, until it is mended
                cidr, after = before.cidr, change(before)
                counts[cidr] = len(after.addresses_of(handle))
                if not counts[cidr]:
                    del counts[cidr]
                if after is not before:
                    freed += [a for a in before.addresses_of(handle) if not after.owner_of(a)]
                    guards.append(Guard(kept.key, kept.revision))
                    writes.append(Put(kept.key, after.to_value()) if after.owners or after.node else Delete(kept.key))
            writes.append(Put(stored.key, handle_value(handle, counts)) if counts else Delete(stored.key))
            if self.store.txn(guards, writes):
                return tuple(freed)
        raise StoreConflict(f"ipam: {self.node}: lost {RETRIES} races to release {handle}")

    def addresses_of(self, handle: str) -> tuple[IPAddress, ...]:
        """What the handle has, lowest first."""
        stored = self.store.get(handle_key(handle))
        if stored is None:
            return ()
        counts = handle_counts(stored)
        blocks = self.store.snapshot(*map(block_key, counts))[0] if counts else {}
        found = (address for block, _ in readable_blocks(blocks) for address in block.addresses_of(handle))
        return tuple(sorted(found, key=by_family))

    def _commit(self, block: Block, kept: Stored, handle: str, stored: Stored | None) -> bool:
        """Write the block with one address more, and the handle that says so."""
        counts = handle_counts(stored) if stored else {}
        counts[block.cidr] = counts.get(block.cidr, 0) + 1
        key = handle_key(handle)
        guards = [Guard(kept.key, kept.revision), Guard(key, stored.revision if stored else 0)]
        return self.store.txn(guards, [Put(kept.key, block.to_value()), Put(key, handle_value(handle, counts))])


def handle_counts(stored: Stored) -> dict[IPNetwork, int]:
    try:
        return {read_network(cidr): int(count) for cidr, count in stored.value["block"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreCorrupt(f"{stored.key}: misshapen handle: {error}") from error


def handle_value(handle: str, counts: Mapping[IPNetwork, int]) -> dict[str, Any]:
    return {"handleID": handle, "block": {str(cidr): count for cidr, count in counts.items()}, "deleted": False}


def _pairs(attributes: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(attributes.items()))
