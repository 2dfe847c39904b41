"""What must hold between a pool that is being written, the other pools, and the blocks that were cut already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from refnet.errors import InvalidResource, Mistake
from refnet.ipam.view import read_pools
from refnet.model.keys import BLOCKS, POOLS, BlockKey, parse_key
from refnet.model.pool import Pool
from refnet.store.etcd import Etcd


def refuse_bad_pools(store: Etcd, wanted: Sequence[Pool]) -> None:
    """Pools may not overlap, and the shape of a pool cannot change: blocks have been cut from it.

    Raises InvalidResource with every mistake.
    """
    if not wanted:
        return
    found, _ = store.snapshot(POOLS, BLOCKS)
    present = {pool.name: pool for pool in read_pools(found)}
    after = present | {pool.name: pool for pool in wanted}
    blocks = [key.cidr for key in map(parse_key, found) if isinstance(key, BlockKey)]
    mistakes: list[Mistake] = []
    for pool in wanted:
        mistakes += _changed_shape(pool, present)
        for other in after.values():
            if other.name != pool.name and pool.cidr.overlaps(other.cidr):
                legal = f"a network apart from {other.cidr} of {other.name}"
                mistakes.append(Mistake(f"{_path(pool)}.cidr", str(pool.cidr), legal))
        if pool.name not in present:
            odd = next((c for c in blocks if c.overlaps(pool.cidr) and c.prefixlen != pool.block_size), None)
            if odd:
                hint = f"block {odd} is left of an earlier pool: its pods must go first"
                mistakes.append(Mistake(f"{_path(pool)}.blockSize", str(pool.block_size), str(odd.prefixlen), hint))
    if mistakes:
        raise InvalidResource("pools", mistakes)


def _changed_shape(pool: Pool, present: Mapping[str, Pool]) -> list[Mistake]:
    before = present.get(pool.name)
    if before is None or (before.cidr, before.block_size) == (pool.cidr, pool.block_size):
        return []
    given, legal = f"{pool.cidr}, blocks /{pool.block_size}", f"{before.cidr}, blocks /{before.block_size}"
    return [Mistake(f"{_path(pool)}.cidr", given, legal, "delete the pool and create it anew")]


def _path(pool: Pool) -> str:
    return f"{Pool.KIND}/{pool.name}: spec"
