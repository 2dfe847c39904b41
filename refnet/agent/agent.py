"""The agent: one thread, one selector; whatever happens marks what must be looked at, and one pass puts it right."""

from __future__ import annotations

import selectors
import signal
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from refnet.agent.bird import Bird
from refnet.agent.flows import Flows
from refnet.agent.follow import Follower
from refnet.agent.gobgp import GoBgp
from refnet.agent.log import Log
from refnet.agent.metrics import IN_SYNC, READING, WAITING, Counters, Metric, counted, counter, gauge, of_process
from refnet.agent.netlink import Netlink
from refnet.agent.own_address import OwnAddress
from refnet.agent.patience import Patience
from refnet.agent.policing import Police
from refnet.agent.registration import make_default_pool, patch_node, settle, with_address
from refnet.agent.secrets import read_secrets
from refnet.agent.settings import Settings
from refnet.agent.speaker import Speaker
from refnet.agent.status import Clock, StatusFile, listed, sessions_missing
from refnet.agent.strays import Strays
from refnet.agent.sweep import Sweep
from refnet.agent.telemetry import Telemetry
from refnet.apply.apply import bring_about, enable_forwarding
from refnet.apply.process import run
from refnet.apply.read import read_kernel
from refnet.calc.bgp import secrets_needed
from refnet.calc.changes import OUR_DEVICES, Have
from refnet.calc.learned import with_learned
from refnet.calc.mtu import host_mtu_bytes
from refnet.calc.network import stragglers, tunnel_pools, unserved_pools, wanted
from refnet.calc.tunnel_addresses import AddressTask, address_tasks
from refnet.calc.wanted import PROTO_BIRD, PROTO_REFNET, Uplink, Wanted
from refnet.calc.world import World, node_with, read_world
from refnet.errors import KernelRefused, RefnetError, StoreUnavailable
from refnet.model.address import lies_in
from refnet.model.bgp import SecretKey
from refnet.model.felix import FelixConfiguration
from refnet.model.keys import status_key
from refnet.store.fanout import in_order_for

LIBRARY = Path("/var/lib/calico")

# Changes come in bursts: wait a moment and take them together.
_DEBOUNCE_S = 0.02
_LOOK_EVERY_S = 10.0
_FIRST_RETRY_S, _LAST_RETRY_S = 0.5, 10.0
_NEVER = float("inf")


