"""What one node must filter and translate, as values: for one address family, in Calico's words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from refnet.model.failsafe import INBOUND, OUTBOUND, FailsafePort
from refnet.model.rule import Icmp, Network

NETS, PORTS = "hash:net", "hash:ip,port"


@dataclass(frozen=True)
class AddressSet:
    """One set of the kernel: of networks, or of pairs of address and port."""

    kind: str
    members: frozenset[str]


@dataclass(frozen=True)
class End:
    """One end of a packet. Everything given must hold; `sets` must all contain the address, `not_sets` none may.

    `port_choices` are alternatives: ranges of ports, or sets of address and port.
    """

    net: Network | None = None
    not_net: Network | None = None
    sets: tuple[str, ...] = ()
    not_sets: tuple[str, ...] = ()
    port_ranges: tuple[tuple[int, int], ...] = ()
    port_sets: tuple[str, ...] = ()
    not_port_ranges: tuple[tuple[int, int], ...] = ()
    not_port_sets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Clause:
    """A rule with its selectors resolved to sets."""

    action: str
    protocol: int | None = None
    not_protocol: int | None = None
    icmp: Icmp | None = None
    not_icmp: Icmp | None = None
    source: End = End()
    destination: End = End()


@dataclass(frozen=True)
class TierStep:
    """The policies of one tier that select an endpoint, by id and in order, and what comes after the last."""

    name: str
    policies: tuple[str, ...]
    ends_with_deny: bool = True


@dataclass(frozen=True)
class Direction:
    """How packets in one direction are judged: tier by tier, then profile by profile, else dropped."""

    tiers: tuple[TierStep, ...] = ()
    profiles: tuple[str, ...] = ()


@dataclass(frozen=True)
class Workload:
    """A pod's interface on this node. `inbound` is towards the pod."""

    interface: str
    inbound: Direction
    outbound: Direction


@dataclass(frozen=True)
class HostInterface:
    """An interface of the node under policy; an empty name stands for every one that has no entry of its own.

    `forward_…` None: nothing is said about packets passing through. `untracked_…` come before connection tracking.
    """

    interface: str
    inbound: Direction
    outbound: Direction
    forward_inbound: Direction | None = None
    forward_outbound: Direction | None = None
    pre_dnat: Direction | None = None
    untracked_inbound: Direction | None = None
    untracked_outbound: Direction | None = None


@dataclass(frozen=True)
class Filtering:
    """All of it for one family. `policies` and `profiles` hold clauses by id and then by direction."""

    version: int = 4
    # The family is left alone: of what we once wrote nothing may stay, or it would judge by the past for ever.
    is_off: bool = False
    workloads: tuple[Workload, ...] = ()
    hosts: tuple[HostInterface, ...] = ()
    policies: Mapping[tuple[str, str], tuple[Clause, ...]] = field(default_factory=dict)
    profiles: Mapping[tuple[str, str], tuple[Clause, ...]] = field(default_factory=dict)
    sets: Mapping[str, AddressSet] = field(default_factory=dict)
    # Whether a pod whose endpoint we have not read yet must wait: without any policy it could only be let through.
    drops_unknown: bool = False
    host_action: str = "Return"
    carries_ipip: bool = False
    vxlan_port: int | None = None
    masquerades: bool = False
    failsafe_in: tuple[FailsafePort, ...] = INBOUND
    failsafe_out: tuple[FailsafePort, ...] = OUTBOUND


def fixed_set(version: int, name: str) -> str:
    """The name of one of the sets that every node has: `all-hosts-net` is cali40all-hosts-net for IPv4."""
    return f"cali{version}0{name}"
