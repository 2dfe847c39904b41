"""Sending one packet with every tap of a lab open, and asking every place on its way what it decided."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunlab.box.box import Box
from tunlab.errors import WorldError
from tunlab.lab.topology import Topology
from tunlab.live.lab import LiveLab
from tunlab.systems.recipe import STORE_PORT
from tunlab.trace.decisions import Decision, decide, read_places
from tunlab.trace.fate import Death, cause_of
from tunlab.trace.journey import Hop, Journey, Question, journey_of
from tunlab.wire.decode import VXLAN_PORT, decode
from tunlab.wire.tap import TapPoint, Wire

PROTOCOLS = ("icmp", "tcp", "udp")
PORT = 33434
_WINDOW = "trace"
_TUNNELS = ("ipip", "vxlan")


@dataclass(frozen=True)
class Packet:
    """What is sent: from a place to an address, which is that of `target` where it is a place; sizes in bytes."""

    source: str
    target: str
    address: str
    protocol: str = "icmp"
    size_bytes: int = 56
    port: int = PORT
    may_not_fragment: bool = False


@dataclass(frozen=True)
class Trace:
    """One packet's story: what was asked, its way and the answer's, what each hop decided, and how it ended."""

    packet: Packet
    result: Mapping[str, Any]
    journey: Journey
    decisions: Mapping[Hop, tuple[Decision, ...]]
    mtu_bytes: Mapping[str, Mapping[str, int]]
    death: Death | None
    segments: frozenset[str]


def trace(live: LiveLab, packet: Packet, keep: Path) -> Trace:
    """Send one packet and follow it; its capture goes to `keep`. Raises WorldError."""
    box, places = live.box, places_of(live)
    is_echo = packet.protocol == "icmp"
    question = Question(packet.protocol, random.randrange(0x4000, 0x7000) if is_echo else packet.port)
    with _own_roles(box) as roles:
        wire = Wire(roles)
        wire.open(f"{roles.taps}.pcapng", taps_of(live, places))
        before = read_places(box, places)
        if not is_echo and packet.target in places:
            _listen(box, roles.probes, packet)
        with wire.window(_WINDOW):
            result = send(box, roles.probes, packet, question)
        after = read_places(box, places)
        shutil.move(wire.finish(), keep)
    dialect = live.installation.recipe.dialect if live.system is not None else None
    capture = decode(keep, vxlan_ports=(dialect.vxlan_port if dialect else VXLAN_PORT,))
    journey = journey_of(question, capture.window(_WINDOW))
    decisions = decide(box, [*journey.there, *journey.back, *journey.errors], before, after)
    death = cause_of(box, journey, result, decisions, packet.source)
    mtus = {place: read.mtu_bytes for place, read in after.items()}
    segments = frozenset(segment.name for segment in live.topology.segments)
    return Trace(packet, result, journey, decisions, mtus, death, segments)


class _Roles:
    """Roles of this trace's own, so that several may run on one lab at a time."""

    def __init__(self, box: Box) -> None:
        self._box = box
        self.run_dir = box.run_dir
        self.taps, self.probes = f"taps-{os.getpid()}", f"probes-{os.getpid()}"

    def ask(self, role: str, op: str, **arguments: Any) -> dict[str, Any]:
        """What the wire asks of "taps" goes to the own one."""
        del role
        return self._box.ask(self.taps, op, **arguments)


@contextlib.contextmanager
def _own_roles(box: Box) -> Iterator[_Roles]:
    roles = _Roles(box)
    box.start_role(roles.taps, "taps")
    try:
        box.start_role(roles.probes, "probes")
        try:
            yield roles
        finally:
            with contextlib.suppress(WorldError):  # one that went with its lab is fine
                box.drop_role(roles.probes)
    finally:
        with contextlib.suppress(WorldError):
            box.drop_role(roles.taps)


def places_of(live: LiveLab) -> list[str]:
    """Every host and pod that a packet may pass; the store is none."""
    topology = live.topology
    hosts = [host.name for host in topology.hosts if host.name != topology.store.name]
    return [*hosts, *live.workloads]


def taps_of(live: LiveLab, places: list[str]) -> list[TapPoint]:
    """Every device that a packet of a pod may pass: segments' ports, uplinks, tunnels, both ends of every cable."""
    topology: Topology = live.topology
    hosts = [host for host in topology.hosts if host.name in places]
    names = [f"{each.segment}/{host.name}" for host in hosts for each in host.attachments]
    names += [f"{host.name}/{each.device}" for host in hosts for each in host.attachments]
    names += [f"{pod}/eth0" for pod in live.workloads]
    names += [f"{pod.node}/{pod.host_device}" for pod in live.workloads.values()]
    for node, tables in live.tables(live.node_names()).items():
        names += [f"{node}/{link.name}" for link in tables.links.values() if link.kind in _TUNNELS and link.is_up]
    raw = ("tunl0",)  # its packets begin with the IP header
    return [TapPoint.named(name, None if name.endswith(raw) else STORE_PORT) for name in dict.fromkeys(names)]


def _listen(box: Box, role: str, packet: Packet) -> None:
    """Have somebody answer there; where a server of the user's own has the port, that one does."""
    ports: dict[str, Any] = {packet.protocol: [packet.port]}
    with contextlib.suppress(WorldError):
        everywhere = "::" if ":" in packet.address else "0.0.0.0"
        box.ask(role, "listen", place=packet.target, name=packet.target, address=everywhere, **ports)


def send(box: Box, role: str, packet: Packet, question: Question) -> Mapping[str, Any]:
    """Send it through a role of probes; what came of it."""
    probe = {
        "id": "trace",
        "from": packet.source,
        "to": packet.address,
        "protocol": packet.protocol,
        "port": question.mark,
        "identifier": question.mark,
        "sequence": 1,
        "size": packet.size_bytes,
        "df": packet.may_not_fragment,
        "timeout_s": 2.0,
    }
    result: Mapping[str, Any] = box.ask(role, "ask", probes=[probe])["results"][0]
    return result
