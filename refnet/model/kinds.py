"""The kinds of resources there are: how they are called, where they are stored, what they read as."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from refnet.errors import InvalidResource, Mistake
from refnet.model.bgp import BGPConfiguration, BGPPeer
from refnet.model.bgp_filter import BGPFilter
from refnet.model.controllers import KubeControllersConfiguration
from refnet.model.endpoint import WorkloadEndpoint
from refnet.model.felix import FelixConfiguration
from refnet.model.hostendpoint import HostEndpoint
from refnet.model.ipam import IPAMConfiguration, IPReservation
from refnet.model.networkset import GlobalNetworkSet, NetworkSet
from refnet.model.node import Node
from refnet.model.policy import GlobalNetworkPolicy, NetworkPolicy
from refnet.model.pool import Pool
from refnet.model.profile import Profile
from refnet.model.reading import shown, unknown_fields
from refnet.model.tier import Tier


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
    """`words` are what a person may call it on a command line; `plural` is its name in the store's keys."""

    name: str
    plural: str
    words: tuple[str, ...]
    reads: _Reads
    namespaced: bool = False

    def read(self, resource: object) -> Resource:
        """Raises InvalidResource with every mistake."""
        return self.reads.from_resource(resource)

    def unknown(self, resource: Mapping[str, Any]) -> tuple[str, ...]:
        """Paths of fields that have no effect here."""
        return unknown_fields(resource, self.reads.KNOWN)


KINDS = (
    Kind("BGPConfiguration", "bgpconfigurations", ("bgpconfiguration", "bgpconfig"), BGPConfiguration),
    Kind("BGPFilter", "bgpfilters", ("bgpfilter", "bgpf"), BGPFilter),
    Kind("BGPPeer", "bgppeers", ("bgppeer", "bgpp", "bp"), BGPPeer),
    Kind(
        "FelixConfiguration", "felixconfigurations", ("felixconfiguration", "felixconfig", "felixc"), FelixConfiguration
    ),
    Kind("GlobalNetworkPolicy", "globalnetworkpolicies", ("globalnetworkpolicy", "gnp"), GlobalNetworkPolicy),
    Kind("GlobalNetworkSet", "globalnetworksets", ("globalnetworkset", "gns", "globalnetset"), GlobalNetworkSet),
    Kind("HostEndpoint", "hostendpoints", ("hostendpoint", "hep"), HostEndpoint),
    Kind("IPAMConfiguration", "ipamconfigurations", ("ipamconfiguration", "ipamconfig"), IPAMConfiguration),
    Kind("IPPool", "ippools", ("ippool", "ipp", "pool"), Pool),
    Kind("IPReservation", "ipreservations", ("ipreservation", "ipr"), IPReservation),
    Kind("NetworkPolicy", "networkpolicies", ("networkpolicy", "np", "policy", "pol"), NetworkPolicy, True),
    Kind("NetworkSet", "networksets", ("networkset", "netset", "ns"), NetworkSet, True),
    Kind(
        "KubeControllersConfiguration",
        "kubecontrollersconfigurations",
        ("kubecontrollersconfiguration", "kubecontrollersconfig", "kcc"),
        KubeControllersConfiguration,
    ),
    Kind("Node", "nodes", ("node", "no"), Node),
    Kind("Profile", "profiles", ("profile", "pro"), Profile),
    Kind("Tier", "tiers", ("tier",), Tier),
    Kind("WorkloadEndpoint", "workloadendpoints", ("workloadendpoint", "wep", "workload"), WorkloadEndpoint, True),
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
