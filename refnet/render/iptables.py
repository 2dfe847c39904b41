"""What a node must filter and translate, as Calico's chains for iptables. Pure: golden files.

A packet's way, in the table `filter`: to the node through cali-INPUT, from pods by way of cali-wl-to-host; through the
node by cali-FORWARD, first the chain of the pod it comes from (cali-fw-…), then that of the pod it goes to (cali-tw-…);
those ask the policies (cali-po-…, cali-pi-…) tier by tier, then the profiles (cali-pro-…, cali-pri-…). A mark says what
they answered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from refnet.calc.policy.filtering import Clause, Direction, Filtering, HostInterface, fixed_set
from refnet.model.failsafe import FailsafePort
from refnet.model.policy import EGRESS, INGRESS
from refnet.render.chains import Table, chain_name, joined, remarked, table
from refnet.render.clauses import ACCEPT, FROM_WORKLOAD, PASS, clause_lines, clear, mark, marked, unmarked

TABLES = ("raw", "mangle", "nat", "filter")
_ALL_MARKS = (ACCEPT, PASS, FROM_WORKLOAD)
_EVERY_INTERFACE = "any-interface-at-all"
_ESTABLISHED = "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
_INVALID = "-m conntrack --ctstate INVALID -j DROP"
# Neighbour discovery and multicast listening, without which IPv6 does not work at all. [calico 7.6]
_ICMPV6_ALWAYS = (130, 131, 132, 133, 135, 136)
# A host hears routers as well (134), and says in a newer word which groups it listens to (143, RFC 3810).
_ICMPV6_OF_HOSTS = (130, 131, 132, 133, 134, 135, 136, 143)

Rules = list[str]
Chains = dict[str, Rules]


def tables(filtering: Filtering) -> Mapping[str, Table]:
    """The content of all four tables; an empty one has none of our chains."""
    if filtering.is_off:
        return dict.fromkeys(TABLES, table({}))
    return {
        "raw": _raw(filtering),
        "mangle": _mangle(filtering),
        "nat": _nat(filtering),
        "filter": _filter(filtering),
    }


def _filter(f: Filtering) -> Table:
    chains: Chains = {
        "cali-INPUT": [*_tunnel_guard(f), *_input(f)],
        "cali-FORWARD": list(_forward(f)),
        "cali-OUTPUT": list(_output(f)),
        "cali-wl-to-host": list(_to_own_host(f)),
        "cali-from-wl-dispatch": _dispatch(f, "-i", "cali-fw-"),
        "cali-to-wl-dispatch": _dispatch(f, "-o", "cali-tw-"),
    }
    for workload in f.workloads:
        chains[chain_name("cali-fw-", workload.interface)] = [
            *_opening(),
            *_no_tunnels_from_pods(f),
            *_judged(workload.outbound, EGRESS),
        ]
        chains[chain_name("cali-tw-", workload.interface)] = [*_opening(), *_judged(workload.inbound, INGRESS)]
    chains |= _host_chains(f)
    chains |= _forwarding_chains(f)
    directions: list[tuple[str, Direction | None]] = [
        d for w in f.workloads for d in ((INGRESS, w.inbound), (EGRESS, w.outbound))
    ]
    for host in f.hosts:
        directions += [(INGRESS, host.inbound), (EGRESS, host.outbound)]
        directions += [(INGRESS, host.forward_inbound), (EGRESS, host.forward_outbound)]
    chains |= _policy_chains(f, directions)
    accepted = remarked("a policy let it through", marked(ACCEPT), "-j ACCEPT")
    hooks = {chain: [f"-j cali-{chain}"] for chain in ("INPUT", "FORWARD", "OUTPUT")}
    return table(chains, hooks, {"FORWARD": [accepted]})


def _tunnel_guard(f: Filtering) -> Iterator[str]:
    """Tunnel packets for this node come from other nodes, or not at all."""
    local = "-m addrtype --dst-type LOCAL"
    if f.carries_ipip:
        known = f"-m set --match-set {fixed_set(f.version, 'all-hosts-net')} src"
        yield remarked("IPIP from a known node", f"-p 4 {known} {local} -j ACCEPT")
        yield remarked("IPIP from a stranger", "-p 4 -j DROP")
    if f.vxlan_port:
        known = f"-m set --match-set {fixed_set(f.version, 'all-vxlan-net')} src"
        port = f"-p udp -m multiport --dports {f.vxlan_port}"
        yield remarked("VXLAN from a known node", f"{port} {known} {local} -j ACCEPT")
        yield remarked("VXLAN from a stranger", f"{port} {local} -j DROP")


def _input(f: Filtering) -> Iterator[str]:
    yield "-i cali+ -g cali-wl-to-host"
    yield f"{marked(ACCEPT)} -j ACCEPT"
    yield clear(*_ALL_MARKS)
    if f.hosts:
        yield "-j cali-from-host-endpoint"
        yield remarked("a host endpoint's policy let it through", marked(ACCEPT), "-j ACCEPT")


def _forward(f: Filtering) -> Iterator[str]:
    yield clear(PASS, FROM_WORKLOAD)
    if f.hosts:
        yield f"{unmarked(ACCEPT)} -j cali-from-hep-forward"
    yield "-i cali+ -j cali-from-wl-dispatch"
    yield "-o cali+ -j cali-to-wl-dispatch"
    if f.hosts:
        yield "-j cali-to-hep-forward"


def _output(f: Filtering) -> Iterator[str]:
    """What the node itself sends to its pods is not policed: else it could not tell whether they live."""
    yield f"{marked(ACCEPT)} -j ACCEPT"
    yield "-o cali+ -j RETURN"
    if f.carries_ipip:
        known = f"-m set --match-set {fixed_set(f.version, 'all-hosts-net')} dst -m addrtype --src-type LOCAL"
        yield remarked("IPIP to a known node", f"-p 4 {known} -j ACCEPT")
    if f.vxlan_port:
        known = f"-m set --match-set {fixed_set(f.version, 'all-vxlan-net')} dst -m addrtype --src-type LOCAL"
        port = f"-p udp -m multiport --dports {f.vxlan_port}"
        yield remarked("VXLAN to a known node", f"{port} {known} -j ACCEPT")
    yield clear(*_ALL_MARKS)
    if f.hosts:
        yield "-m conntrack ! --ctstate DNAT -j cali-to-host-endpoint"
        yield remarked("a host endpoint's policy let it through", marked(ACCEPT), "-j ACCEPT")


def _to_own_host(f: Filtering) -> Iterator[str]:
    if f.version == 6:
        yield from _icmpv6_accepted(_ICMPV6_ALWAYS)
    yield "-j cali-from-wl-dispatch"
    yield remarked("defaultEndpointToHostAction", f"-j {f.host_action.upper()}")


def _icmpv6_accepted(kinds: Iterable[int]) -> Iterator[str]:
    return (f"-p ipv6-icmp -m icmp6 --icmpv6-type {kind} -j ACCEPT" for kind in kinds)


def _dispatch(f: Filtering, option: str, prefix: str) -> Rules:
    jumps = [f"{option} {w.interface} -g {chain_name(prefix, w.interface)}" for w in f.workloads]
    return [*jumps, remarked("nobody's interface", "-j DROP")] if f.drops_unknown else jumps


def _opening() -> Rules:
    return [_ESTABLISHED, _INVALID, clear(ACCEPT)]


def _no_tunnels_from_pods(f: Filtering) -> Iterator[str]:
    """A pod that spoke a tunnel's language could write any source address it likes into the inner packet."""
    port = f.vxlan_port or 4789
    yield remarked("a pod may not make VXLAN", f"-p udp -m multiport --dports {port} -j DROP")
    yield remarked("a pod may not make IPIP", "-p 4 -j DROP")


