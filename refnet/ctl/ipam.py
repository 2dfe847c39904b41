"""`ipam show | claim | check`: what is given to whom, and whether the books are straight."""

from __future__ import annotations

from collections import Counter

from refnet.ctl.tables import box
from refnet.errors import InvalidResource, Mistake, StoreCorrupt
from refnet.ipam import Ipam
from refnet.ipam.view import read_pools
from refnet.model.address import IPAddress, IPNetwork, by_family, lies_in, read_address, read_network
from refnet.model.block import CONFIRMED, Block, BlockAffinity
from refnet.model.keys import (
    AFFINITIES,
    BLOCKS,
    HANDLES,
    POOLS,
    WORKLOAD_ENDPOINTS,
    AffinityKey,
    BlockKey,
    HandleKey,
    block_key,
    node_key,
    parse_key,
)
from refnet.model.pool import Pool, pool_of
from refnet.store.etcd import Etcd, Stored

_HEADER = ("GROUPING", "CIDR", "IPS TOTAL", "IPS IN USE", "IPS RESERVED", "IPS FREE")


def show(store: Etcd, *, blocks: bool) -> str:
    """Usage by pool, and by block if wanted."""
    found, _ = store.snapshot(POOLS, BLOCKS)
    known = _blocks(found)
    rows = []
    for pool in read_pools(found):
        inside = [block for block in known if lies_in(block.cidr, pool.cidr)]
        rows.append(_usage("IP Pool", pool.cidr, sum(len(block.owners) for block in inside)))
        if blocks:
            rows += [_usage("Block", block.cidr, len(block.owners)) for block in inside]
    return box(_HEADER, rows) + "\n"


def show_address(store: Etcd, text: str) -> str:
    """Whether an address is in use, and by whom. Raises InvalidResource for what is no address."""
    try:
        address = read_address(text)
    except ValueError as error:
        raise InvalidResource("ipam show", [Mistake("--ip", text, "an IPv4 address such as 10.0.0.1")]) from error
    pool = pool_of(read_pools(store.prefix(POOLS)[0]), address)
    if pool is None:
        return f"{address} is not in an active IP pool\n"
    cidr = pool.block_of(address)
    stored = store.get(block_key(cidr))
    owner = Block.from_value(cidr, stored.value).owner_of(address) if stored else None
    if owner is None:
        return f"IP {address} is not assigned\n"
    lines = [f"IP {address} is in use", f"Handle ID: {owner.handle}", "Attributes:"]
    return "\n".join([*lines, *(f"  {key}: {value}" for key, value in owner.attributes)]) + "\n"


def claim(store: Etcd, text: str, node: str) -> str:
    """Make a block a node's own (ours, not calicoctl's: labs pin the blocks of a tutorial with it)."""
    try:
        cidr = read_network(text)
    except ValueError as error:
        raise InvalidResource("ipam claim", [Mistake("CIDR", text, "a block such as 10.0.0.0/26")]) from error
    Ipam(store, node).claim_block(cidr)
    return f"Block {cidr} belongs to node {node}\n"


def check(store: Etcd) -> tuple[str, int]:
    """Compare blocks, claims, handles, endpoints and tunnels; the report, and how many problems it names."""
    found, _ = store.snapshot(POOLS, BLOCKS, AFFINITIES, HANDLES, WORKLOAD_ENDPOINTS)
    problems: list[str] = []
    known = []
    for stored in found.values():
        try:
            known += _blocks({stored.key: stored})
        except StoreCorrupt as error:
            problems.append(error.message)
    problems += _claim_problems(store, found, known)
    problems += _handle_problems(found, known)
    problems += _endpoint_problems(found, known, read_pools(found))
    total = sum(len(block.owners) for block in known)
    lines = [f"Checking {len(known)} block(s) with {total} allocated address(es) ...", *problems]
    return "\n".join([*lines, f"Check complete; found {len(problems)} problem(s)."]) + "\n", len(problems)


def _claim_problems(store: Etcd, found: dict[str, Stored], known: list[Block]) -> list[str]:
    problems = []
    owners = {block.cidr: block.node for block in known}
    claimed = Counter[IPNetwork]()
    for key, stored in found.items():
        parsed = parse_key(key)
        if not isinstance(parsed, AffinityKey):
            continue
        if BlockAffinity.from_value(parsed.node, parsed.cidr, stored.value).state != CONFIRMED:
            continue
        claimed[parsed.cidr] += 1
        if owners.get(parsed.cidr) != parsed.node:
            owner = owners.get(parsed.cidr) or "nobody"
            problems.append(f"block {parsed.cidr}: {parsed.node} claims it, itself it says {owner}")
        if store.get(node_key(parsed.node)) is None:
            problems.append(f"block {parsed.cidr}: belongs to {parsed.node}, which is no node")
    return problems + [f"block {cidr}: claimed by {count} nodes" for cidr, count in claimed.items() if count > 1]


def _handle_problems(found: dict[str, Stored], known: list[Block]) -> list[str]:
    problems = []
    allocated = Counter((owner.handle, block.cidr) for block in known for owner in block.owners.values())
    for key, stored in found.items():
        parsed = parse_key(key)
        if not isinstance(parsed, HandleKey):
            continue
        counts = stored.value.get("block") if isinstance(stored.value, dict) else None
        if not counts:
            problems.append(f"handle {parsed.handle}: holds nothing")
        for cidr, count in (counts or {}).items():
            has = allocated.pop((parsed.handle, read_network(cidr)), 0)
            if has != count:
                problems.append(f"handle {parsed.handle}: says {count} in {cidr}, there are {has}")
    return problems + [f"handle {handle}: missing, though {cidr} names it" for handle, cidr in allocated]


def _endpoint_problems(found: dict[str, Stored], known: list[Block], pools: tuple[Pool, ...]) -> list[str]:
    """Addresses in use without an allocation, and allocations for pods without an endpoint."""
    problems = []
    used: dict[IPAddress, str] = {}
    for key, stored in found.items():
        if key.startswith(WORKLOAD_ENDPOINTS) and isinstance(stored.value, dict):
            for network in stored.value.get("spec", {}).get("ipNetworks") or ():
                used[read_network(network).network_address] = key.rpartition("/")[2]
    allocated = {block.address(i): owner for block in known for i, owner in block.owners.items()}
    for address, name in sorted(used.items(), key=lambda item: by_family(item[0])):
        if address not in allocated:
            problems.append(f"{address}: {name} uses it, nobody allocated it")
        elif pool_of(pools, address) is None:
            problems.append(f"{address}: {name} uses it, but it lies in no pool")
    for address, owner in sorted(allocated.items(), key=lambda item: by_family(item[0])):
        if address not in used and "-tunnel-addr-" not in owner.handle:
            problems.append(f"{address}: allocated to {owner.handle}, nobody uses it")
    return problems


def _blocks(found: dict[str, Stored]) -> list[Block]:
    known = []
    for key, stored in found.items():
        parsed = parse_key(key)
        if isinstance(parsed, BlockKey):
            known.append(Block.from_value(parsed.cidr, stored.value))
    return sorted(known, key=lambda block: by_family(block.cidr))


def _usage(grouping: str, cidr: IPNetwork, used: int) -> tuple[str, ...]:
    total = cidr.num_addresses
    return grouping, str(cidr), str(total), _share(used, total), _share(0, total), _share(total - used, total)


def _share(part: int, whole: int) -> str:
    return f"{part} ({round(100 * part / whole)}%)"
