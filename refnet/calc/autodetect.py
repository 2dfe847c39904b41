"""Which of a host's addresses is the node's: Calico's IP_AUTODETECTION_METHOD, over what the kernel shows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_network

from refnet.calc.changes import Link
from refnet.model.address import IPAddress, IPInterface, IPNetwork

FIRST_FOUND, CAN_REACH, INTERFACE, SKIP_INTERFACE, CIDR = METHODS = (
    "first-found",
    "can-reach",
    "interface",
    "skip-interface",
    "cidr",
)
LEGAL = "first-found, can-reach=ADDRESS or NAME, interface=REGEX,…, skip-interface=REGEX,…, cidr=NETWORK,…"
# Calico's list (node/pkg/lifecycle/startup/autodetection): what other programs make on a host is no uplink.
EXCLUDED = (
    "^docker.*", "^cbr.*", "^dummy.*", "^podman.*", "^virbr.*", "^lxcbr.*", "^veth.*", "^lo", "^br-.*", "^cali.*",
    "^tunl.*", "^flannel.*", "^kube-ipvs.*", "^cni.*", r"^vxlan\.calico.*", r"^vxlan-v6\.calico.*",
    r"^wireguard\.cali.*", r"^wg-v6\.cali.*", "^nodelocaldns.*",
)  # fmt: skip
_BROADCAST = IPv4Address("255.255.255.255")
_MAX_PATTERN = 200


@dataclass(frozen=True)
class Method:
    """How an address is found. `words` are what followed the equals sign: regular expressions, networks, a target."""

    kind: str = FIRST_FOUND
    words: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind}={','.join(self.words)}" if self.words else self.kind


def parse_method(text: str) -> Method:
    """Read IP_AUTODETECTION_METHOD; empty means first-found. Raises ValueError with what is legal."""
    kind, equals, rest = text.strip().partition("=")
    words = tuple(word for part in rest.split(",") if (word := part.strip()))
    if text.strip() == "kubernetes-internal-ip":
        raise ValueError("another method: this one asks the Kubernetes datastore, which is not supported")
    if text.strip() in ("", FIRST_FOUND):
        return Method()
    is_legal = bool(equals) and kind in METHODS[1:] and bool(words)
    if is_legal and kind in (INTERFACE, SKIP_INTERFACE):
        is_legal = all(map(_is_pattern, words))
    if is_legal and kind == CIDR:
        is_legal = all(map(_is_network, words))
    if is_legal and kind == CAN_REACH:
        is_legal = (
            len(words) == 1 and re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?", words[0]) is not None
        )
    if not is_legal:
        raise ValueError(LEGAL)
    return Method(kind, words)


def detect(
    method: Method, links: Iterable[Link], reached_from: IPAddress | None = None, version: int = 4
) -> IPInterface | None:
    """The address of that family that the method finds; None if there is none.

    `reached_from`: for can-reach the address that the kernel would send from.
    The device made last comes first, as in Calico.
    """
    for link in sorted(links, key=lambda link: -link.index):
        interfaces: tuple[IPInterface, ...] = link.addresses if version == 4 else link.addresses6
        for interface in interfaces:
            if _is_global(interface.ip) and _matches(method, link.name, interface.ip, reached_from):
                return interface
    return None


def _matches(method: Method, device: str, address: IPAddress, reached_from: IPAddress | None) -> bool:
    match method.kind:
        case "can-reach":
            return address == reached_from
        case "interface":
            return _any(method.words, device)
        case "skip-interface":
            return not _any((*EXCLUDED, *method.words), device)
        case "cidr":
            return any(address in network for network in _networks(method))
    return not _any(EXCLUDED, device)


def _networks(method: Method) -> Iterator[IPNetwork]:
    return (ip_network(word, strict=False) for word in method.words)


def _any(patterns: Iterable[str], device: str) -> bool:
    """Whether one of them occurs in the name: they are not anchored, `eth` also fits veth0."""
    return any(re.search(pattern, device) for pattern in patterns)


def _is_global(address: IPAddress) -> bool:
    """Go's IsGlobalUnicast: private ones are."""
    is_special = address.is_loopback or address.is_multicast or address.is_link_local or address.is_unspecified
    return not is_special and address != _BROADCAST


def _is_pattern(word: str) -> bool:
    try:
        re.compile(word)
    except (re.error, RecursionError, OverflowError):
        return False
    return len(word) <= _MAX_PATTERN


def _is_network(word: str) -> bool:
    try:
        ip_network(word, strict=False)
    except ValueError:
        return False
    return "/" in word and "%" not in word
