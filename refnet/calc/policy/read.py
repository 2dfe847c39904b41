"""The part of the cluster that policy is made of: policies, profiles, tiers, sets, and everything selectors look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any, TypeVar

from refnet.errors import RefnetError
from refnet.model.endpoint import WorkloadEndpoint
from refnet.model.hostendpoint import HostEndpoint
from refnet.model.keys import ResourceKey
from refnet.model.networkset import GlobalNetworkSet, Networks, NetworkSet
from refnet.model.policy import DEFAULT_TIER, GlobalNetworkPolicy, NetworkPolicy, Policy
from refnet.model.port import NamedPort
from refnet.model.profile import Profile, built_in_profile
from refnet.model.rule import Network
from refnet.model.selector import NAMESPACE_LABEL
from refnet.model.tier import DEFAULT_ORDER, Tier

T = TypeVar("T", NetworkPolicy, GlobalNetworkPolicy, Profile, NetworkSet, GlobalNetworkSet, Tier, HostEndpoint)
PLURALS = frozenset(
    {
        "networkpolicies",
        "globalnetworkpolicies",
        "profiles",
        "networksets",
        "globalnetworksets",
        "tiers",
        "hostendpoints",
    }
)
BUILT_IN_TIERS = {DEFAULT_TIER: Tier(DEFAULT_TIER, DEFAULT_ORDER)}


@dataclass(frozen=True)
class Party:
    """Something with addresses that selectors look at: a pod, a node's interface, a network set."""

    nets: tuple[Network, ...]
    labels: Mapping[str, str]
    profiles: tuple[str, ...] = ()
    ports: tuple[NamedPort, ...] = ()


@dataclass(frozen=True)
class Policing:
    """What the store says about policy. `strangers` are pods of other nodes, read only where a selector may look."""

    policies: tuple[Policy, ...] = ()
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    tiers: Mapping[str, Tier] = field(default_factory=lambda: dict(BUILT_IN_TIERS))
    sets: tuple[Networks, ...] = ()
    host_endpoints: tuple[HostEndpoint, ...] = ()
    strangers: tuple[Party, ...] = ()

    def profile(self, name: str) -> Profile | None:
        """The stored profile, else the built-in one of that name, else None: it allows nothing."""
        return self.profiles.get(name) or built_in_profile(name)

    def labels_of(self, party: Party) -> Mapping[str, str]:
        """The party's own labels, and below them those of its profiles."""
        labels: dict[str, str] = {}
        for name in party.profiles:
            profile = self.profile(name)
            if profile:
                labels.update(profile.labels)
        labels.update(party.labels)
        return labels


class PolicingReader:
    """Collects what policy is made of while one reading of the store lasts."""

    def __init__(self) -> None:
        self._policies: list[Policy] = []
        self._profiles: dict[str, Profile] = {}
        self._tiers: dict[str, Tier] = dict(BUILT_IN_TIERS)
        self._sets: list[Networks] = []
        self._host_endpoints: list[HostEndpoint] = []
        self._strangers: list[Any] = []

    def read(self, key: ResourceKey, value: Any) -> None:
        """Take one object. Raises RefnetError if it is wrong."""
        match key.plural:
            case "networkpolicies":
                self._policies.append(_named(key, value, NetworkPolicy.from_resource))
            case "globalnetworkpolicies":
                self._policies.append(_named(key, value, GlobalNetworkPolicy.from_resource))
            case "profiles":
                self._profiles[key.name] = _named(key, value, Profile.from_resource)
            case "networksets":
                self._sets.append(_named(key, value, NetworkSet.from_resource))
            case "globalnetworksets":
                self._sets.append(_named(key, value, GlobalNetworkSet.from_resource))
            case "tiers":
                self._tiers[key.name] = _tier(_named(key, value, Tier.from_resource))
            case "hostendpoints":
                self._host_endpoints.append(_named(key, value, HostEndpoint.from_resource))

    def note_stranger(self, value: Any) -> None:
        """Remember a pod of another node, unread."""
        self._strangers.append(value)

    def policing(self) -> tuple[Policing, list[tuple[str, str]]]:
        """What was read, and which objects of it mean nothing after all: key and reason."""
        kept, refused = [], []
        for policy in self._policies:
            if policy.tier in self._tiers:
                kept.append(policy)
            else:
                refused.append((f"policies/{_full_name(policy)}", f"its tier {policy.tier} does not exist"))
        has_selectors = bool(kept or self._profiles)
        strangers = (_stranger(value) for value in self._strangers) if has_selectors else ()
        return Policing(
            policies=tuple(kept),
            profiles=self._profiles,
            tiers=self._tiers,
            sets=tuple(self._sets),
            host_endpoints=tuple(self._host_endpoints),
            strangers=tuple(party for party in strangers if party),
        ), refused


def party_of(endpoint: WorkloadEndpoint) -> Party:
    """A pod as selectors see it."""
    return Party(
        tuple(ip_network(address) for address in endpoint.addresses),
        _workload_labels(endpoint.labels, endpoint.namespace, endpoint.orchestrator, endpoint.service_account),
        endpoint.profiles,
        endpoint.ports,
    )


def _workload_labels(own: Mapping[str, str], namespace: str, orchestrator: str, account: str) -> Mapping[str, str]:
    given = {NAMESPACE_LABEL: namespace, "projectcalico.org/orchestrator": orchestrator}
    return {**own, **given, **({"projectcalico.org/serviceaccount": account} if account else {})}


def _stranger(value: Any) -> Party | None:
    """A pod of another node; None if it is not as it should be, which that node's agent reports."""
    try:
        return party_of(WorkloadEndpoint.from_resource(value))
    except RefnetError:
        return None


def _named(key: ResourceKey, value: Any, read: Callable[[object], T]) -> T:
    """The object, if it calls itself what its key calls it; else two keys could speak for one name."""
    found = read(value)
    namespace = getattr(found, "namespace", "")
    if (found.name, namespace) != (key.name, key.namespace):
        raise RefnetError(f"calls itself {namespace}/{found.name}" if namespace else f"calls itself {found.name}")
    return found


def _tier(tier: Tier) -> Tier:
    return Tier(tier.name, DEFAULT_ORDER, tier.default_action) if tier.name == DEFAULT_TIER else tier


def _full_name(policy: Policy) -> str:
    return f"{policy.namespace}/{policy.name}" if policy.namespace else policy.name


def ordered(policies: Iterator[Policy]) -> list[Policy]:
    """The smaller order first, none last; then by name, namespace and kind. Source: Calico's policy sorter."""
    return sorted(policies, key=by_order)


def by_order(policy: Policy) -> tuple[float, str, str]:
    return (float("inf") if policy.order is None else policy.order, policy.name, policy.namespace)
