"""What another CNI left on a node, found by its own marks; whatever bears none of them is nobody's leftover here.

Pure: what was seen in, what is left over and how it is undone out.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv4Network
from typing import Any

IP, IPTABLES, FILE = "ip", "iptables", "file"
# Ours, and those of the kernel: they say nothing of another CNI.
_OUR_PROTOCOLS = ("80", "bird", "12", "kernel", "2")
_OUR_DEVICES = re.compile(r"cali.*|tunl0|vxlan(-v6)?\.calico|lo")
_SHORTEST = 8  # a range as wide as this would take the whole table for a leftover
_BRIDGE_DEFAULT = "cni0"


@dataclass(frozen=True)
class Owner:
    """One CNI and its marks: device names, plugin types, chains, folders, and the program that would bring all back."""

    name: str
    devices: str
    types: frozenset[str] = frozenset()
    chains: str = "(?!)"
    folders: tuple[str, ...] = ()
    programs: frozenset[str] = frozenset()


OWNERS = (
    Owner(
        "flannel",
        r"flannel(\.\d+|-v6\.\d+|\.ipip|-wg|-wg-v6|\d)",
        frozenset({"flannel"}),
        r"FLANNEL-[A-Z]+",
        ("/run/flannel", "/var/lib/cni/flannel"),
        frozenset({"flanneld"}),
    ),
    Owner("cni-bridge", r"cni0|cbr0", frozenset({"bridge"}), r"CNI-[0-9a-f]{24}"),
    Owner("docker", r"docker0", chains=r"DOCKER(-ISOLATION-STAGE-[12])?", programs=frozenset({"dockerd"})),
    Owner(
        "weave",
        r"weave|datapath|vxlan-6784|vethwe-\w+",
        frozenset({"weave-net"}),
        r"WEAVE(-[A-Z-]+)?",
        programs=frozenset({"weaver"}),
    ),
    Owner(
        "cilium",
        r"cilium_(host|net|vxlan|geneve)",
        frozenset({"cilium-cni"}),
        r"(OLD_)?CILIUM_\w+",
        programs=frozenset({"cilium-agent"}),
    ),
)


@dataclass(frozen=True)
class Traces:
    """What a node shows: `ip`'s JSON, `iptables-save`'s text, conflists by path, folders, programs, flannel's file."""

    links: Sequence[Mapping[str, Any]] = ()
    routes: Sequence[Mapping[str, Any]] = ()
    rules: Sequence[Mapping[str, Any]] = ()
    tables: str = ""
    conflists: Mapping[str, Any] = field(default_factory=dict)
    folders: frozenset[str] = frozenset()
    programs: frozenset[str] = frozenset()
    subnet_env: str = ""


@dataclass(frozen=True)
class Leftover:
    """One thing, whose it was, and how it goes: a line of `ip`, lines of one iptables table, or a path.

    `kept` says why it must stay for now; empty: it can go.
    """

    owner: str
    what: str
    how: str
    lines: tuple[str, ...]
    kept: str = ""


def leftovers(seen: Traces) -> tuple[Leftover, ...]:
    """All that others left, in the order in which it goes: rules, routes, devices, files."""
    running = {owner.name: ", ".join(sorted(owner.programs & seen.programs)) for owner in OWNERS}
    busy = dict(_ports(seen))
    found = [
        *_chains(seen, busy),
        *_rules(seen),
        *_routes(seen),
        *_devices(seen, busy),
        *_files(seen),
    ]
    return tuple(
        Leftover(one.owner, one.what, one.how, one.lines, f"{running[one.owner]} still runs: stop it first")
        if running.get(one.owner)
        else one
        for one in found
    )


def owner_of_device(name: str) -> str:
    """Whose device has such a name; empty if nobody's here."""
    return next((owner.name for owner in OWNERS if re.fullmatch(owner.devices, name)), "")


def _ports(seen: Traces) -> Iterator[tuple[str, str]]:
    """Owners whose bridge still carries somebody."""
    for link in seen.links:
        owner = owner_of_device(str(link.get("ifname")))
        ports = [other["ifname"] for other in seen.links if other.get("master") == link.get("ifname")]
        if owner and ports:
            yield owner, f"in use by {', '.join(sorted(ports))}"


def _devices(seen: Traces, busy: Mapping[str, str]) -> Iterator[Leftover]:
    for link in seen.links:
        name = str(link.get("ifname"))
        if owner := owner_of_device(name):
            has_ports = any(other.get("master") == name for other in seen.links)
            yield Leftover(owner, f"device {name}", IP, (f"link del {name}",), busy[owner] if has_ports else "")


def _chains(seen: Traces, busy: Mapping[str, str]) -> Iterator[Leftover]:
    """Chains with an owner's names, after the rules that lead into them."""
    table = ""
    chains: dict[tuple[str, str], list[str]] = {}
    jumps: dict[tuple[str, str], list[str]] = {}
    for line in seen.tables.splitlines():
        if line.startswith("*"):
            table = line[1:].strip()
        elif line.startswith(":"):
            chain = line[1:].split()[0]
            if owner := _owner_of_chain(chain):
                chains.setdefault((owner, table), []).append(chain)
        elif line.startswith("-A "):
            words = shlex.split(line)
            target = words[words.index("-j") + 1] if "-j" in words[:-1] else ""
            if (owner := _owner_of_chain(target)) and not _owner_of_chain(words[1]):
                jumps.setdefault((owner, table), []).append(f"-D{line[2:]}")
    for (owner, where), names in chains.items():
        lines = (*jumps.get((owner, where), ()), *(f"-F {name}" for name in names), *(f"-X {name}" for name in names))
        yield Leftover(
            owner,
            f"iptables {where}: {', '.join(names)}",
            IPTABLES,
            (f"*{where}", *lines, "COMMIT"),
            busy.get(owner, "") if owner == "cni-bridge" else "",
        )


