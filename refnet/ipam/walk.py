"""In which order a node looks for a free block: a walk around the pool from a place that its name decides."""

from __future__ import annotations

from collections.abc import Iterator

from refnet.model.address import IPNetwork, slice_of
from refnet.model.pool import Pool


def fnv32(text: str) -> int:
    """FNV-1, 32 bits (the hash with which Calico seeds its walk)."""
    value = 0x811C9DC5
    for byte in text.encode():
        value = value * 0x01000193 & 0xFFFFFFFF ^ byte
    return value


def candidates(pool: Pool, node: str) -> Iterator[IPNetwork]:
    """Every block of the pool once. Nodes start apart, so that they rarely want the same block."""
    count, size = _shape(pool)
    start = fnv32(node) % count
    for step in range(count):
        yield slice_of(pool.cidr.network_address + (start + step) % count * size, pool.block_size)


def place_on_walk(pool: Pool, node: str, cidr: IPNetwork) -> int:
    """After how many others the node would come by this block."""
    count, size = _shape(pool)
    index = (int(cidr.network_address) - int(pool.cidr.network_address)) // size
    return (index - fnv32(node)) % count


def _shape(pool: Pool) -> tuple[int, int]:
    """How many blocks a pool has, and how many addresses a block."""
    count = 1 << max(0, pool.block_size - pool.cidr.prefixlen)  # a disabled pool may be smaller than a block
    return count, 1 << (pool.cidr.max_prefixlen - pool.block_size)
