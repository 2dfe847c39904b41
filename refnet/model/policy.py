"""Policies: which endpoints they select, in which order they count, and their rules for each direction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from refnet.model.reading import API_VERSION, NAME_PATTERN, Metadata, Reader
from refnet.model.rule import KNOWN_RULE, Rule, read_rules, read_selector_text
from refnet.model.selector import EVERYTHING, Selector

INGRESS, EGRESS = "Ingress", "Egress"
DEFAULT_TIER = "default"
MAX_SELECTOR = 1024
_KNOWN: dict[str, Any] = {
    **dict.fromkeys(["tier", "order", "selector", "serviceAccountSelector", "types", "performanceHints"]),
    "ingress": KNOWN_RULE,
    "egress": KNOWN_RULE,
}


@dataclass(frozen=True)
class Policy:
    """What both kinds of policy have. `order` None counts after every number; `namespace` is empty for global ones.

    The texts of selectors about namespaces and service accounts stay texts: their labels get a prefix when they count.
    """

    name: str
    namespace: str = ""
    tier: str = DEFAULT_TIER
    order: float | None = None
    selector: Selector = EVERYTHING
    namespace_selector: str | None = None
    service_account_selector: str | None = None
    types: tuple[str, ...] = (INGRESS,)
    ingress: tuple[Rule, ...] = ()
    egress: tuple[Rule, ...] = ()
    apply_on_forward: bool = False
    pre_dnat: bool = False
    do_not_track: bool = False
    # The spec as it was written: rules come in lists, and what a list holds cannot be merged with what was read.
    written: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def rules(self, direction: str) -> tuple[Rule, ...]:
        return self.ingress if direction == INGRESS else self.egress

    def _resource(self, kind: str) -> dict[str, Any]:
        metadata = {"name": self.name} | ({"namespace": self.namespace} if self.namespace else {})
        spec: dict[str, Any] = {**self.written, "tier": self.tier, "types": list(self.types)}
        return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}


class NetworkPolicy(Policy):
    """A policy for the endpoints of its own namespace."""

    KIND = "NetworkPolicy"
    KNOWN: ClassVar[dict[str, Any]] = _KNOWN

    @classmethod
    def from_resource(cls, resource: object) -> NetworkPolicy:
        """Raises InvalidResource with every mistake."""
        frame = Metadata(resource, cls.KIND, namespaced=True)
        for wrong in ("namespaceSelector", "doNotTrack", "preDNAT", "applyOnForward"):
            if frame.spec.has(wrong):
                frame.spec.wrong(wrong, "leave it out", "only a GlobalNetworkPolicy has it")
        fields = _common(frame)
        frame.finish()
        return cls(**fields)

    def to_resource(self) -> dict[str, Any]:
        return self._resource(self.KIND)


class GlobalNetworkPolicy(Policy):
    """A policy for endpoints of every namespace, and for host endpoints."""

    KIND = "GlobalNetworkPolicy"
    KNOWN: ClassVar[dict[str, Any]] = {
        **_KNOWN,
        **dict.fromkeys(["namespaceSelector", "doNotTrack", "preDNAT", "applyOnForward"]),
    }

    @classmethod
    def from_resource(cls, resource: object) -> GlobalNetworkPolicy:
        """Raises InvalidResource with every mistake."""
        frame = Metadata(resource, cls.KIND)
        spec = frame.spec
        fields = _common(frame)
        flags = {name: spec.flag(name, False) for name in ("applyOnForward", "preDNAT", "doNotTrack")}
        if flags["preDNAT"] and flags["doNotTrack"]:
            spec.wrong("doNotTrack", "false", "preDNAT and doNotTrack exclude each other")
        for name in ("preDNAT", "doNotTrack"):
            if flags[name] and not flags["applyOnForward"]:
                spec.wrong("applyOnForward", "true", f"{name} needs it")
        if flags["preDNAT"] and (spec.fields.get("egress") or EGRESS in fields["types"]):
            spec.wrong("preDNAT", "false", "a policy with egress rules cannot come before DNAT")
        namespace_selector = read_selector_text(spec, "namespaceSelector")
        frame.finish()
        return cls(
            **fields,
            namespace_selector=namespace_selector,
            apply_on_forward=flags["applyOnForward"],
            pre_dnat=flags["preDNAT"],
            do_not_track=flags["doNotTrack"],
        )

    def to_resource(self) -> dict[str, Any]:
        return self._resource(self.KIND)


def _common(frame: Metadata) -> dict[str, Any]:
    spec = frame.spec
    if len(spec.text("selector")) > MAX_SELECTOR:
        spec.wrong("selector", f"at most {MAX_SELECTOR} characters")
    ingress, egress = read_rules(spec, "ingress"), read_rules(spec, "egress")
    given = spec.texts("types", legal=(INGRESS, EGRESS))
    types = tuple(word for word in (INGRESS, EGRESS) if word in given) if given else _default_types(ingress, egress)
    return {
        "name": frame.name,
        "namespace": frame.namespace,
        "tier": spec.text("tier", DEFAULT_TIER, pattern=NAME_PATTERN, legal="the name of a tier") or DEFAULT_TIER,
        "order": read_order(spec),
        "selector": spec.selector("selector"),
        "service_account_selector": read_selector_text(spec, "serviceAccountSelector"),
        "types": types,
        "ingress": ingress,
        "egress": egress,
        "written": dict(spec.fields),
    }


_LARGEST_ORDER = 1e300


def read_order(spec: Reader) -> float | None:
    """A number, whole or not; the smaller, the earlier. None: last of all."""
    value = spec.fields.get("order")
    if value is None:
        return None
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not abs(value) <= _LARGEST_ORDER:  # JSON as Python reads it knows NaN, and numbers without end
        spec.wrong("order", "a number; the smaller, the earlier")
        return None
    return float(value)


def _default_types(ingress: tuple[Rule, ...], egress: tuple[Rule, ...]) -> tuple[str, ...]:
    """Source: Calico's api/pkg/defaults. Without any rule a policy is about ingress."""
    return ((INGRESS,) if ingress or not egress else ()) + ((EGRESS,) if egress else ())
