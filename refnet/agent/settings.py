"""What the agent is told by its environment."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface

from refnet.calc.network import BACKENDS
from refnet.errors import InvalidResource, Mistake
from refnet.model.reading import MAX_AS, NAME_PATTERN

AUTODETECT = "autodetect"
LEVELS = ("debug", "info", "warning", "error")
_ENDPOINT = r"https?://[^/\s:]+(:\d+)?/?"


@dataclass(frozen=True)
class Settings:
    """`address` is None for autodetection; with prefix length 32 the device that owns it says which subnet it is in."""

    node: str
    endpoints: tuple[str, ...]
    address: IPv4Interface | None = None
    backend: str = "bird"
    as_number: int | None = None
    log_level: str = "info"


def read_settings(environment: Mapping[str, str]) -> Settings:
    """The settings in Calico's variables. Raises InvalidResource with every mistake."""
    mistakes: list[Mistake] = []

    def value(name: str, default: str, pattern: str, legal: str) -> str:
        given = environment.get(name, "").strip() or default
        if not re.fullmatch(pattern, given):
            mistakes.append(Mistake(name, given or "missing", legal))
        return given

    node = value("NODENAME", socket.gethostname().lower(), NAME_PATTERN, "a DNS name in lower case")
    endpoints = value(
        "ETCD_ENDPOINTS", "", rf"{_ENDPOINT}(\s*,\s*{_ENDPOINT})*", "URLs of etcd with commas, http://10.0.0.250:2379"
    )
    backend = value("CALICO_NETWORKING_BACKEND", "bird", "|".join(BACKENDS), ", ".join(BACKENDS))
    level = value("FELIX_LOGSEVERITYSCREEN", "info", rf"(?i:{'|'.join(LEVELS)})", ", ".join(LEVELS)).lower()
    number = value("AS", "0", r"\d{1,10}", f"a whole number, 1 to {MAX_AS}")
    as_number = int(number) if number.isdigit() else 0
    if as_number > MAX_AS:
        mistakes.append(Mistake("AS", number, f"a whole number, 1 to {MAX_AS}"))
    address = _address(environment.get("IP", "").strip() or AUTODETECT, mistakes)
    if mistakes:
        raise InvalidResource("environment", mistakes)
    return Settings(
        node=node,
        endpoints=tuple(endpoint.strip().rstrip("/") for endpoint in endpoints.split(",")),
        address=address,
        backend=backend,
        as_number=as_number or None,
        log_level=level,
    )


def _address(given: str, mistakes: list[Mistake]) -> IPv4Interface | None:
    if given == AUTODETECT:
        return None
    try:
        address = IPv4Interface(given)
        if not (address.ip.is_loopback or address.ip.is_multicast or address.ip == IPv4Address(0)):
            return address
    except ValueError:
        pass
    mistakes.append(Mistake("IP", given, "an address with its prefix length, 10.0.0.1/24, or autodetect"))
    return None
