"""From the cluster's state and who we are to what this node must filter and translate. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_network

from refnet.calc.network import left_in_ipip
from refnet.calc.policy.addresses import AddressSets, about_namespaces
from refnet.calc.policy.clauses import clauses
from refnet.calc.policy.filtering import (
    Clause,
    Direction,
    Filtering,
    HostInterface,
    TierStep,
    Workload,
    fixed_set,
)
from refnet.calc.policy.read import Party, Policing, by_order, party_of
from refnet.calc.wanted import VXLAN_PORT
from refnet.calc.world import World
from refnet.model.address import IPAddress
from refnet.model.failsafe import INBOUND, OUTBOUND
from refnet.model.hostendpoint import ALL_INTERFACES, HostEndpoint
from refnet.model.policy import EGRESS, INGRESS, Policy
from refnet.model.selector import Selector

# Which device has an address: host endpoints may name their interface by it.
Interfaces = Mapping[IPAddress, str]
Kind = Callable[[Policy], bool]


def filterings(world: World, me: str, interfaces: Interfaces, *, has_ipv6: bool) -> tuple[Filtering, ...]:
    """What the node must filter and translate: of IPv6, too, where its kernel speaks it, whoever else may.

    A pod needs no address of a pool to reach its own node: each has a link-local one. And a host endpoint closes a node
    in both families, or in none.
    """
    four = filtering(world, me, 4, interfaces)
    if not has_ipv6:
        return (four,)
    is_off = world.felix.ipv6_support is False
    return four, Filtering(6, is_off=True) if is_off else filtering(world, me, 6, interfaces)


def filtering(world: World, me: str, version: int = 4, interfaces: Interfaces | None = None) -> Filtering:
    """What node `me` must filter and translate for one family."""
    return _Calculation(world, me, version, interfaces or {}).result()


class _Calculation:
    """One family's calculation while it lasts."""

    def __init__(self, world: World, me: str, version: int, interfaces: Interfaces) -> None:
        self.world = world
        self.me = me
        self.version = version
        self.interfaces = interfaces
        self.policing: Policing = world.policing
        own = [party_of(endpoint) for endpoint in world.endpoints]
        hosts = [_host_party(endpoint) for endpoint in self.policing.host_endpoints]
        sets = [Party(s.nets, _set_labels(s.labels, s.namespace)) for s in self.policing.sets]
        self.sets = AddressSets(version, self.policing, (*own, *self.policing.strangers, *hosts, *sets))
        self.policies: dict[tuple[str, str], tuple[Clause, ...]] = {}
        self.profiles: dict[tuple[str, str], tuple[Clause, ...]] = {}
        self.by_tier = self._policies_by_tier()

    def result(self) -> Filtering:
        workloads = tuple(sorted(self._workloads(), key=lambda workload: workload.interface))
        hosts = tuple(sorted(self._hosts(), key=lambda host: host.interface))
        pools = [pool for pool in self.world.pools if pool.cidr.version == self.version]
        masqueraded = [pool.cidr for pool in pools if pool.nat_outgoing]
        has_ipip_pool = any(pool.ipip_mode != "Never" for pool in pools)
        carries_ipip = self.version == 4 and (has_ipip_pool or bool(left_in_ipip(self.world, self.me)))
        carries_vxlan = any(pool.vxlan_mode != "Never" for pool in pools)
        addresses = [ip_network(node_address) for node_address in self._node_addresses()]
        for is_wanted, name, nets in (
            (carries_ipip, "all-hosts-net", addresses),
            (carries_vxlan, "all-vxlan-net", addresses),
            (bool(masqueraded), "all-ipam-pools", [pool.cidr for pool in pools]),
            (bool(masqueraded), "masq-ipam-pools", masqueraded),
        ):
            if is_wanted:
                self.sets.fixed(fixed_set(self.version, name), nets)
        felix = self.world.felix
        return Filtering(
            version=self.version,
            workloads=workloads,
            hosts=hosts,
            policies=self.policies,
            profiles=self.profiles,
            sets=self.sets.made,
            drops_unknown=bool(self.policing.policies or self.policing.profiles),
            carries_ipip=carries_ipip,
            failsafe_in=felix.failsafe_in if felix.failsafe_in is not None else INBOUND,
            failsafe_out=felix.failsafe_out if felix.failsafe_out is not None else OUTBOUND,
            host_action=felix.endpoint_to_host or "Return",
            vxlan_port=(felix.vxlan_port or VXLAN_PORT) if carries_vxlan else None,
            masquerades=bool(masqueraded),
        )

    def _node_addresses(self) -> Iterator[IPAddress]:
        """The nodes that tunnel packets may come from."""
        for node in self.world.nodes.values():
            address = node.seen_by(self.version).address
            if address:
                yield address.ip

    def _policies_by_tier(self) -> list[tuple[str, bool, list[tuple[Policy, Selector]]]]:
        """Tiers in order with whether they end with a denial, and their policies in order with what they select."""
        policing = self.policing
        members: dict[str, list[Policy]] = {}
        for policy in sorted(policing.policies, key=by_order):
            members.setdefault(policy.tier, []).append(policy)
        tiers = sorted(policing.tiers.values(), key=lambda t: (float("inf") if t.order is None else t.order, t.name))
        return [
            (tier.name, tier.default_action == "Deny", [(p, _selection(p)) for p in members.get(tier.name, ())])
            for tier in tiers
        ]

    def _workloads(self) -> Iterator[Workload]:
        for endpoint in self.world.endpoints:
            if endpoint.node == self.me:
                party = party_of(endpoint)
                inbound, outbound = (self._direction(party, way, _is_tracked) for way in (INGRESS, EGRESS))
                yield Workload(endpoint.interface, inbound, outbound)

    def _hosts(self) -> Iterator[HostInterface]:
        """Our node's host endpoints; of several for one interface the first name counts."""
        taken = set()
        for endpoint in sorted(self.policing.host_endpoints, key=lambda endpoint: endpoint.name):
            interface = self._interface_of(endpoint) if endpoint.node == self.me else None
            if interface is not None and interface not in taken:
                taken.add(interface)
                yield self._host(endpoint, interface)

    def _interface_of(self, endpoint: HostEndpoint) -> str | None:
        """The device an endpoint means, "" for all of them; None while no device has its address."""
        if endpoint.interface:
            return "" if endpoint.interface == ALL_INTERFACES else endpoint.interface
        found = (self.interfaces[address] for address in endpoint.addresses if address in self.interfaces)
        return next(found, None)

    def _host(self, endpoint: HostEndpoint, interface: str) -> HostInterface:
        party = _host_party(endpoint)

        def special(way: str, kind: Kind) -> Direction | None:
            direction = self._direction(party, way, kind)
            return Direction(direction.tiers) if direction.tiers else None

        return HostInterface(
            interface,
            inbound=self._direction(party, INGRESS, _is_tracked),
            outbound=self._direction(party, EGRESS, _is_tracked),
            forward_inbound=special(INGRESS, _is_about_forwarding),
            forward_outbound=special(EGRESS, _is_about_forwarding),
            pre_dnat=special(INGRESS, lambda policy: policy.pre_dnat),
            untracked_inbound=special(INGRESS, lambda policy: policy.do_not_track),
            untracked_outbound=special(EGRESS, lambda policy: policy.do_not_track),
        )

    def _direction(self, party: Party, way: str, kind: Kind) -> Direction:
        """What judges the party's packets in one direction: tiers with a policy that selects it, and profiles."""
        labels = self.policing.labels_of(party)
        tiers = []
        for name, ends_with_deny, policies in self.by_tier:
            ids = [
                self._policy(policy, way)
                for policy, selection in policies
                if way in policy.types and kind(policy) and selection.matches(labels)
            ]
            if ids:
                tiers.append(TierStep(name, tuple(ids), ends_with_deny))
        return Direction(tuple(tiers), tuple(self._profile(name, way) for name in party.profiles))

    def _policy(self, policy: Policy, way: str) -> str:
        """The policy's id; its clauses are worked out when the first endpoint wants them."""
        name = f"np/{policy.namespace}/{policy.name}" if policy.namespace else f"gnp/{policy.name}"
        if (name, way) not in self.policies:
            self.policies[name, way] = clauses(policy.rules(way), policy.namespace, self.sets)
        return name

    def _profile(self, name: str, way: str) -> str:
        if (name, way) not in self.profiles:
            profile = self.policing.profile(name)
            rules = profile.rules(way) if profile else ()
            self.profiles[name, way] = clauses(rules, "", self.sets)
        return name


def _is_tracked(policy: Policy) -> bool:
    """Most policies: those that look at a connection once it has its final addresses."""
    return not (policy.pre_dnat or policy.do_not_track)


def _is_about_forwarding(policy: Policy) -> bool:
    return policy.apply_on_forward and _is_tracked(policy)


def _selection(policy: Policy) -> Selector:
    """What a policy selects, all its selectors in one."""
    parts = [policy.selector]
    if policy.service_account_selector:
        parts.append(Selector.parse(policy.service_account_selector, prefix="pcsa."))
    if policy.namespace_selector:
        parts.append(about_namespaces(policy.namespace_selector))
    if policy.namespace:
        parts.append(Selector.one_of("projectcalico.org/namespace", [policy.namespace]))
    return Selector.all_of(parts)


def _host_party(endpoint: HostEndpoint) -> Party:
    nets = tuple(ip_network(address) for address in endpoint.addresses)
    return Party(nets, endpoint.labels, endpoint.profiles, endpoint.ports)


def _set_labels(labels: Mapping[str, str], namespace: str) -> Mapping[str, str]:
    return {**labels, "projectcalico.org/namespace": namespace} if namespace else labels
