"""Which tunnel addresses a node must take from IPAM, keep or give back; a pure decision on the present world."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from refnet.calc.network import tunnel_pools
from refnet.calc.wanted import IPIP_DEVICE, VXLAN6_DEVICE, VXLAN_DEVICE
from refnet.calc.world import World
from refnet.model.address import IPAddress
from refnet.model.node import Node

# What handles call the device, and what attributes do.
_WORDS = {IPIP_DEVICE: ("ipip", "ipip"), VXLAN_DEVICE: ("vxlan", "vxlan"), VXLAN6_DEVICE: ("vxlan-v6", "vxlanV6")}


@dataclass(frozen=True)
class AddressTask:
    """A tunnel device's address is not right: take one from these pools (names); give it back if there are none."""

    device: str
    handle: str
    attributes: tuple[tuple[str, str], ...]
    pools: tuple[str, ...]
    version: int = 4


def address_tasks(world: World, own: Node) -> list[AddressTask]:
    """What is to be done about tunnel addresses; nothing when all is as it should be.

    Takes come before what is given back, so that at each moment the Node object says how the node can be reached.
    An address is right when an enabled pool of the device's mode contains it and it is allocated to this node's handle.
    Source: Calico's tunnel address allocator (node/pkg/allocateip).
    """
    return sorted(_tasks(world, own), key=lambda task: not task.pools)


def _tasks(world: World, own: Node) -> Iterator[AddressTask]:
    current = {
        IPIP_DEVICE: own.ipip_tunnel_address,
        VXLAN_DEVICE: own.vxlan_tunnel_address,
        VXLAN6_DEVICE: own.vxlan6_tunnel_address,
    }
    for device, pools in tunnel_pools(world).items():
        word, attribute = _WORDS[device]
        handle = f"{word}-tunnel-addr-{own.name}"
        # A node without IPv6 has nobody to tunnel to.
        has_family = device != VXLAN6_DEVICE or own.address6 is not None
        eligible = [pool for pool in pools if has_family and pool.gives("Tunnel") and pool.selects(own.labels)]
        held = set(_held(world, handle))
        address = current[device]
        if eligible and address in held and any(address in pool.cidr for pool in eligible):
            continue
        if not eligible and not held and address is None:
            continue
        attributes = (("type", f"{attribute}TunnelAddress"), ("node", own.name))
        version = 6 if device == VXLAN6_DEVICE else 4
        yield AddressTask(device, handle, attributes, tuple(pool.name for pool in eligible), version)


def _held(world: World, handle: str) -> Iterator[IPAddress]:
    for block in world.blocks.values():
        yield from block.addresses_of(handle)
