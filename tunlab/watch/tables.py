"""The tables of one place as its own commands print them: what a trainer would type, and what came back."""

from __future__ import annotations

from typing import Any

from tunlab.lab.topology import Node, Router
from tunlab.live.lab import LiveLab
from tunlab.live.standing import StandingLab

_ROUTES = (("routes", "ip route"), ("neighbours", "ip neigh"))
_DEVICES = (("addresses", "ip -br addr"), ("links", "ip -d link"))
_SEGMENT = (("FDB", "bridge fdb show br br0"), ("ports", "bridge link"))
_FDB = ("FDB", "bridge fdb")
_BIRD = (("BGP sessions", "birdc show protocols"), ("BIRD's routes", "birdc show route"))
_FRR = (("BGP sessions", "vtysh -c 'show bgp summary'"), ("BGP routes", "vtysh -c 'show bgp ipv4 unicast'"))
_RULES = ("rules", "iptables-legacy-save -c")
_MOST_LETTERS = 40_000


def commands_of(live: LiveLab, place: str) -> list[tuple[str, str]]:
    """(title, command) for a place, by what it is; what moves packets comes first."""
    topology = live.topology
    if place in live.workloads:
        return [*_ROUTES, *_DEVICES]
    if place in {segment.name for segment in topology.segments}:
        return [*_SEGMENT]
    host = topology.host(place)
    if isinstance(host, Node):
        return [*_ROUTES, _FDB, *(() if live.mode == "vxlan" else _BIRD), *_DEVICES, _RULES]
    if isinstance(host, Router) and host.bgp is not None:
        return [*_ROUTES, *(_FRR if host.bgp.program == "frr" else _BIRD), *_DEVICES]
    return [*_ROUTES, *_DEVICES]


def read_tables_of(stands: StandingLab, live: LiveLab, place: str) -> list[dict[str, Any]]:
    """Every table of a place, read now, side by side. A command that fails tells so in its text. Raises WorldError."""
    wanted = commands_of(live, place)
    env = stands.environment(place)
    asked = [(place, ("sh", "-c", command)) for _, command in wanted]
    done = stands.box().gather(asked, env=env, timeout_s=10.0, check=False)
    return [
        {"title": title, "command": command, "text": (one.out or one.err).rstrip()[:_MOST_LETTERS], "rc": one.rc}
        for (title, command), one in zip(wanted, done, strict=True)
    ]
