"""A system described in a YAML file: what to place on a node, what to run, the conflist, and the words it uses.

Texts may hold placeholders: {node} {node_ip} {uplink} {block} {store_ip} {mode} {pool}; in a command with
`for_each: peer` also {peer} {peer_ip} {peer_block} {peer_next_hop}.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tunlab.errors import LabError
from tunlab.lab.topology import UPLINK, Mode, Node, Topology
from tunlab.systems.recipe import ABILITIES, Command, Daemon, Dialect, File, Recipe, declared_blocks
from tunlab.systems.refnet import etcd

_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _File(_Strict):
    path: str
    text: str | None = None
    link: str | None = None
    mode: str = "0644"


class _Command(_Strict):
    run: list[str]
    for_each: Literal["node", "peer"] = "node"
    stdin: str = ""
    env: dict[str, str] = Field(default_factory=dict)


class _Process(_Strict):
    name: str
    run: list[str]
    env: dict[str, str] = Field(default_factory=dict)


class _Dialect(_Strict):
    host_device_prefix: str
    pod_gateway: IPv4Address | None = None
    tunnel_devices: dict[str, str] = Field(default_factory=dict)
    block_protocol: dict[str, str] = Field(default_factory=dict)
    own_block_protocol: dict[str, str] = Field(default_factory=dict)
    keeps_ipam_in_etcd: bool = False


class _Description(_Strict):
    name: str
    version: str | list[str] = "unknown"
    modes: list[Mode]
    abilities: list[str] = Field(default_factory=list)
    store: Literal["etcd"] | None = None
    files: list[_File] = Field(default_factory=list)
    setup: list[_Command] = Field(default_factory=list)
    processes: list[_Process] = Field(default_factory=list)
    ready: list[str] | None = None
    conflist: dict[str, Any]
    plugin_path: str = "/opt/cni/bin"
    dialect: _Dialect


@dataclass(frozen=True)
class DescribedSystem:
    """A driver made from a file."""

    name: str
    modes: frozenset[Mode]
    abilities: frozenset[str]
    _description: _Description

    @classmethod
    def load(cls, path: Path) -> DescribedSystem:
        """Read and check a description. Raises LabError with one line per mistake."""
        try:
            raw = yaml.safe_load(path.read_text())
        except OSError as error:
            raise LabError(f"--system: {path}: {error.strerror}", hint="name a YAML file, or refnet") from error
        except yaml.YAMLError as error:
            raise LabError(f"--system: {path}: not YAML: {str(error).splitlines()[0]}") from error
        try:
            description = _Description.model_validate(raw)
        except ValidationError as error:
            mistakes = tuple(
                f"{path}: {'.'.join(str(part) for part in one['loc']) or 'the file'}: {one['msg']}"
                for one in error.errors()
            )
            raise LabError(
                "\n".join(mistakes), hint="docs/drivers.md has a whole example", mistakes=mistakes
            ) from error
        unknown = sorted(set(description.abilities) - set(ABILITIES))
        if unknown:
            legal = ", ".join(sorted(ABILITIES))
            raise LabError(f"{path}: abilities: {', '.join(unknown)}: no such ability", hint=f"legal: {legal}")
        return cls(description.name, frozenset(description.modes), frozenset(description.abilities), description)

    def recipe(self, topology: Topology, mode: Mode) -> Recipe:
        """The description with its placeholders filled in for every node of a lab."""
        told = self._description
        blocks = declared_blocks(topology)
        words = {node.name: _words(topology, node, mode, blocks) for node in topology.nodes}
        version = told.version
        return Recipe(
            name=self.name,
            version=version if isinstance(version, str) else Command(topology.nodes[0].name, tuple(version)),
            mode=mode,
            abilities=self.abilities,
            dialect=Dialect(**told.dialect.model_dump()),
            files=tuple(
                File(node, one.path, _filled(one.text or "", own), int(one.mode, 8), one.link)
                for node, own in words.items()
                for one in told.files
            ),
            store=etcd(topology) if told.store else None,
            setup=tuple(
                Command(node, _filled(tuple(one.run), each), _filled(one.stdin, each), _filled(one.env, each))
                for node, own in words.items()
                for one in told.setup
                for each in (_peers(topology, node, own, blocks) if one.for_each == "peer" else (own,))
            ),
            daemons=tuple(
                Daemon(node, one.name, _filled(tuple(one.run), own), _filled(one.env, own))
                for node, own in words.items()
                for one in told.processes
            ),
            ready=tuple(Command(node, _filled(tuple(told.ready), own)) for node, own in words.items() if told.ready),
            conflists={node: _filled(told.conflist, own) for node, own in words.items()},
            plugin_path=told.plugin_path,
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
    """`value` with the placeholders in all its texts filled in; braces that are no placeholder stay as they are."""
    if isinstance(value, str):
        return _PLACEHOLDER.sub(lambda found: words.get(found[1], found[0]), value)
    if isinstance(value, dict):
        return {key: _filled(one, words) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_filled(one, words) for one in value)
    return value
