"""What stands: labs with their nodes, pods, addresses, the routes that matter, and BGP sessions."""

from __future__ import annotations

import json as json_text
import re
from typing import Any

from rich.console import Console
from rich.table import Table

from tunlab.errors import WorldError
from tunlab.lab.topology import UPLINK
from tunlab.live.lab import LiveLab
from tunlab.live.standing import StandingLab, find_standing, folders, standing_names

_SESSION = re.compile(r"^(\S+)\s+BGP\s+\S+\s+(\S+)\s+(\S+)\s*(.*)$", re.MULTILINE)


def status(lab: str = "", json: bool = False) -> None:
    """Print one standing lab, or all of the caller's."""
    names = [find_standing(lab).name] if lab else standing_names()
    told = [_describe(find_standing(name)) for name in names]
    if json:
        print(json_text.dumps({"schema": "tunlab/status/v1", "labs": told}, indent=1))
        return
    half_built = [name for name in folders() if name not in standing_names()]
    if not told:
        print("no lab stands; ./lab up same-subnet")
    for one in told:
        _print(one)
    for name in half_built:
        print(f"{name}: half-built by something that was interrupted; ./lab down {name}")


def _describe(stands: StandingLab) -> dict[str, Any]:
    state = stands.state
    head: dict[str, Any] = {
        "lab": stands.name,
        "box": state.box,
        "system": state.system,
        "mode": state.mode,
        "folder": str(stands.folder),
    }
    try:
        live = stands.live()
        nodes = [_node(live, node) for node in live.node_names()]
    except WorldError as error:
        return {**head, "alive": False, "reason": error.message, "nodes": [], "pods": []}
    pods = [
        {"name": one.name, "node": one.node, "address": str(one.address), "host_device": one.host_device}
        for one in live.workloads.values()
    ]
    waiting = [pod.name for pod in live.topology.pods if pod.name not in live.workloads]
    return {**head, "alive": True, "reason": "", "nodes": nodes, "pods": pods, "not_launched": waiting}


def _node(live: LiveLab, name: str) -> dict[str, Any]:
    node = live.topology.node(name)
    tables = live.tables([name])[name]
    matter = [r for r in sorted(tables.routes, key=str) if r.protocol != "kernel" and r.destination != "default"]
    tunnels = {
        device: sorted(tables.addresses_on(device))
        for device, link in tables.links.items()
        if link.kind in ("ipip", "vxlan") and link.is_up
    }
    return {
        "name": name,
        "aliases": list(node.aliases),
        "address": str(node.address),
        "uplink": UPLINK,
        "tunnels": tunnels,
        "routes": [str(route) for route in matter],
        "sessions": _sessions(live, name),
    }


def _sessions(live: LiveLab, node: str) -> list[dict[str, str]]:
    """BGP sessions as the node's BIRD tells them; none where there is no BIRD."""
    done = live.box.run(node, ["birdc", "show", "protocols"], check=False)
    found = _SESSION.findall(done.out) if done.rc == 0 else []
    return [{"peer": name, "state": state, "since": since, "info": info.strip()} for name, state, since, info in found]


def _print(told: dict[str, Any]) -> None:
    console = Console(soft_wrap=True, highlight=False)
    system = f"{told['system']} in mode {told['mode']}" if told["system"] else "no system installed"
    console.print(f"[bold]{told['lab']}[/bold]: {system}, box {told['box']}")
    if not told["alive"]:
        console.print(f"  its box is gone: {told['reason']}")
        return
    table = Table(show_edge=False, pad_edge=False)
    for column in ("node", "address", "pods", "routes that matter", "sessions"):
        table.add_column(column, overflow="fold")
    for node in told["nodes"]:
        pods = [f"{pod['name']} {pod['address']}" for pod in told["pods"] if pod["node"] == node["name"]]
        tunnels = [f"{device} {' '.join(addresses)}" for device, addresses in node["tunnels"].items()]
        sessions = [f"{one['peer']} {one['info'] or one['state']}" for one in node["sessions"]]
        name = node["name"] + (f" ({', '.join(node['aliases'])})" if node["aliases"] else "")
        cells = (node["address"], *tunnels), pods, node["routes"], sessions
        table.add_row(name, *("\n".join(cell) for cell in cells))
    console.print(table)
    if told["not_launched"]:
        console.print(f"not launched: {', '.join(told['not_launched'])}; ./lab launch --lab {told['lab']}")
