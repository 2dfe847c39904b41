"""The agent's hand on rules and sets: calculated when the cluster or an own address changes, then brought about."""

from __future__ import annotations

from refnet.agent.log import Log
from refnet.apply.filter import Filter
from refnet.apply.process import run
from refnet.apply.read import has_ipv6
from refnet.calc.changes import Have
from refnet.calc.policy.calculate import Interfaces, filterings
from refnet.calc.policy.filtering import Filtering
from refnet.calc.world import World


class Police:
    """Policy, address translation and the guard against forged sources on one node."""

    def __init__(self, node: str, log: Log) -> None:
        self._node = node
        self._log = log
        self._filter = Filter(run)
        self._of: tuple[World, Interfaces, bool] | None = None
        self._wanted: tuple[Filtering, ...] = ()
        self._is_stale = True
        self._reason = ""

    def look(self) -> None:
        """Read the kernel's rules and sets back the next time."""
        self._is_stale = True

    def bring_about(self, world: World, have: Have) -> str:
        """Make the kernel right; why it is not, or "". A world that is the very same one is not calculated again."""
        links = have.links.values()
        four: Interfaces = {own.ip: link.name for link in links for own in link.addresses}
        six: Interfaces = {own.ip: link.name for link in links for own in link.addresses6}
        rest = ({**four, **six}, has_ipv6())
        if self._of is None or self._of[0] is not world or self._of[1:] != rest:
            self._wanted = filterings(world, self._node, rest[0], has_ipv6=rest[1])
            self._of = world, *rest
        outcome = self._filter.bring_about(self._wanted, is_stale=self._is_stale)
        self._is_stale = False
        for line in outcome.lines:
            self._log("debug", "applied", line=line)
        if outcome.reason and outcome.reason != self._reason:
            self._log("error", "rules are not as wanted", reason=outcome.reason)
        self._reason = outcome.reason
        return outcome.reason
