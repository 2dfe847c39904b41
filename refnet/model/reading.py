"""Reading what a person wrote: every mistake is collected with its path, what stands there and what may stand there."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface

from refnet.errors import InvalidResource, Mistake
from refnet.model.address import IPNetwork, read_address, read_network, slice_of
from refnet.model.selector import EVERYTHING, Selector

TYPE_CHECKING = False  # typing costs 3 ms of start-up
if TYPE_CHECKING:
    from typing import Any

API_VERSION = "projectcalico.org/v3"
NAME_PATTERN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
MAX_NAME = 253
NETWORK_LEGAL = "a network such as 192.168.0.0/16 or fd00:10:244::/48"
MAX_AS = 4294967295


def shown(value: object) -> str:
    """The value as its writer would recognise it, on one line, at most 40 characters."""
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 40 else text[:37] + "..."


class Reader:
    """One mapping of a resource, with its path; all readers of a resource share one list of mistakes."""

    def __init__(self, fields: Mapping[str, Any], path: str = "", mistakes: list[Mistake] | None = None) -> None:
        self.fields = fields
        self.path = path
        self.mistakes: list[Mistake] = [] if mistakes is None else mistakes

    def at(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def wrong(self, name: str, legal: str, hint: str = "") -> None:
        """Note that field `name` is missing or has an illegal value."""
        given = shown(self.fields[name]) if name in self.fields else "missing"
        self.mistakes.append(Mistake(self.at(name), given, legal, hint))

    def has(self, name: str) -> bool:
        return self.fields.get(name) is not None

    def child(self, name: str, *, required: bool = False) -> Reader:
        """The mapping at `name`; an absent one reads as empty."""
        value = self.fields.get(name)
        if isinstance(value, Mapping):
            return Reader(value, self.at(name), self.mistakes)
        if value is not None or required:
            self.wrong(name, "a mapping of fields")
        return Reader({}, self.at(name), self.mistakes)

    def text(self, name: str, default: str = "", *, required: bool = False, pattern: str = "", legal: str = "") -> str:
        value = self.fields.get(name)
        if value is None and not required:
            return default
        if not isinstance(value, str) or (required and not value) or (pattern and not re.fullmatch(pattern, value)):
            self.wrong(name, legal or "a text")
            return default
        return value

    def choice(self, name: str, legal: Sequence[str], default: str) -> str:
        value = self.fields.get(name)
        if value is None:
            return default
        if value not in legal:
            near = [word for word in legal if isinstance(value, str) and word.lower() == value.lower()]
            self.wrong(name, ", ".join(legal), f"did you mean {near[0]}? Letter case matters" if near else "")
            return default
        return str(value)

    def flag(self, name: str, default: bool) -> bool:
        value = self.fields.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.wrong(name, "true, false", "write it without quotes" if isinstance(value, str) else "")
            return default
        return value

    def integer(self, name: str, default: int, lowest: int, highest: int) -> int:
        value = self.fields.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
            self.wrong(name, f"a whole number, {lowest} to {highest}")
            return default
        return value

    def texts(self, name: str, default: tuple[str, ...] = (), legal: Sequence[str] = ()) -> tuple[str, ...]:
        value = self.fields.get(name)
        if value is None:
            return default
        if not isinstance(value, (list, tuple)) or not all(isinstance(word, str) for word in value):
            self.wrong(name, "a list of texts")
            return default
        if legal and not set(value) <= set(legal):
            self.wrong(name, "a list of " + ", ".join(legal))
            return default
        return tuple(value)

    def selector(self, name: str, default: Selector = EVERYTHING) -> Selector:
        """A selector about labels; an absent or empty one is the default."""
        text = self.text(name)
        try:
            return Selector.parse(text) if text else default
        except InvalidResource as error:
            for wrong in error.mistakes:
                self.wrong(
                    name, "a selector such as app == 'web' && has(tier)", f"{wrong.path}: expected {wrong.legal}"
                )
            return default

    def mappings(self, name: str) -> list[Reader]:
        """A list of mappings, one reader each, with the index in its path."""
        value = self.fields.get(name)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
            self.wrong(name, "a list of mappings")
            return []
        return [Reader(item, f"{self.at(name)}[{i}]", self.mistakes) for i, item in enumerate(value)]

    def address(self, name: str, *, required: bool = False) -> IPv4Address | None:
        value = self.fields.get(name)
        if value is None and not required:
            return None
        if isinstance(value, str):
            try:
                return IPv4Address(value)
            except ValueError:
                pass  # noted below, with everything else that is no address
        self.wrong(name, "an IPv4 address such as 10.0.0.1", _about_v6(value))
        return None

    def interface(self, name: str) -> IPv4Interface | None:
        """An address with its prefix length; an address alone counts as /32."""
        value = self.fields.get(name)
        if value is None:
            return None
        if isinstance(value, str):
            try:
                return IPv4Interface(value)
            except ValueError:
                pass  # noted below, with everything else that is no address
        self.wrong(name, "an IPv4 address with its prefix length, 10.0.0.1/24", _about_v6(value))
        return None

    def address6(self, name: str) -> IPv6Address | None:
        """An IPv6 address without a zone: that may be any text at all."""
        value = self.fields.get(name)
        if value is None:
            return None
        if isinstance(value, str) and "%" not in value:
            try:
                return IPv6Address(value)
            except ValueError:
                pass  # noted below, with everything else that is no address
        self.wrong(name, "an IPv6 address such as fd00:1::10")
        return None

    def interface6(self, name: str) -> IPv6Interface | None:
        """An IPv6 address with its prefix length; an address alone counts as /128."""
        value = self.fields.get(name)
        if value is None:
            return None
        if isinstance(value, str) and "%" not in value:
            try:
                return IPv6Interface(value)
            except ValueError:
                pass  # noted below, with everything else that is no address
        self.wrong(name, "an IPv6 address with its prefix length, fd00:1::10/64")
        return None

    def network(self, name: str) -> IPNetwork | None:
        """A required network, of either family, without host bits."""
        value = self.fields.get(name)
        network, hint = network_or_hint(value)
        if network is None:
            self.wrong(name, NETWORK_LEGAL, hint)
        return network

    def networks(self, name: str) -> tuple[IPNetwork, ...]:
        """A list of networks without host bits; an address alone counts as itself."""
        read = []
        for i, text in enumerate(self.texts(name)):
            whole = text if "/" in text else f"{text}/{128 if ':' in text else 32}"
            network, hint = network_or_hint(whole)
            if network:
                read.append(network)
            else:
                self.mistakes.append(Mistake(f"{self.at(name)}[{i}]", shown(text), NETWORK_LEGAL, hint))
        return tuple(read)

    def as_number(self, name: str, *, required: bool = False) -> int | None:
        """An AS number: whole, as text, or in the dotted form of RFC 5396."""
        value = self.fields.get(name)
        if value is None and not required:
            return None
        number = -1
        if isinstance(value, int) and not isinstance(value, bool):
            number = value
        elif isinstance(value, str) and re.fullmatch(r"\d{1,10}", value):
            number = int(value)
        elif isinstance(value, str) and (dotted := re.fullmatch(r"(\d{1,5})\.(\d{1,5})", value)):
            high, low = int(dotted[1]), int(dotted[2])
            number = (high << 16) + low if max(high, low) <= 0xFFFF else -1
        if not 1 <= number <= MAX_AS:
            hint = f'YAML reads this as a fraction: write {name}: "1.10"' if isinstance(value, float) else ""
            self.wrong(name, f"an AS number, 1 to {MAX_AS}", hint)
            return None
        return number


def network_or_hint(value: object) -> tuple[IPNetwork | None, str]:
    """The network without host bits that is written there, or None and what to write instead, if that is clear."""
    address, _, length = value.partition("/") if isinstance(value, str) else ("", "", "")
    try:
        return (read_network(value) if isinstance(value, str) and length.isdecimal() else None), ""
    except ValueError:
        pass  # host bits, or nonsense
    try:
        network = slice_of(read_address(address), int(length))
    except ValueError:
        return None, ""
    return None, f"bits are set to the right of the prefix: write {network}"


def _about_v6(value: object) -> str:
    return "this field is for IPv4" if isinstance(value, str) and value.count(":") >= 2 else ""


class Metadata:
    """The outer frame of a resource: kind, name, namespace; and the reader of its spec."""

    def __init__(self, resource: object, kind: str, *, namespaced: bool = False) -> None:
        if not isinstance(resource, Mapping):
            raise InvalidResource(
                kind, [Mistake("(top)", shown(resource), "a mapping with apiVersion, kind, metadata")]
            )
        self.kind = kind
        self.top = Reader(resource)
        if resource.get("apiVersion") != API_VERSION:
            self.top.wrong("apiVersion", API_VERSION)
        if resource.get("kind") != kind:
            self.top.wrong("kind", kind)
        metadata = self.top.child("metadata", required=True)
        self.name = metadata.text(
            "name", required=True, pattern=NAME_PATTERN, legal="a DNS name, lower case (RFC 1123)"
        )
        if len(self.name) > MAX_NAME:
            metadata.wrong("name", f"at most {MAX_NAME} characters")
        self.namespace = (
            metadata.text("namespace", "default", pattern=NAME_PATTERN, legal="a DNS name, lower case (RFC 1123)")
            if namespaced
            else ""
        )
        self.labels = {str(key): str(value) for key, value in metadata.child("labels").fields.items()}
        self.spec = self.top.child("spec")

    def finish(self) -> None:
        """Raise InvalidResource with every mistake noted so far, if there is one."""
        if self.top.mistakes:
            metadata = self.top.fields.get("metadata")
            given = metadata.get("name") if isinstance(metadata, Mapping) else None
            raise InvalidResource(f"{self.kind}/{str(given)[:60] if given else '?'}", self.top.mistakes)


def unknown_fields(resource: Mapping[str, Any], known: Mapping[str, Any] | None, path: str = "spec") -> tuple[str, ...]:
    """Paths below `spec` that nothing here reads; `known` maps field names to None (a leaf) or to the same again."""
    found: list[str] = []
    fields = resource.get("spec") if path == "spec" else resource
    if not isinstance(fields, Mapping) or known is None:
        return ()
    for name, value in fields.items():
        where = f"{path}.{name}"
        if name not in known:
            found.append(where)
        elif isinstance(value, Mapping):
            found += unknown_fields(value, known[name], where)
        elif isinstance(value, list):
            for i, item in enumerate(value):
                if isinstance(item, Mapping):
                    found += unknown_fields(item, known[name], f"{where}[{i}]")
    return tuple(found)
