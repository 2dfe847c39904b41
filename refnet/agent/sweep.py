"""Giving back what leaked and what is spare, once it has been so for the whole grace period."""

from __future__ import annotations

from collections.abc import Callable

from refnet.calc.litter import Leak, leaks, spare_blocks
from refnet.calc.world import World
from refnet.ipam.claims import disown
from refnet.ipam.removal import release_address
from refnet.model.address import IPNetwork
from refnet.model.keys import AffinityKey
from refnet.store.etcd import Etcd

_NEVER = float("inf")


class Sweep:
    """Remembers since when each thing lies about. A restart of the agent begins anew: too late does no harm."""

    def __init__(self, log: Callable[..., None]) -> None:
        self._log = log
        self._since: dict[Leak | IPNetwork, float] = {}
        self._grace_s = 0.0

    def deadline(self) -> float:
        """When the next thing is due."""
        return min(self._since.values(), default=_NEVER) + self._grace_s

    def forget(self) -> None:
        """Begin anew: what lay about may be in use meanwhile."""
        self._since = {}

    def look(self, store: Etcd, world: World, me: str, now: float) -> None:
        """Note what lies about in this world, and give back what has for long enough.

        Every deed is guarded: what is in use again by then stays. Raises StoreUnavailable, StoreConflict, StoreCorrupt.
        """
        self._grace_s = world.controllers.leak_grace_s
        found = (*leaks(world, me), *spare_blocks(world, me)) if self._grace_s else ()
        self._since = {thing: self._since.get(thing, now) for thing in found}
        for thing in [thing for thing, since in self._since.items() if now >= since + self._grace_s]:
            del self._since[thing]
            if isinstance(thing, Leak):
                if release_address(store, thing.address, handle=thing.handle, sequence=thing.sequence):
                    self._log("warning", "leaked address released", address=str(thing.address), handle=thing.handle)
            else:
                disown(store, AffinityKey(me, thing), only_empty=True)
                self._log("info", "spare block given back", block=str(thing))
