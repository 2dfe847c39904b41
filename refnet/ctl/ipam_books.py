"""The books of IPAM, read at one moment: who has which address, who uses it, and where the two disagree. Pure but for
one read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import refnet
from refnet.errors import StoreCorrupt
from refnet.ipam.view import read_pools
from refnet.model.address import IPAddress, IPNetwork, by_family, read_address, read_network
from refnet.model.block import CONFIRMED, Block, BlockAffinity, Owner
from refnet.model.keys import (
    AFFINITIES,
    BLOCKS,
    HANDLES,
    NODES,
    POOLS,
    WORKLOAD_ENDPOINTS,
    AffinityKey,
    BlockKey,
    HandleKey,
    node_key,
    parse_key,
)
from refnet.model.pool import pool_of
from refnet.store.etcd import Etcd

_TUNNEL_FIELDS = {
    ("bgp", "ipv4IPIPTunnelAddr"): "ipip",
    ("", "ipv4VXLANTunnelAddr"): "vxlan",
    ("", "ipv6VXLANTunnelAddr"): "vxlan-v6",
}
REPORT_VERSION = "1"


@dataclass(frozen=True)
class Given:
    """An allocated address: the owner in the books, the number of the deed, and the block's owner."""

    owner: Owner
    sequence: int
    block: IPNetwork
    lender: str


class Books:
    """Allocations and their users as they stood at one moment. What cannot be read is a problem, never an error."""

    def __init__(self, store: Etcd) -> None:
        self.found, _ = store.snapshot(POOLS, BLOCKS, AFFINITIES, HANDLES, WORKLOAD_ENDPOINTS, NODES)
        self.unreadable: list[str] = []
        self.blocks = self._blocks()
        self.given = {
            block.address(i): Given(owner, block.sequences.get(i, 0), block.cidr, block.node)
            for block in self.blocks
            for i, owner in sorted(block.owners.items())
        }
        self.users: dict[IPAddress, list[str]] = {}
        for address, name in (*self._endpoints(), *self._tunnels()):
            self.users.setdefault(address, []).append(name)

    def leaked(self) -> list[IPAddress]:
        """Allocated to somebody, used by nobody."""
        return [address for address in self.given if address not in self.users]

    def leaked_handles(self) -> list[str]:
        """Handles that hold nothing."""
        return [handle for handle, counts in self._handles() if not counts]

    def problems(self) -> list[str]:
        """Every disagreement in a sentence; none if the books are straight."""
        return [*self.unreadable, *self._claim_problems(), *self._handle_problems(), *self._address_problems()]

    def report(self) -> dict[str, Any]:
        """For `ipam release --from-report`: what of it may go only if it is still what it was."""
        allocations = {
            str(address): [
                {
                    "handle": given.owner.handle,
                    "sequenceNumber": given.sequence,
                    "inUse": address in self.users,
                    "block": str(given.block),
                    "attributes": dict(given.owner.attributes),
                }
            ]
            for address, given in sorted(self.given.items(), key=lambda item: by_family(item[0]))
        }
        head = {"version": REPORT_VERSION, "clusterType": "refnet", "refnet": refnet.__version__}
        return {**head, "allocations": allocations, "leakedHandles": self.leaked_handles()}

    def _blocks(self) -> list[Block]:
        known = []
        for key, stored in self.found.items():
            parsed = parse_key(key)
            if isinstance(parsed, BlockKey):
                try:
                    known.append(Block.from_value(parsed.cidr, stored.value))
                except StoreCorrupt as error:
                    self.unreadable.append(error.message)
        return sorted(known, key=lambda block: by_family(block.cidr))

    def _endpoints(self) -> Iterator[tuple[IPAddress, str]]:
        for key, stored in self.found.items():
            if key.startswith(WORKLOAD_ENDPOINTS):
                name = key.rpartition("/")[2]
                networks = _mapping(_mapping(stored.value).get("spec")).get("ipNetworks")
                for network in networks if isinstance(networks, list) else ():
                    try:
                        yield read_network(str(network)).network_address, name
                    except ValueError:
                        self.unreadable.append(f"{name}: its address {network!r} is none")

    def _tunnels(self) -> Iterator[tuple[IPAddress, str]]:
        for key, stored in self.found.items():
            if key.startswith(NODES):
                spec = _mapping(_mapping(stored.value).get("spec"))
                for (where, field), word in _TUNNEL_FIELDS.items():
                    written = (_mapping(spec.get(where)) if where else spec).get(field)
                    try:
                        if written:
                            yield read_address(str(written)), f"{word} tunnel of {key[len(NODES) :]}"
                    except ValueError:
                        self.unreadable.append(f"{key[len(NODES) :]}: {field}: {written!r} is no address")

    def _handles(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        for key, stored in self.found.items():
            parsed = parse_key(key)
            if isinstance(parsed, HandleKey):
                yield parsed.handle, _mapping(_mapping(stored.value).get("block"))

    def _claim_problems(self) -> Iterator[str]:
        owners = {block.cidr: block.node for block in self.blocks}
        claimed: dict[IPNetwork, int] = {}
        for key, stored in self.found.items():
            parsed = parse_key(key)
            if not isinstance(parsed, AffinityKey):
                continue
            try:
                claim = BlockAffinity.from_value(parsed.node, parsed.cidr, stored.value)
            except StoreCorrupt as error:
                yield error.message
                continue
            if claim.state != CONFIRMED:
                continue
            claimed[parsed.cidr] = claimed.get(parsed.cidr, 0) + 1
            if owners.get(parsed.cidr) != parsed.node:
                owner = owners.get(parsed.cidr) or "nobody"
                yield f"block {parsed.cidr}: {parsed.node} claims it, itself it says {owner}"
            if node_key(parsed.node) not in self.found:
                yield f"block {parsed.cidr}: belongs to {parsed.node}, which is no node"
        for cidr, count in claimed.items():
            if count > 1:
                yield f"block {cidr}: claimed by {count} nodes"

    def _handle_problems(self) -> Iterator[str]:
        allocated: dict[tuple[str, str], int] = {}
        for given in self.given.values():
            place = (given.owner.handle, str(given.block))
            allocated[place] = allocated.get(place, 0) + 1
        for handle, counts in self._handles():
            if not counts:
                yield f"handle {handle}: holds nothing"
            for cidr, count in counts.items():
                has = allocated.pop((handle, cidr), 0)
                if has != count:
                    yield f"handle {handle}: says {count} in {cidr}, there are {has}"
        for handle, cidr in allocated:
            yield f"handle {handle}: missing, though {cidr} names it"

    def _address_problems(self) -> Iterator[str]:
        pools = read_pools(self.found)
        for address, names in sorted(self.users.items(), key=lambda item: by_family(item[0])):
            if len(names) > 1:
                yield f"{address}: booked {len(names)} times: {', '.join(sorted(names))} use it"
            if address not in self.given:
                yield f"{address}: {names[0]} uses it, nobody allocated it"
            elif pool_of(pools, address) is None:
                yield f"{address}: {names[0]} uses it, but it lies in no pool"
        for address in sorted(self.leaked(), key=by_family):
            yield f"{address}: allocated to {self.given[address].owner.handle}, nobody uses it"


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