def _owner_of_chain(name: str) -> str:
    return next((owner.name for owner in OWNERS if re.fullmatch(owner.chains, name)), "")


def _networks(seen: Traces) -> Iterator[tuple[IPv4Network, str]]:
    """Ranges that another CNI gave its pods addresses from, with its name."""
    for text in re.findall(r"^FLANNEL_NETWORK=(\S+)$", seen.subnet_env, re.MULTILINE):
        yield from _network(text, "flannel")
    for conflist in seen.conflists.values():
        if owner := owner_of_conflist(conflist):
            for text in _subnets(conflist):
                yield from _network(text, owner)
    for link in seen.links:
        if owner := owner_of_device(str(link.get("ifname"))):
            for address in link.get("addr_info", ()):
                if address.get("family") == "inet" and address.get("prefixlen", 32) < 32:
                    yield from _network(f"{address['local']}/{address['prefixlen']}", owner)


def _network(text: str, owner: str) -> Iterator[tuple[IPv4Network, str]]:
    try:
        network = IPv4Interface(text).network
    except ValueError:
        return
    if network.prefixlen >= _SHORTEST:
        yield network, owner


def _subnets(value: Any) -> Iterator[str]:
    """Every `subnet` in a CNI configuration, wherever IPAM plugins put them."""
    if isinstance(value, Mapping):
        for name, child in value.items():
            if name == "subnet" and isinstance(child, str):
                yield child
            else:
                yield from _subnets(child)
    elif isinstance(value, list):
        for child in value:
            yield from _subnets(child)


def _inside(text: object, networks: Sequence[tuple[IPv4Network, str]]) -> str:
    """Whose range a prefix lies in; empty if in nobody's."""
    try:
        prefix = IPv4Network(str(text))
    except ValueError:
        return ""
    return next((owner for network, owner in networks if prefix.subnet_of(network)), "")


def _routes(seen: Traces) -> Iterator[Leftover]:
    """Routes into another CNI's ranges that would outlive its devices."""
    networks = tuple(_networks(seen))
    for route in seen.routes:
        device, protocol = str(route.get("dev", "")), str(route.get("protocol", ""))
        owner = _inside(route.get("dst"), networks)
        if not owner or protocol in _OUR_PROTOCOLS or _OUR_DEVICES.fullmatch(device) or owner_of_device(device):
            continue
        words = [str(route["dst"])]
        if route.get("type"):
            words.insert(0, str(route["type"]))
        words += [f"via {route['gateway']}"] if route.get("gateway") else []
        words += [f"dev {device}"] if device and not route.get("type") else []
        words += [f"proto {protocol}"] if protocol else []
        words += [f"metric {route['metric']}"] if route.get("metric") else []
        yield Leftover(owner, f"route {' '.join(words)}", IP, (f"route del {' '.join(words)}",))


def _rules(seen: Traces) -> Iterator[Leftover]:
    networks = tuple(_networks(seen))
    for rule in seen.rules:
        ends = {"from": _end(rule, "src"), "to": _end(rule, "dst")}
        owner = next((whose for text in ends.values() if text and (whose := _inside(text, networks))), "")
        if owner:
            words = [f"{name} {text}" for name, text in ends.items() if text]
            line = f"priority {rule['priority']} {' '.join(words)} lookup {rule.get('table', 'main')}"
            yield Leftover(owner, f"rule {line}", IP, (f"rule del {line}",))


def _end(rule: Mapping[str, Any], name: str) -> str:
    """One end of a policy rule as a prefix; empty for `all`."""
    text = rule.get(name, "all")
    return "" if text == "all" else f"{text}/{rule.get(f'{name}len', 32)}"


def owner_of_conflist(conflist: Any) -> str:
    """Whose CNI configuration this is; empty for ours, for loopback, and for a bridge that is not a cluster's own."""
    if not isinstance(conflist, Mapping):
        return ""
    plugins = conflist.get("plugins", [conflist])
    first = plugins[0] if isinstance(plugins, list) and plugins and isinstance(plugins[0], Mapping) else {}
    kind = first.get("type")
    if kind == "bridge" and not re.fullmatch(OWNERS[1].devices, str(first.get("bridge", _BRIDGE_DEFAULT))):
        return ""
    return next((owner.name for owner in OWNERS if isinstance(kind, str) and kind in owner.types), "")


def _files(seen: Traces) -> Iterator[Leftover]:
    for path, conflist in sorted(seen.conflists.items()):
        if owner := owner_of_conflist(conflist):
            yield Leftover(owner, f"file {path}", FILE, (path,))
            store = f"/var/lib/cni/networks/{conflist.get('name')}"
            if store in seen.folders:
                yield Leftover(owner, f"folder {store}", FILE, (store,))
    for whose in OWNERS:
        yield from (
            Leftover(whose.name, f"folder {path}", FILE, (path,)) for path in whose.folders if path in seen.folders
        )
