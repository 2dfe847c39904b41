"""Addresses and networks of either family, for code to which the family makes no difference.

Python orders and compares networks of one family alone, and `subnet_of` raises for two: hence `by_family`, `lies_in`.
"""

from __future__ import annotations

from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_network,
)

IPAddress = IPv4Address | IPv6Address
IPInterface = IPv4Interface | IPv6Interface
IPNetwork = IPv4Network | IPv6Network

FAMILIES = (4, 6)
FAMILY_WORDS = {4: "ipv4", 6: "ipv6"}
"""Calico's words, in keys and configurations."""


def read_address(text: str) -> IPAddress:
    """Raises ValueError. A zone (`fe80::1%eth0`) is refused: it may be any text at all, and others print it."""
    _refuse_zone(text)
    return ip_address(text)


def read_network(text: str, *, strict: bool = True) -> IPNetwork:
    """A network, without host bits unless `strict` is False: then they are cut off. Raises ValueError; zones, too."""
    _refuse_zone(text)
    return ip_network(text, strict=strict)


def _refuse_zone(text: str) -> None:
    if "%" in text:
        raise ValueError("an address with a zone")


def by_family(one: IPAddress | IPNetwork | IPInterface) -> tuple[int, object]:
    """What to sort by: IPv4 first, then by number."""
    return one.version, one


def lies_in(inner: IPNetwork, outer: IPNetwork) -> bool:
    """Whether every address of `inner` is one of `outer`; False across families."""
    return inner.prefixlen >= outer.prefixlen and inner.network_address in outer


def single(address: IPAddress) -> IPNetwork:
    """The network of that one address, a /32 or /128."""
    return slice_of(address, address.max_prefixlen)


def slice_of(address: IPAddress, prefix_length: int) -> IPNetwork:
    """The network of that length that the address lies in."""
    shift = address.max_prefixlen - prefix_length
    first = int(address) >> shift << shift
    return IPv4Network((first, prefix_length)) if address.version == 4 else IPv6Network((first, prefix_length))
