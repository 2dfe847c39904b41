"""Transport protocols, and the ports of endpoints that have a name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from refnet.model.reading import Reader
from refnet.model.value import value

TYPE_CHECKING = False  # typing costs 3 ms of start-up
if TYPE_CHECKING:
    from typing import Any

ICMP, TCP, UDP, ICMPV6, SCTP, UDPLITE = 1, 6, 17, 58, 132, 136
PROTOCOLS: Mapping[str, int] = {
    "TCP": TCP,
    "UDP": UDP,
    "ICMP": ICMP,
    "ICMPv6": ICMPV6,
    "SCTP": SCTP,
    "UDPLite": UDPLITE,
}
WITH_PORTS = (TCP, UDP, SCTP, UDPLITE)
PORT_NAME = r"[a-zA-Z0-9_.-]{1,128}"


@value
class NamedPort:
    """A port under a name that rules may use; the protocol is a number."""

    name: str
    protocol: int
    port: int


def read_named_ports(spec: Reader) -> tuple[NamedPort, ...]:
    """The `ports` of an endpoint."""
    found = []
    names = [name for name in PROTOCOLS if not name.startswith("ICMP")]
    for reader in spec.mappings("ports"):
        name = reader.text("name", required=True, pattern=PORT_NAME, legal="letters, digits, _ . -")
        protocol = reader.fields.get("protocol", "TCP")
        near = [word for word in names if word.lower() == str(protocol).lower()]
        if not near:
            reader.wrong("protocol", ", ".join(names))
        port = reader.integer("port", 0, 1, 65535)
        if not reader.has("port"):
            reader.wrong("port", "a whole number, 1 to 65535")
        if near and re.fullmatch(PORT_NAME, name) and port:
            found.append(NamedPort(name, PROTOCOLS[near[0]], port))
    return tuple(found)


def written_ports(ports: Iterable[NamedPort]) -> list[dict[str, Any]]:
    """The same as a person writes them."""
    names = {number: name for name, number in PROTOCOLS.items()}
    return [{"name": port.name, "protocol": names[port.protocol], "port": port.port} for port in ports]
