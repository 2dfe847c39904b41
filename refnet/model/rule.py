"""Rules of policies and profiles: what they do to which packets."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from refnet.model.address import IPNetwork, read_network
from refnet.model.port import ICMP, ICMPV6, PORT_NAME, PROTOCOLS, WITH_PORTS
from refnet.model.reading import Reader
from refnet.model.selector import Selector

Network = IPNetwork

ACTIONS = ("Allow", "Deny", "Log", "Pass")
MAX_RULES = 1024
_BY_LOWER_NAME = {name.lower(): number for name, number in PROTOCOLS.items()}
_ICMP_VERSION = {ICMP: 4, ICMPV6: 6}
_ENTITY = dict.fromkeys(["nets", "notNets", "selector", "notSelector", "namespaceSelector", "ports", "notPorts"])
_SIDE: dict[str, Any] = {**_ENTITY, "serviceAccounts": dict.fromkeys(["names", "selector"])}
KNOWN_RULE: dict[str, Any] = {
    **dict.fromkeys(["action", "ipVersion", "protocol", "notProtocol", "metadata"]),
    **dict.fromkeys(["icmp", "notICMP"], dict.fromkeys(["type", "code"])),
    **dict.fromkeys(["source", "destination"], _SIDE),
}


@dataclass(frozen=True)
class Ports:
    """Ports by number (first and last of each range) and by the name that an endpoint gives them."""

    ranges: tuple[tuple[int, int], ...] = ()
    names: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.ranges or self.names)


@dataclass(frozen=True)
class Icmp:
    """A type of ICMP message; every code of it, unless one is given."""

    type: int
    code: int | None = None


@dataclass(frozen=True)
class Side:
    """One end of a rule. What is None or empty says nothing; everything else must hold together."""

    nets: tuple[Network, ...] = ()
    not_nets: tuple[Network, ...] = ()
    selector: Selector | None = None
    not_selector: Selector | None = None
    namespace_selector: str | None = None
    service_account_names: tuple[str, ...] = ()
    service_account_selector: str | None = None
    ports: Ports = Ports()
    not_ports: Ports = Ports()


@dataclass(frozen=True)
class Rule:
    """One rule. Protocols are numbers; `ip_version` is None for a rule about both families."""

    action: str
    ip_version: int | None = None
    protocol: int | None = None
    not_protocol: int | None = None
    icmp: Icmp | None = None
    not_icmp: Icmp | None = None
    source: Side = Side()
    destination: Side = Side()


def read_rules(spec: Reader, name: str) -> tuple[Rule, ...]:
    """The rules at a field; mistakes go to the reader."""
    readers = spec.mappings(name)
    if len(readers) > MAX_RULES:
        spec.wrong(name, f"at most {MAX_RULES} rules")
        return ()
    return tuple(_read_rule(reader) for reader in readers)


def _read_rule(reader: Reader) -> Rule:
    if not reader.has("action"):
        reader.wrong("action", ", ".join(ACTIONS))
    version = reader.fields.get("ipVersion")
    if version is not None and (isinstance(version, bool) or version not in (4, 6)):
        reader.wrong("ipVersion", "4, 6")
        version = None
    protocol, not_protocol = _read_protocol(reader, "protocol"), _read_protocol(reader, "notProtocol")
    if reader.has("http"):
        reader.wrong("http", "leave it out", "application layer policy is not supported")
    rule = Rule(
        action=reader.choice("action", ACTIONS, "Deny"),
        ip_version=version,
        protocol=protocol,
        not_protocol=not_protocol,
        icmp=_read_icmp(reader, "icmp", protocol),
        not_icmp=_read_icmp(reader, "notICMP", protocol),
        source=_read_side(reader.child("source"), protocol),
        destination=_read_side(reader.child("destination"), protocol),
    )
    _refuse_mixed_families(reader, rule)
    return rule


def _read_protocol(reader: Reader, name: str) -> int | None:
    value = reader.fields.get(name)
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 255:
        return value
    if isinstance(value, str):
        if value.lower() in _BY_LOWER_NAME:
            return _BY_LOWER_NAME[value.lower()]
        if re.fullmatch(r"[1-9]\d{0,2}", value) and int(value) <= 255:
            return int(value)
    reader.wrong(name, f"{', '.join(PROTOCOLS)} or a number, 1 to 255")
    return None


def _read_icmp(reader: Reader, name: str, protocol: int | None) -> Icmp | None:
    if not reader.has(name):
        return None
    child = reader.child(name)
    if protocol not in _ICMP_VERSION:
        reader.wrong(name, "leave it out", "it needs protocol ICMP or ICMPv6")
        return None
    kind, code = child.integer("type", -1, 0, 254), child.integer("code", -1, 0, 255)
    if kind < 0:
        if code >= 0:
            child.wrong("type", "a whole number, 0 to 254", "a code means nothing without its type")
        return None
    return Icmp(kind, code if code >= 0 else None)


def _read_side(reader: Reader, protocol: int | None) -> Side:
    if reader.has("services"):
        reader.wrong("services", "leave it out", "services exist in Kubernetes' datastore alone")
    for field in ("ports", "notPorts"):
        if reader.has(field) and reader.fields[field] and protocol not in WITH_PORTS:
            reader.wrong(field, "leave it out", "ports need protocol TCP, UDP or SCTP")
    accounts = reader.child("serviceAccounts")
    not_nets = _read_nets(reader, "notNets")
    if any(net.prefixlen == 0 for net in not_nets):
        reader.wrong("notNets", "networks smaller than everything", "nothing lies outside 0.0.0.0/0")
    return Side(
        nets=_read_nets(reader, "nets"),
        not_nets=not_nets,
        selector=reader.selector("selector") if reader.text("selector") else None,
        not_selector=reader.selector("notSelector") if reader.text("notSelector") else None,
        namespace_selector=read_selector_text(reader, "namespaceSelector"),
        service_account_names=accounts.texts("names"),
        service_account_selector=read_selector_text(accounts, "selector"),
        ports=_read_ports(reader, "ports"),
        not_ports=_read_ports(reader, "notPorts"),
    )


def read_selector_text(reader: Reader, name: str) -> str | None:
    """A selector about another thing's labels, checked, but still as text: its labels get a prefix later."""
    text = reader.text(name)
    if text:
        reader.selector(name)
    return text or None


