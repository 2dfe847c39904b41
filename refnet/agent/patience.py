"""How long a change from IPIP to VXLAN waits for the other nodes: one that is down would never let it end."""

from __future__ import annotations

from collections.abc import Callable

from refnet.calc.network import left_in_ipip
from refnet.calc.world import World

PATIENCE_S = 60.0
_NEVER = float("inf")


class Patience:
    """Remembers since when we wait. A restart of the agent begins anew."""

    def __init__(self, log: Callable[..., None]) -> None:
        self.waits_for: tuple[str, ...] = ()
        self._log = log
        self._since = _NEVER
        self._left: tuple[str, ...] = ()
        self._was_over = False

    def deadline(self) -> float:
        """When the world must be looked at again: by then nobody is waited for any longer."""
        return self._since + PATIENCE_S if self.waits_for else _NEVER

    def look(self, world: World, me: str, now: float) -> World:
        """The world as it counts: after a minute, without what those still have in IPIP whom we have waited for."""
        left = tuple(sorted(left_in_ipip(world, me)))
        self._since = min(self._since, now) if left else _NEVER
        is_over = now >= self._since + PATIENCE_S
        self.waits_for = () if is_over else left
        if left and (left, is_over) != (self._left, self._was_over):
            words = "waits no longer for nodes to leave IPIP" if is_over else "waits for nodes to leave IPIP"
            self._log("warning" if is_over else "info", words, nodes=list(left))
        self._left, self._was_over = left, is_over
        return world.without_ipip(left) if is_over else world
