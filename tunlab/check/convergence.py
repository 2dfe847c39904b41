"""Waiting until a lab has converged: every node's kernel holds what the oracle wants of it."""

from __future__ import annotations

from tunlab.live.lab import LiveLab
from tunlab.node.tables import Tables
from tunlab.oracle.network import Oracle
from tunlab.oracle.network6 import Oracle6
from tunlab.wait import eventually

WITHIN_S = 15.0


def oracle_of(live: LiveLab) -> Oracle:
    """The expectations for a lab as it is now: its allocations are read from the store."""
    recipe = live.installation.recipe
    return Oracle(live.topology, recipe.mode, recipe.dialect, live.installation.read_ipam(), dict(live.workloads))


def wait_converged(live: LiveLab, within_s: float = WITHIN_S) -> Oracle:
    """Look until nothing that the oracle wants is missing. Raises SystemNeverDid, which names what is.

    What is too much is no matter here: that is for the exact sets to say.
    """
    seen: dict[str, Oracle] = {}

    def missing() -> list[str]:
        oracle = seen["last"] = oracle_of(live)
        tables = live.tables(live.node_names())
        return [f"{node}: {one}" for node in tables for one in _missing(live, oracle, node, tables[node])]

    eventually(
        missing,
        lambda left: not left,
        within_s=within_s,
        every_s=0.1,
        what="every node holds what it needs",
        slowness=live.box.slowness,
    )
    return seen["last"]


def _missing(live: LiveLab, oracle: Oracle, node: str, tables: Tables) -> list[str]:
    abilities = live.installation.recipe.abilities
    wanted: set[object] = set()
    if "block-routes" in abilities:
        wanted |= oracle.block_routes(node)
    if abilities >= {"block-routes", "own-block-blackhole", "host-routes", "ipam-in-etcd"}:
        wanted |= oracle.routes(node)
    if "ipam-in-etcd" in abilities:
        wanted |= oracle.addresses(node)
        if oracle.tunnel == "vxlan":
            wanted |= oracle.vtep_neighbours(node) | oracle.vtep_fdb(node)
    found: set[object] = {*tables.routes, *tables.addresses, *tables.neighbours, *tables.fdb}
    if oracle.has_ipv6 and "ipv6" in abilities:
        six = Oracle6(oracle.topology, oracle.mode, oracle.dialect, oracle.ipam, oracle.workloads)
        wanted |= six.routes(node) | six.addresses(node)
        wanted |= (six.neighbours(node) | six.fdb(node)) if six.tunnel == "vxlan" else set()
        found |= {*tables.routes6, *tables.addresses6, *tables.neighbours6}
    return sorted(map(str, wanted - found))
