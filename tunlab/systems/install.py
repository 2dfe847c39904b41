"""Carrying out a recipe: files, the store, the setup commands, the daemons, and waiting until all is ready."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import TypeVar

from tunlab.box.box import Box, CommandFailed
from tunlab.box.link import MissingProgram
from tunlab.errors import SystemFault, WorldError
from tunlab.lab.topology import Topology
from tunlab.systems.recipe import STORE_PORT, Command, Daemon, Recipe
from tunlab.wait import NeverHappened, eventually

N = TypeVar("N", IPv4Network, IPv6Network)
_STORE_WITHIN_S = 20.0
_LOOK_EVERY_S = 0.2  # to look costs the lab's one processor in a user-mode kernel


@dataclass(frozen=True, slots=True)
class Ipam:
    """Which node has which blocks, and which tunnel address, as the store (or the recipe) says; IPv6 beside it."""

    blocks: Mapping[str, frozenset[IPv4Network]] = field(default_factory=dict)
    tunnel_addresses: Mapping[str, IPv4Address] = field(default_factory=dict)
    allocations: Mapping[IPv4Address, str] = field(default_factory=dict)
    blocks6: Mapping[str, frozenset[IPv6Network]] = field(default_factory=dict)
    tunnel_addresses6: Mapping[str, IPv6Address] = field(default_factory=dict)


class Installation:
    """One system on the hosts of one box. Commands that the system itself refuses are its fault, not the lab's."""

    def __init__(self, box: Box, topology: Topology, recipe: Recipe) -> None:
        self.box = box
        self.topology = topology
        self.recipe = recipe
        self.version = ""
        self.pids: dict[tuple[str, str], int] = {}

    def install(self, ready_within_s: float = 30.0) -> None:
        """Everything, in order, until the system says that it is ready. Raises SystemFault or WorldError."""
        self.place_files()
        self.start_store()
        self.run_setup()
        self.start_daemons()
        self.wait_ready(ready_within_s)

    def place_files(self) -> None:
        """Put files and links onto the hosts."""
        for file in self.recipe.files:
            if file.target is not None:
                self.box.link(file.host, file.path, file.target)
            else:
                self.box.put(file.host, file.path, file.text, file.mode)

    def start_store(self) -> None:
        """Start the store and wait until a node can connect to it."""
        store = self.recipe.store
        if store is None:
            return
        try:
            self._spawn(store)
        except MissingProgram as error:
            hint = "apt-get install --no-install-recommends etcd-server"
            raise WorldError(f"start the store: {error.message}", hint=hint) from error
        address, node = self.topology.store.address.ip, self.topology.nodes[0].name
        script = f"(exec 3<>/dev/tcp/{address}/{STORE_PORT}) 2>/dev/null"

        def connect() -> int:
            if dead := self._dead([store]):
                raise WorldError(f"start the store: {dead[0]}")
            return self.box.run(node, ["bash", "-c", script], check=False).rc

        try:
            eventually(
                connect,
                lambda rc: rc == 0,
                within_s=_STORE_WITHIN_S,
                every_s=_LOOK_EVERY_S,
                what=f"{node} can connect to the store at {address}:{STORE_PORT}",
                blame="lab",
                slowness=self.box.slowness,
            )
        except NeverHappened as error:
            raise WorldError(f"start the store: {error}; last words: {self.last_words(store)}") from error

    def run_setup(self) -> None:
        """Run the setup commands one after the other."""
        for command in self.recipe.setup:
            self._run(command)
        self.version = self._version()

    def start_daemons(self) -> None:
        """Start the system's programs on every node."""
        for daemon in self.recipe.daemons:
            try:
                self._spawn(daemon)
            except MissingProgram as error:
                raise self._not_installed(f"start {daemon.name}", error) from error

    def wait_ready(self, within_s: float) -> None:
        """Look until every ready command says yes, or a program has ended. Raises SystemFault."""

        def unready() -> list[str]:
            if dead := self._dead(self.recipe.daemons):
                raise SystemFault(f"{self.recipe.name}: start in mode {self.recipe.mode}: {'; '.join(dead)}")
            commands = [(command.host, command.argv) for command in self.recipe.ready]
            answers = self.box.gather(commands, check=False)
            return [f"{done.place}: {(done.out or done.err).strip()[:200]}" for done in answers if done.rc != 0]

        try:
            eventually(
                unready,
                lambda left: not left,
                within_s=within_s,
                every_s=_LOOK_EVERY_S,
                what=f"{self.recipe.name} is ready",
                slowness=self.box.slowness,
            )
        except NeverHappened as error:
            words = "; ".join(f"{d.host}: {d.name}: {self.last_words(d)}" for d in self.recipe.daemons)
            last = f"; last words: {words}" if words else ""
            raise SystemFault(f"{self.recipe.name}: start in mode {self.recipe.mode}: {error}{last}") from error
        except MissingProgram as error:
            raise self._not_installed("ask whether it is ready", error) from error

    # ------------------------------------------------------------------ while it runs
    def dead(self) -> list[str]:
        """The system's programs that have ended since they were started, with what they said last."""
        return self._dead(self.recipe.daemons)

    def kill(self, host: str, signal: str = "KILL", within_s: float = 10.0) -> None:
        """End the system's programs on one host, and wait until they have. Like: kill -KILL PID"""
        pids = [pid for (where, _), pid in self.pids.items() if where == host]
        for pid in pids:
            self.box.signal(host, pid, signal)
        eventually(
            lambda: [pid for pid in pids if self.box.exit_code(host, pid) is None],
            lambda left: not left,
            within_s=within_s,
            what=f"{host}: {self.recipe.name} ends at SIG{signal}",
            slowness=self.box.slowness,
        )

    def start(self, host: str, env: Mapping[str, str] | None = None) -> None:
        """Start the system's programs on one host (again); `env` is added to what the recipe gives them."""
        for daemon in self.recipe.daemons:
            if daemon.host == host:
                if daemon.stale:
                    self.box.run(host, ["rm", "-f", *daemon.stale])
                self._spawn(replace(daemon, env={**daemon.env, **(env or {})}))

    def freeze(self, nodes: Iterable[str]) -> None:
        """Stop every process of the system on these nodes, so that nothing is repaired. Like: kill -STOP -1"""
        self.box.gather([(node, ("sh", "-c", "kill -STOP -1")) for node in nodes], check=False)

    def thaw(self, nodes: Iterable[str]) -> None:
        """Let them go on. Like: kill -CONT -1"""
        self.box.gather([(node, ("sh", "-c", "kill -CONT -1")) for node in nodes], check=False)

    def read_ipam(self) -> Ipam:
        """Blocks, tunnel addresses and allocations: from etcd in Calico's layout, else as the recipe declares them."""
        if not self.recipe.dialect.keeps_ipam_in_etcd:
            return Ipam(blocks={node: frozenset(blocks) for node, blocks in self.recipe.blocks.items()})
        argv = (
            "etcdctl",
            "--endpoints",
            f"http://127.0.0.1:{STORE_PORT}",
            "get",
            "--prefix",
            "/calico/ipam/v2/",
            "-w",
            "json",
        )
        done = self.box.run(self.topology.store.name, argv, env={"ETCDCTL_API": "3"})
        return parse_ipam(done.out)

    def last_words(self, daemon: Daemon) -> str:
        """The end of a daemon's log."""
        path = self.box.run_dir / _log(daemon)
        lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
        return lines[-1][-300:] if lines else "it printed nothing"

    def logs(self) -> dict[str, Path]:
        """Every daemon's log file, by `host/name`."""
        daemons = [*self.recipe.daemons, *([self.recipe.store] if self.recipe.store else [])]
        return {f"{daemon.host}/{daemon.name}": self.box.run_dir / _log(daemon) for daemon in daemons}

    # ------------------------------------------------------------------ inner workings
    def _spawn(self, daemon: Daemon) -> None:
        pid = self.box.spawn(daemon.host, daemon.argv, env=daemon.env, log=_log(daemon))
        self.pids[daemon.host, daemon.name] = pid

    def _dead(self, daemons: Iterable[Daemon]) -> list[str]:
        """Those that were started and have ended, with what they said last."""
        dead = []
        for daemon in daemons:
            pid = self.pids.get((daemon.host, daemon.name))
            code = self.box.exit_code(daemon.host, pid) if pid is not None else None
            if code is not None:
                how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
                dead.append(f"{daemon.host}: {daemon.name}: {how} and should keep running: {self.last_words(daemon)}")
        return dead

    def _run(self, command: Command) -> str:
        try:
            return self.box.run(command.host, command.argv, stdin=command.stdin, env=command.env).out
        except CommandFailed as error:
            raise SystemFault(f"{self.recipe.name}: set up: {error.message}") from error
        except MissingProgram as error:
            raise self._not_installed("set up", error) from error

    def _not_installed(self, when: str, error: MissingProgram) -> WorldError:
        """What is not on the machine at all has not been judged."""
        hint = "install it on this machine, or name the one that is"
        return WorldError(f"{self.recipe.name}: {when}: {error.message}", hint=hint)

    def _version(self) -> str:
        version = self.recipe.version
        if isinstance(version, str):
            return version
        lines = self._run(version).strip().splitlines()
        return lines[0].rpartition(":")[2].strip() if lines else "unknown"


