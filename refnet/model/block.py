"""IPAM blocks and the claims on them: pure values, in the JSON that Calico stores."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from refnet.errors import AlreadyExists, StoreCorrupt
from refnet.model.address import IPAddress, IPNetwork
from refnet.model.value import changed, value

TYPE_CHECKING = False  # typing costs 3 ms of start-up
if TYPE_CHECKING:
    from typing import Any

PENDING, CONFIRMED, PENDING_DELETION = "pending", "confirmed", "pendingDeletion"


@value
class BlockAffinity:
    """The claim of a node on a block; only a confirmed one counts."""

    node: str
    cidr: IPNetwork
    state: str = CONFIRMED

    @classmethod
    def from_value(cls, node: str, cidr: IPNetwork, value: object) -> BlockAffinity:
        """Raises StoreCorrupt. An empty state means confirmed (data of old Calicos)."""
        state = value.get("state") if isinstance(value, Mapping) else None
        if state not in ("", PENDING, CONFIRMED, PENDING_DELETION):
            raise StoreCorrupt(f"affinity of {node} on {cidr}: state {state!r}")
        return cls(node, cidr, str(state) or CONFIRMED)

    def to_value(self) -> dict[str, Any]:
        return {"state": self.state}


@value
class Owner:
    """Whom an address was given to: the handle that releases it, and free-form attributes."""

    handle: str
    attributes: tuple[tuple[str, str], ...] = ()


@value
class Block:
    """A block of addresses. `owners` maps ordinals (address minus the block's first) to owners.

    `unallocated` is a queue: taken from the front, given back at the end, so a freed address rests longest.
    """

    cidr: IPNetwork
    affinity: str | None
    owners: Mapping[int, Owner]
    unallocated: tuple[int, ...]
    sequence: int
    sequences: Mapping[int, int]
    claimed_at: str | None = None

    @classmethod
    def fresh(cls, cidr: IPNetwork, node: str) -> Block:
        free = tuple(range(cidr.num_addresses))
        return cls(cidr, f"host:{node}", {}, free, time.time_ns(), {}, timestamp())

    @classmethod
    def from_value(cls, cidr: IPNetwork, value: object) -> Block:
        """Read Calico's AllocationBlock. Raises StoreCorrupt when it is not one, or contradicts itself."""
        try:
            return _read_block(cidr, value)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
            raise StoreCorrupt(f"block {cidr}: misshapen: {type(error).__name__}: {error}") from error

    def to_value(self) -> dict[str, Any]:
        owners = list(dict.fromkeys(self.owners.values()))
        index = {owner: i for i, owner in enumerate(owners)}
        size = self.cidr.num_addresses
        return {
            "cidr": str(self.cidr),
            "affinity": self.affinity,
            "affinity_claim_time": self.claimed_at,
            "allocations": [index[self.owners[i]] if i in self.owners else None for i in range(size)],
            "unallocated": list(self.unallocated),
            "attributes": [{"handle_id": o.handle, "secondary": dict(o.attributes)} for o in owners],
            "sequenceNumber": self.sequence,
            "sequenceNumberForAllocation": {str(i): number for i, number in self.sequences.items()},
            "deleted": False,
        }

    @property
    def node(self) -> str:
        """The node whose block this is; empty if nobody's."""
        kind, _, name = (self.affinity or "").partition(":")
        return name if kind == "host" else ""

    def address(self, ordinal: int) -> IPAddress:
        return self.cidr.network_address + ordinal

    def ordinal(self, address: IPAddress) -> int:
        return int(address) - int(self.cidr.network_address)

    def owner_of(self, address: IPAddress) -> Owner | None:
        return self.owners.get(self.ordinal(address))

    def addresses_of(self, handle: str) -> tuple[IPAddress, ...]:
        return tuple(self.address(i) for i, owner in sorted(self.owners.items()) if owner.handle == handle)

    def assign_next(
        self, owner: Owner, is_reserved: Callable[[IPAddress], bool] = lambda _: False
    ) -> tuple[Block, IPAddress] | None:
        """The block with its longest-free address given to the owner; None if all are taken or reserved."""
        for ordinal in self.unallocated:
            address = self.address(ordinal)
            if not is_reserved(address):
                return self.assign(address, owner), address
        return None

    def assign(self, address: IPAddress, owner: Owner) -> Block:
        """The block with that very address given. Raises AlreadyExists if it is taken."""
        ordinal = self.ordinal(address)
        if ordinal not in self.unallocated:
            taken = self.owners.get(ordinal)
            raise AlreadyExists(f"address {address}: in use" + (f" by {taken.handle}" if taken else ""))
        return changed(
            self,
            owners={**self.owners, ordinal: owner},
            unallocated=tuple(i for i in self.unallocated if i != ordinal),
            sequence=self.sequence + 1,
            sequences={**self.sequences, ordinal: self.sequence},
        )

    def release(self, handle: str, **only: str) -> Block:
        """The block without anything given to that handle (with these attributes); itself if nothing was."""
        wanted = set(only.items())
        return self._without({i for i, o in self.owners.items() if o.handle == handle and wanted <= set(o.attributes)})

    def release_address(self, address: IPAddress, handle: str) -> Block:
        """The block without that address, if the handle has it; else itself."""
        owner = self.owner_of(address)
        return self._without({self.ordinal(address)} if owner and owner.handle == handle else set())

    def _without(self, freed: set[int]) -> Block:
        if not freed:
            return self
        return changed(
            self,
            owners={i: owner for i, owner in self.owners.items() if i not in freed},
            unallocated=(*self.unallocated, *sorted(freed)),
            sequence=self.sequence + 1,
            sequences={i: number for i, number in self.sequences.items() if i not in freed},
        )


def timestamp(seconds: float | None = None) -> str:
    """The present second, or that of the epoch, in RFC 3339, UTC; such texts sort by time."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _read_block(cidr: IPNetwork, value: Any) -> Block:
    if value["cidr"] != str(cidr):
        raise ValueError(f"says it is {value['cidr']}")
    size = cidr.num_addresses
    allocations, unallocated = value["allocations"], tuple(value["unallocated"])
    attributes = [
        Owner(str(a.get("handle_id") or ""), tuple(sorted((a.get("secondary") or {}).items())))
        for a in value.get("attributes") or ()
    ]
    if len(allocations) != size:
        raise ValueError(f"{len(allocations)} allocations for {size} addresses")
    owners = {}
    for ordinal, index in enumerate(allocations):
        if index is not None:
            if not 0 <= index < len(attributes):
                raise ValueError(f"allocation {ordinal} names attribute {index} of {len(attributes)}")
            owners[ordinal] = attributes[index]
    free = set(unallocated)
    if len(free) != len(unallocated) or free & owners.keys() or not all(0 <= i < size for i in free):
        raise ValueError("unallocated and allocations contradict each other")
    sequences = {int(i): int(number) for i, number in (value.get("sequenceNumberForAllocation") or {}).items()}
    affinity = value.get("affinity") or None
    texts = [text for owner in attributes for pair in owner.attributes for text in pair]
    if not all(isinstance(text, str) for text in (affinity or "", *texts)):
        raise ValueError("its affinity or an attribute is no text")
    return Block(
        cidr, affinity, owners, unallocated, int(value["sequenceNumber"]), sequences, value.get("affinity_claim_time")
    )
