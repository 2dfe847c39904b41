"""Rules as clauses: every question about labels or names becomes a question about a set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from refnet.calc.policy.addresses import AddressSets, side_selector
from refnet.calc.policy.filtering import Clause, End
from refnet.model.port import ICMP, ICMPV6, TCP
from refnet.model.rule import Network, Rule, Side

_VERSION_OF_ICMP = {ICMP: 4, ICMPV6: 6}


def clauses(rules: Iterable[Rule], namespace: str, sets: AddressSets) -> tuple[Clause, ...]:
    """The clauses of these rules for one family, in their order; `namespace` is that of a namespaced policy."""
    return tuple(clause for rule in rules for clause in _clause(rule, namespace, sets))


def _clause(rule: Rule, namespace: str, sets: AddressSets) -> Iterator[Clause]:
    """One clause, or none where the rule can match nothing of this family."""
    if rule.ip_version not in (None, sets.version):
        return
    if _VERSION_OF_ICMP.get(rule.protocol or 0, sets.version) != sets.version:
        return
    if rule.protocol is not None and rule.protocol == rule.not_protocol:
        return
    ends = [_end(side, rule.protocol, namespace, sets) for side in (rule.source, rule.destination)]
    if None not in ends:
        yield Clause(
            action=rule.action,
            protocol=rule.protocol,
            not_protocol=rule.not_protocol if rule.protocol is None else None,
            icmp=rule.icmp,
            not_icmp=rule.not_icmp,
            source=ends[0] or End(),
            destination=ends[1] or End(),
        )


def _end(side: Side, protocol: int | None, namespace: str, sets: AddressSets) -> End | None:
    """None where only addresses of the other family are meant."""
    nets = [net for net in side.nets if net.version == sets.version]
    if side.nets and not nets:
        return None
    not_nets = [net for net in side.not_nets if net.version == sets.version]
    found, not_found = [], []
    selector = side_selector(side, namespace)
    if selector:
        found.append(sets.selected(selector))
    if side.not_selector:
        not_found.append(sets.selected(side.not_selector))
    if len(nets) > 1:
        found.append(sets.of_nets(nets))
    # One `-s` is all that a rule of iptables takes, be it a negated one.
    if len(not_nets) > 1 or (nets and not_nets):
        not_found.append(sets.of_nets(not_nets))
        not_nets = []
    return End(
        net=_only(nets),
        not_net=_only(not_nets),
        sets=tuple(found),
        not_sets=tuple(not_found),
        port_ranges=side.ports.ranges,
        port_sets=tuple(sets.of_port(name, protocol or TCP) for name in side.ports.names),
        not_port_ranges=side.not_ports.ranges,
        not_port_sets=tuple(sets.of_port(name, protocol or TCP) for name in side.not_ports.names),
    )


def _only(nets: list[Network]) -> Network | None:
    return nets[0] if len(nets) == 1 else None
