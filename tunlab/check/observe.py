"""Doing the stimuli to a live lab, with every tap open, and putting down all that was seen."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tunlab.check.convergence import oracle_of
from tunlab.check.matrix import Matrix, ask_matrix
from tunlab.check.stimuli import (
    BIG_POD,
    GATEWAY,
    HOSTS,
    LIMITS,
    PAIRS,
    PORT,
    START,
    Echo,
    Stimuli,
    uplink_taps,
)
from tunlab.errors import SystemFault, WorldError
from tunlab.lab.topology import UPLINK, Pod
from tunlab.live.lab import LiveLab
from tunlab.node.tables import Tables
from tunlab.oracle.network import Oracle, tunnel_of
from tunlab.systems.recipe import STORE_PORT
from tunlab.wait import time_factor
from tunlab.wire.craft import arp_request
from tunlab.wire.decode import Capture, decode
from tunlab.wire.tap import TapPoint, Wire

MATRIX = "matrix"
_ROUNDS, _APART_S = 3, 0.3  # right is what is right three times in a row; a silence holds for all of that time
PARTS = frozenset(
    {GATEWAY, PAIRS, HOSTS, LIMITS, MATRIX}
)  # of an observation, beside the tables, which are always read


@dataclass(frozen=True)
class Observation:
    """All that was seen of one lab at one time. `results` has the probe's own outcome of every echo, by token."""

    oracle: Oracle
    stimuli: Stimuli
    tables: Mapping[str, Tables]
    matrix: Matrix | None
    capture: Capture
    results: Mapping[str, Mapping[str, Any]]
    big_pod_echoes: Sequence[Echo] = ()
    refused: Mapping[str, str] = field(default_factory=dict)

    def result(self, echo: Echo) -> Mapping[str, Any]:
        """What became of an echo. Raises WorldError when its probe never reported."""
        found = self.results.get(echo.token)
        if found is None:
            raise WorldError(f"{echo.source} → {echo.target}: the echo was never sent")
        return found


class Watch:
    """The capture of one observation, from before the system starts until everything has been asked."""

    def __init__(self, live: LiveLab, capture: str) -> None:
        self._live = live
        self.wire = Wire(live.box)
        uplinks = [TapPoint.named(name, deaf_to_tcp_port=STORE_PORT) for name in uplink_taps(live.topology)]
        self.wire.open(capture, uplinks)

    def watch_workloads(self) -> None:
        """Open taps on the pods and tunnel devices that have come since."""
        recipe = self._live.installation.recipe
        device = recipe.dialect.tunnel_devices.get(tunnel_of(recipe.mode))
        names = [f"{pod}/eth0" for pod in self._live.workloads]
        if device is not None:
            tables = self._live.tables(self._live.node_names())
            names += [f"{node}/{device}" for node in tables if device in tables[node].links]
        self.wire.add(names)


def observe(live: LiveLab, watch: Watch, parts: Collection[str] = PARTS) -> Observation:
    """Send every stimulus in its window, close the capture, decode it once. Raises WorldError where a tap failed.

    `parts`, of PARTS, are what is wanted; one window or more is among them.
    """
    oracle = oracle_of(live)
    stimuli = Stimuli(oracle, live.identifiers)
    tables = live.tables(live.node_names())
    results: dict[str, Mapping[str, Any]] = {}
    refused: dict[str, str] = {}
    if GATEWAY in parts:
        with watch.wire.window(GATEWAY):
            _ask_for_gateway(live, oracle)
    _forget_neighbours(live)
    for name, echoes in ((PAIRS, stimuli.pairs), (HOSTS, stimuli.hosts)):
        if name in parts:
            with watch.wire.window(name):
                _send(live, echoes, results)
    big: tuple[Echo, ...] = ()
    if LIMITS in parts:
        big = _with_big_pod(live, watch, stimuli, results, refused)
    matrix = _ask_matrix(live, stimuli) if MATRIX in parts else None
    path = watch.wire.finish()
    capture = decode(path, vxlan_ports=(oracle.dialect.vxlan_port,))
    return Observation(oracle, stimuli, tables, matrix, capture, results, big, refused)


def look_again(live: LiveLab, before: Observation, name: str, parts: Collection[str] = PARTS) -> Observation:
    """Observe a lab as it is now. What it said while it started cannot be seen again: that is carried on from before.

    `name` is the new capture's, which is made only if a window is among the parts.
    """
    start = before.capture.only(START)
    if not set(parts) - {MATRIX}:
        oracle = oracle_of(live)
        stimuli = Stimuli(oracle, live.identifiers)
        matrix = _ask_matrix(live, stimuli) if MATRIX in parts else None
        return Observation(oracle, stimuli, live.tables(live.node_names()), matrix, start, {})
    watch = Watch(live, name)
    watch.watch_workloads()
    seen = observe(live, watch, parts)
    return replace(seen, capture=seen.capture.after(start))


