"""How large packets may be: the host's MTU, each tunnel's, and what is left for pods."""

from __future__ import annotations

import re
from collections.abc import Iterable

from refnet.calc.changes import Link
from refnet.calc.wanted import (
    IPIP_DEVICE,
    IPIP_OVERHEAD_BYTES,
    VXLAN6_DEVICE,
    VXLAN6_OVERHEAD_BYTES,
    VXLAN_DEVICE,
    VXLAN_OVERHEAD_BYTES,
    Uplink,
)
from refnet.model.felix import FelixConfiguration

# Calico's default for mtuIfacePattern: physical, wireless and virtual network cards by their usual names.
HOST_PATTERN = r"^((en|wl|ww|sl|ib)[Pcopsvx].*|(eth|wlan|wwan).*)"
_OVERHEAD = {
    IPIP_DEVICE: IPIP_OVERHEAD_BYTES,
    VXLAN_DEVICE: VXLAN_OVERHEAD_BYTES,
    VXLAN6_DEVICE: VXLAN6_OVERHEAD_BYTES,
}


def host_mtu_bytes(links: Iterable[Link], uplink: Uplink, felix: FelixConfiguration) -> int:
    """The smallest MTU of the host's network cards that are up; where none fits the pattern, the uplink's."""
    pattern = felix.mtu_pattern or HOST_PATTERN
    return min(
        (link.mtu_bytes for link in links if link.is_up and re.search(pattern, link.name)), default=uplink.mtu_bytes
    )


def tunnel_mtu_bytes(device: str, host_bytes: int, felix: FelixConfiguration) -> int:
    """What the settings say; where they say nothing or 0, the host's MTU less what the encapsulation adds."""
    said = {
        IPIP_DEVICE: felix.ipip_mtu_bytes,
        VXLAN_DEVICE: felix.vxlan_mtu_bytes,
        VXLAN6_DEVICE: felix.vxlan6_mtu_bytes,
    }[device]
    return said or host_bytes - _OVERHEAD[device]


def pod_mtu_bytes(devices: Iterable[str], host_bytes: int, felix: FelixConfiguration) -> int:
    """The largest packet that every enabled encapsulation can carry; without one the host's MTU."""
    return min((tunnel_mtu_bytes(device, host_bytes, felix) for device in devices), default=host_bytes)
