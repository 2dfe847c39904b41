"""BGP: who besides the mesh a node talks to, and the settings of the cluster's or one node's speaker."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from refnet.model.address import IPAddress, IPNetwork
from refnet.model.reading import API_VERSION, NAME_PATTERN, Metadata, Reader
from refnet.model.selector import Selector

DEFAULT_AS = 64512
BGP_PORT = 179
MAX_TIME_S = 4095  # what fits into the restart time of RFC 4724
# What Kubernetes allows as the name of a Secret's entry; `..` is no file of the agent's.
SECRET_KEY_PATTERN = r"(?!\.\.?$)[-._a-zA-Z0-9]{1,253}"
DEVICE_PATTERN = r"[a-zA-Z0-9_.:*?-]{1,15}"
NODE_PREFIX = "node."
NEXT_HOP_MODES = ("Auto", "Self", "Keep")


@dataclass(frozen=True, order=True)
class SecretKey:
    """Where a password stands: entry `key` of the Secret `name`, a file NAME/KEY on the node."""

    name: str
    key: str

    def to_value(self) -> dict[str, Any]:
        return {"secretKeyRef": {"name": self.name, "key": self.key}}


PASSWORD_FIELDS = {"secretKeyRef": dict.fromkeys(["name", "key"])}


def read_password(spec: Reader, field: str) -> SecretKey | None:
    """The reference below `field`, where there is one."""
    if not spec.has(field):
        return None
    reference = spec.child(field).child("secretKeyRef", required=True)
    name = reference.text("name", required=True, pattern=NAME_PATTERN, legal="the name of a Secret")
    legal = "the key of an entry of that Secret: letters, digits, - _ ."
    return SecretKey(name, reference.text("key", required=True, pattern=SECRET_KEY_PATTERN, legal=legal))


@dataclass(frozen=True)
class BGPPeer:
    """A session, or with `peer_selector` many, that `node`, those of `node_selector` or all nodes shall have."""

    KIND = "BGPPeer"
    KNOWN: ClassVar[dict[str, Any]] = {
        **dict.fromkeys(
            ["node", "nodeSelector", "peerIP", "peerSelector", "asNumber", "localASNumber", "filters", "nextHopMode"]
        ),
        **dict.fromkeys(["keepOriginalNextHop", "sourceAddress", "maxRestartTime", "keepaliveTime", "ttlSecurity"]),
        **dict.fromkeys(["numAllowedLocalASNumbers", "reachableBy", "reversePeering"]),
        "password": PASSWORD_FIELDS,
    }

    name: str
    peer_ip: IPAddress | None = None
    as_number: int | None = None
    node: str = ""
    port: int | None = None
    node_selector: Selector | None = None
    peer_selector: Selector | None = None
    filters: tuple[str, ...] = ()
    password: SecretKey | None = None
    next_hop_mode: str = "Auto"
    source_address: str = "UseNodeIP"
    local_as_number: int | None = None
    max_restart_time_s: int | None = None
    keepalive_time_s: int | None = None
    allowed_local_as: int | None = None
    ttl_security: int | None = None
    reachable_by: IPAddress | None = None
    is_reversed: bool = True

    @classmethod
    def from_resource(cls, resource: object) -> BGPPeer:
        """Raises InvalidResource with every mistake. Source of the rules: Calico's BGPPeer reference."""
        frame = Metadata(resource, cls.KIND)
        spec = frame.spec
        _refuse_contradictions(spec)
        peer_ip, port = _address_and_port(spec)
        reachable_by = spec.address6("reachableBy") if _is_six(spec, "reachableBy") else spec.address("reachableBy")
        if peer_ip and reachable_by and peer_ip.version != reachable_by.version:
            spec.wrong("reachableBy", f"an IPv{peer_ip.version} address", f"it is the way to {peer_ip}")
        as_number = spec.as_number("asNumber", required=spec.has("peerIP") or not spec.has("peerSelector"))
        next_hop = spec.choice("nextHopMode", NEXT_HOP_MODES, "Auto")
        peer = cls(
            name=frame.name,
            peer_ip=peer_ip,
            port=port,
            as_number=as_number,
            node=spec.text("node", pattern=NAME_PATTERN, legal="the name of a node; leave it out for all nodes"),
            node_selector=_selector(spec, "nodeSelector"),
            peer_selector=_selector(spec, "peerSelector"),
            filters=spec.texts("filters"),
            password=read_password(spec, "password"),
            next_hop_mode="Keep" if spec.flag("keepOriginalNextHop", False) else next_hop,
            source_address=spec.choice("sourceAddress", ("UseNodeIP", "None"), "UseNodeIP"),
            local_as_number=spec.as_number("localASNumber"),
            max_restart_time_s=seconds(spec, "maxRestartTime"),
            keepalive_time_s=seconds(spec, "keepaliveTime"),
            allowed_local_as=_whole(spec, "numAllowedLocalASNumbers", 0, 20),
            ttl_security=_whole(spec, "ttlSecurity", 1, 255),
            reachable_by=reachable_by,
            is_reversed=spec.choice("reversePeering", ("Auto", "Manual"), "Auto") == "Auto",
        )
        frame.finish()
        return peer

    def to_resource(self) -> dict[str, Any]:
        """What was understood; what has its default is left out, for Calico keeps BGPPeers that way."""
        is_six = self.port and self.peer_ip and self.peer_ip.version == 6
        port, shown = f":{self.port}" if self.port else "", f"[{self.peer_ip}]" if is_six else str(self.peer_ip)
        spec: dict[str, Any] = {
            "node": self.node,
            "nodeSelector": self.node_selector and self.node_selector.text,
            "peerIP": self.peer_ip and f"{shown}{port}",
            "peerSelector": self.peer_selector and self.peer_selector.text,
            "asNumber": self.as_number,
            "localASNumber": self.local_as_number,
            "filters": list(self.filters),
            "password": self.password and self.password.to_value(),
        }
        spec = {field: value for field, value in spec.items() if value}
        return {"apiVersion": API_VERSION, "kind": self.KIND, "metadata": {"name": self.name}, "spec": spec}