def look_first(live: LiveLab, name: str, parts: Collection[str] = PARTS) -> Observation:
    """Observe a lab that others have started, and of whose start nothing was seen."""
    if set(parts) - {MATRIX}:
        watch = Watch(live, name)
        watch.watch_workloads()
        return observe(live, watch, parts)
    oracle = oracle_of(live)
    stimuli = Stimuli(oracle, live.identifiers)
    matrix = _ask_matrix(live, stimuli) if MATRIX in parts else None
    nothing = Capture(live.box.run_dir / name, (), (), {}, {}, ())
    return Observation(oracle, stimuli, live.tables(live.node_names()), matrix, nothing, {})


def ping_all(live: LiveLab) -> dict[str, str]:
    """What became of an echo between every two pods, by its token; nothing is captured."""
    results: dict[str, Mapping[str, Any]] = {}
    _send(live, Stimuli(oracle_of(live), live.identifiers).pairs, results)
    return {token: str(result["outcome"]) for token, result in results.items()}


def observe_start(live: LiveLab, watch: Watch, install: Iterable[Any]) -> None:
    """Record what the system says on the wires while it starts."""
    with watch.wire.window(START):
        for step in install:
            step()


def _send(live: LiveLab, echoes: Sequence[Echo], results: dict[str, Mapping[str, Any]]) -> None:
    answers = live.box.ask("probes", "ask", probes=[echo.as_probe() for echo in echoes])["results"]
    results.update({answer["id"]: answer for answer in answers})


def _ask_for_gateway(live: LiveLab, oracle: Oracle) -> None:
    """From each pod one hand-made ARP request for the gateway: a kernel asks only when it needs the answer."""
    gateway = oracle.dialect.pod_gateway
    for name, workload in live.workloads.items() if gateway is not None else ():
        frame = arp_request(workload.mac, str(workload.address), str(gateway))
        live.box.ask("probes", "craft", place=name, device="eth0", frames_hex=[frame.hex()])


def _forget_neighbours(live: LiveLab) -> None:
    """Flush what was learned, so that whoever asks for an address must be seen asking. Like: ip neigh flush dev …"""
    devices = [(node, UPLINK) for node in live.node_names()]
    devices += [(router.name, port.device) for router in live.topology.routers for port in router.interfaces]
    devices += [(name, "eth0") for name in live.workloads]
    devices += [(workload.node, workload.host_device) for workload in live.workloads.values()]
    live.box.gather([(place, ("ip", "neigh", "flush", "dev", device)) for place, device in devices], check=False)


def _with_big_pod(
    live: LiveLab,
    watch: Watch,
    stimuli: Stimuli,
    results: dict[str, Mapping[str, Any]],
    refused: dict[str, str],
) -> tuple[Echo, ...]:
    """The sizes at the limit; behind a tunnel also from a pod that thinks that it has the uplink's MTU."""
    big = stimuli.big_pod_limits() if "mtu-setting" in live.installation.recipe.abilities else ()
    if big:
        try:
            node = live.topology.nodes[0].name
            live.launch(Pod(BIG_POD, node), {"mtu": live.topology.uplink_mtu(node)})
            watch.wire.add([f"{BIG_POD}/eth0"])
        except SystemFault as error:
            refused[BIG_POD], big = error.message, ()
    with watch.wire.window(LIMITS):
        _send(live, (*stimuli.limits, *big), results)
    if BIG_POD in live.workloads:
        watch.wire.remove([f"{BIG_POD}/eth0"])
        live.remove(BIG_POD)
    return big


def _ask_matrix(live: LiveLab, stimuli: Stimuli) -> Matrix:
    for place in (*live.workloads, *live.node_names()):
        live.box.ask("probes", "listen", place=place, name=place, tcp=[PORT], udp=[PORT])
    questions = stimuli.questions()
    count = _ROUNDS * len(questions)
    first = min(next(live.identifiers), 0xFFFF - count)
    apart_s = _APART_S * time_factor()
    matrix = ask_matrix(live.box, questions, rounds=_ROUNDS, apart_s=apart_s, test="MATRIX", first_identifier=first)
    collections.deque(itertools.islice(live.identifiers, count), maxlen=0)  # these are used now
    for place in (*live.workloads, *live.node_names()):
        live.box.ask("probes", "unlisten", place=place)
    return matrix


def capture_name(lab: str, mode: str, suffix: str = "") -> str:
    """The capture's file name in the run folder, relative to it."""
    return str(Path("captures", f"{lab}-{mode}{suffix}.pcapng"))
