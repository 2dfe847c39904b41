"""The driver of refnet, the default system, known as anybody else's would be: by executables and manifests."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Mapping
from ipaddress import IPv4Address
from pathlib import Path

import yaml

from tunlab.box.start import interpreter
from tunlab.errors import LabError
from tunlab.lab.topology import MODES, Mode, Node, Topology
from tunlab.paths import ROOT
from tunlab.systems.recipe import ABILITIES, STORE_PORT, Command, Daemon, Dialect, File, Recipe, run_by
from tunlab.systems.resource import resource

PARTS = ("agent", "cni", "ctl", "refnet")
_EXECUTABLES = {"agent": "refnet-agent", "cni": "refnet-cni", "ctl": "refnetctl"}
_HOME = ROOT / "refnet" / "bin"
_VERSION_LINE = re.compile(r'^__version__ = "(.*)"$', re.MULTILINE)
PROXY_PORT = 23790  # of the first; etcd's own default
_PLUGIN_PATH = "/opt/cni/bin"
# What `refnet-agent --ready` says, without starting it: a Python start takes half a second in a user-mode kernel.
_STATUS = "/run/calico/agent-status.json"
_READY = ("grep", "-q", '"ready": *true', _STATUS)
# ipipMode and vxlanMode of the pool.
ENCAPSULATION: Mapping[Mode, tuple[str, str]] = {
    "ipip": ("Always", "Never"),
    "ipip-crosssubnet": ("CrossSubnet", "Never"),
    "vxlan": ("Never", "Always"),
    "vxlan-crosssubnet": ("Never", "CrossSubnet"),
    "none": ("Never", "Never"),
}
DIALECT = Dialect(
    host_device_prefix="cali",
    pod_gateway=IPv4Address("169.254.1.1"),
    tunnel_devices={"ipip": "tunl0", "vxlan": "vxlan.calico", "vxlan6": "vxlan-v6.calico"},
    block_protocol={"ipip": "80", "vxlan": "80", "none": "bird"},
    own_block_protocol={"ipip": "80", "vxlan": "80", "none": "bird"},
    speaker_protocol={"gobgp": "80"},
    keeps_ipam_in_etcd=True,
)


class Refnet:
    """refnet from this checkout, or with some of its parts (`refnet`: the whole folder) replaced by other builds."""

    name = "refnet"
    modes = frozenset(MODES)
    abilities = frozenset(ABILITIES)

    def __init__(self, replaced: Mapping[str, Path] | None = None) -> None:
        self._replaced = dict(replaced or {})
        for part, path in self._replaced.items():
            if part not in PARTS:
                raise LabError(f"--with: {part}: refnet has no such part", hint=f"one of: {', '.join(PARTS)}")
            if part == "refnet":
                if not (path / "bin").is_dir():
                    raise LabError(f"--with: {part}={path}: is no refnet", hint="a folder with bin/refnet-agent")
            elif not path.is_file():
                raise LabError(f"--with: {part}={path}: there is no such file", hint="name an executable file")
            elif not os.access(path, os.X_OK):
                raise LabError(f"--with: {part}={path}: is not executable", hint=f"chmod +x {path}")
        self._home = self._replaced.get("refnet", _HOME.parent).resolve() / "bin"

    def recipe(self, topology: Topology, mode: Mode) -> Recipe:
        """refnet on every node, etcd on the store host; the pool's encapsulation makes the mode."""
        endpoint = f"http://{topology.store.address.ip}:{STORE_PORT}"
        return Recipe(
            name=self.name,
            version=self._version(),
            mode=mode,
            abilities=self.abilities,
            dialect=DIALECT,
            files=tuple(file for node in topology.nodes for file in self._files(node)),
            store=etcd(topology),
            setup=_setup(topology, mode, endpoint),
            daemons=(*proxies(topology), *(_agent(node, topology, endpoint) for node in topology.nodes)),
            ready=tuple(Command(node.name, _READY) for node in topology.nodes),
            conflists={node.name: _conflist(node, endpoint, bool(topology.pools6)) for node in topology.nodes},
            plugin_path=_PLUGIN_PATH,
            shell_env={node.name: {"ETCD_ENDPOINTS": endpoint, "NODENAME": node.name} for node in topology.nodes},
            ctl=("calicoctl",),
        )

    def _version(self) -> str:
        """The checkout's, and which parts of it are somebody else's build."""
        version = _VERSION_LINE.findall((self._home.parent / "__init__.py").read_text())[0]
        return " ".join([version, *(f"{part}={path}" for part, path in self._replaced.items())])

    def _files(self, node: Node) -> tuple[File, ...]:
        """Executables under the names that the tutorials type."""
        return (
            self._executable(node.name, "cni", f"{_PLUGIN_PATH}/calico"),
            self._executable(node.name, "agent", "/run/bin/refnet-agent"),
            self._executable(node.name, "ctl", "/run/bin/refnetctl"),
            File(node.name, "/run/bin/calicoctl", target="refnetctl"),
        )

    def _executable(self, host: str, part: str, path: str) -> File:
        if part in self._replaced:
            return File(host, path, target=str(self._replaced[part].resolve()))
        script = self._home / _EXECUTABLES[part]
        if part == "ctl":  # reads YAML, so it needs the packages of this program's own environment
            line = shlex.join([sys.executable, "-I", str(script)])  # a checkout's path may hold blanks
            return File(host, path, f'#!/bin/sh\nexec {line} "$@"\n', 0o755)
        return File(host, path, run_by(interpreter(), script), 0o755)


