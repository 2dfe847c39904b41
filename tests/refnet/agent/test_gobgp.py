"""GoBGP's answers as routes and sessions, as it gave them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import Any

from refnet.agent.gobgp import read_sessions, read_table
from refnet.agent.speaker import Session


def path(hop: str, neighbour: str = "", *, best: bool = True) -> dict[str, Any]:
    found: dict[str, Any] = {"attrs": [{"type": 1, "value": 0}, {"type": 3, "nexthop": hop}], "best": best}
    return {**found, "neighbor-ip": neighbour} if neighbour else found


def test_a_table_is_what_we_tell_and_the_best_of_what_we_are_told() -> None:
    table = {
        "10.1.0.0/26": [path("10.0.0.1")],
        "10.2.0.0/26": [path("10.0.0.3", "10.0.0.3", best=False), path("10.0.0.2", "10.0.0.2")],
    }
    own, learned = read_table(table)
    assert own == {IPv4Network("10.1.0.0/26")}
    assert learned == {IPv4Network("10.2.0.0/26"): IPv4Address("10.0.0.2")}


def test_sessions_read_as_birds_do() -> None:
    neighbours = [
        {"conf": {"neighbor_address": "10.0.0.9", "description": "Global_10_0_0_9"}, "state": {"session_state": 3}},
        {"conf": {"neighbor_address": "10.0.0.2", "description": "Mesh_10_0_0_2"}, "state": {"session_state": 6}},
    ]
    found = [(each.peer, each.type, each.state, each.info) for each in read_sessions(neighbours)]
    assert found == [
        ("10.0.0.2", "node-to-node mesh", "up", "Established"),
        ("10.0.0.9", "global", "start", "Active"),
    ]
    assert isinstance(read_sessions(neighbours)[0], Session)
