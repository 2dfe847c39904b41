"""Where everything of a lab stands in the picture: layers from pods down to the routers. Pure: names in, positions out.

Below the nodes layers alternate: the segments that nodes stand on, the hosts on those, the segments behind these, and
so on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunlab.lab.topology import Host, Node, Outsider, Router, Topology

_GAP, _MARGIN = 36, 20
_CHIP_WIDTH, _CHIP_HEIGHT = 116, 22
_POD_HEIGHT, _NODE_HEIGHT, _HOST_HEIGHT, _SEGMENT_HEIGHT = 62, 128, 64, 32
_ROW_GAP = 44
_LEAST_WIDTH, _LEAST_SEGMENT = 150, 250


@dataclass(frozen=True, slots=True)
class PodAt:
    """A pod as the picture needs it."""

    name: str
    node: str
    address: str
    host_device: str


@dataclass(slots=True)
class _Box:
    """One place: `x` is its centre, `top` its upper edge; `devices` are the centres of their chips."""

    name: str
    kind: str
    x: float
    top: float
    width: float
    height: float
    says: str
    devices: dict[str, tuple[float, float]] = field(default_factory=dict)


class _Drawing:
    """Boxes as they are placed, layer after layer."""

    def __init__(self, topology: Topology, pods: Sequence[PodAt], tunnels: Mapping[str, Sequence[str]]) -> None:
        self.topology = topology
        self.pods = pods
        self.tunnels = tunnels
        self.boxes: dict[str, _Box] = {}
        self.links: list[tuple[str, str, str, str]] = []

    def place_nodes(self) -> float:
        """Nodes side by side, those of one segment together, each under its pods; the height they end at."""
        order = [segment.name for segment in self.topology.segments]
        left = float(_MARGIN)
        node_top = _MARGIN + _POD_HEIGHT + _ROW_GAP
        for node in sorted(self.topology.nodes, key=lambda each: order.index(each.segment)):
            own = [pod for pod in self.pods if pod.node == node.name]
            chips = max(len(own), len(self.tunnels.get(node.name, ())), 1)
            width = max(_LEAST_WIDTH, chips * (_CHIP_WIDTH + 14) + 14)
            x = left + width / 2
            says = " ".join([str(node.address.ip), *(f"({alias})" for alias in node.aliases)])
            box = self.boxes[node.name] = _Box(node.name, "node", x, node_top, width, _NODE_HEIGHT, says)
            self._chips(box, [pod.host_device for pod in own], node_top)
            self._chips(box, self.tunnels.get(node.name, ()), node_top + 84)
            self._chips(box, [each.device for each in node.attachments], node_top + _NODE_HEIGHT)
            for pod in own:
                pod_x = box.devices[pod.host_device][0]
                pod_box = _Box(pod.name, "pod", pod_x, _MARGIN, _CHIP_WIDTH, _POD_HEIGHT, pod.address)
                pod_box.devices["eth0"] = (pod_x, _MARGIN + _POD_HEIGHT)
                self.boxes[pod.name] = pod_box
                self.links.append((pod.name, "eth0", node.name, pod.host_device))
            left += width + _GAP
        return node_top + _NODE_HEIGHT

    def _chips(self, box: _Box, names: Iterable[str], y: float) -> None:
        """Chips of one row, spread over the box; `y` is their centre."""
        known = list(names)
        for number, name in enumerate(known):
            box.devices[name] = (box.x + (number - (len(known) - 1) / 2) * (_CHIP_WIDTH + 14), y)

    def place_segments(self, names: Sequence[str], top: float) -> float:
        """A layer of segments under the hosts that stand already; the height it ends at."""
        boxes = []
        for name in names:
            segment = self.topology.segment(name)
            above = [self.boxes[host.name] for host, _ in self._ends(name) if host.name in self.boxes]
            left = min(box.x - box.width / 2 for box in above)
            right = max(box.x + box.width / 2 for box in above)
            width = max(right - left, _LEAST_SEGMENT)
            boxes.append(_Box(name, "segment", (left + right) / 2, top, width, _SEGMENT_HEIGHT, str(segment.subnet)))
        self._take(boxes)
        return top + _SEGMENT_HEIGHT

    def place_hosts(self, hosts: Sequence[Host], top: float) -> float:
        """A layer of routers and other hosts under the segments that stand already; the height it ends at."""
        boxes = []
        for host in hosts:
            above = [self.boxes[each.segment] for each in host.attachments if each.segment in self.boxes]
            width = max(_LEAST_WIDTH, len(host.attachments) * (_CHIP_WIDTH + 14) + 14)
            x = sum(box.x for box in above) / len(above)
            says = " ".join(str(each.address.ip) for each in host.attachments)
            boxes.append(_Box(host.name, _kind(host), x, top, width, _HOST_HEIGHT, says))
        self._take(boxes)
        for host in hosts:
            box = self.boxes[host.name]
            ups = [each for each in host.attachments if each.segment in self.boxes]
            downs = [each for each in host.attachments if each.segment not in self.boxes]
            ups.sort(key=lambda each: self.boxes[each.segment].x)
            self._chips(box, [each.device for each in ups], box.top)
            self._chips(box, [each.device for each in downs], box.top + box.height)
        return top + _HOST_HEIGHT

    def _take(self, boxes: list[_Box]) -> None:
        """Side by side without touching, each as near as possible to where it wants to be."""
        boxes.sort(key=lambda box: box.x)
        edge = float(_MARGIN)
        for box in boxes:
            box.x = max(box.x, edge + box.width / 2)
            edge = box.x + box.width / 2 + _GAP
            self.boxes[box.name] = box

    def _ends(self, segment: str) -> list[tuple[Host, str]]:
        return [(host, each.device) for host, each in self.topology.attached(segment)]

    def link_segments(self) -> None:
        """A port for every host of a segment, right above or below the host's device."""
        for segment in self.topology.segments:
            box = self.boxes[segment.name]
            for host, device in self._ends(segment.name):
                if host.name not in self.boxes:
                    continue
                x, y = self.boxes[host.name].devices[device]
                x = min(max(x, box.x - box.width / 2 + 12), box.x + box.width / 2 - 12)
                box.devices[host.name] = (x, box.top if y < box.top else box.top + box.height)
                self.links.append((host.name, device, segment.name, host.name))


