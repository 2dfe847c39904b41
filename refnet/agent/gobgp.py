"""GoBGP as the agent's child. It writes no routes, so the agent reads its table and writes them."""

from __future__ import annotations

import json
import os
import selectors
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from refnet.agent.speaker import KINDS, LAST_RESTART_S, Backoff, Session, ends, write_config
from refnet.apply.process import Finished, run
from refnet.calc.speaker import SpeakerConfig
from refnet.model.address import FAMILY_WORDS, IPAddress, IPNetwork, read_address, read_network
from refnet.render.gobgpconf import EXPORTS, announced, halves, render_gobgp, unsupported

CONFIG = Path("/etc/calico/gobgp/gobgpd.json")
SOCKET = Path("/var/run/calico/gobgp.sock")
PID = Path("/run/calico/gobgpd.pid")

# GoBGP's command has no time-out of its own, and our loop must not wait for a daemon that hangs.
_ASK = ("timeout", "3", "gobgp", "--target", f"unix://{SOCKET}")
_LOOK_EVERY_S, _LOOK_SOON_S = 1.0, 0.1
# By then a new GoBGP has heard from its peers what they know; so long the kernel keeps what the old one knew.
SETTLED_AFTER_S, _HEARD_AFTER_S = 20.0, 3.0
_STATES = ("Idle", "Idle", "Connect", "Active", "OpenSent", "OpenConfirm", "Established")
# IPv6 has its next hops in another attribute (RFC 4760, 3).
_ORIGIN, _NEXT_HOP, _MP_REACH = ("origin", "igp"), 3, 14

Routes = Mapping[IPNetwork, IPAddress]


