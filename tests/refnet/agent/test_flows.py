"""Connections are forgotten with their pod: not before it is gone, and not later than its address has a new owner."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network
from typing import Any

from refnet.agent.flows import Flows
from refnet.apply.process import Finished
from refnet.calc.changes import Have
from refnet.calc.wanted import PROTO_BOOT, Route, RouteKey
from refnet.calc.world import World, read_world
from tests.refnet.calc import situations as s

ROUTED = Have(routes={RouteKey(IPv4Network("10.65.0.5/32")): Route("unicast", PROTO_BOOT, None, "cali1")})
BEFORE = read_world(s.endpoint("node1", "a", "10.65.0.5", "cali1"), "node1")
NOBODY = World()


class Watched:
    """Remembers what was asked of conntrack, and gives the answer it was told to."""

    def __init__(self, *, code: int = 0) -> None:
        self.code = code
        self.asked: list[str] = []
        self.logged: list[str] = []
        self.flows = Flows("node1", self.log, self.run)  # type: ignore[arg-type]

    def run(self, argv: Sequence[str], stdin: str) -> Finished:
        self.asked += [" ".join(argv), *stdin.splitlines()]
        return Finished(self.code, "", "no such thing\n")

    def log(self, level: str, message: str, **fields: Any) -> None:
        self.logged.append(f"{level}: {message}: {fields['reason']}")


def test_they_are_forgotten_once_the_route_is_gone_and_only_once() -> None:
    seen = Watched()
    seen.flows.look(BEFORE, ROUTED)
    seen.flows.look(NOBODY, ROUTED)
    assert seen.asked == []
    seen.flows.look(NOBODY, Have())
    seen.flows.look(NOBODY, Have())
    places = ("--orig-src", "--orig-dst", "--reply-src", "--reply-dst")
    assert seen.asked == ["conntrack --load-file -", *(f"-D -f ipv4 {place} 10.65.0.5" for place in places)]


def test_they_are_forgotten_at_once_when_another_container_has_the_address() -> None:
    seen = Watched()
    seen.flows.look(BEFORE, ROUTED)
    seen.flows.look(BEFORE, ROUTED)
    assert seen.asked == []
    store = s.endpoint("node1", "a", "10.65.0.5", "cali1")
    for value in store.values():
        value["spec"]["containerID"] = "c1"
    seen.flows.look(read_world(store, "node1"), ROUTED)
    assert len(seen.asked) == 5


def test_pods_of_other_nodes_are_other_nodes() -> None:
    seen = Watched()
    seen.flows.look(read_world(s.endpoint("node2", "a", "10.65.0.5", "cali1"), "node1"), Have())
    seen.flows.look(NOBODY, Have())
    assert seen.asked == []


def test_a_tool_that_cannot_is_told_of_once() -> None:
    seen = Watched(code=1)
    for _ in range(2):
        seen.flows.look(BEFORE, ROUTED)
        seen.flows.look(NOBODY, Have())
    assert seen.logged == ["warning: connections of pods that are gone stay open: conntrack: no such thing"]
