"""The kinds of resources there are: how they are called, where they are stored, what they read as."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol, cast

from refnet.errors import InvalidResource, Mistake
from refnet.model.reading import shown, unknown_fields


class Resource(Protocol):
    """A value of one of the kinds."""

    @property
    def name(self) -> str: ...

    def to_resource(self) -> dict[str, Any]: ...


class _Reads(Protocol):
    KNOWN: Any

    def from_resource(self, resource: object) -> Resource: ...


@dataclass(frozen=True)
class Kind:
    """`words` are what a person may call it on a command line; `plural` is its name in the store's keys.

    `reader` is the class that reads it, and where in refnet.model: a command that is about one kind loads no other.
    """

    name: str
    plural: str
    words: tuple[str, ...]
    reader: str
    namespaced: bool = False

    def read(self, resource: object) -> Resource:
        """Raises InvalidResource with every mistake."""
        return self._reads.from_resource(resource)

    def unknown(self, resource: Mapping[str, Any]) -> tuple[str, ...]:
        """Paths of fields that have no effect here."""
        return unknown_fields(resource, self._reads.KNOWN)

    @property
    def _reads(self) -> _Reads:
        module, _, name = self.reader.partition(".")
        return cast(_Reads, getattr(import_module(f"refnet.model.{module}"), name))


KINDS = (
    Kind("BGPConfiguration", "bgpconfigurations", ("bgpconfiguration", "bgpconfig"), "bgp.BGPConfiguration"),
    Kind("BGPFilter", "bgpfilters", ("bgpfilter", "bgpf"), "bgp_filter.BGPFilter"),
    Kind("BGPPeer", "bgppeers", ("bgppeer", "bgpp", "bp"), "bgp.BGPPeer"),
    Kind(
        "FelixConfiguration",
        "felixconfigurations",
        ("felixconfiguration", "felixconfig", "felixc"),
        "felix.FelixConfiguration",
    ),
    Kind("GlobalNetworkPolicy", "globalnetworkpolicies", ("globalnetworkpolicy", "gnp"), "policy.GlobalNetworkPolicy"),
    Kind(
        "GlobalNetworkSet",
        "globalnetworksets",
        ("globalnetworkset", "gns", "globalnetset"),
        "networkset.GlobalNetworkSet",
    ),
    Kind("HostEndpoint", "hostendpoints", ("hostendpoint", "hep"), "hostendpoint.HostEndpoint"),
    Kind("IPAMConfiguration", "ipamconfigurations", ("ipamconfiguration", "ipamconfig"), "ipam.IPAMConfiguration"),
    Kind("IPPool", "ippools", ("ippool", "ipp", "pool"), "pool.Pool"),
    Kind("IPReservation", "ipreservations", ("ipreservation", "ipr"), "ipam.IPReservation"),
    Kind("NetworkPolicy", "networkpolicies", ("networkpolicy", "np", "policy", "pol"), "policy.NetworkPolicy", True),
    Kind("NetworkSet", "networksets", ("networkset", "netset", "ns"), "networkset.NetworkSet", True),
    Kind(
        "KubeControllersConfiguration",
        "kubecontrollersconfigurations",
        ("kubecontrollersconfiguration", "kubecontrollersconfig", "kcc"),
        "controllers.KubeControllersConfiguration",
    ),
    Kind("Node", "nodes", ("node", "no"), "node.Node"),
    Kind("Profile", "profiles", ("profile", "pro"), "profile.Profile"),
    Kind("Tier", "tiers", ("tier",), "tier.Tier"),
    Kind(
        "WorkloadEndpoint",
        "workloadendpoints",
        ("workloadendpoint", "wep", "workload"),
        "endpoint.WorkloadEndpoint",
        True,
    ),
)


def kind_called(word: str) -> Kind:
    """The kind by its name or an alias, singular or plural, in any case. Raises InvalidResource."""
    wanted = word.lower()
    for kind in KINDS:
        if wanted in (*kind.words, kind.plural, *(f"{alias}s" for alias in kind.words)):
            return kind
    raise InvalidResource("KIND", [Mistake(word, "no such kind", ", ".join(kind.plural for kind in KINDS))])


def kind_of(resource: Mapping[str, Any]) -> Kind:
    """The kind a resource says it is. Raises InvalidResource."""
    given = resource.get("kind")
    for kind in KINDS:
        if kind.name == given:
            return kind
    legal = ", ".join(kind.name for kind in KINDS)
    near = [kind.name for kind in KINDS if kind.name.lower() == str(given).lower()]
    hint = f"did you mean {near[0]}? Letter case matters" if near else ""
    raise InvalidResource("resource", [Mistake("kind", shown(given) if given else "missing", legal, hint)])