def _read_nets(reader: Reader, name: str) -> tuple[Network, ...]:
    found: list[Network] = []
    for text in reader.texts(name):
        try:
            found.append(read_network(text, strict=False))
        except ValueError:
            reader.wrong(name, "a list of networks such as 10.0.0.0/8 or fd00::/8")
            return ()
    return tuple(found)


def _read_ports(reader: Reader, name: str) -> Ports:
    value = reader.fields.get(name)
    if value is None:
        return Ports()
    ranges, names = [], []
    for port in value if isinstance(value, list) else [None]:
        if isinstance(port, int) and not isinstance(port, bool) and 0 <= port <= 65535:
            ranges.append((port, port))
        elif isinstance(port, str) and (span := re.fullmatch(r"(\d{1,5})(?::(\d{1,5}))?", port)):
            first, last = int(span[1]), int(span[2] or span[1])
            if not first <= last <= 65535:
                reader.wrong(name, "ranges FIRST:LAST, 0 to 65535, the smaller one first")
                return Ports()
            ranges.append((first, last))
        elif isinstance(port, str) and re.fullmatch(PORT_NAME, port):
            names.append(port)
        else:
            reader.wrong(name, 'a list of ports: 80, "8000:8080", or the name of a port')
            return Ports()
    return Ports(tuple(dict.fromkeys(ranges)), tuple(dict.fromkeys(names)))


def _refuse_mixed_families(reader: Reader, rule: Rule) -> None:
    """All of a rule is about one family, else it could match nothing."""
    sides = (rule.source, rule.destination)
    versions: set[int] = {net.version for side in sides for net in (*side.nets, *side.not_nets)}
    versions |= {version for version in (rule.ip_version,) if version}
    if rule.protocol in _ICMP_VERSION and (rule.icmp or rule.not_icmp or rule.ip_version or versions):
        versions.add(_ICMP_VERSION[rule.protocol])
    if len(versions) > 1:
        where, _, index = reader.path.rpartition(".")
        Reader({index: dict(reader.fields)}, where, reader.mistakes).wrong(
            index, "one address family: nets, ipVersion and ICMP version must agree"
        )
