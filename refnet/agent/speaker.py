"""What the agent's loop needs of a BGP speaker, whichever program it is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Protocol

from refnet.calc.speaker import SpeakerConfig

KINDS = {"Mesh": "node-to-node mesh", "Global": "global", "Node": "node specific"}


@dataclass(frozen=True)
class Session:
    """One BGP session as reported. `state` is BIRD's word (up, start, down), `info` BGP's (Established, Active …)."""

    peer: str
    type: str
    state: str
    since: str
    info: str

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


class Speaker(Protocol):
    """Keeps one speaker running as wanted, never blocking the loop, which calls `tick` by `deadline`."""

    @property
    def sessions(self) -> tuple[Session, ...]: ...

    @property
    def reason(self) -> str:
        """What is wrong with it; empty if nothing is."""

    def is_loaded(self) -> bool:
        """Whether it runs with what it was last told; true when it is not wanted and does not run."""

    def want(self, config: SpeakerConfig | None, *, recovers: bool = False) -> None:
        """Run with this configuration; None: do not run. `recovers`: routes of an earlier one wait in the kernel."""

    def deadline(self) -> float: ...

    def tick(self, now: float) -> None: ...

    def stop(self, *, keeps_routes: bool = False) -> None:
        """End it and wait for its end. `keeps_routes`: the peers are to keep our routes until the next start."""
