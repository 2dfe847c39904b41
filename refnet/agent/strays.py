"""Routes into pods' devices that no endpoint explains: theirs is a moment, then they go.

The plugin makes a pod's route before it writes the endpoint, so for a while nobody else knows whose it is.
Source: Felix's route table, which waits as long.
"""

from __future__ import annotations

from dataclasses import replace

from refnet.calc.changes import Have, stray_routes
from refnet.calc.wanted import Route, RouteKey, Wanted

GRACE_S = 10.0
_NEVER = float("inf")


class Strays:
    """Remembers since when each is there. A restart of the agent begins anew: too late does little harm."""

    def __init__(self) -> None:
        self._since: dict[tuple[RouteKey, Route], float] = {}
        self._deadline = _NEVER

    def deadline(self) -> float:
        """When the next one is due."""
        return self._deadline

    def rang(self) -> None:
        """The deadline has been heard: the look that follows sets the next."""
        self._deadline = _NEVER

    def forget(self) -> None:
        """Begin anew: while the store is not followed, nobody knows whose they are."""
        self._since, self._deadline = {}, _NEVER

    def with_overdue(self, want: Wanted, have: Have, now: float) -> Wanted:
        """The same, with the routes that have been there for long enough."""
        self._since = {each: self._since.get(each, now) for each in stray_routes(have, want)}
        due = {each: since + GRACE_S for each, since in self._since.items()}
        self._deadline = min((at for at in due.values() if at > now), default=_NEVER)
        return replace(want, strays=frozenset(each for each, at in due.items() if at <= now))