def _judged(direction: Direction, way: str, *, is_final: bool = True, has_profiles: bool = True) -> Iterator[str]:
    """Ask tier by tier, then profile by profile. `is_final` is what stands at the end of a tier: a denial."""
    policy_prefix, profile_prefix = _PREFIXES[way]
    for tier in direction.tiers:
        yield remarked(f"tier {tier.name}", clear(PASS)) if _is_short(tier.name) else clear(PASS)
        for policy in tier.policies:
            yield f"{unmarked(PASS)} -j {chain_name(policy_prefix, policy)}"
            yield remarked("a policy let it through", marked(ACCEPT), "-j RETURN")
        if is_final and tier.ends_with_deny:
            yield remarked("no policy let it through", unmarked(PASS), "-j DROP")
    if has_profiles:
        for profile in direction.profiles:
            yield f"-j {chain_name(profile_prefix, profile)}"
            yield remarked("a profile let it through", marked(ACCEPT), "-j RETURN")
        yield remarked("no profile let it through", "-j DROP")


_PREFIXES = {INGRESS: ("cali-pi-", "cali-pri-"), EGRESS: ("cali-po-", "cali-pro-")}


def _is_short(name: str) -> bool:
    return len(name) <= 200  # a comment holds 256 bytes


def _policy_chains(f: Filtering, directions: Iterable[tuple[str, Direction | None]]) -> Chains:
    """The chains of all policies and profiles that these directions ask."""
    chains: Chains = {}
    for way, direction in directions:
        if direction is None:
            continue
        for source, prefix, names in (
            (f.policies, _PREFIXES[way][0], [name for tier in direction.tiers for name in tier.policies]),
            (f.profiles, _PREFIXES[way][1], direction.profiles),
        ):
            for name in names:
                chains[chain_name(prefix, name)] = _lines(source[name, way])
    return chains


