"""`node status`: the node's BGP sessions, asked from BIRD or GoBGP itself through its control socket."""

from __future__ import annotations

import select
import time
from collections.abc import Sequence
from pathlib import Path

from refnet.agent import gobgp
from refnet.agent.birdc import Birdc, sessions
from refnet.agent.speaker import Session
from refnet.ctl.tables import box
from refnet.errors import NotFound, StoreUnavailable

SOCKETS = (Path("/var/run/calico/bird.ctl"), Path("/run/bird/bird.ctl"))
_WITHIN_S = 2.0
_AGENTS = (b"refnet-agent", b"calico-node")


def node_status(sockets: tuple[Path, ...] = SOCKETS, processes: Path = Path("/proc")) -> str:
    """What calicoctl prints. Raises NotFound when no agent runs on this node."""
    if not _agent_runs(processes):
        raise NotFound("Calico process is not running.", hint="run this on a node whose agent has been started")
    parts = ["Calico process is running.\n"]
    found = _ask(sockets)
    if found is None and gobgp.SOCKET.exists() and (neighbours := gobgp.ask("neighbor")) is not None:
        found = gobgp.read_sessions(neighbours or [])
    if found is None:
        parts.append("INFO: BIRDv4 process: 'bird' is not running.\n")
    else:
        parts.append(_table("IPv4", [peer for peer in found if ":" not in peer.peer]))
        parts.append(_table("IPv6", [peer for peer in found if ":" in peer.peer]))
    return "\n".join(parts) + "\n"


def _table(family: str, peers: Sequence[Session]) -> str:
    header = ("PEER ADDRESS", "PEER TYPE", "STATE", "SINCE", "INFO")
    rows = [(peer.peer, peer.type, peer.state, peer.since, peer.info) for peer in peers]
    return f"{family} BGP status\n" + (box(header, rows) if rows else f"No {family} peers found.") + "\n"


def _ask(sockets: tuple[Path, ...]) -> tuple[Session, ...] | None:
    """The sessions; None when nobody listens on any of the sockets."""
    for path in sockets:
        try:
            bird = Birdc(path)
        except OSError:
            continue
        try:
            return _show_protocols(bird, path)
        finally:
            bird.close()
    return None


def _show_protocols(bird: Birdc, path: Path) -> tuple[Session, ...]:
    deadline = time.monotonic() + _WITHIN_S
    try:
        bird.ask("show protocols")
        while (left := deadline - time.monotonic()) > 0:
            if not select.select([bird], [], [], left)[0]:
                break
            for answer in bird.read():
                if answer.command:
                    return sessions(answer.lines)
    except OSError as error:
        raise StoreUnavailable(f"bird: {path}: {error.strerror or error}") from error
    raise StoreUnavailable(f"bird: {path}: no answer within {_WITHIN_S:.0f} s")


def _agent_runs(processes: Path) -> bool:
    for entry in processes.iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue  # it ended between the two looks
            if any(word.rpartition(b"/")[2] in _AGENTS for word in words[:4]):
                return True
    return False