class Agent:
    """Everything one node's agent knows and holds. `run` returns when a signal asks it to end."""

    def __init__(self, settings: Settings, status_file: StatusFile) -> None:
        self._settings = settings
        self._log = Log(settings.log_level)
        self._selector = selectors.DefaultSelector()
        self._netlink = Netlink()
        self._store = Follower(settings.endpoints, self._log, in_order_for(settings.node, settings.watch_endpoints))
        self._police = Police(settings.node, self._log)
        self._flows = Flows(settings.node, self._log, run)
        self._gobgp = GoBgp(self._selector, self._log, self._soon) if settings.backend == "gobgp" else None
        self._speaker: Speaker = self._gobgp or Bird(self._selector, self._log)
        self._status_file = status_file
        self._clock = Clock()
        self._world = World()
        self._address = OwnAddress(settings, self._log)
        self._address6 = OwnAddress(settings, self._log, 6)
        self._has_looked_for_pools = False
        self._have = Have()
        self._reasons: dict[str, str] = {}
        self._peers = 0
        self._is_world_stale = self._is_kernel_stale = False
        self._pass_at = _NEVER
        self._look_at = 0.0
        self._retry_after_s = _FIRST_RETRY_S
        self._reported: dict[str, Any] = {}
        self._stored_report: dict[str, Any] = {}
        self._is_ending = False
        self._sweep = Sweep(self._log)
        self._strays = Strays()
        self._patience = Patience(self._log)
        self._counters = Counters()
        self._telemetry = Telemetry(self._selector, settings.ports, self._reasons_now, self._metrics_now)

    def run(self) -> None:
        """Work until SIGTERM or SIGINT; then leave the kernel as it is and end BIRD."""
        self._listen_for_signals()
        self._write_library("nodename", self._settings.node)
        self._selector.register(self._netlink, selectors.EVENT_READ, self._on_netlink)
        self._log("info", "agent started", node=self._settings.node, backend=self._settings.backend)
        for name in self._settings.without_effect:
            self._log("warning", "variable has no effect here", name=name)
        while not self._is_ending:
            self._tick()
            for key, _ in self._selector.select(self._timeout_s()):
                key.data()
        self._speaker.stop(keeps_routes=True)
        self._log("info", "agent ended")

    def _timeout_s(self) -> float | None:
        """How long there is nothing to do by the clock; None: until something happens."""
        deadlines = (self._sweep.deadline(), self._strays.deadline(), self._patience.deadline())
        waits = (self._store.deadline(), self._speaker.deadline(), *deadlines)
        deadline = min(self._pass_at, self._look_at, *waits)
        return None if deadline == _NEVER else max(0.0, deadline - time.monotonic())

    def _tick(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        if self._store.tick(now):
            assert self._store.watch
            self._selector.register(self._store.watch, selectors.EVENT_READ, self._on_store)
            self._counters.resyncs += 1
            self._is_world_stale = True
            self._pass_at = now
        try:
            self._speaker.tick(now)
        except OSError as error:
            self._reasons["files"] = self._trouble(error)
        if now >= self._look_at:
            self._is_kernel_stale = True
            self._police.look()
            self._pass_at = now
        if now >= self._patience.deadline():
            self._is_world_stale = True
            self._pass_at = now
        if now >= min(self._pass_at, self._sweep.deadline(), self._strays.deadline()):
            self._pass_at = _NEVER
            self._strays.rang()
            self._pass()
        if self._pass_at == _NEVER:  # else the news are half digested: what we would say may be wrong in a moment
            self._report()

    def _on_store(self) -> None:
        watch = self._store.watch
        if watch and self._store.read():
            self._is_world_stale = True
            self._soon()
        if not self._store.watch and watch:
            self._forget(watch)

    def _on_netlink(self) -> None:
        if self._drain():
            self._is_kernel_stale = True
            self._soon()

    def _soon(self) -> None:
        self._pass_at = min(self._pass_at, time.monotonic() + _DEBOUNCE_S)

    def _drain(self) -> bool:
        return self._netlink.drain({self._have.links[name].index for name in OUR_DEVICES if name in self._have.links})

    def _pass(self) -> None:
        """One look at everything that may have changed, and the work that follows from it."""
        started = time.monotonic()
        try:
            if self._is_kernel_stale:
                self._have = self._read_kernel()
                self._is_kernel_stale = False
            if self._store.was_read:
                if self._is_world_stale:
                    self._world = self._read_world()
                uplink = self._uplink()
                uplink6 = self._uplink6(uplink) if uplink else None
                if uplink and self._is_world_stale:
                    if self._changes_tunnels():
                        self._apply(uplink, uplink6)  # what we say of our tunnels must be true when others hear it
                    self._register(uplink)
                if uplink:
                    self._apply(uplink, uplink6)
            self._reasons["files"] = ""
        except KernelRefused as error:
            self._reasons["kernel"] = error.message
        except OSError as error:  # a full disk, a file that cannot be written: what runs runs on
            self._reasons["files"] = self._trouble(error)
        self._tidy()
        self._reasons["ports"] = "; ".join(self._telemetry.listen())
        now = time.monotonic()
        self._counters.passes += 1
        self._counters.pass_seconds += now - started
        self._counters.failures += bool(self._reasons.get("kernel"))
        is_well = not any(self._reasons.values())
        self._retry_after_s = _FIRST_RETRY_S if is_well else min(2 * self._retry_after_s, _LAST_RETRY_S)
        self._look_at = now + (_look_every_s(self._world.felix) if is_well else self._retry_after_s)

    @staticmethod
    def _trouble(error: OSError) -> str:
        return f"{error.filename or 'files'}: {error.strerror or error}"

    def _read_kernel(self) -> Have:
        """The kernel's state; whatever it announced before is no news any more."""
        self._drain()
        return read_kernel(run)

    def _read_world(self) -> World:
        world = read_world(self._store.entries, self._settings.node, self._settings.felix)
        return self._patience.look(world, self._settings.node, time.monotonic())

    def _uplink(self) -> Uplink | None:
        """Our device towards the others; None, with the reason noted, while there is none."""
        before, own = self._address.current, self._world.nodes.get(self._settings.node)
        address = self._address.look(self._have, own.address if own else None)
        self._reasons["address"] = self._address.reason
        if address is None:
            return None
        if address != before:
            self._is_world_stale = True  # the Node object must say so
            if before and self._store.watch:
                # Answers to our old address reach nobody: the connection would be silent until the kernel gives it up.
                self._lose_store(StoreUnavailable(f"our address is now {address.ip}"))
        uplink = self._have.uplink(address.ip)
        if uplink is None:
            self._reasons["address"] = f"no device has the address {address.ip}"
            return None
        host_bytes = host_mtu_bytes(self._have.links.values(), uplink, self._world.felix)
        return replace(uplink, mtu_bytes=host_bytes)

    def _uplink6(self, uplink: Uplink) -> Uplink | None:
        """The same for IPv6, which a node may do without."""
        before, own = self._address6.current, self._world.nodes.get(self._settings.node)
        address = self._address6.look(self._have, own.address6 if own else None)
        self._reasons["address6"] = self._address6.reason
        if address != before:
            self._is_world_stale = True  # the Node object must say so
        found = self._have.uplink(address.ip) if address else None
        if address and found is None:
            self._reasons["address6"] = f"no device has the address {address.ip}"
        return replace(found, mtu_bytes=uplink.mtu_bytes) if found else None

    def _register(self, uplink: Uplink) -> None:
        """Make our Node object and our tunnel addresses what they should be. Keeps the world stale if it fails."""
        node, as_number = self._settings.node, self._settings.as_number
        address, store = self._address.current or uplink.address, self._store.etcd
        try:
            if not self._has_looked_for_pools:
                self._make_default_pool(uplink)
            address6 = self._address6.current
            ours = [one.ip for one in (address, address6) if one]
            if self._settings.checks_address and (rival := node_with(self._world, ours, node)):
                self._reasons["address"] = f"node {rival} has our address already ({', '.join(map(str, ours))})"
                return
            own = self._world.nodes.get(node)
            is_right = own and own.address == address and (not address6 or own.address6 == address6)
            if own is None or not is_right or (as_number and own.as_number != as_number):
                patch_node(store, node, with_address(address, as_number, address6))
                own = self._read_again().nodes.get(node)
            tasks = address_tasks(self._world, own) if own else []
            if tasks:
                self._settle(tasks)
            self._reasons["register"] = "" if own else f"node {node}: its object in the store is invalid"
            self._is_world_stale = not own
        except StoreUnavailable as error:
            self._lose_store(error)
        except RefnetError as error:
            self._reasons["register"] = " ".join(error.message.split())

    def _changes_tunnels(self) -> bool:
        """Whether we are about to give back the address in a tunnel."""
        own = self._world.nodes.get(self._settings.node)
        return any(not task.pools for task in address_tasks(self._world, own)) if own else False

    def _settle(self, tasks: Iterable[AddressTask]) -> None:
        """Take tunnel addresses and give them back, once nobody needs that way any more.

        In a full pool only what is given back makes room for what is taken.
        """
        problems: list[RefnetError] = []
        for task in tasks:
            if not task.pools and not problems and stragglers(self._world, self._settings.node):
                continue
            try:
                settle(self._store.etcd, self._settings.node, self._world, task)
            except StoreUnavailable:
                raise
            except RefnetError as error:
                problems.append(error)
        self._read_again()
        if problems:
            raise problems[0]

    def _tidy(self) -> None:
        """Give back what leaked and what is spare. While the store cannot be followed, nobody knows what is in use."""
        if not self._store.watch or self._is_world_stale:
            self._sweep.forget()
            return
        try:
            self._sweep.look(self._store.etcd, self._world, self._settings.node, time.monotonic())
        except StoreUnavailable as error:
            self._lose_store(error)
        except RefnetError as error:
            self._log("warning", "cannot tidy", reason=" ".join(error.message.split()))

    def _read_again(self) -> World:
        """The world after what we have just written."""
        self._store.refresh()
        self._world = self._read_world()
        return self._world

    def _make_default_pool(self, uplink: Uplink) -> None:
        """Once, at the start: a cluster without any pool gets one, unless the environment says no."""
        for pool in (self._settings.default_pool, self._settings.default_pool6):
            if pool and make_default_pool(self._store.etcd, pool, uplink.address.network):
                self._log("info", "default pool made", **pool.spec)
                self._read_again()
        self._has_looked_for_pools = True

    def _apply(self, uplink: Uplink, uplink6: Uplink | None) -> None:
        """Calculate and bring about. BIRD comes last: its routes may take the place of ours only once ours are gone."""
        enable_forwarding(ipv6=uplink6 is not None)
        secrets, self._reasons["secrets"] = read_secrets(self._secrets_needed(uplink), self._settings.secrets)
        node, backend = self._settings.node, self._settings.backend
        want = wanted(self._world, node, uplink, backend, uplink6=uplink6, secrets=secrets)
        if self._gobgp:
            want = with_learned(want, self._gobgp.learned, self._have, is_settled=self._gobgp.is_settled())
        if self._store.watch:
            want = self._strays.with_overdue(want, self._have, time.monotonic())
        else:
            self._strays.forget()
        outcome = bring_about(want, self._have, run, self._read_kernel)
        self._have = outcome.have
        self._counters.kernel_lines += len(outcome.lines)
        for line in outcome.lines:
            self._log("debug", "applied", line=line)
        if outcome.reason and outcome.reason != self._reasons.get("kernel"):
            self._log("error", "kernel is not as wanted", reason=outcome.reason)
        self._reasons["kernel"] = outcome.reason
        self._reasons["backend"] = unserved_pools(self._world, self._settings.backend)
        self._flows.look(self._world, self._have)
        self._reasons["policy"] = self._police.bring_about(self._world, self._have)
        self._write_library("mtu", str(want.pod_mtu_bytes))
        self._peers = want.speaker.session_count() if want.speaker else 0
        self._speaker.want(want.speaker, recovers=self._has_bird_routes(want))

    def _secrets_needed(self, uplink: Uplink) -> frozenset[SecretKey]:
        own = self._world.nodes.get(self._settings.node)
        return secrets_needed(self._world, own, uplink.address.ip) if own else frozenset()

    def _has_bird_routes(self, want: Wanted) -> bool:
        """Whether an earlier speaker has left routes that the one to come will want too."""
        leftover = want.no_bird_in or ()
        return any(
            route.protocol == PROTO_BIRD and not any(lies_in(key.prefix, pool) for pool in leftover)
            for key, route in self._have.routes.items()
        )

    def _lose_store(self, error: StoreUnavailable) -> None:
        watch = self._store.watch
        self._store.lose(error)
        if watch:
            self._forget(watch)

    def _forget(self, file: object) -> None:
        for key in list(self._selector.get_map().values()):
            if key.fileobj is file:
                self._selector.unregister(key.fd)

    def _report(self) -> None:
        """Say how we are, where that changed: on the node always, to the store while it answers."""
        reasons = self._reasons_now()
        tunnels = tunnel_pools(self._world)
        report = {
            "ready": not any(reasons.values()),
            "reason": next((reason for reason in reasons.values() if reason), ""),
            "mode": {device: [pool.name for pool in pools] for device, pools in tunnels.items()},
            "bgp": [session.as_dict() for session in self._speaker.sessions],
            "invalid": listed(self._world.invalid),
            **({"waits_for": list(self._patience.waits_for)} if self._patience.waits_for else {}),
        }
        full = {**self._clock.stamp(), "revision": self._store.revision, **report}
        if report != self._reported:
            try:
                self._status_file.write(full)
            except OSError as error:
                self._log("error", "the status cannot be written", reason=self._trouble(error))
            if report["ready"] != self._reported.get("ready"):
                self._log("info", "ready" if report["ready"] else "not ready", reason=report["reason"])
            self._reported = report
        if report != self._stored_report and self._store.watch:
            try:
                self._store.etcd.put(status_key(self._settings.node), full)
                self._stored_report = report
            except StoreUnavailable as error:
                self._lose_store(error)

    def _reasons_now(self) -> Mapping[str, str]:
        """For each of our components why it is not ready, "" if it is."""
        speaker, bird = "gobgp" if self._gobgp else "bird", self._speaker.reason
        if not bird and not self._speaker.is_loaded():
            bird = f"{speaker}: has not read its configuration yet"
        bgp = sessions_missing(self._peers, self._speaker.sessions, self._clock.uptime_s(), speaker)
        return {"store": self._store.reason, **self._reasons, "bird": bird or bgp}

    def _metrics_now(self) -> Iterator[Metric]:
        store, world, own = self._store, self._world, self._settings.node
        is_ready = not any(self._reasons_now().values())
        state = IN_SYNC if store.watch and store.was_read else READING if store.watch else WAITING
        ours = sum(endpoint.node == own for endpoint in world.endpoints)
        routes = sum(route.protocol == PROTO_REFNET for route in self._have.routes.values())
        sessions = sum(session.info.startswith("Established") for session in self._speaker.sessions)
        yield gauge("refnet_ready", "Whether the agent is ready.", is_ready)
        yield gauge("felix_resync_state", "1 waits for the store, 2 reads it, 3 is in sync.", state)
        yield gauge("felix_cluster_num_hosts", "Nodes in the store.", len(world.nodes))
        yield gauge("felix_active_local_endpoints", "Workload endpoints on this node.", ours)
        yield gauge("felix_route_table_num_routes", "Routes of ours in the main table.", routes)
        yield gauge("refnet_invalid_objects", "Stored objects that mean nothing to us.", len(world.invalid))
        yield gauge("refnet_store_revision", "The store's revision that was last seen.", store.revision)
        yield gauge("refnet_bgp_sessions_wanted", "BGP sessions that there should be.", self._peers)
        yield gauge("refnet_bgp_sessions_established", "BGP sessions that are up.", sessions)
        yield counter("felix_log_errors", "Lines of level error in the log.", self._log.errors)
        yield counter("felix_logs_dropped", "Lines that nobody read in time.", self._log.dropped)
        yield from counted(self._counters)
        yield from of_process()

    def _write_library(self, name: str, text: str) -> None:
        """Write a file for the CNI plugin, if it does not say so already."""
        path = LIBRARY / name
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            new = path.with_name(f".{name}.new")
            new.write_text(text)
            new.replace(path)

    def _listen_for_signals(self) -> None:
        """Turn signals into something readable, so that the selector wakes up."""
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        self._signals = (reader, writer)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        self._selector.register(reader, selectors.EVENT_READ, lambda: reader.recv(64))

    def _on_signal(self, number: int, _frame: object) -> None:
        self._is_ending = True


def _look_every_s(felix: FelixConfiguration) -> float:
    """How often everything is looked at though nothing is heard; a refresh interval of 0 asks for no looks."""
    routes_s = _LOOK_EVERY_S if felix.refresh_s is None else felix.refresh_s or _NEVER
    return min(routes_s, felix.filter_refresh_s or _NEVER)
