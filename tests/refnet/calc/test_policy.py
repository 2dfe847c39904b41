"""Who is selected by what, in which order it counts, and who is meant by it: from the present store alone."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import pytest

from refnet.calc.policy.calculate import filtering, filterings
from refnet.calc.policy.filtering import Direction, Filtering, TierStep
from refnet.calc.world import read_world
from refnet.model.failsafe import INBOUND, FailsafePort
from refnet.model.port import ICMP
from refnet.render.chains import Table
from refnet.render.iptables import tables
from tests.refnet.calc import policies as p
from tests.refnet.calc import situations as s


def calculated(store: Mapping[str, Any], version: int = 4) -> Filtering:
    return filtering(read_world(store, "node1"), "node1", version)


def direction(found: Filtering, pod: str, *, inbound: bool) -> Direction:
    workload = next(w for w in found.workloads if w.interface == f"cali{pod}")
    return workload.inbound if inbound else workload.outbound


def members(found: Filtering, selector_of: int) -> frozenset[str]:
    """Who is in the set of the given rule of the policy every-rule."""
    clause = found.policies["np/default/every-rule", "Ingress"][selector_of]
    (name,) = clause.source.sets
    return found.sets[name].members


@pytest.mark.parametrize("store", p.WORLDS.values(), ids=p.WORLDS.keys())
def test_the_order_in_which_the_store_came_to_be_leaves_no_trace(store: Mapping[str, Any]) -> None:
    expected = calculated(store)
    for seed in range(5):
        keys = sorted(store)
        random.Random(seed).shuffle(keys)
        assert calculated({key: store[key] for key in keys}) == expected


@pytest.mark.parametrize("store", p.WORLDS.values(), ids=p.WORLDS.keys())
@pytest.mark.parametrize("between", [{}, p.PODS, p.POLICED, p.HOSTS], ids=["nothing", "pods", "policed", "hosts"])
def test_what_was_before_leaves_no_trace(store: Mapping[str, Any], between: Mapping[str, Any]) -> None:
    expected = calculated(store)
    calculated(between)
    assert calculated(store) == expected


def test_without_any_policy_profiles_decide_and_a_pod_nobody_knows_yet_is_let_through() -> None:
    found = calculated(p.PODS)
    assert direction(found, "web", inbound=True) == Direction((), ("kns.default",))
    assert [clause.action for clause in found.profiles["kns.default", "Ingress"]] == ["Allow"]
    assert not found.drops_unknown
    assert calculated(p.POLICED).drops_unknown


def test_only_pods_of_this_node_are_filtered_here() -> None:
    assert [w.interface for w in calculated(p.POLICED).workloads] == ["calidb", "caliweb"]


def test_tiers_come_in_order_and_only_with_policies_of_the_direction() -> None:
    found = calculated(p.POLICED)
    gate, rest = TierStep("security", ("gnp/gate",)), ("kns.default",)
    every = TierStep("default", ("np/default/every-rule", "gnp/deny-all"))
    assert direction(found, "web", inbound=True) == Direction((gate, every), rest)
    assert direction(found, "web", inbound=False) == Direction((gate,), rest)
    audit = TierStep("audit", ("gnp/log",), ends_with_deny=False)
    assert direction(found, "db", inbound=False) == Direction((audit, gate), rest)


@pytest.mark.parametrize(
    ("orders", "expected"),
    [
        ({"a": 20, "b": 10}, ["b", "a"]),
        ({"a": None, "b": 10}, ["b", "a"]),
        ({"b": 10, "a": 10}, ["a", "b"]),
        ({"b": 0.5, "a": 1}, ["b", "a"]),
        ({"b": -1, "a": 0}, ["b", "a"]),
    ],
    ids=["by order", "none is last", "then by name", "fractions", "below zero"],
)
def test_policies_count_in_order(orders: Mapping[str, float | None], expected: list[str]) -> None:
    several = [p.policy(name, "", **_order(order)) for name, order in orders.items()]
    (tier,) = direction(calculated(p.together(p.PODS, *several)), "web", inbound=True).tiers
    assert list(tier.policies) == [f"gnp/{name}" for name in expected]


def _order(order: float | None) -> dict[str, Any]:
    return {} if order is None else {"order": order}


def test_a_selector_means_endpoints_of_all_nodes_and_network_sets_of_one_family() -> None:
    two = p.policy("x", ingress=[p.allow(source={"selector": "app == 'shop'"})])
    for version, expected in ((4, {"10.65.1.1", "203.0.113.0/24"}), (6, {"fd00::/8"})):
        found = calculated(p.together(p.POLICED, two), version)
        (name,) = found.policies["gnp/x", "Ingress"][0].source.sets
        assert found.sets[name].members == expected


def test_a_namespaced_policy_looks_in_its_own_namespace_unless_it_says_in_which() -> None:
    found = calculated(p.POLICED)
    assert members(found, -3) == {"10.65.1.1"}, "global sets lie in no namespace"
    assert members(found, -2) == {"10.65.1.2"}
    assert members(found, -1) == frozenset()


def test_a_named_port_is_each_endpoints_own() -> None:
    clause = calculated(p.POLICED).policies["np/default/every-rule", "Ingress"][0]
    (name,) = clause.destination.port_sets
    assert calculated(p.POLICED).sets[name].members == {"10.65.0.1,tcp:8080"}


def test_everything_is_two_halves_because_a_set_cannot_hold_it_whole() -> None:
    found = calculated(p.POLICED)
    assert members(found, 2) == {"0.0.0.0/1", "128.0.0.0/1", "10.0.0.0/8"}


def test_rules_of_the_other_family_are_not_there() -> None:
    four, six = (calculated(p.POLICED, version) for version in (4, 6))
    key, about_six = ("np/default/every-rule", "Ingress"), 2
    assert len(four.policies[key]) == len(p.EVERY_RULE) - about_six
    assert not any(clause.protocol == ICMP or clause.source.net for clause in six.policies[key][:-1])
    assert str(six.policies[key][-1].source.net) == "fd00::/8"


def test_labels_changed_on_a_pod_change_what_selects_it() -> None:
    before = p.together(p.PODS, p.policy("x", selector="app == 'web'"))
    after = p.together(before, p.endpoint("node1", "web", "10.65.0.1", labels={"app": "other"}))
    assert direction(calculated(before), "web", inbound=True).tiers
    assert not direction(calculated(after), "web", inbound=True).tiers


def test_a_profile_hands_down_labels_but_not_over_a_pods_own() -> None:
    profile = p.named("Profile", "profiles", "kns.default", {"labelsToApply": {"app": "inherited", "trust": "low"}})
    rule = p.allow(source={"selector": "app == 'inherited' || trust == 'low' && app == 'shop'"})
    found = calculated(p.together(p.PODS, profile, p.policy("x", ingress=[rule])))
    (name,) = found.policies["gnp/x", "Ingress"][0].source.sets
    assert found.sets[name].members == {"10.65.1.1"}


def test_an_unknown_profile_allows_nothing() -> None:
    found = calculated(p.together(p.PODS, p.endpoint("node1", "web", "10.65.0.1", profiles=["nobody"])))
    assert found.profiles["nobody", "Ingress"] == ()


def test_nat_leaves_every_pool_alone_also_a_disabled_one() -> None:
    found = calculated(p.NAT)
    assert found.masquerades
    assert found.sets["cali40masq-ipam-pools"].members == {"10.66.0.0/16"}
    assert found.sets["cali40all-ipam-pools"].members == {"10.65.0.0/16", "10.66.0.0/16", "10.0.0.0/10"}
    assert not calculated(p.PODS).masquerades
    assert "cali40masq-ipam-pools" not in calculated(p.PODS).sets


def test_tunnel_packets_may_come_from_every_node_that_is_there() -> None:
    assert calculated(p.PODS).sets["cali40all-vxlan-net"].members == {"192.0.2.1", "192.0.2.2"}
    ipip = calculated(p.together(p.PODS, s.pool(ipipMode="Always")))
    assert (ipip.carries_ipip, ipip.vxlan_port) == (True, None)
    assert ipip.sets["cali40all-hosts-net"].members == {"192.0.2.1", "192.0.2.2"}


def test_while_others_still_send_ipip_only_nodes_may() -> None:
    half_way = calculated(s.STRAGGLER.store)
    assert (half_way.carries_ipip, half_way.vxlan_port) == (True, 4789)
    assert "192.0.2.2" in half_way.sets["cali40all-hosts-net"].members
    assert not calculated(s.VXLAN.store).carries_ipip


def test_a_host_endpoint_is_found_by_its_name_or_by_its_address() -> None:
    by_address = p.named("HostEndpoint", "hostendpoints", "a", {"node": "node1", "expectedIPs": ["192.0.2.1"]})
    world = read_world(p.together(p.PODS, by_address), "node1")
    own = world.nodes["node1"].address
    assert own
    assert [host.interface for host in filtering(world, "node1", 4, {own.ip: "eth7"}).hosts] == ["eth7"]
    assert filtering(world, "node1", 4, {}).hosts == ()
    assert [host.interface for host in calculated(p.HOSTS).hosts] == ["", "eth0"]
    assert filtering(read_world(p.HOSTS, "node2"), "node2").hosts == ()


def test_failsafe_ports_are_calicos_unless_somebody_says_others_or_none() -> None:
    assert calculated(p.HOSTS).failsafe_in == INBOUND
    spec = {"failsafeInboundHostPorts": [{"protocol": "UDP", "port": 53}], "failsafeOutboundHostPorts": []}
    found = calculated(p.together(p.HOSTS, p.named("FelixConfiguration", "felixconfigurations", "default", spec)))
    assert (found.failsafe_in, found.failsafe_out) == ((FailsafePort("udp", 53),), ())


def test_each_kind_of_host_policy_has_its_own_place() -> None:
    eth0 = next(host for host in calculated(p.HOSTS).hosts if host.interface == "eth0")

    def asked(direction: Direction | None) -> list[str]:
        return [name for tier in (direction.tiers if direction else ()) for name in tier.policies]

    assert asked(eth0.inbound) == ["gnp/hosts"]
    assert asked(eth0.outbound) == ["gnp/hosts", "gnp/through"]
    assert (asked(eth0.forward_inbound), asked(eth0.forward_outbound)) == ([], ["gnp/through"])
    assert asked(eth0.pre_dnat) == ["gnp/before"]
    assert (asked(eth0.untracked_inbound), asked(eth0.untracked_outbound)) == (["gnp/bare"], ["gnp/bare"])


def test_the_second_family_is_filtered_wherever_the_kernel_speaks_it_whatever_pools_there_are() -> None:
    four, six = filterings(read_world(p.HOSTS, "node1"), "node1", {}, has_ipv6=True)
    assert (four.version, six.version) == (4, 6)
    assert [host.interface for host in six.hosts] == [host.interface for host in four.hosts] != []
    assert filterings(read_world(p.HOSTS, "node1"), "node1", {}, has_ipv6=False) == (four,)


def test_without_ipv6_support_no_rule_about_ipv6_is_wanted() -> None:
    store = p.together(
        p.HOSTS, s.resource("FelixConfiguration", "felixconfigurations", "default", {"ipv6Support": False})
    )
    _, six = filterings(read_world(store, "node1"), "node1", {}, has_ipv6=True)
    assert set(map(str, tables(six).values())) == {str(Table())} and not six.sets


HOSTILE: Mapping[str, dict[str, Any]] = {
    "a megabyte of selector": p.policy("x", selector="a" * 1_000_000),
    "a name that climbs": {f"{s.RESOURCES}globalnetworkpolicies/x": next(iter(p.policy("../../etc/passwd").values()))},
    "control characters": p.policy("x", selector="app == 'a\x00b'", order="\n-F"),
    "a tier that is not there": p.policy("x", tier="nowhere"),
    "rules that are none": p.policy("x", ingress=["drop everything"]),
    "rules upon rules": p.policy("x", ingress=[p.allow()] * 5000),
    "ports of all kinds": p.policy(
        "x", ingress=[p.allow(protocol="TCP", destination={"ports": [{}, None, [], "a b"]})]
    ),
    "another's name": {f"{s.RESOURCES}globalnetworkpolicies/y": next(iter(p.policy("x").values()))},
    "another's namespace": {f"{s.RESOURCES}networkpolicies/a/x": next(iter(p.policy("x", "b").values()))},
}


@pytest.mark.parametrize("bad", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_bad_policy_is_named_and_everything_else_works_on(bad: dict[str, Any]) -> None:
    world = read_world(p.together(p.POLICED, bad), "node1")
    assert len(world.invalid) == 1
    assert filtering(world, "node1") == calculated(p.POLICED)
