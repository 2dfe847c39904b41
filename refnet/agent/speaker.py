"""What the agent's loop needs of a BGP speaker, whichever program it is."""

from __future__ import annotations

import selectors
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from refnet.calc.speaker import SpeakerConfig

_FIRST_RESTART_S, LAST_RESTART_S, _STEADY_S = 0.1, 5.0, 10.0
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


class Backoff:
    """How long to wait before a speaker that ended by itself is started again: longer each time it does not last."""

    def __init__(self) -> None:
        self._after_s = _FIRST_RESTART_S

    def after(self, lasted_s: float) -> float:
        """The wait in seconds, of one that lasted so long."""
        wait_s = _FIRST_RESTART_S if lasted_s > _STEADY_S else self._after_s
        self._after_s = min(2 * wait_s, LAST_RESTART_S)
        return wait_s


def ends(pidfd: int, within_s: float) -> bool:
    """Whether the process has ended by then."""
    with selectors.DefaultSelector() as selector:
        selector.register(pidfd, selectors.EVENT_READ)
        return bool(selector.select(within_s))


def write_config(path: Path, text: str) -> None:
    """Replace a speaker's file at once, for its owner's eyes alone. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.touch(mode=0o600)  # it may hold passwords
    new.write_text(text)
    new.replace(path)


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