def _selector(spec: Reader, field: str) -> Selector | None:
    """None where there is none: no selector is not the same as one of everything."""
    return spec.selector(field) if spec.fields.get(field) else None


def _refuse_contradictions(spec: Reader) -> None:
    for one, other in (("node", "nodeSelector"), ("peerIP", "peerSelector"), ("keepOriginalNextHop", "nextHopMode")):
        if spec.fields.get(one) and spec.fields.get(other):
            spec.wrong(other, "leave it out", f"{one} and {other} exclude each other")
    if spec.has("peerSelector") and spec.fields.get("asNumber"):
        spec.wrong("asNumber", "leave it out", "with peerSelector every peer's own AS number counts")
    if spec.has("reachableBy") and not spec.has("peerIP"):
        spec.wrong("reachableBy", "leave it out, or give a peerIP", "it is the way to one peer")
    if spec.fields.get("localWorkloadSelector"):
        spec.wrong("localWorkloadSelector", "leave it out", "it is not supported yet")
    if not spec.has("peerIP") and not spec.has("peerSelector"):
        spec.wrong("peerIP", "the peer's IPv4 address, 10.0.0.1 or 10.0.0.1:1790", "or a peerSelector")


def _is_six(spec: Reader, field: str) -> bool:
    """Whether what stands there is meant as an IPv6 address."""
    given = spec.fields.get(field)
    return isinstance(given, str) and given.count(":") > 1


def _address_and_port(spec: Reader) -> tuple[IPAddress | None, int | None]:
    """The peer's address; behind a colon its port, and then an IPv6 address stands in brackets."""
    given = spec.fields.get("peerIP")
    parted = re.fullmatch(r"([\d.]+|\[[0-9a-fA-F:.]+\]):(\d{1,5})", given) if isinstance(given, str) else None
    if not parted:
        return spec.address6("peerIP") if _is_six(spec, "peerIP") else spec.address("peerIP"), None
    port = int(parted[2])
    if not 1 <= port <= 65535:
        spec.wrong("peerIP", "an IPv4 address and a port, 10.0.0.1:1790", "ports go from 1 to 65535")
    alone = Reader({"peerIP": parted[1].strip("[]")}, spec.path, spec.mistakes)
    return alone.address6("peerIP") if _is_six(alone, "peerIP") else alone.address("peerIP"), port


def _whole(spec: Reader, field: str, lowest: int, highest: int) -> int | None:
    return spec.integer(field, lowest, lowest, highest) if spec.has(field) else None


