"""In which order a node looks for a free block: a walk around the pool from a place that its name decides."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network

from refnet.model.pool import Pool


def fnv32(text: str) -> int:
    """FNV-1, 32 bits (the hash with which Calico seeds its walk)."""
    value = 0x811C9DC5
    for byte in text.encode():
        value = value * 0x01000193 & 0xFFFFFFFF ^ byte
    return value


def candidates(pool: Pool, node: str) -> Iterator[IPv4Network]:
    """Every block of the pool once. Nodes start apart, so that they rarely want the same block."""
    count = 1 << (pool.block_size - pool.cidr.prefixlen)
    first, size = int(pool.cidr.network_address), 1 << (32 - pool.block_size)
    start = fnv32(node) % count
    for step in range(count):
        yield IPv4Network((first + (start + step) % count * size, pool.block_size))
