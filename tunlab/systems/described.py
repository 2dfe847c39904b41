"""A system described in a YAML file: what to place on a node, what to run, the conflist, and the words it uses.

Texts may hold placeholders: {node} {node_ip} {uplink} {block} {store_ip} {mode} {pool}; in a command with
`for_each: peer` also {peer} {peer_ip} {peer_block} {peer_next_hop}. {{word}} stands for {word} itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunlab.lab.topology import UPLINK, Mode, Node, Topology
from tunlab.systems.description import PLACEHOLDER, Description, load_description
from tunlab.systems.recipe import Command, Daemon, Dialect, File, Recipe, declared_blocks
from tunlab.systems.refnet import etcd


@dataclass(frozen=True)
class DescribedSystem:
    """A driver made from a file."""

    description: Description

    @classmethod
    def load(cls, path: Path) -> DescribedSystem:
        """Read and check a description. Raises LabError with one text per mistake."""
        return cls(load_description(path))

    @property
    def name(self) -> str:
        """The system's, as results write it."""
        return self.description.name

    @property
    def modes(self) -> frozenset[Mode]:
        """What the file says it offers."""
        return frozenset(self.description.modes)

    @property
    def abilities(self) -> frozenset[str]:
        """What the file says it can do."""
        return self.description.abilities

    def recipe(self, topology: Topology, mode: Mode) -> Recipe:
        """The description with its placeholders filled in for every node of a lab."""
        told = self.description
        blocks = declared_blocks(topology)
        words = {node.name: _words(topology, node, mode, blocks) for node in topology.nodes}
        version = told.version
        return Recipe(
            name=self.name,
            version=version if isinstance(version, str) else Command(topology.nodes[0].name, version),
            mode=mode,
            abilities=self.abilities,
            dialect=Dialect(**told.dialect),
            files=tuple(
                File(node, _filled(one.path, own), _filled(one.text, own), one.mode, _filled(one.link, own))
                for node, own in words.items()
                for one in told.files
            ),
            store=etcd(topology) if told.has_store else None,
            setup=tuple(
                Command(node, _filled(one.run, each), _filled(one.stdin, each), _filled(one.env, each))
                for node, own in words.items()
                for one in told.setup
                for each in (_peers(topology, node, own, blocks) if one.for_each_peer else (own,))
            ),
            daemons=tuple(
                Daemon(node, one.name, _filled(one.run, own), _filled(one.env, own))
                for node, own in words.items()
                for one in told.processes
            ),
            ready=tuple(Command(node, _filled(told.ready, own)) for node, own in words.items() if told.ready),
            conflists={node: _filled(told.conflist, own) for node, own in words.items()},
            plugin_path=told.plugin_path,
            ctl=_filled(told.ctl, words[topology.nodes[0].name]),
            blocks=blocks,
        )


def _words(topology: Topology, node: Node, mode: Mode, blocks: Mapping[str, tuple[Any, ...]]) -> dict[str, str]:
    return {
        "node": node.name,
        "node_ip": str(node.address.ip),
        "uplink": UPLINK,
        "block": str(blocks[node.name][0]),
        "store_ip": str(topology.store.address.ip),
        "mode": mode,
        "pool": str(topology.pools[0].cidr),
    }


def _peers(
    topology: Topology, node: str, own: Mapping[str, str], blocks: Mapping[str, tuple[Any, ...]]
) -> Iterator[dict[str, str]]:
    for peer in topology.nodes:
        if peer.name != node:
            yield {
                **own,
                "peer": peer.name,
                "peer_ip": str(peer.address.ip),
                "peer_block": str(blocks[peer.name][0]),
                "peer_next_hop": str(topology.next_hop(node, peer.name)),
            }


def _filled(value: Any, words: Mapping[str, str]) -> Any:
    """`value` with the placeholders in all its texts filled in; other braces stay as they are."""
    if isinstance(value, str):
        return PLACEHOLDER.sub(lambda found: f"{{{found[1]}}}" if found[1] else words[found[2]], value)
    if isinstance(value, dict):
        return {key: _filled(one, words) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_filled(one, words) for one in value)
    return value
