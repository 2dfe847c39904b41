"""Tiers: groups of policies that are asked one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from refnet.model.policy import DEFAULT_TIER, read_order
from refnet.model.reading import API_VERSION, Metadata

DEFAULT_ORDER = 1_000_000.0


@dataclass(frozen=True)
class Tier:
    """A tier. `default_action` is what becomes of a packet that its policies select but no rule decides on."""

    KIND = "Tier"
    KNOWN = dict.fromkeys(["order", "defaultAction"])

    name: str
    order: float | None = None
    default_action: str = "Deny"

    @classmethod
    def from_resource(cls, resource: object) -> Tier:
        """Raises InvalidResource with every mistake."""
        frame = Metadata(resource, cls.KIND)
        spec = frame.spec
        order = read_order(spec)
        if frame.name == DEFAULT_TIER and order not in (None, DEFAULT_ORDER):
            spec.wrong("order", "1000000", "the default tier stays where it is")
        tier = cls(frame.name, order, spec.choice("defaultAction", ("Deny", "Pass"), "Deny"))
        frame.finish()
        return tier

    def to_resource(self) -> dict[str, Any]:
        order = {"order": self.order} if self.order is not None else {}
        spec = {**order, "defaultAction": self.default_action}
        return {"apiVersion": API_VERSION, "kind": self.KIND, "metadata": {"name": self.name}, "spec": spec}
