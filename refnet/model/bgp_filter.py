"""BGP filters: which routes a session takes and gives, rule by rule, the first that matches decides."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar

from refnet.model.address import IPNetwork
from refnet.model.bgp import DEVICE_PATTERN
from refnet.model.reading import API_VERSION, Metadata, Reader

OPERATORS = ("Equal", "NotEqual", "In", "NotIn")
# Calico's later ones. Left unread, a rule would match routes that it is not about.
_UNREAD = ("communities", "asPathPrefix", "peerType", "priority")
_RULE = {
    **dict.fromkeys(["action", "matchOperator", "cidr", "source", "interface", *_UNREAD]),
    "prefixLength": dict.fromkeys(["min", "max"]),
}


@dataclass(frozen=True)
class FilterRule:
    """One rule; it matches a route that all of its conditions match. Without conditions it matches every route."""

    accepts: bool
    operator: str = ""
    cidr: IPNetwork | None = None
    lengths: tuple[int, int] | None = None
    is_from_peer: bool = False
    interface: str = ""

    def to_value(self) -> dict[str, Any]:
        rule: dict[str, Any] = {"action": "Accept" if self.accepts else "Reject"}
        if self.cidr:
            rule |= {"matchOperator": self.operator, "cidr": str(self.cidr)}
        if self.lengths:
            rule["prefixLength"] = {"min": self.lengths[0], "max": self.lengths[1]}
        if self.is_from_peer:
            rule["source"] = "RemotePeers"
        if self.interface:
            rule["interface"] = self.interface
        return rule


@dataclass(frozen=True)
class BGPFilter:
    """Rules for routes that BGPPeers name; a route that no rule matches is treated as without the filter."""

    KIND = "BGPFilter"
    KNOWN: ClassVar[dict[str, Any]] = dict.fromkeys(["exportV4", "importV4", "exportV6", "importV6"], _RULE)

    name: str
    exports: tuple[FilterRule, ...] = ()
    imports: tuple[FilterRule, ...] = ()
    exports6: tuple[FilterRule, ...] = ()
    imports6: tuple[FilterRule, ...] = ()

    @classmethod
    def from_resource(cls, resource: object) -> BGPFilter:
        """Raises InvalidResource with every mistake. Source of the rules: Calico's BGPFilter reference."""
        frame = Metadata(resource, cls.KIND)
        exports, imports, exports6, imports6 = (
            tuple(_rule(one, 4 if field.endswith("V4") else 6) for one in frame.spec.mappings(field))
            for field in ("exportV4", "importV4", "exportV6", "importV6")
        )
        frame.finish()
        return cls(frame.name, exports, imports, exports6, imports6)

    def exports_of(self, version: int) -> tuple[FilterRule, ...]:
        """The rules for what one family's sessions give."""
        return self.exports if version == 4 else self.exports6

    def imports_of(self, version: int) -> tuple[FilterRule, ...]:
        """The rules for what one family's sessions take."""
        return self.imports if version == 4 else self.imports6

    def to_resource(self) -> dict[str, Any]:
        fields = {
            "exportV4": self.exports,
            "importV4": self.imports,
            "exportV6": self.exports6,
            "importV6": self.imports6,
        }
        spec = {field: [rule.to_value() for rule in rules] for field, rules in fields.items() if rules}
        return {"apiVersion": API_VERSION, "kind": self.KIND, "metadata": {"name": self.name}, "spec": spec}


def _rule(spec: Reader, version: int) -> FilterRule:
    if not spec.has("action"):
        spec.wrong("action", "Accept, Reject")
    for field in _UNREAD:
        if field in spec.fields:
            spec.wrong(field, "leave the rule out", "it is not supported, and without it the rule would match more")
    accepts = spec.choice("action", ("Accept", "Reject"), "Accept") == "Accept"
    operator = spec.choice("matchOperator", OPERATORS, "")
    cidr = spec.network("cidr") if spec.has("cidr") else None
    if cidr and cidr.version != version:
        legal = "an IPv4 network such as 10.65.0.0/16" if version == 4 else "an IPv6 network such as fd00:10::/64"
        spec.wrong("cidr", legal, f"these rules are about IPv{version} routes")
    if spec.has("cidr") != spec.has("matchOperator"):
        missing = "matchOperator" if spec.has("cidr") else "cidr"
        spec.wrong(
            missing, ", ".join(OPERATORS) if missing == "matchOperator" else f"an IPv{version} network", "both or none"
        )
    lengths = _lengths(spec, cidr, 32 if version == 4 else 128) if spec.has("prefixLength") else None
    if lengths and operator not in ("", "In", "NotIn"):
        spec.wrong("matchOperator", "In, NotIn", "a single network has one prefix length")
    is_from_peer = spec.has("source") and spec.choice("source", ("RemotePeers",), "") == "RemotePeers"
    interface = spec.text("interface")
    if interface and not re.fullmatch(DEVICE_PATTERN, interface):
        spec.wrong("interface", "the name of a device, * and ? allowed")
    return FilterRule(accepts, operator, cidr, lengths, is_from_peer, interface)


def _lengths(spec: Reader, cidr: IPNetwork | None, longest: int) -> tuple[int, int]:
    within = spec.child("prefixLength")
    shortest = cidr.prefixlen if cidr else 0
    lengths = within.integer("min", shortest, 0, longest), within.integer("max", longest, 0, longest)
    if not spec.has("cidr"):
        spec.wrong("prefixLength", "leave it out, or give a cidr", "it says which networks below a cidr match")
    elif lengths[0] > lengths[1]:
        within.wrong("min", f"a number not above max ({lengths[1]})")
    return max(lengths[0], shortest), max(lengths[1], shortest)