def _log(daemon: Daemon) -> str:
    return f"logs/{daemon.host}-{daemon.name}.log"


def parse_ipam(text: str) -> Ipam:
    """Blocks and allocations from what `etcdctl get --prefix /calico/ipam/v2/ -w json` prints. Raises WorldError.

    Source: Calico's etcd layout, keys `assignment/ipv4/block/CIDR` with `affinity`, `allocations`, `attributes`.
    """
    blocks: dict[str, set[IPv4Network]] = {}
    blocks6: dict[str, set[IPv6Network]] = {}
    tunnels: dict[str, IPv4Address] = {}
    tunnels6: dict[str, IPv6Address] = {}
    allocations: dict[IPv4Address, str] = {}
    try:
        pairs = json.loads(text).get("kvs", [])
        for pair in pairs:
            key, value = (base64.b64decode(pair[name]).decode() for name in ("key", "value"))
            if "/assignment/ipv6/block/" in key:
                network6, owner, holders6 = _read_block(value, IPv6Network)
                if owner:
                    blocks6.setdefault(owner, set()).add(network6)
                tunnels6 |= {node: network6[i] for i, handle in holders6 if (node := _tunnel_owner(handle))}
            if "/assignment/ipv4/block/" in key:
                network, owner, holders = _read_block(value, IPv4Network)
                if owner:
                    blocks.setdefault(owner, set()).add(network)
                allocations |= {network[i]: handle for i, handle in holders}
                tunnels |= {node: network[i] for i, handle in holders if (node := _tunnel_owner(handle))}
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise WorldError(f"store: read the allocations: not in Calico's shape: {error!r}") from error
    return Ipam(
        {node: frozenset(found) for node, found in blocks.items()},
        tunnels,
        allocations,
        {node: frozenset(found) for node, found in blocks6.items()},
        tunnels6,
    )


def _read_block(text: str, kind: Callable[[str], N]) -> tuple[N, str, list[tuple[int, str]]]:
    """A block's network, the node whose it is, and who holds what: the number in the block, and the handle."""
    block = json.loads(text)
    holders = [
        (ordinal, str(block["attributes"][index].get("handle_id") or ""))
        for ordinal, index in enumerate(block["allocations"])
        if index is not None
    ]
    return kind(block["cidr"]), (block.get("affinity") or "").removeprefix("host:"), holders


def _tunnel_owner(handle: str) -> str:
    """The node whose tunnel has the address; "" where it is no tunnel's."""
    found = re.fullmatch(r"(ipip|vxlan|vxlan-v6)-tunnel-addr-(.+)", handle)
    return found[2] if found else ""
