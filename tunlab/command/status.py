"""What stands: labs with their nodes, pods, addresses, the routes that matter, and BGP sessions."""

from __future__ import annotations

import json as json_text
import re
from typing import Any

from tunlab.errors import TunlabError
from tunlab.live.standing import StandingLab, find_standing, folder_of, is_busy, standing_names

_SESSION = re.compile(r"^(\S+)\s+BGP\s+\S+\s+(\S+)\s+(\S+)\s*(.*)$", re.MULTILINE)


def status(lab: str = "", json: bool = False) -> int:
    """Print one standing lab, or all of the caller's. 0 when each of them is whole."""
    names = [find_name(lab)] if lab else standing_names()
    told = [_describe(name) for name in names]
    if json:
        print(json_text.dumps({"schema": "tunlab/status/v1", "labs": told}, indent=1))
    elif not told:
        print("no lab stands; ./lab up same-subnet")
    else:
        print("\n\n".join("\n".join(_lines(one)) for one in told))
    return 0 if all(one["alive"] or one["busy"] for one in told) else 2


def find_name(lab: str) -> str:
    """The name of a lab that stands, however broken. Raises LabError when none does."""
    try:
        return find_standing(lab).name
    except TunlabError:
        from tunlab.live.standing import does_not_stand, lab_name

        name = lab_name(lab)
        if name not in standing_names():
            raise does_not_stand(name) from None
        return name


def _describe(name: str) -> dict[str, Any]:
    head: dict[str, Any] = {"lab": name, "box": None, "system": None, "mode": None, "folder": str(folder_of(name))}
    nothing: dict[str, Any] = {"alive": False, "doing": "", "reason": "", "nodes": [], "pods": [], "not_launched": []}
    busy = nothing["busy"] = is_busy(name)
    try:
        stands = StandingLab(folder_of(name))
        state = stands.state
        head |= {"box": state.box, "system": state.system, "mode": state.mode}
        nothing["doing"] = state.doing
        return head | nothing | _inside(stands) | {"alive": True}
    except TunlabError as error:
        reason = "another ./lab is building, changing or ending it just now" if busy else error.message
        return head | nothing | {"reason": reason}


def _inside(stands: StandingLab) -> dict[str, Any]:
    live = stands.live()
    done = live.box.gather([(node, ("birdc", "show", "protocols")) for node in live.node_names()], check=False)
    tables = live.tables(live.node_names())
    pods = [
        {"name": one.name, "node": one.node, "address": str(one.address), "host_device": one.host_device}
        for one in live.workloads.values()
    ]
    nodes = []
    for node, said in zip(live.topology.nodes, done, strict=True):
        table = tables[node.name]
        matter = [r for r in sorted(table.routes, key=str) if r.protocol != "kernel" and r.destination != "default"]
        tunnels = {
            device: sorted(table.addresses_on(device))
            for device, link in table.links.items()
            if link.kind in ("ipip", "vxlan") and link.is_up
        }
        nodes.append(
            {
                "name": node.name,
                "aliases": list(node.aliases),
                "address": str(node.address),
                "uplink": node.attachments[0].device,
                "tunnels": tunnels,
                "routes": [str(route) for route in matter],
                "sessions": _sessions(said.out if said.rc == 0 else ""),
            }
        )
    waiting = [pod.name for pod in live.topology.pods if pod.name not in live.workloads]
    return {"nodes": nodes, "pods": pods, "not_launched": waiting}


def _sessions(said: str) -> list[dict[str, str]]:
    """BGP sessions as BIRD's `show protocols` tells them; none where there is no BIRD."""
    return [
        {"peer": name, "state": state, "since": since, "info": info.strip()}
        for name, state, since, info in _SESSION.findall(said)
    ]


def _lines(told: dict[str, Any]) -> list[str]:
    """One thing to a line, indented under what it belongs to: routes are too long for a table."""
    if not told["alive"]:
        return [f"{told['lab']}: {told['reason']}", f"  hint: ./lab down {told['lab']} ends and forgets it"]
    system = f"{told['system']} in mode {told['mode']}" if told["system"] else "no system installed"
    lines = [f"{told['lab']}: {system}, in a box of kind {told['box']}"]
    if told["doing"]:
        lines.append(f"  cut short or under way: {told['doing']}")
    for node in told["nodes"]:
        name = node["name"] + (f" ({', '.join(node['aliases'])})" if node["aliases"] else "")
        own = [f"{node['uplink']} {node['address']}"]
        own += [f"{device} {' '.join(addresses)}".strip() for device, addresses in node["tunnels"].items()]
        lines.append(f"  {name}: {', '.join(own)}")
        pods = [pod for pod in told["pods"] if pod["node"] == node["name"]]
        lines += [f"    pod      {pod['name']} {pod['address']}, behind {pod['host_device']}" for pod in pods]
        lines += [f"    route    {route}" for route in node["routes"]]
        lines += [f"    session  {one['peer']} {one['info'] or one['state']}" for one in node["sessions"]]
    if told["not_launched"]:
        waiting = ", ".join(told["not_launched"])
        lines.append(f"  not launched: {waiting}; ./lab launch --lab {told['lab']}")
    return lines