def _lines(clauses: Iterable[Clause]) -> Rules:
    return [line for clause in clauses for line in clause_lines(clause)]


def _host_chains(f: Filtering) -> Chains:
    """Packets from and to the node itself, on interfaces under policy."""
    if not f.hosts:
        return {}
    chains: Chains = {
        "cali-from-host-endpoint": _host_dispatch("-i", "cali-fh-", f.hosts),
        "cali-to-host-endpoint": _host_dispatch("-o", "cali-th-", f.hosts),
        **_failsafe(f),
    }
    for host in f.hosts:
        for prefix, way, direction, failsafe in (
            ("cali-fh-", INGRESS, host.inbound, "cali-failsafe-in"),
            ("cali-th-", EGRESS, host.outbound, "cali-failsafe-out"),
        ):
            ends = [f"-j {failsafe}", clear(ACCEPT), *_judged(direction, way)]
            chains[_host_chain(prefix, host)] = [_ESTABLISHED, _INVALID, *ends]
    return chains


def _failsafe(f: Filtering) -> Chains:
    """Ports that no policy can close: a wrong one must not cut off whoever could mend it.

    Over IPv6 that takes neighbour discovery, which connection tracking leaves alone: no rule about states lets it by.
    """
    neighbours = list(_icmpv6_accepted(_ICMPV6_OF_HOSTS)) if f.version == 6 else []

    def accepted(ports: Iterable[FailsafePort], option: str) -> Iterator[str]:
        for port in ports:
            if port.net is None or port.net.version == f.version:
                net = f"{option} {port.net}" if port.net else ""
                yield joined((net, f"-p {port.protocol} -m multiport --dports {port.port} -j ACCEPT"))

    return {
        "cali-failsafe-in": [*neighbours, *accepted(f.failsafe_in, "-s")],
        "cali-failsafe-out": [*neighbours, *accepted(f.failsafe_out, "-d")],
    }


def _forwarding_chains(f: Filtering) -> Chains:
    """Packets through the node, on interfaces about which a policy with applyOnForward speaks."""
    if not f.hosts:
        return {}
    chains: Chains = {}
    for option, prefix, way, name in (
        ("-i", "cali-fhfw-", INGRESS, "cali-from-hep-forward"),
        ("-o", "cali-thfw-", EGRESS, "cali-to-hep-forward"),
    ):
        chains[name] = _host_dispatch(option, prefix, f.hosts)
        for host in f.hosts:
            direction = host.forward_inbound if way == INGRESS else host.forward_outbound
            # Nothing said about forwarding: the interface's chain is empty and lets everything through.
            chains[_host_chain(prefix, host)] = (
                [*_opening(), *_judged(direction, way, has_profiles=False)] if direction else []
            )
    return chains


def _host_dispatch(option: str, prefix: str, hosts: Iterable[HostInterface]) -> Rules:
    """One interface each; the one without a name takes what is left, but neither the loopback nor pods."""
    named = [f"{option} {host.interface} -g {_host_chain(prefix, host)}" for host in hosts if host.interface]
    every = [
        line
        for host in hosts
        if not host.interface
        for line in (f"{option} lo -j RETURN", f"{option} cali+ -j RETURN", f"-g {_host_chain(prefix, host)}")
    ]
    return [*named, *every]


def _host_chain(prefix: str, host: HostInterface) -> str:
    return chain_name(prefix, host.interface or _EVERY_INTERFACE)