def draw(topology: Topology, pods: Sequence[PodAt], tunnels: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The picture: its size, places with their devices, and links; `tunnels` are each node's tunnel devices."""
    drawing = _Drawing(topology, pods, tunnels)
    bottom = drawing.place_nodes()
    waiting = [host for host in topology.hosts if not isinstance(host, Node)]
    while len(drawing.boxes) < len(topology.hosts) + len(topology.segments) + len(pods):
        segments = [
            segment.name
            for segment in topology.segments
            if segment.name not in drawing.boxes
            and any(host.name in drawing.boxes for host, _ in topology.attached(segment.name))
        ]
        if segments:
            bottom = drawing.place_segments(segments, bottom + _ROW_GAP)
        hosts = [host for host in waiting if any(each.segment in drawing.boxes for each in host.attachments)]
        waiting = [host for host in waiting if host not in hosts]
        if hosts:
            bottom = drawing.place_hosts(hosts, bottom + _ROW_GAP)
        if not segments and not hosts:  # an island that nothing leads to
            break
    drawing.link_segments()
    return {
        "width": max(box.x + box.width / 2 for box in drawing.boxes.values()) + _MARGIN,
        "height": bottom + _CHIP_HEIGHT / 2 + _MARGIN,
        "places": [_told(box) for box in drawing.boxes.values()],
        "links": [{"from": [a, b], "to": [c, d]} for a, b, c, d in drawing.links],
    }


def _told(box: _Box) -> dict[str, Any]:
    return {
        "name": box.name,
        "kind": box.kind,
        "x": box.x - box.width / 2,
        "y": box.top,
        "width": box.width,
        "height": box.height,
        "says": box.says,
        "devices": [{"name": name, "x": x, "y": y} for name, (x, y) in box.devices.items()],
    }


def _kind(host: Host) -> str:
    if isinstance(host, Router):
        return "router"
    return "outside" if isinstance(host, Outsider) else "store"
