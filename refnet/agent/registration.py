"""Telling the cluster who we are: our Node object, and the tunnel addresses that others route to."""

from __future__ import annotations

import contextlib
import copy
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from refnet.calc.default_pool import DefaultPool
from refnet.calc.tunnel_addresses import AddressTask
from refnet.calc.wanted import IPIP_DEVICE, VXLAN6_DEVICE, VXLAN_DEVICE
from refnet.calc.world import World
from refnet.errors import StoreConflict
from refnet.ipam.allocator import Ipam
from refnet.model.address import IPAddress, IPInterface, IPNetwork
from refnet.model.keys import POOLS, node_key, pool_key
from refnet.model.reading import API_VERSION
from refnet.store.etcd import Etcd

_RETRIES = 10

_TUNNEL_FIELDS = {
    IPIP_DEVICE: "ipv4IPIPTunnelAddr",
    VXLAN_DEVICE: "ipv4VXLANTunnelAddr",
    VXLAN6_DEVICE: "ipv6VXLANTunnelAddr",
}

Patch = Callable[[dict[str, Any]], None]


def patch_node(store: Etcd, name: str, patch: Patch) -> None:
    """Change our own Node object and nothing of it that others wrote.

    Raises StoreConflict if others keep winning, StoreUnavailable.
    """
    for _ in range(_RETRIES):
        stored = store.get(node_key(name))
        resource = copy.deepcopy(stored.value) if stored and isinstance(stored.value, dict) else {}
        resource |= {"apiVersion": API_VERSION, "kind": "Node"}
        metadata = _mapping(resource, "metadata")
        metadata["name"] = name
        _mapping(resource, "spec")
        patch(resource["spec"])
        if stored and stored.value == resource:
            return
        try:
            if stored:
                store.update(stored.key, resource, stored.revision)
            else:
                store.create(node_key(name), resource)
            return
        except StoreConflict:
            continue
    raise StoreConflict(f"node {name}: lost {_RETRIES} races for its own object")


def make_default_pool(store: Etcd, pool: DefaultPool, subnet: IPNetwork) -> bool:
    """Make the default pool if there is none of its family at all; whether we did. Somebody else may have been quicker.

    Raises StoreUnavailable.
    """
    if any((":" in _cidr(stored.value)) == (pool.version == 6) for stored in store.prefix(POOLS)[0].values()):
        return False
    resource = pool.resource(subnet, secrets.randbits(40))
    with contextlib.suppress(StoreConflict):
        store.create(pool_key(resource["metadata"]["name"]), resource)
        return True
    return False


def _cidr(resource: object) -> str:
    spec = resource.get("spec") if isinstance(resource, Mapping) else None
    return str(spec.get("cidr", "")) if isinstance(spec, Mapping) else ""


def with_address(address: IPInterface, as_number: int | None, address6: IPInterface | None = None) -> Patch:
    """The node is reached at these addresses; None leaves the AS number or the IPv6 address as it is."""

    def patch(spec: dict[str, Any]) -> None:
        bgp = _mapping(spec, "bgp")
        bgp["ipv4Address"] = str(address)
        if as_number:
            bgp["asNumber"] = as_number
        if address6:
            bgp["ipv6Address"] = str(address6)
        own = [{"address": bgp[name], "type": "CalicoNodeIP"} for name in ("ipv4Address", "ipv6Address") if name in bgp]
        others = [a for a in spec.get("addresses") or () if isinstance(a, dict) and a.get("type") != "CalicoNodeIP"]
        spec["addresses"] = [*own, *others]

    return patch


def with_tunnel_address(device: str, address: IPAddress | None) -> Patch:
    """The node's tunnel device has this address; None: it has none."""

    def patch(spec: dict[str, Any]) -> None:
        where = _mapping(spec, "bgp") if device == IPIP_DEVICE else spec
        name = _TUNNEL_FIELDS[device]
        if address:
            where[name] = str(address)
        else:
            where.pop(name, None)

    return patch


def settle(store: Etcd, node: str, world: World, task: AddressTask) -> None:
    """Do one address task: take, adopt or give back, then say so in the Node.

    An address that the handle already holds in an eligible pool is adopted: a crash may have come between taking it and
    saying so. Raises NoAddress, StoreConflict, StoreCorrupt, StoreUnavailable.
    """
    ipam = Ipam(store, node)
    ranges = [pool.cidr for pool in world.pools if pool.name in task.pools]
    held = ipam.addresses_of(task.handle)
    address = next((a for a in held if _lies_in(a, ranges)), None)
    if held and (address is None or len(held) > 1):
        ipam.release_handle(task.handle)
        address = None
    if ranges and address is None:
        address = ipam.auto_assign(
            task.handle, dict(task.attributes), use="Tunnel", pools=task.pools, version=task.version
        )
    patch_node(store, node, with_tunnel_address(task.device, address))


def _lies_in(address: IPAddress, ranges: list[IPNetwork]) -> bool:
    return any(address in cidr for cidr in ranges)


def _mapping(parent: dict[str, Any], name: str) -> dict[str, Any]:
    """The mapping at `name`, made if what stands there is none."""
    if not isinstance(parent.get(name), Mapping):
        parent[name] = {}
    child: dict[str, Any] = parent[name]
    return child
