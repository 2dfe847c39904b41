"""Calico's etcd key layout: one function for each kind of key, and the way back from a key to what it means."""

from __future__ import annotations

from refnet.model.address import FAMILY_WORDS, IPNetwork, read_network
from refnet.model.value import value

RESOURCES = "/calico/resources/v3/projectcalico.org/"
BLOCKS = "/calico/ipam/v2/assignment/"
AFFINITIES = "/calico/ipam/v2/host/"
HANDLES = "/calico/ipam/v2/handle/"
IPAM = "/calico/ipam/v2/"
IPAM_CONFIG = "/calico/ipam/v2/config"
FELIX_HOSTS = "/calico/felix/v2/no-region/host/"

POOLS = RESOURCES + "ippools/"
NODES = RESOURCES + "nodes/"
BGP_PEERS = RESOURCES + "bgppeers/"
BGP_FILTERS = RESOURCES + "bgpfilters/"
IP_RESERVATIONS = RESOURCES + "ipreservations/"
BGP_CONFIGURATIONS = RESOURCES + "bgpconfigurations/"
FELIX_CONFIGURATIONS = RESOURCES + "felixconfigurations/"
WORKLOAD_ENDPOINTS = RESOURCES + "workloadendpoints/"

NAMESPACED = frozenset({"workloadendpoints", "networkpolicies", "networksets"})


@value
class ResourceKey:
    """A projectcalico.org/v3 resource; `namespace` is empty for cluster-wide kinds."""

    plural: str
    name: str
    namespace: str = ""


@value
class BlockKey:
    """An IPAM block."""

    cidr: IPNetwork


@value
class AffinityKey:
    """The claim of a node on a block."""

    node: str
    cidr: IPNetwork


@value
class HandleKey:
    """What one owner has been given, under the owner's handle."""

    handle: str


@value
class StatusKey:
    """A node agent's report about itself."""

    node: str


Key = ResourceKey | BlockKey | AffinityKey | HandleKey | StatusKey


def resource_key(plural: str, name: str, namespace: str = "") -> str:
    return f"{RESOURCES}{plural}/{namespace}/{name}" if namespace else f"{RESOURCES}{plural}/{name}"


def pool_key(name: str) -> str:
    return POOLS + name


def ipam_configuration_key(name: str = "default") -> str:
    return f"{RESOURCES}ipamconfigurations/{name}"


def node_key(name: str) -> str:
    return NODES + name


def bgp_peer_key(name: str) -> str:
    return BGP_PEERS + name


def bgp_configuration_key(name: str = "default") -> str:
    return BGP_CONFIGURATIONS + name


def workload_endpoint_key(namespace: str, name: str) -> str:
    return f"{WORKLOAD_ENDPOINTS}{namespace}/{name}"


def block_key(cidr: IPNetwork) -> str:
    return BLOCKS + _family_and_name(cidr)


def affinities_prefix(node: str) -> str:
    return f"{AFFINITIES}{node}/"


def affinity_key(node: str, cidr: IPNetwork) -> str:
    return affinities_prefix(node) + _family_and_name(cidr)


def handle_key(handle: str) -> str:
    return HANDLES + handle


def status_key(node: str) -> str:
    return f"{FELIX_HOSTS}{node}/status"


def parse_key(key: str) -> Key | None:
    """What a key names; None for keys of other programs and anything misshapen."""
    if key.startswith(RESOURCES):
        return _parse_resource(key[len(RESOURCES) :].split("/"))
    if key.startswith(BLOCKS):
        cidr = _read_family_and_name(key[len(BLOCKS) :])
        return BlockKey(cidr) if cidr else None
    if key.startswith(AFFINITIES):
        node, _, block = key[len(AFFINITIES) :].partition("/")
        cidr = _read_family_and_name(block)
        return AffinityKey(node, cidr) if cidr and node else None
    if key.startswith(HANDLES) and len(key) > len(HANDLES):
        return HandleKey(key[len(HANDLES) :])
    if key.startswith(FELIX_HOSTS) and key.endswith("/status"):
        node = key[len(FELIX_HOSTS) : -len("/status")]
        return StatusKey(node) if node and "/" not in node else None
    return None


def _parse_resource(parts: list[str]) -> ResourceKey | None:
    if not all(parts):
        return None
    if len(parts) == 3 and parts[0] in NAMESPACED:
        return ResourceKey(parts[0], parts[2], parts[1])
    return ResourceKey(parts[0], parts[1]) if len(parts) == 2 and parts[0] not in NAMESPACED else None


def _family_and_name(cidr: IPNetwork) -> str:
    """The end of a block's key: `ipv4/block/10.65.0.0-26`, `ipv6/block/fd00::-122`."""
    return f"{FAMILY_WORDS[cidr.version]}/block/{str(cidr).replace('/', '-')}"


def _read_family_and_name(text: str) -> IPNetwork | None:
    """The block; None unless it is written in just that form: two keys must not name one block."""
    address, dash, length = text.rpartition("/")[2].partition("-")
    try:
        cidr = read_network(f"{address}/{length}") if dash else None
    except ValueError:
        return None
    return cidr if cidr and _family_and_name(cidr) == text else None
