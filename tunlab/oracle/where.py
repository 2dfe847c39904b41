"""Where requirements apply: claims about a lab in a mode, by what its description says."""

from __future__ import annotations

import itertools

from tunlab.lab.topology import Mode, Topology
from tunlab.oracle.network import carriage_between, reaches


def _node_pairs(topology: Topology) -> list[tuple[str, str]]:
    """Ordered pairs of different nodes that both have pods."""
    nodes = [node.name for node in topology.nodes if topology.pods_on(node.name)]
    return list(itertools.permutations(nodes, 2))


def has_tunnelled_pair(topology: Topology, mode: Mode) -> bool:
    """Some pods reach each other through the mode's tunnel."""
    return any(carriage_between(topology, mode, a, b) != "none" for a, b in _node_pairs(topology))


def has_bare_pair(topology: Topology, mode: Mode) -> bool:
    """Some pods of different nodes reach each other without encapsulation."""
    return any(
        carriage_between(topology, mode, a, b) == "none" and reaches(topology, mode, a, b)
        for a, b in _node_pairs(topology)
    )


def has_both(topology: Topology, mode: Mode) -> bool:
    """Tunnelled and bare pairs in one lab."""
    return has_tunnelled_pair(topology, mode) and has_bare_pair(topology, mode)


def has_stranded_pair(topology: Topology, mode: Mode) -> bool:
    """Some pods cannot reach each other, because a router in between knows no pods."""
    return any(not reaches(topology, mode, a, b) for a, b in _node_pairs(topology))


def has_reaching_pair(topology: Topology, mode: Mode) -> bool:
    """Some pods of different nodes reach each other, in whatever way."""
    return any(reaches(topology, mode, a, b) for a, b in _node_pairs(topology))


def has_two_nodes(topology: Topology, mode: Mode) -> bool:
    """There is somebody to talk to."""
    del mode
    return len(topology.nodes) > 1


def has_two_pods(topology: Topology, mode: Mode) -> bool:
    """Two pods that may or may not be on one node."""
    del mode
    return len(topology.pods) > 1