@dataclass(frozen=True)
class Advertised:
    """Communities that go with routes below `cidr`: (AS, value) or, for a large one, three numbers."""

    cidr: IPNetwork
    communities: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class BGPConfiguration:
    """BGP settings of the cluster (`default`), or what one node has for itself (`node.NAME`; None: nothing)."""

    KIND = "BGPConfiguration"
    KNOWN: ClassVar[dict[str, Any]] = {
        **dict.fromkeys(["logSeverityScreen", "nodeToNodeMeshEnabled", "asNumber", "listenPort", "bindMode"]),
        **dict.fromkeys(["nodeMeshMaxRestartTime", "ignoredInterfaces"]),
        "nodeMeshPassword": PASSWORD_FIELDS,
        "communities": dict.fromkeys(["name", "value"]),
        "prefixAdvertisements": dict.fromkeys(["cidr", "communities"]),
    }

    name: str = "default"
    node_to_node_mesh_enabled: bool = True
    as_number: int = DEFAULT_AS
    listen_port: int | None = None
    bind_mode: str | None = None
    mesh_password: SecretKey | None = None
    mesh_max_restart_time_s: int | None = None
    ignored_interfaces: tuple[str, ...] | None = None
    advertised: tuple[Advertised, ...] | None = None

    @property
    def node(self) -> str:
        """The one node it is about; empty for the cluster's."""
        return self.name.removeprefix(NODE_PREFIX) if self.name.startswith(NODE_PREFIX) else ""

    def but(self, own: BGPConfiguration | None) -> BGPConfiguration:
        """These settings with those that one node has for itself."""
        fields = ("listen_port", "bind_mode", "ignored_interfaces", "advertised")
        return replace(self, **{f: value for f in fields if own and (value := getattr(own, f)) is not None})

    @classmethod
    def from_resource(cls, resource: object) -> BGPConfiguration:
        """Raises InvalidResource with every mistake. Source of the rules: Calico's BGPConfiguration reference."""
        frame = Metadata(resource, cls.KIND)
        spec = frame.spec
        is_one_nodes = frame.name.startswith(NODE_PREFIX) and frame.name != NODE_PREFIX
        if frame.name and frame.name != "default" and not is_one_nodes:
            frame.top.child("metadata").wrong("name", "default, or node. and a node's name")
        is_mesh = spec.flag("nodeToNodeMeshEnabled", True)
        for field in ("nodeToNodeMeshEnabled", "asNumber", "nodeMeshPassword", "nodeMeshMaxRestartTime"):
            if is_one_nodes and spec.has(field):
                spec.wrong(field, "leave it out", "it counts for the whole cluster: set it in default")
            elif field.startswith("nodeMesh") and spec.has(field) and not is_mesh:
                spec.wrong(field, "leave it out", "there is no mesh: nodeToNodeMeshEnabled is false")
        configuration = cls(
            name=frame.name,
            node_to_node_mesh_enabled=is_mesh,
            as_number=spec.as_number("asNumber") or DEFAULT_AS,
            listen_port=_whole(spec, "listenPort", 1, 65535),
            bind_mode=spec.choice("bindMode", ("None", "NodeIP"), "None") if spec.has("bindMode") else None,
            mesh_password=read_password(spec, "nodeMeshPassword"),
            mesh_max_restart_time_s=seconds(spec, "nodeMeshMaxRestartTime"),
            ignored_interfaces=_devices(spec, "ignoredInterfaces"),
            advertised=_advertised(spec),
        )
        frame.finish()
        return configuration

    def to_resource(self) -> dict[str, Any]:
        spec: dict[str, Any] = {}
        if not self.node:
            spec = {"nodeToNodeMeshEnabled": self.node_to_node_mesh_enabled, "asNumber": self.as_number}
        if self.listen_port:
            spec["listenPort"] = self.listen_port
        return {"apiVersion": API_VERSION, "kind": self.KIND, "metadata": {"name": self.name}, "spec": spec}


def _devices(spec: Reader, field: str) -> tuple[str, ...] | None:
    names = spec.texts(field) if spec.has(field) else None
    if names and not all(re.fullmatch(DEVICE_PATTERN, name) for name in names):
        spec.wrong(field, "a list of device names, * and ? allowed")
    return names


def _advertised(spec: Reader) -> tuple[Advertised, ...] | None:
    """The communities of every prefix, written out: prefixAdvertisements may call them by name."""
    named: dict[str, tuple[int, ...]] = {}
    for one in spec.mappings("communities"):
        name = one.text("name", required=True)
        if value := _community(one.fields.get("value")):
            named[name] = value
        else:
            one.wrong("value", _COMMUNITY_FORM)
    if not spec.has("prefixAdvertisements"):
        return None
    found = []
    for one in spec.mappings("prefixAdvertisements"):
        cidr, words = one.network("cidr"), one.texts("communities")
        values = [named.get(word) or _community(word) for word in words]
        if None in values:
            one.wrong("communities", f"names of spec.communities, or {_COMMUNITY_FORM}")
        if cidr:
            found.append(Advertised(cidr, tuple(value for value in values if value)))
    return tuple(found)


_COMMUNITY_FORM = "AS:VALUE with numbers up to 65535, or three numbers up to 4294967295"


def _community(value: object) -> tuple[int, ...] | None:
    """65001:100 (RFC 1997) or 4200000000:1:2 (RFC 8092)."""
    if not isinstance(value, str) or not re.fullmatch(r"\d{1,10}:\d{1,10}(:\d{1,10})?", value):
        return None
    numbers = tuple(int(number) for number in value.split(":"))
    highest = 0xFFFF if len(numbers) == 2 else 0xFFFFFFFF
    return numbers if max(numbers) <= highest else None


def seconds(spec: Reader, field: str) -> int | None:
    """A length of time as Go writes it, 90s or 1m30s, in whole seconds."""
    if not spec.has(field):
        return None
    given = spec.fields[field]
    parts = re.fullmatch(r"(?:(\d{1,4})h)?(?:(\d{1,5})m)?(?:(\d{1,6})s)?", given) if isinstance(given, str) else None
    total = sum(int(part or 0) * unit for part, unit in zip(parts.groups(), (3600, 60, 1), strict=True)) if parts else 0
    if not 1 <= total <= MAX_TIME_S:
        spec.wrong(field, f"a length of time in whole seconds, 1s to {MAX_TIME_S}s, such as 90s or 2m")
        return None
    return total
