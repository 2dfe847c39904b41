"""Waiting until a lab has converged: every node's kernel holds a route to every block of every other node."""

from __future__ import annotations

from tunlab.check.oracle import Oracle
from tunlab.check.wait import eventually
from tunlab.live.lab import LiveLab

WITHIN_S = 15.0


def oracle_of(live: LiveLab) -> Oracle:
    """The expectations for a lab as it is now: its allocations are read from the store."""
    recipe = live.installation.recipe
    return Oracle(live.topology, recipe.mode, recipe.dialect, live.installation.read_ipam(), dict(live.workloads))


def wait_converged(live: LiveLab, within_s: float = WITHIN_S) -> Oracle:
    """Look until the block routes are where the oracle wants them. Raises SystemNeverDid naming what is missing."""
    seen: dict[str, Oracle] = {}

    def missing() -> list[str]:
        oracle = seen["last"] = oracle_of(live)
        tables = live.tables(live.node_names())
        wanted = {node: oracle.block_routes(node) for node in tables}
        return [f"{node}: {route}" for node in tables for route in sorted(wanted[node] - tables[node].routes, key=str)]

    eventually(missing, lambda left: not left, within_s=within_s, what="every block route is in every kernel")
    return seen["last"]
