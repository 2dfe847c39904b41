"""What one allocation sees: pools, settings, reservations, the node's labels and claims, all of one moment. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from refnet.errors import InvalidResource, NoAddress, StoreCorrupt
from refnet.model.address import IPAddress, IPNetwork, by_family, lies_in
from refnet.model.block import CONFIRMED, BlockAffinity
from refnet.model.ipam import IPReservation, read_settings
from refnet.model.keys import (
    IP_RESERVATIONS,
    IPAM_CONFIG,
    POOLS,
    AffinityKey,
    affinities_prefix,
    ipam_configuration_key,
    node_key,
    parse_key,
)
from refnet.model.pool import Pool, pool_of
from refnet.store.etcd import Stored

TYPE_CHECKING = False  # typing costs 3 ms of start-up
if TYPE_CHECKING:
    from typing import Any


def seen_by(node: str) -> tuple[str, ...]:
    """The keys and prefixes that a view of the node is made of, for one snapshot."""
    settings = (IPAM_CONFIG, ipam_configuration_key())
    return POOLS, IP_RESERVATIONS, *settings, node_key(node), affinities_prefix(node)


class View:
    """The part of the store that decides where a node's next address comes from."""

    def __init__(self, found: Mapping[str, Stored], node: str) -> None:
        self.found = found
        self.node = node
        self.pools = read_pools(found)
        self.settings = read_settings(_value(found, ipam_configuration_key()), _value(found, IPAM_CONFIG))
        self.reserved = _reserved(found)
        self.labels = _labels(_value(found, node_key(node)))
        self.claims = _confirmed(found)

    def eligible(self, use: str, wanted: Sequence[str], version: int) -> tuple[Pool, ...]:
        """The pools of that family that may serve: the wanted ones in that order, else all that select the node.

        Pools asked for by name or CIDR need not select the node, as in Calico. Raises NoAddress if none is left.
        """
        pools = [pool for pool in self.pools if pool.cidr.version == version and pool.gives(use)]
        kind = "IPPool" if version == 4 else "IPv6 IPPool"
        if wanted:
            return tuple(self._wanted(name, pools, f"{kind} {name} gives addresses to a {use}") for name in wanted)
        automatic = [pool for pool in pools if pool.assignment_mode == "Automatic"]
        chosen = tuple(pool for pool in automatic if pool.selects(self.labels))
        if not chosen:
            others = "; ".join(f"{pool.name} selects {pool.node_selector.text}" for pool in automatic)
            hint = f"{others}; {self.node} is not among them" if others else "refnetctl apply -f POOL.yaml"
            raise NoAddress(f"ipam: no enabled {kind} gives addresses to a {use}", hint=hint)
        return chosen

    def own_blocks(self, pools: Sequence[Pool]) -> list[IPNetwork]:
        """The node's blocks in these pools, in the order of the pools."""
        return [cidr for pool in pools for cidr in self.claims if lies_in(cidr, pool.cidr)]

    def unselected(self) -> list[IPNetwork]:
        """The node's blocks in pools that select other nodes only (now)."""
        return [c for c in self.claims if (p := pool_of(self.pools, c.network_address)) and not p.selects(self.labels)]

    def is_reserved(self, address: IPAddress) -> bool:
        return any(address in cidr for cidr in self.reserved)

    @staticmethod
    def _wanted(name: str, pools: Sequence[Pool], what: str) -> Pool:
        for pool in pools:
            if name in (pool.name, str(pool.cidr)):
                return pool
        raise NoAddress(f"ipam: no enabled {what}")


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


def _reserved(found: Mapping[str, Stored]) -> tuple[IPNetwork, ...]:
    reserved: list[IPNetwork] = []
    for key in sorted(found):
        if key.startswith(IP_RESERVATIONS):
            try:
                reserved += IPReservation.from_resource(found[key].value).reserved
            except InvalidResource:
                continue  # the agents say so in their status
    return tuple(reserved)


def _confirmed(found: Mapping[str, Stored]) -> tuple[IPNetwork, ...]:
    own = []
    for key, stored in found.items():
        parsed = parse_key(key)
        if isinstance(parsed, AffinityKey):
            try:
                affinity = BlockAffinity.from_value(parsed.node, parsed.cidr, stored.value)
            except StoreCorrupt:
                continue  # the agents and `ipam check` say so
            if affinity.state == CONFIRMED:
                own.append(parsed.cidr)
    return tuple(sorted(own, key=by_family))


def _labels(resource: Any) -> dict[str, str]:
    metadata = resource.get("metadata") if isinstance(resource, dict) else None
    labels = metadata.get("labels") if isinstance(metadata, dict) else None
    return {str(key): str(text) for key, text in labels.items()} if isinstance(labels, dict) else {}


def _value(found: Mapping[str, Stored], key: str) -> Any:
    stored = found.get(key)
    return stored.value if stored else None
