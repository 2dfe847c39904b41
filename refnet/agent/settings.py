"""What the agent is told by its environment."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface
from pathlib import Path

from refnet.agent.secrets import FOLDER
from refnet.agent.telemetry import NO_PORTS, VARIABLES, Ports, read_ports
from refnet.calc.autodetect import Method, parse_method
from refnet.calc.default_pool import DefaultPool, read_default_pool, variables_read
from refnet.calc.network import BACKENDS
from refnet.errors import InvalidResource, Mistake
from refnet.model.address import IPInterface
from refnet.model.felix import FelixConfiguration, unknown_variables
from refnet.model.reading import MAX_AS, NAME_PATTERN, Reader

AUTODETECT, NO_ADDRESS = "autodetect", "none"
LEVELS = ("debug", "info", "warning", "error")
_ENDPOINT = r"https?://[^/\s:]+(:\d+)?/?"
_LOG_LEVEL, _CALICO = "FELIX_LOGSEVERITYSCREEN", "CALICO_"


@dataclass(frozen=True)
class Settings:
    """`address`: given by hand; with prefix length 32 the device that owns it says which subnet it is in.

    Without one, `method` finds it: always (`redetects`), or only while the Node object has none; None: never.
    """

    node: str
    endpoints: tuple[str, ...]
    address: IPInterface | None = None
    backend: str = "bird"
    as_number: int | None = None
    log_level: str = "info"
    method: Method | None = field(default_factory=Method)
    redetects: bool = True
    address6: IPInterface | None = None
    method6: Method | None = None
    redetects6: bool = False
    default_pool: DefaultPool | None = None
    # Made by a node that is told to have an IPv6 address.
    default_pool6: DefaultPool | None = None
    felix: FelixConfiguration = field(default_factory=FelixConfiguration)
    without_effect: tuple[str, ...] = ()
    ports: Ports = NO_PORTS
    watch_endpoints: tuple[str, ...] = ()
    secrets: Path = FOLDER
    # Whether to stay away while another node has our address.
    checks_address: bool = True

    def seen_by(self, version: int) -> Settings:
        """The settings with that family's in the place of the IPv4 ones."""
        if version == 4:
            return self
        return replace(self, address=self.address6, method=self.method6, redetects=self.redetects6)


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
    proxies = value(
        "ETCD_WATCH_ENDPOINTS", "", rf"({_ENDPOINT}(\s*,\s*{_ENDPOINT})*)?", "URLs of gRPC proxies with commas"
    )
    backend = value("CALICO_NETWORKING_BACKEND", "bird", "|".join(BACKENDS), ", ".join(BACKENDS))
    level = value(_LOG_LEVEL, "info", rf"(?i:{'|'.join(LEVELS)})", ", ".join(LEVELS)).lower()
    address, address6 = (environment.get(name, "").strip() for name in ("IP", "IP6"))
    given = None if address in ("", AUTODETECT, NO_ADDRESS) else _address(address, mistakes)
    given6 = None if address6 in ("", AUTODETECT, NO_ADDRESS) else _address6(address6, mistakes)
    method = _method("IP_AUTODETECTION_METHOD", environment, mistakes)
    method6 = _method("IP6_AUTODETECTION_METHOD", environment, mistakes)
    felix, wrong = FelixConfiguration.from_environment(environment)
    mistakes += wrong
    settings = Settings(
        node=node,
        endpoints=_split(endpoints),
        watch_endpoints=_split(proxies),
        address=given,
        backend=backend,
        as_number=_as_number(environment.get("AS", "").strip(), mistakes),
        log_level=level,
        method=None if given or address == NO_ADDRESS else method,
        redetects=address == AUTODETECT,
        address6=given6,
        method6=method6 if address6 == AUTODETECT else None,
        redetects6=address6 == AUTODETECT,
        default_pool=read_default_pool(environment, mistakes),
        default_pool6=_pool6(environment, mistakes) if given6 or address6 == AUTODETECT else None,
        felix=felix,
        without_effect=(*unknown_variables(environment, (_LOG_LEVEL, *VARIABLES)), *_unread(environment)),
        ports=read_ports(environment, mistakes),
        checks_address=environment.get("DISABLE_NODE_IP_CHECK", "").strip().lower() not in ("true", "1", "t"),
        secrets=Path(environment.get("CALICO_BGP_SECRETS", "").strip() or FOLDER),
    )
    if mistakes:
        raise InvalidResource("environment", mistakes)
    return settings


def _pool6(environment: Mapping[str, str], mistakes: list[Mistake]) -> DefaultPool | None:
    """What is wrong with NO_DEFAULT_POOLS was told with the IPv4 pool."""
    found: list[Mistake] = []
    pool = read_default_pool(environment, found, 6)
    mistakes += [mistake for mistake in found if mistake.path.startswith(_CALICO)]
    return pool


def _unread(environment: Mapping[str, str]) -> tuple[str, ...]:
    """CALICO_ variables that have no effect here."""
    known = variables_read() | {"CALICO_NETWORKING_BACKEND", "CALICO_BGP_SECRETS"}
    return tuple(sorted(name for name in environment if name.startswith(_CALICO) and name not in known))


def _split(endpoints: str) -> tuple[str, ...]:
    return tuple(endpoint.strip().rstrip("/") for endpoint in endpoints.split(",") if endpoint.strip())


def _as_number(text: str, mistakes: list[Mistake]) -> int | None:
    """Empty and 0 mean the cluster's."""
    if text in ("", "0"):
        return None
    reader = Reader({"AS": text})
    number = reader.as_number("AS")
    if reader.mistakes:
        mistakes.append(Mistake("AS", text, f"a whole number, 1 to {MAX_AS}"))
    return number


def _method(variable: str, environment: Mapping[str, str], mistakes: list[Mistake]) -> Method:
    text = environment.get(variable, "")
    try:
        return parse_method(text)
    except ValueError as error:
        mistakes.append(Mistake(variable, text, str(error)))
    return Method()


def _address(given: str, mistakes: list[Mistake]) -> IPv4Interface | None:
    try:
        address = IPv4Interface(given)
        if not (address.ip.is_loopback or address.ip.is_multicast or address.ip == IPv4Address(0)):
            return address
    except ValueError:
        pass
    mistakes.append(Mistake("IP", given, "an address with its prefix length, 10.0.0.1/24, autodetect, none"))
    return None


def _address6(given: str, mistakes: list[Mistake]) -> IPv6Interface | None:
    try:
        address = IPv6Interface(given)
        is_special = address.ip.is_loopback or address.ip.is_multicast or address.ip.is_unspecified
        if not is_special and not address.ip.is_link_local and "%" not in given:
            return address
    except ValueError:
        pass
    mistakes.append(Mistake("IP6", given, "an address with its prefix length, fd00:1::10/64, autodetect, none"))
    return None
