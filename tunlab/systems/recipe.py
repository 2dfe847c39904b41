"""A system under test as data: what to place on a host, what to run, when it is ready, what to expect of it.

A recipe is computed from the lab and the mode and names only executables and files; nothing here runs anything.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, Protocol

from tunlab.lab.topology import Mode, Topology

STORE_PORT = 2379  # etcd's, for clients


@dataclass(frozen=True, slots=True)
class File:
    """A file, or with `target` a symbolic link, on one host."""

    host: str
    path: str
    text: str = ""
    mode: int = 0o644
    target: str | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """A command that runs to its end on one host."""

    host: str
    argv: tuple[str, ...]
    stdin: str = ""
    env: Mapping[str, str] = field(default_factory=dict, compare=False)

    def __str__(self) -> str:
        return f"{self.host}$ {shlex.join(self.argv)}"


@dataclass(frozen=True, slots=True)
class Daemon:
    """A program that keeps running on one host. `stale` are files of one that was killed, which would speak for it."""

    host: str
    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict, compare=False)
    stale: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Dialect:
    """How this system writes what every system must hold; suites read it instead of assuming Calico's words.

    Protocols are iproute2's words or numbers. A `None` means that the system makes no such promise.
    """

    host_device_prefix: str
    pod_gateway: IPv4Address | None = None
    tunnel_devices: Mapping[str, str] = field(default_factory=dict)
    block_protocol: Mapping[str, str] = field(default_factory=dict)
    own_block_protocol: Mapping[str, str] = field(default_factory=dict)
    # Where a node's own BGP speaker is another one than bird: the protocol of all that it has from it, or tells by it.
    speaker_protocol: Mapping[str, str] = field(default_factory=dict)
    vxlan_id: int = 4096
    vxlan_port: int = 4789
    keeps_ipam_in_etcd: bool = False


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that installing one system in one mode on one lab takes, in the order of the fields.

    `shell_env` is for people's shells on the nodes; `ctl` what there applies manifests, as calicoctl does.
    """

    name: str
    version: Command | str
    mode: Mode
    abilities: frozenset[str]
    dialect: Dialect
    files: tuple[File, ...]
    store: Daemon | None
    setup: tuple[Command, ...]
    daemons: tuple[Daemon, ...]
    ready: tuple[Command, ...]
    conflists: Mapping[str, Mapping[str, Any]]
    plugin_path: str
    blocks: Mapping[str, tuple[IPv4Network, ...]] = field(default_factory=dict)
    shell_env: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    ctl: tuple[str, ...] = ()


class System(Protocol):
    """A driver: which modes and abilities a system offers, and its recipe for a lab."""

    @property
    def name(self) -> str: ...
    @property
    def modes(self) -> frozenset[Mode]: ...
    @property
    def abilities(self) -> frozenset[str]: ...

    def recipe(self, topology: Topology, mode: Mode) -> Recipe:
        """The recipe; raises LabError when the lab asks for what the system does not have."""


# What a system may be able to do; requirements name those they need, and a system that lacks one is not asked.
ABILITIES: Mapping[str, str] = {
    "ipip": "carries pod packets in IPIP",
    "vxlan": "carries pod packets in VXLAN",
    "vtep-mac-by-name": "gives a node's VXLAN device the MAC that Calico derives from the node's name",
    "no-bgp-in-vxlan": "runs no BGP speaker where VXLAN carries all that crosses nodes",
    "bgp": "distributes block routes by BGP speakers on the nodes",
    "bgp-peers": "BGPPeer, BGPFilter and BGPConfiguration say who talks to whom, as whom and about what",
    "gobgp": "GoBGP can speak in BIRD's place",
    "graceful-restart": "routes and packets outlive the BGP speaker and the agent",
    "block-routes": "one route per remote block, of a protocol of its own",
    "own-block-blackhole": "packets for unused addresses of an own block die on the node",
    "proxy-gateway": "pods reach everything through 169.254.1.1, answered by proxy ARP",
    "host-routes": "every pod has a /32 route on its node",
    "ipam-in-etcd": "allocations can be read from the store in Calico's layout",
    "fixed-address": "a pod can ask for an address",
    "mtu-setting": "the CNI configuration's mtu is honoured",
    "check": "CNI CHECK looks at what it promises",
    "cni-letter": "keeps to the CNI specification's letter where its reference library does not",
    "cni-status": "answers CNI STATUS (1.1): whether an ADD could be served now",
    "cni-gc": "answers CNI GC (1.1): takes away what the runtime no longer knows",
    "two-interfaces": "one container can have two interfaces in the same network",
    "agent": "keeps a program of its own running on every node",
    "address-detection": "finds its nodes' addresses by Calico's methods, and follows when they change",
    "mtu-follows": "tunnels and new pods follow the uplink's MTU, or the setting",
    "mode-switch": "follows a pool's encapsulation while it runs",
    "policy": "enforces NetworkPolicy, GlobalNetworkPolicy, Profile, network sets and tiers",
    "iptables-legacy": "filters by iptables (legacy) and ipset, in chains and sets whose names begin with cali",
    "nat": "translates the sources of pools with natOutgoing towards the outside",
    "host-endpoints": "puts a node's own interfaces under policy",
    "anti-spoofing": "lets no pod send with another's source, nor speak a tunnel",
    "ipv6": "pods have IPv6 addresses too, and VXLAN or bare packets carry what they send",
    "pools": "follows IPPools, reservations and IPAM settings, and lends addresses between nodes",
    "repairs": "brings back what somebody else deletes, within the refresh interval that it is given",
    "repairs-on-event": "brings it back as soon as the kernel tells of it, whatever the interval is",
    "health": "answers /liveness and /readiness on port 9099",
    "metrics": "tells its metrics on port 9091 in Prometheus' format",
    "json-log": "logs one JSON object a line, with levels",
    "fan-out": "agents watch the store through proxies that merge their watches",
    "status-in-store": "every agent reports its state, and what it cannot read, to the store",
    "take-over": "finds and removes what another CNI left on a node",
}


def declared_blocks(topology: Topology) -> dict[str, tuple[IPv4Network, ...]]:
    """One block per node for systems that allocate none: the pinned one, else the pool's next free one."""
    pool = topology.pools[0]
    taken = {node.block for node in topology.nodes if node.block is not None}
    free = (block for block in pool.cidr.subnets(new_prefix=pool.block_size) if block not in taken)
    return {node.name: (node.block if node.block is not None else next(free),) for node in topology.nodes}


def run_by(interpreter: str, script: Path) -> str:
    """A file that runs a Python script with one given interpreter, isolated, without a process in between."""
    where = str(script)
    return f"#!{interpreter} -ISE\n__file__ = {where!r}\nexec(compile(open(__file__).read(), __file__, 'exec'))\n"