class GoBgp:
    """Keeps one gobgpd running as wanted, and `learned` as its table is; `on_news` is called when that changed."""

    def __init__(self, selector: selectors.BaseSelector, log: Callable[..., None], on_news: Callable[[], None]) -> None:
        self.sessions: tuple[Session, ...] = ()
        self.reason = ""
        self.learned: Routes = {}
        self._selector = selector
        self._log = log
        self._on_news = on_news
        self._config: SpeakerConfig | None = None
        self._text = ""
        self._pid = 0
        self._pidfd = -1
        self._started_at = 0.0
        self._is_loaded = False
        self._has_answered = False
        self._owes_reload = False
        self._all_up_at = float("inf")
        self._look_at = float("inf")
        self._restart_at = float("inf")
        self._backoff = Backoff()

    def is_loaded(self) -> bool:
        """Whether it runs, answers, and tells what it is to tell; true when it is not wanted and does not run."""
        return self._is_loaded if self._config else not self._pid

    def is_settled(self) -> bool:
        """Whether what it does not know is gone, and not only not heard of yet."""
        now = time.monotonic()
        return bool(self._pid) and now - min(self._started_at + SETTLED_AFTER_S, self._all_up_at + _HEARD_AFTER_S) > 0

    def want(self, config: SpeakerConfig | None, *, recovers: bool = False) -> None:
        """Run with this configuration; None: do not run. A change of what is told alone needs no new file."""
        if not config and not self._pid and PID.exists():  # of one whose agent died while it was still wanted
            retire_orphan(PID)
            PID.unlink(missing_ok=True)
        if config == self._config and (self._pid or not config or self._restart_at < float("inf")):
            return
        told, self._config = (self._text, self._config), config
        self._text = render_gobgp(config) if config else ""
        self._is_loaded = False
        try:
            self._bring_about(told[0], recovers=recovers)
        except OSError:
            self._text, self._config = told  # so that the next call tries again
            raise
        if config:
            self._look_at = time.monotonic() + _LOOK_SOON_S

    def _bring_about(self, before: str, *, recovers: bool) -> None:
        if not self._config:
            self.stop()
            self.reason = ""
        elif not self._pid:
            self._start(recovers=recovers)
        elif needs_a_start(before, self._text):
            self.stop(keeps_routes=True)
            self._start(recovers=True)
        elif self._text != before:
            write_config(CONFIG, self._text)
            self._reload()

    def _reload(self) -> None:
        """Have it read its file again. One that has not answered yet may not know the signal, and would die of it."""
        self._owes_reload = not self._has_answered
        if self._has_answered:
            os.kill(self._pid, signal.SIGHUP)

    def deadline(self) -> float:
        return min(self._look_at, self._restart_at)

    def tick(self, now: float) -> None:
        if now >= self._restart_at:
            self._start(recovers=True)
        if now >= self._look_at:
            self._look_at = now + _LOOK_EVERY_S
            self._look()

    def stop(self, *, keeps_routes: bool = False) -> None:
        """End it. `keeps_routes`: without a word, so that the peers take it for a restart (RFC 4724, 5)."""
        self._look_at = self._restart_at = float("inf")
        if not self._pid:
            return
        os.kill(self._pid, signal.SIGKILL if keeps_routes else signal.SIGTERM)
        if not ends(self._pidfd, 1.0):
            os.kill(self._pid, signal.SIGKILL)
        self._reap()
        if not keeps_routes:
            PID.unlink(missing_ok=True)

    def _start(self, *, recovers: bool) -> None:
        """Like: gobgpd -t json -f …/gobgpd.json --api-hosts unix:///var/run/calico/gobgp.sock"""
        self._restart_at = float("inf")
        # An earlier one that ended without a word has left its file, and routes in the kernel.
        recovers = recovers or PID.exists()
        retire_orphan(PID)
        write_config(CONFIG, self._text)
        SOCKET.parent.mkdir(parents=True, exist_ok=True)
        SOCKET.unlink(missing_ok=True)
        argv = ["gobgpd", "-t", "json", "-f", str(CONFIG), "--api-hosts", f"unix://{SOCKET}", "--pprof-disable"]
        null = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (0, 1)]
        argv += ["-r"] if recovers else []
        try:
            self._pid = os.posix_spawnp("gobgpd", argv, os.environ, file_actions=null, setsigmask=[])
        except OSError as error:
            self.reason = f"gobgp: cannot be started: {error.strerror}"
            self._restart_at = time.monotonic() + LAST_RESTART_S
            return
        PID.parent.mkdir(parents=True, exist_ok=True)
        PID.write_text(str(self._pid))
        self._pidfd = os.pidfd_open(self._pid)
        self._selector.register(self._pidfd, selectors.EVENT_READ, self._on_exit)
        self._started_at = time.monotonic()
        self._look_at = self._started_at + _LOOK_SOON_S
        self._log("info", "gobgpd started", pid=self._pid, recovers=recovers)

    def _on_exit(self) -> None:
        """It ended by itself: start it again, later each time it does not last."""
        lasted_s = time.monotonic() - self._started_at
        code = self._reap()
        self._restart_at = time.monotonic() + self._backoff.after(lasted_s)
        self.reason = f"gobgp: gobgpd ended with {code}"
        self._log("error", self.reason)

    def _reap(self) -> int:
        _, status = os.waitpid(self._pid, 0)
        self._selector.unregister(self._pidfd)
        os.close(self._pidfd)
        self._pid, self._pidfd, self._is_loaded, self.sessions = 0, -1, False, ()
        self._has_answered = self._owes_reload = False
        self._all_up_at = float("inf")
        self._look_at = float("inf")
        return os.waitstatus_to_exitcode(status)

    def _look(self) -> None:
        """Read sessions and table, and tell what is not told yet. What changed since the last look is news."""
        if not self._pid or not self._config:
            return
        tables = {half.router_id: ask("global", "rib", *_family(half)) for half in halves(self._config)}
        neighbours = ask("neighbor")
        if neighbours is None or None in tables.values():
            self.reason = "gobgp: does not answer" if time.monotonic() - self._started_at > 3 * _LOOK_EVERY_S else ""
            self._look_at = time.monotonic() + _LOOK_SOON_S
            return
        self._has_answered = True
        if self._owes_reload:
            self._reload()
            self._look_at = time.monotonic() + _LOOK_SOON_S
            return
        peers = [peer for half in halves(self._config) for peer in half.peers]
        refused = {peer.name: why for peer in peers if (why := unsupported(peer))}
        self.reason = "; ".join(f"gobgp: {name}: does not do {why}, bird does" for name, why in refused.items())
        learned: dict[IPNetwork, IPAddress] = {}
        for half in halves(self._config):
            own, heard = read_table(tables[half.router_id])
            learned |= heard
            _tell(half, own)
        before = (self.sessions, self.learned, self._is_loaded)
        self.sessions, self.learned, self._is_loaded = read_sessions(neighbours), learned, True
        are_up = all(session.info == "Established" for session in self.sessions)
        self._all_up_at = min(self._all_up_at, time.monotonic()) if are_up else float("inf")
        if before != (self.sessions, self.learned, self._is_loaded):
            self._on_news()