def _raw(f: Filtering) -> Table:
    """Before connection tracking: spoofed sources go, tunnels pass, and policies that ask not to be tracked decide."""
    untracked = [h for h in f.hosts if h.untracked_inbound or h.untracked_outbound]
    chains: Chains = {
        "cali-PREROUTING": [
            clear(*_ALL_MARKS),
            f"-i cali+ {mark(FROM_WORKLOAD)}",
            remarked("its source is routed elsewhere", marked(FROM_WORKLOAD)) + " -m rpfilter --invert -j DROP",
        ]
    }
    hooks = {"PREROUTING": ["-j cali-PREROUTING"]}
    if f.vxlan_port or untracked:
        chains["cali-OUTPUT"] = [clear(*_ALL_MARKS)]
        hooks["OUTPUT"] = ["-j cali-OUTPUT"]
    for chain, rule in _tunnels_untracked(f):
        chains[chain].append(rule)
    if untracked:
        chains["cali-PREROUTING"] += [
            f"{unmarked(FROM_WORKLOAD)} -j cali-from-host-endpoint",
            f"{marked(ACCEPT)} -j ACCEPT",
        ]
        chains["cali-OUTPUT"] += ["-j cali-to-host-endpoint", f"{marked(ACCEPT)} -j ACCEPT"]
        chains["cali-from-host-endpoint"] = _host_dispatch("-i", "cali-fh-", untracked)
        chains["cali-to-host-endpoint"] = _host_dispatch("-o", "cali-th-", untracked)
        chains |= _failsafe(f)
        directions: list[tuple[str, Direction | None]] = []
        for host in untracked:
            for prefix, way, direction, failsafe in (
                ("cali-fh-", INGRESS, host.untracked_inbound, "cali-failsafe-in"),
                ("cali-th-", EGRESS, host.untracked_outbound, "cali-failsafe-out"),
            ):
                chains[_host_chain(prefix, host)] = [
                    f"-j {failsafe}",
                    clear(ACCEPT),
                    *_judged(direction or Direction(), way, is_final=False, has_profiles=False),
                ]
                directions.append((way, direction))
        chains |= {name: _not_tracked(rules) for name, rules in _policy_chains(f, directions).items()}
    return table(chains, hooks)


def _tunnels_untracked(f: Filtering) -> Iterator[tuple[str, str]]:
    """By chain: VXLAN between nodes is no connection, though it would fill the kernel's table like thousands of them.

    Its source port is a digest of the inner packet, and nobody answers to it.
    """
    if f.vxlan_port:
        port, name = f"-p udp -m multiport --dports {f.vxlan_port}", fixed_set(f.version, "all-vxlan-net")
        known = f"-m set --match-set {name} src -m addrtype --dst-type LOCAL"
        yield "cali-PREROUTING", f"{unmarked(FROM_WORKLOAD)} {port} {known} -j NOTRACK"
        yield "cali-OUTPUT", f"{port} -m set --match-set {name} dst -m addrtype --src-type LOCAL -j NOTRACK"


def _not_tracked(rules: Rules) -> Rules:
    """What a policy allows before connection tracking is never tracked: nor may its answers depend on it."""
    return [line for rule in rules for line in ([f"{marked(ACCEPT)} -j NOTRACK", rule] if _is_return(rule) else [rule])]


def _is_return(rule: str) -> bool:
    return rule == f"{marked(ACCEPT)} -j RETURN"


def _mangle(f: Filtering) -> Table:
    """Before destinations are translated: policies that ask for it."""
    hosts = [host for host in f.hosts if host.pre_dnat]
    if not hosts:
        return table({})
    chains: Chains = {
        "cali-PREROUTING": [
            _ESTABLISHED,
            f"{marked(ACCEPT)} -j ACCEPT",
            "-j cali-from-host-endpoint",
            remarked("a host endpoint's policy let it through", marked(ACCEPT), "-j ACCEPT"),
        ],
        "cali-from-host-endpoint": _host_dispatch("-i", "cali-fh-", hosts),
        "cali-failsafe-in": _failsafe(f)["cali-failsafe-in"],
    }
    for host in hosts:
        ends = _judged(host.pre_dnat or Direction(), INGRESS, is_final=False, has_profiles=False)
        chains[_host_chain("cali-fh-", host)] = [_INVALID, "-j cali-failsafe-in", clear(ACCEPT), *ends]
    chains |= _policy_chains(f, [(INGRESS, host.pre_dnat) for host in hosts])
    return table(chains, {"PREROUTING": ["-j cali-PREROUTING"]})


def _nat(f: Filtering) -> Table:
    """Sources of pools with natOutgoing become the node's own, unless the packet goes to a pool.

    Appended to POSTROUTING, so that those who translate services come first.
    """
    if not f.masquerades:
        return table({})
    match = joined(
        (
            f"-m set --match-set {fixed_set(f.version, 'masq-ipam-pools')} src",
            f"-m set ! --match-set {fixed_set(f.version, 'all-ipam-pools')} dst",
        )
    )
    chains = {"cali-POSTROUTING": ["-j cali-nat-outgoing"], "cali-nat-outgoing": [f"{match} -j MASQUERADE"]}
    return table(chains, appended={"POSTROUTING": ["-j cali-POSTROUTING"]})
