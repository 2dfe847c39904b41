"""Packets that no well-behaved program sends, and whether they arrive: beside honest ones, through the same tap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tunlab.check.scene import Scene
from tunlab.errors import WorldError
from tunlab.lab.topology import UPLINK
from tunlab.node.tables import Tables
from tunlab.wire.craft import ethernet_frame
from tunlab.wire.expect import Seen
from tunlab.wire.frames import Ipv4

TIMES = 3
_FIRST_MARK = 0x5300


@dataclass(frozen=True)
class Sent:
    """One frame that leaves a place by its eth0; `mark` is the identification of the innermost packet in it."""

    name: str
    place: str
    frame: bytes
    mark: int
    is_honest: bool = False


class Smuggler:
    """Crafts frames that leave a place, as its own kernel would address them on the first hop."""

    _marks = iter(range(_FIRST_MARK, 0xFFFF))

    def __init__(self, scene: Scene, place: str) -> None:
        self._scene = scene
        self.place = place

    @property
    def address(self) -> str:
        """The address that the place really has."""
        if self.place in self._scene.workloads:
            return str(self._scene.workloads[self.place].address)
        return str(self._scene.topology.host(self.place).attachments[0].address.ip)

    @classmethod
    def mark(cls) -> int:
        """An identification that no other packet of this run bears."""
        return next(cls._marks)

    def sends(self, name: str, packet: bytes, mark: int, *, to_host: str = "", is_honest: bool = False) -> Sent:
        """The packet in a frame to the next hop: a pod's node, or from a host the way to another host."""
        own, next_hop = self._link(to_host)
        return Sent(name, self.place, ethernet_frame(own, next_hop, packet), mark, is_honest)

    def _link(self, to_host: str) -> tuple[str, str]:
        topology = self._scene.topology
        if self.place not in self._scene.workloads:
            return topology.mac(self.place, UPLINK), topology.next_hop_mac(self.place, to_host)
        workload = self._scene.workloads[self.place]
        return workload.mac, mac_of(self._scene.tables(workload.node), workload.host_device)


def mac_of(tables: Tables, device: str) -> str:
    """The MAC of a device. Raises WorldError where there is no such device."""
    link = tables.links.get(device)
    if link is None or link.mac is None:
        raise WorldError(f"{tables.place}: {device}: its MAC: no such device, or it has none")
    return link.mac


def arrivals(scene: Scene, tap: str, sent: Sequence[Sent], *, past: str = "") -> set[str]:
    """The names of those that the tap saw. Each is sent three times, the honest ones after the others each time.

    Raises WorldError unless all were seen leaving their senders (and coming past the tap `past`, where one is named,
    beyond which somebody may drop them), and all honest ones arriving: else nobody knows what the silence of the others
    means.
    """
    in_order = sorted(sent, key=lambda one: one.is_honest)
    sources = {one.name: f"{one.place}/{UPLINK}" for one in sent}
    with scene.capture(*dict.fromkeys(filter(None, (tap, past, *sources.values())))) as recording:
        for _ in range(TIMES):
            for one in in_order:
                scene.live.box.ask("probes", "craft", place=one.place, device=UPLINK, frames_hex=[one.frame.hex()])
    for one in sent:
        if one.mark not in _marks(recording.frames.on(sources[one.name]).going("out")):
            raise WorldError(f"{sources[one.name]}: {one.name}: was not seen leaving, so nothing is known")
    passing = _marks(recording.frames.on(past)) if past else set()
    if lost := [one.name for one in sent if past and one.mark not in passing]:
        raise WorldError(f"{past}: {', '.join(lost)}: lost on the way there, so nothing is known of what lies beyond")
    marks = _marks(recording.frames.on(tap))
    seen = {one.name for one in sent if one.mark in marks}
    if mute := [one.name for one in sent if one.is_honest and one.name not in seen]:
        raise WorldError(f"{tap}: {', '.join(mute)}: not seen either, so nothing is known", hint="look at the capture")
    return seen


def _marks(frames: Seen) -> set[int]:
    """The identifications of the innermost packets."""
    packets = [frame.innermost for frame in frames if frame.ips]
    return {packet.identification for packet in packets if isinstance(packet, Ipv4)}