def _family(half: SpeakerConfig) -> tuple[str, str]:
    return "-a", FAMILY_WORDS[half.router_id.version]


def _tell(half: SpeakerConfig, own: frozenset[IPNetwork]) -> None:
    """Make it tell what we are to tell, in one family; `own` is what it tells of us by now."""
    told = announced(half)
    for verb, some in (("del", own - told), ("add", told - own)):
        for cidr in sorted(some, key=str):
            hop = ("nexthop", str(half.router_id), *_ORIGIN) if verb == "add" else ()
            _command(("global", "rib", verb, str(cidr), *hop, *_family(half)))


def ask(*words: str) -> Any:
    """What gobgp says, as JSON; None if it does not. Like: gobgp -j neighbor"""
    done = _command(("-j", *words))
    if done.code:
        return None
    try:
        return json.loads(done.out or "null") or {}
    except ValueError:
        return {}  # "Network not in table": it says so in words


def _command(words: Sequence[str]) -> Finished:
    return run((*_ASK, *words))


def read_table(table: Mapping[str, Any]) -> tuple[frozenset[IPNetwork], Routes]:
    """What is told by this very node, and the best next hop for everything else."""
    own, learned = set[IPNetwork](), dict[IPNetwork, IPAddress]()
    for prefix, paths in table.items():
        cidr = read_network(prefix)
        if any("neighbor-ip" not in path for path in paths):
            own.add(cidr)
            continue
        for path in paths:
            hops = [attribute["nexthop"] for attribute in path["attrs"] if attribute["type"] in (_NEXT_HOP, _MP_REACH)]
            if path.get("best") and hops:
                learned[cidr] = read_address(hops[0])
    return frozenset(own), learned


def read_sessions(neighbours: Sequence[Mapping[str, Any]]) -> tuple[Session, ...]:
    """Sessions in BIRD's words, so that both speakers read alike."""
    return tuple(sorted(_sessions(neighbours), key=lambda session: session.peer))


def _sessions(neighbours: Sequence[Mapping[str, Any]]) -> Iterator[Session]:
    for each in neighbours:
        about, state = each["conf"], each["state"]
        info = _STATES[state.get("session_state", 0)]
        kind = str(about.get("description", "")).partition("_")[0]
        stamps = each.get("timers", {}).get("state", {})
        at = (stamps.get("uptime") if info == "Established" else stamps.get("downtime")) or {}
        since = time.strftime("%H:%M:%S", time.localtime(int(at.get("seconds", 0)) or None))
        up = "up" if info == "Established" else "start"
        yield Session(about["neighbor_address"], KINDS.get(kind, kind), up, since, info)


def retire_orphan(pid_file: Path) -> None:
    """End the gobgpd of an agent that died without its own end; without a word, so that the peers keep its routes."""
    try:
        pid = int(pid_file.read_text())
        if Path(f"/proc/{pid}/comm").read_text().strip() == "gobgpd":
            pidfd = os.pidfd_open(pid)
        else:
            return
    except (OSError, ValueError):
        return
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        ends(pidfd, 1.0)
    except ProcessLookupError:
        pass  # it ended by itself
    finally:
        os.close(pidfd)


def needs_a_start(before: str, after: str) -> bool:
    """Whether a running GoBGP would not make of the first file what it makes of the second, by reading it again.

    Of the neighbours that are others in the second, 3.10 changes the first and forgets the rest.
    """
    old, new = (json.loads(text or "{}") for text in (before, after))
    earlier, later = _neighbours(old), _neighbours(new)
    others = any(earlier[address] != later[address] for address in earlier.keys() & later.keys())
    return others or _told_at_start(old) != _told_at_start(new)


def _neighbours(file: Mapping[str, Any]) -> dict[str, object]:
    return {one["config"]["neighbor-address"]: one for one in file.get("neighbors", ())}


def _told_at_start(file: Mapping[str, Any]) -> object:
    """What a running GoBGP does not take over. By a new export policy it takes back nothing that it has told before."""
    exports = [policy for policy in file.get("policy-definitions", ()) if policy["name"] == EXPORTS]
    return file.get("global"), exports
