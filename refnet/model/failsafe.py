"""Failsafe ports: what no policy about a node's own interfaces can close."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from refnet.model.address import read_network
from refnet.model.reading import Reader
from refnet.model.rule import Network

PROTOCOLS = ("tcp", "udp", "sctp")


@dataclass(frozen=True)
class FailsafePort:
    """A port that stays open, to or from a network only where one is given."""

    protocol: str
    port: int
    net: Network | None = None


def _ports(*pairs: tuple[str, int]) -> tuple[FailsafePort, ...]:
    return tuple(FailsafePort(protocol, port) for protocol, port in pairs)


# In: ssh, DHCP, BGP, etcd, Typha, Kubernetes' API. Out: DNS, DHCP and the same. [calico 7.6]
_BOTH_WAYS = (("tcp", 179), ("tcp", 2379), ("tcp", 2380), ("tcp", 5473), ("tcp", 6443), ("tcp", 6666), ("tcp", 6667))
INBOUND = _ports(("tcp", 22), ("udp", 68), *_BOTH_WAYS)
OUTBOUND = _ports(("udp", 53), ("udp", 67), *_BOTH_WAYS)


def read_failsafe(reader: Reader, name: str) -> tuple[FailsafePort, ...] | None:
    """The list at a field; None if it is not there, an empty one closes them all."""
    if not reader.has(name):
        return None
    found = []
    for item in reader.mappings(name):
        net = item.text("net")
        try:
            read = read_network(net, strict=False) if net else None
        except ValueError:
            item.wrong("net", "a network such as 10.0.0.0/8")
            read = None
        if not item.has("port"):
            item.wrong("port", "a whole number, 0 to 65535")
        protocol = item.text("protocol", "tcp").lower()
        if protocol not in PROTOCOLS:
            item.wrong("protocol", ", ".join(PROTOCOLS))
        found.append(FailsafePort(protocol, item.integer("port", 0, 0, 65535), read))
    return tuple(found)


def of_variable(text: str) -> object:
    """What would stand in the field, from the variable's `tcp:22,udp:10.0.0.0/8:53,80`; `none` is an empty list."""
    if text.lower() == "none":
        return []
    return [_item(part.strip()) for part in text.split(",")]


def _item(text: str) -> dict[str, Any]:
    protocol, _, rest = text.partition(":") if ":" in text else ("tcp", "", text)
    net, _, port = rest.rpartition(":")
    item: dict[str, Any] = {"protocol": protocol, "port": int(port) if port.isdecimal() and len(port) < 9 else port}
    return item | ({"net": net} if net else {})


def written(ports: Iterable[FailsafePort]) -> list[dict[str, Any]]:
    """The same as a person writes them."""
    return [
        {"protocol": port.protocol, "port": port.port, **({"net": str(port.net)} if port.net else {})} for port in ports
    ]