def tree_of(program: Path) -> Path | None:
    """The folder without which a script of refnet does not start; None for a program that stands by itself."""
    tree = program.parent.parent
    is_script = tree / "bin" == program.parent and tree.name == "refnet" and (tree / "__init__.py").is_file()
    return tree if is_script else None


def wrap_plugin(script: str, folder: Path) -> Path:
    """A program that runs a shell script in the plugin's place: for `--with cni=PATH`. $REAL is the real plugin."""
    real, wrapper = folder / "real-cni", folder / "wrapped-cni"
    real.write_text(run_by(interpreter(), _HOME / _EXECUTABLES["cni"]))
    wrapper.write_text(f"#!/bin/sh\nREAL={shlex.quote(str(real.resolve()))}\n{script}\n")
    for path in (real, wrapper):
        path.chmod(0o755)
    return wrapper


def etcd(topology: Topology) -> Daemon:
    """etcd on the store host, its data in memory."""
    client = f"http://{topology.store.address.ip}:{STORE_PORT}"
    local = f"http://127.0.0.1:{STORE_PORT}"
    argv = (
        "etcd", "--name", "store", "--data-dir", "/run/etcd", "--log-level", "error", "--snapshot-count", "100000",
        "--listen-client-urls", f"{client},{local}", "--advertise-client-urls", client,
        "--listen-peer-urls", "http://127.0.0.1:2380", "--initial-advertise-peer-urls", "http://127.0.0.1:2380",
        "--initial-cluster", "store=http://127.0.0.1:2380",
    )  # fmt: skip
    return Daemon(topology.store.name, "etcd", argv)


def manifests(topology: Topology, mode: Mode) -> list[dict[str, object]]:
    """What a user would apply to get this mode: projectcalico.org/v3 pools, and the lab's BGP peers."""
    ipip, vxlan = ENCAPSULATION[mode]
    pools = [
        resource("IPPool", pool.name, cidr=str(pool.cidr), blockSize=pool.block_size, ipipMode=ipip, vxlanMode=vxlan)
        for pool in topology.pools
    ]
    # IPIP carries IPv4 alone: where that is the mode, IPv6 goes without a tunnel.
    pools += [
        resource("IPPool", pool.name, cidr=str(pool.cidr), blockSize=pool.block_size, vxlanMode=vxlan)
        for pool in topology.pools6
    ]
    peers = [
        resource("BGPPeer", peer.name, peerIP=str(peer.peer_ip), asNumber=peer.as_number)
        for peer in topology.bgp_peers
        if not mode.startswith("vxlan")
    ]
    return pools + peers


def _setup(topology: Topology, mode: Mode, endpoint: str) -> tuple[Command, ...]:
    env = {"ETCD_ENDPOINTS": endpoint}
    first = topology.nodes[0].name
    text = yaml.safe_dump_all(manifests(topology, mode), sort_keys=False)
    pinned = [f"{node.block}={node.name}" for node in topology.nodes if node.block is not None]
    return (
        Command(first, ("refnetctl", "apply", "-f", "-"), text, env),
        *((Command(first, ("refnetctl", "ipam", "claim", *pinned), env=env),) if pinned else ()),
    )


def proxies(topology: Topology) -> tuple[Daemon, ...]:
    """etcd's own gRPC proxies, beside it on the store host; each merges the watches of the agents that come to it."""
    return tuple(_proxy(topology, number, place) for number, place in enumerate(_proxy_places(topology), 1))


def _proxy(topology: Topology, number: int, place: str) -> Daemon:
    argv = (
        "etcd", "grpc-proxy", "start", "--endpoints", f"127.0.0.1:{STORE_PORT}", "--listen-addr", place,
        "--advertise-client-url", place, "--data-dir", f"/run/etcd-proxy{number}",
    )  # fmt: skip
    return Daemon(topology.store.name, f"etcd-proxy{number}", argv)


def _proxy_places(topology: Topology) -> list[str]:
    return [f"{topology.store.address.ip}:{PROXY_PORT + number}" for number in range(topology.store.proxies)]


def _agent(node: Node, topology: Topology, endpoint: str) -> Daemon:
    """As in Calico's manifest. The backend speaks BGP in every mode: it serves them all, so a pool can change its."""
    watched = ",".join(f"http://{place}" for place in _proxy_places(topology))
    env = {
        "NODENAME": node.name,
        "IP": "autodetect",
        **({"IP6": "autodetect"} if node.address6 is not None else {}),
        "ETCD_ENDPOINTS": endpoint,
        "CALICO_NETWORKING_BACKEND": node.speaker,
        "FELIX_HEALTHENABLED": "true",
        "FELIX_PROMETHEUSMETRICSENABLED": "true",
        **({"ETCD_WATCH_ENDPOINTS": watched} if watched else {}),
    }
    return Daemon(node.name, "refnet-agent", ("refnet-agent",), env, stale=(_STATUS,))


def _conflist(node: Node, endpoint: str, has_ipv6: bool) -> dict[str, object]:
    plugin = {
        "type": "calico",
        "log_level": "info",
        "datastore_type": "etcdv3",
        "etcd_endpoints": endpoint,
        "nodename": node.name,
        "mtu": 0,
        "ipam": {"type": "calico-ipam", **({"assign_ipv4": "true", "assign_ipv6": "true"} if has_ipv6 else {})},
        "policy": {"type": "k8s"},
    }
    return {"cniVersion": "1.0.0", "name": "k8s-pod-network", "plugins": [plugin]}
