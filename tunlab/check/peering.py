"""BGP as a scene shows it: the sessions of `node status`, the routes to pods, the OPENs of a recording."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import yaml

from tunlab.check.matrix import Question
from tunlab.check.scene import Recording, Scene
from tunlab.wire.bgp import OpenSeen, opens

# BIRD's sessions come up within two seconds, GoBGP's take up to twelve; a machine with eight labs on it takes its time.
SOON_S = 40.0
MESH, GLOBAL, NODE = "node-to-node mesh", "global", "node specific"

Sessions = dict[str, tuple[str, str]]


def status(scene: Scene, node: str) -> dict[str, list[str]]:
    """The rows of `node status`, by the name of the IPv4 peer."""
    names = {str(host.attachments[0].address.ip): host.name for host in scene.topology.hosts}
    rows = [line.strip("| ").split("|") for line in scene.ctl("node", "status", node=node).out.splitlines()]
    cells = [[cell.strip() for cell in row] for row in rows if len(row) == 5 and re.match(r"\d", row[0])]
    return {names.get(cell[0], cell[0]): cell for cell in cells}


def sessions(scene: Scene, node: str) -> Sessions:
    """The kind of each peer, and the first word of what is said about it last."""
    return {peer: (cells[1], cells[4].partition(" ")[0]) for peer, cells in status(scene, node).items()}


def since(scene: Scene, node: str) -> dict[str, str]:
    """When each Established session of a node came up."""
    return {peer: cells[3] for peer, cells in status(scene, node).items() if cells[4].startswith("Established")}


def established(*peers: str, kind: str = MESH) -> Sessions:
    """Sessions as they should be."""
    return dict.fromkeys(peers, (kind, "Established"))


def settle_sessions(scene: Scene, wanted: Mapping[str, Sessions], within_s: float = SOON_S) -> None:
    """Wait until these nodes have exactly these sessions."""
    scene.eventually(
        lambda: {node: sessions(scene, node) for node in wanted},
        lambda seen: seen == wanted,
        within_s=within_s,
        what="the BGP sessions are as wanted",
    )


def settle_dead(scene: Scene, node: str, peer: str) -> None:
    """Wait until a node's session with this peer, and no other, is not Established."""
    scene.eventually(
        lambda: {name for name, (_, info) in sessions(scene, node).items() if info != "Established"},
        lambda seen: seen == {peer},
        within_s=40.0,
        what=f"{node} has no session with {peer} alone",
    )


def block_routes(scene: Scene, place: str) -> set[str]:
    """The routes of a place to blocks and single addresses elsewhere, as `192.168.2.0/26 via 10.1.1.12`."""
    pods = re.compile(r"(192\.168\.[1-4]|172\.17\.[1-3]|10\.99\.0)\.")
    found = [route for route in scene.tables(place).routes if route.gateway and pods.match(route.destination)]
    return {f"{route.destination} via {route.gateway}" for route in found}


def every_pod(scene: Scene, *, but: str = "", expect: Any = None, family: int = 4) -> list[Question]:
    """Every pod pings every other; `but` is out of it."""
    pods = [pod for pod in scene.workloads if pod != but]
    return [scene.question(a, b, "icmp", expect=expect, family=family) for a in pods for b in pods if a != b]


def node_as(scene: Scene, name: str, labels: Mapping[str, str] | None = None, **bgp: Any) -> dict[str, Any]:
    """The node's own object with more labels and BGP settings."""
    found: dict[str, Any] = yaml.safe_load(scene.ctl("get", "node", name, "-o", "yaml").out)
    metadata = {"name": name, "labels": {**found["metadata"].get("labels", {}), **(labels or {})}}
    spec = {**found["spec"], "bgp": {**found["spec"]["bgp"], **bgp}}
    return {"apiVersion": found["apiVersion"], "kind": "Node", "metadata": metadata, "spec": spec}


@contextmanager
def renewed(scene: Scene, *nodes: str, but: str = "") -> Iterator[None]:
    """Something in the block makes all sessions of these nodes (of all nodes) come up anew; wait until they are up.

    Sessions with node `but` do not count.
    """
    whose = nodes or tuple(node.name for node in scene.topology.nodes if node.name != but)

    def stamps(node: str) -> dict[str, str]:
        return {peer: time for peer, time in since(scene, node).items() if peer != but}

    before = {node: stamps(node) for node in whose}

    def are_new(seen: Mapping[str, Mapping[str, str]]) -> bool:
        return all(
            seen[node].keys() == before[node].keys() and not seen[node].items() & before[node].items() for node in whose
        )

    yield
    scene.eventually(
        lambda: {node: stamps(node) for node in whose},
        are_new,
        within_s=SOON_S,
        what=f"the sessions of {', '.join(whose)} came up anew",
    )


def last_opens(recording: Recording) -> dict[tuple[str, str], OpenSeen]:
    """The last OPEN from each address to each other."""
    assert recording.capture
    messages = opens(recording.capture)
    return {(one.frame.outer.source, one.frame.outer.destination): one for one in messages}


def opened_as(recording: Recording, numbers: Mapping[str, int], other: int) -> None:
    """Each last OPEN tells its sender's AS (`other` where none is given): in 16 bits if it fits, else 23456 there."""
    found = last_opens(recording)
    assert found, "no OPEN was seen"
    for (source, _), one in found.items():
        number = numbers.get(source, other)
        wanted = (number if number <= 0xFFFF else 23456, number)
        seen = (one.open.asn, one.open.asn_4)
        assert seen == wanted, f"{one.frame.where}: bgp.open: seen {seen}, wanted {wanted}"
