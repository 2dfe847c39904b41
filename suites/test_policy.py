"""Network policy: who may ask whom. Every pod asks every other; what must come of it an oracle of the judge's own says.

The scene is labs/outside.yaml, its pods with their labels; the manifests are those a user would apply. Who is denied is
asked in the same moment, through the same probes, as those who are not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import permutations, product
from typing import TypeVar

import yaml

from tunlab.check.policing import (
    answering,
    cast_of,
    demand_both,
    naming,
    policed,
    ruled,
    stored_endpoint,
    with_labels,
    with_spec,
    witnessed,
)
from tunlab.check.requirement import requirement
from tunlab.check.scene import Scene, read_documents
from tunlab.check.smuggling import Smuggler, arrivals
from tunlab.oracle.policy import NamedPort
from tunlab.wire.craft import protocol_packet

HERE = "fixtures/manifests/policy"
LABS, MODES = ("outside",), ("ipip", "vxlan")
NETWORK_POLICY = "Calico's documentation, NetworkPolicy"
GLOBAL_POLICY = "Calico's documentation, GlobalNetworkPolicy"
RULE = f"{NETWORK_POLICY}, Rule"
Proof = TypeVar("Proof", bound=Callable[..., None])


def policy(id: str, source: str) -> Callable[[Proof], Proof]:
    """A requirement of this scene."""
    return requirement(id, level="extended", scene="policy", labs=LABS, modes=MODES, needs=("policy",), source=source)


@policy("POL-01", f"{NETWORK_POLICY}, Spec: selector, types")
def test_who_is_selected_gets_nothing_that_no_rule_allows(scene: Scene) -> None:
    """A pod that a policy selects for ingress gets nothing that no rule allows, and sends as before."""
    with policed(scene, f"{HERE}/ingress-isolated.yaml") as questions:
        scene.holds(questions)


@policy("POL-02", f"{RULE}; EntityRule: selector, ports")
def test_rules_allow_by_label_protocol_and_port(scene: Scene) -> None:
    """An ingress rule lets in whom its selector means, on its protocol and port alone, from its own node and others."""
    with policed(scene, f"{HERE}/ingress-allowed.yaml") as questions:
        scene.holds(questions)


@policy("POL-03", f"{NETWORK_POLICY}, Spec: egress")
def test_egress_is_policed_apart_from_ingress(scene: Scene) -> None:
    """A pod that a policy selects for egress sends only what a rule allows, and answers whoever asks it."""
    with policed(scene, f"{HERE}/egress-allowed.yaml"):
        pass


@policy("POL-04", f"{GLOBAL_POLICY}, Spec")
def test_both_ends_must_agree(scene: Scene) -> None:
    """A packet passes where the policies of both ends let it pass: the sender's egress and the receiver's ingress."""
    with policed(scene, f"{HERE}/both-ends.yaml"):
        pass


@policy("POL-05", f"{GLOBAL_POLICY}, Spec: types")
def test_types_decide_and_have_calicos_defaults(scene: Scene) -> None:
    """`types` says which directions a policy is about; left out, its rules say it, and without rules it is ingress."""
    with policed(scene, f"{HERE}/types.yaml"):
        pass


@policy("POL-06", f"{GLOBAL_POLICY}, Spec: order")
def test_policies_are_asked_in_their_order(scene: Scene) -> None:
    """Of policies that contradict each other the lowest order wins; equal orders go by name; no order comes last."""
    with policed(scene, f"{HERE}/order.yaml", tcp=(80, 81, 82, 83, 84, 85)):
        pass


@policy("POL-07", f"{RULE}: action")
def test_the_first_rule_that_matches_decides_and_log_decides_nothing(scene: Scene) -> None:
    """Within a policy the first rule that matches decides; Log lets the packet go on to the next rule."""
    with policed(scene, f"{HERE}/rules-in-order.yaml"):
        pass


@policy("POL-08", "Calico's documentation, Tier: order, defaultAction; Rule: Pass")
def test_tiers_are_asked_in_their_order_and_pass_leads_to_the_next(scene: Scene) -> None:
    """Tiers are asked in order; Pass goes on to the next; at a tier's end its default action decides, Deny or Pass."""
    with policed(scene, f"{HERE}/tiers.yaml", tcp=(80, 81, 82)):
        pass


@policy("POL-09", f"{RULE}: Pass; Profile")
def test_what_the_last_tier_passes_the_profile_decides(scene: Scene) -> None:
    """What the last tier passes on is decided by the pod's profiles, and its namespace's allows it."""
    with policed(scene, f"{HERE}/pass-to-profiles.yaml"):
        pass


@policy("POL-10", f"{GLOBAL_POLICY}, Selectors")
def test_every_operator_of_the_selector_grammar_means_whom_it_should(scene: Scene) -> None:
    """Rules find their sources by the whole selector grammar: comparison, sets, has, parts of texts, and, or, not."""
    with policed(scene, f"{HERE}/selectors.yaml", tcp=tuple(range(1001, 1017)), udp=()):
        pass


@policy("POL-11", f"{GLOBAL_POLICY}, Spec: selector")
def test_a_policy_is_about_the_pods_that_its_selector_means(scene: Scene) -> None:
    """A policy is about exactly the pods whose labels its selector means, wherever they run."""
    with policed(scene, f"{HERE}/selected.yaml"):
        pass


@policy("POL-12", f"{RULE}, EntityRule: nets, notNets")
def test_ingress_rules_match_addresses_by_nets_and_not_nets(scene: Scene) -> None:
    """`nets` and `notNets` match senders and receivers by address: networks, single ones, and exceptions from them."""
    with policed(scene, f"{HERE}/nets.yaml", tcp=(80, 81, 82)):
        pass


@policy("POL-13", f"{RULE}, EntityRule: nets, notNets")
def test_egress_rules_match_addresses_by_nets_and_not_nets(scene: Scene) -> None:
    """An egress rule for all of 0.0.0.0/0 but one network lets out what goes anywhere else."""
    with policed(scene, f"{HERE}/egress-nets.yaml"):
        pass


@policy("POL-14", f"{RULE}, Ports")
def test_ports_are_numbers_lists_and_ranges_and_all_but_those(scene: Scene) -> None:
    """Rules match ports by number, list and range, bounds included, and by `notPorts` all others."""
    tcp = (79, 80, 81, 8079, 8080, 8081, 8082, 8083, 9000)
    with policed(scene, f"{HERE}/ports.yaml", tcp=tcp, udp=(53, 54, 999, 1000, 1001, 1002, 1003)):
        pass


@policy("POL-15", f"{RULE}, Ports")
def test_a_rule_may_name_more_ports_than_the_kernel_takes_at_once(scene: Scene) -> None:
    """A rule with more ports than one rule of the kernel holds matches all of them and no other."""
    ports = (80, 1001, 1002, 1009, 1017, 1021, 1022, 1031, 1041, 1042, 1043, 1053, 8080, 8081)
    with policed(scene, f"{HERE}/many-ports.yaml", tcp=ports, udp=(53, 54, 1001, 1021, 1041, 1042, 1043, 1053)):
        pass


@policy("POL-16", f"{RULE}, Ports; WorkloadEndpoint: ports")
def test_a_port_by_name_is_the_number_that_the_pod_gives_it(scene: Scene) -> None:
    """A named port is the number that the receiving pod gives to the name, for the protocol of the rule alone."""
    http, alternate = NamedPort("http", "tcp", 80), NamedPort("http", "tcp", 8080)
    dns, other_dns = NamedPort("dns", "udp", 53), NamedPort("dns", "tcp", 54)
    cast = cast_of(scene)
    cast["pod1"], cast["pod5"] = naming(cast["pod1"], http, dns, other_dns), naming(cast["pod5"], alternate)
    endpoints = [
        with_spec(
            stored_endpoint(scene, name),
            ports=[{"name": p.name, "protocol": p.protocol.upper(), "port": p.number} for p in cast[name].ports],
        )
        for name in ("pod1", "pod5")
    ]
    tcp, udp = (54, 80, 8080, 9000), (53, 54, 80)
    questions = witnessed(scene, ruled(scene, [f"{HERE}/named-ports.yaml"], cast, tcp=tcp, udp=udp))
    with (
        answering(scene, cast, tcp, udp),
        scene.applied(*endpoints),
        scene.applied(f"{HERE}/named-ports.yaml"),
    ):
        scene.settle(questions)


@policy("POL-17", f"{RULE}, ICMP: type, code")
def test_icmp_is_matched_by_type_and_code(scene: Scene) -> None:
    """ICMP rules match by type and code and by `notICMP`; a ping is type 8, code 0."""
    with policed(scene, f"{HERE}/icmp.yaml"):
        pass


@policy("POL-18", f"{RULE}: protocol, notProtocol")
def test_protocols_go_by_name_and_number(scene: Scene) -> None:
    """Rules match protocols by name and by number, and by `notProtocol` all others."""
    with policed(scene, f"{HERE}/protocols.yaml"):
        pass


@policy("POL-19", f"{RULE}, EntityRule: namespaceSelector; {NETWORK_POLICY}")
def test_a_namespaced_policy_and_its_selectors_stay_in_their_namespace(scene: Scene) -> None:
    """A NetworkPolicy is about pods of its namespace, and so are its rules unless they name other namespaces."""
    with policed(scene, f"{HERE}/namespaces.yaml", tcp=(80, 81, 82)):
        pass


@policy("POL-20", "Calico's documentation, GlobalNetworkSet")
def test_network_sets_are_meant_by_their_labels(scene: Scene) -> None:
    """A rule's selector means the networks of sets with such labels as it means pods, overlapping ones included."""
    with policed(scene, f"{HERE}/sets.yaml"):
        pass


@policy("POL-21", "Calico's documentation, GlobalNetworkSet")
def test_a_network_set_that_changes_changes_who_is_meant(scene: Scene) -> None:
    """When the networks of a set change, who is let in changes with them, without the policy being touched."""
    documents = read_documents(f"{HERE}/sets.yaml")
    with policed(scene, *documents):
        changed = [dict(one) for one in documents]
        changed[0] = {**changed[0], "spec": {"nets": ["172.17.3.0/26", "172.17.1.11"]}}
        questions = ruled(scene, changed, cast_of(scene))
        demand_both(questions)
        with scene.applied(changed[0]):
            scene.settle(questions)


@policy("POL-22", "Calico's documentation, Profile: ingress, egress, labelsToApply")
def test_a_profile_decides_where_no_policy_selects(scene: Scene) -> None:
    """Where no policy selects a pod its profiles decide, and the labels that a profile gives count as the pod's own."""
    cast = cast_of(scene)
    documents = read_documents(f"{HERE}/profile.yaml")
    cast["pod1"] = replace(cast["pod1"], profiles=("only-tcp-in",))
    endpoint = with_spec(stored_endpoint(scene, "pod1"), profiles=["only-tcp-in"])
    questions = witnessed(scene, ruled(scene, documents, cast))
    with answering(scene, cast), scene.applied(*documents), scene.applied(endpoint):
        scene.settle(questions)


@policy("POL-23", "Calico's documentation, WorkloadEndpoint: labels")
def test_labels_that_change_on_a_live_pod_move_its_verdict(scene: Scene) -> None:
    """When labels of a running pod change, policies and rules mean it by the new ones within 5 s."""
    with policed(scene, f"{HERE}/ingress-allowed.yaml"):
        cast = cast_of(scene)
        cast["pod5"] = replace(cast["pod5"], labels={**cast["pod5"].labels, "app": "shop"})
        after = ruled(scene, [f"{HERE}/ingress-allowed.yaml"], cast)
        before = ruled(scene, [f"{HERE}/ingress-allowed.yaml"], cast_of(scene))
        with scene.applied(with_labels(stored_endpoint(scene, "pod5"), app="shop")):
            scene.settle(after, within_s=5.0)
        scene.settle(before, within_s=5.0)


@policy("POL-24", "Calico's documentation, Policy rules: connections are tracked")
def test_a_connection_that_was_let_through_goes_on(scene: Scene) -> None:
    """A connection that was let through goes on when a policy forbids new ones, and those it does forbid."""
    with (
        scene.flow("pod2", "pod1") as same_node,
        scene.flow("pod3", "pod1") as across,
        policed(scene, f"{HERE}/ingress-isolated.yaml") as questions,
    ):
        scene.holds(questions, times=1)
    assert (same_node.lost, across.lost) == (0, 0), f"pod2 → pod1: {same_node}; pod3 → pod1: {across}"


@policy("POL-25", f"{NETWORK_POLICY}; design: applied atomically")
def test_while_policies_change_nobody_is_let_in_or_shut_out_by_the_way(scene: Scene) -> None:
    """While a policy is written anew ten times, who is allowed loses no packet and who is denied gets none through."""
    documents = read_documents(f"{HERE}/ingress-allowed.yaml")
    spec = documents[0]["spec"]
    rule = {"action": "Allow", "protocol": "ICMP", "source": {"selector": "app == 'shop'"}}
    pings = {**documents[0], "spec": {**spec, "ingress": [rule, *spec["ingress"]]}}
    with policed(scene, pings) as questions, scene.flow("pod2", "pod1") as near, scene.flow("pod3", "pod1") as far:
        denied = [question for question in questions if question.expected.outcomes != ("answered",)]
        for number in range(10):
            more = {"action": "Allow", "protocol": "TCP", "destination": {"ports": [2000 + number]}}
            anew = {**pings, "spec": {**spec, "ingress": [rule, *spec["ingress"], more]}}
            scene.ctl("apply", "-f", "-", stdin=yaml.safe_dump(anew, sort_keys=False))
            scene.holds(denied, times=1)
    assert (near.lost, far.lost) == (0, 0), f"pod2 → pod1: {near}; pod3 → pod1: {far}"


@policy("POL-26", f"{NETWORK_POLICY}")
def test_with_its_policies_gone_everything_is_as_before(scene: Scene) -> None:
    """When policies are deleted everybody reaches everybody again."""
    cast = cast_of(scene)
    with policed(scene, f"{HERE}/both-ends.yaml", f"{HERE}/icmp.yaml"):
        pass
    with answering(scene, cast):
        scene.settle(ruled(scene, [], cast), within_s=5.0)


@policy("POL-27", f"{NETWORK_POLICY}")
def test_a_pod_that_starts_under_a_policy_is_policed_from_its_first_packet_on(scene: Scene) -> None:
    """A pod that starts where policies are in force is policed as the others are as soon as its ADD has ended."""
    documents = [f"{HERE}/ingress-allowed.yaml"]
    with policed(scene, *documents), scene.pod("late", "node2", labels={"app": "web"}):
        cast = cast_of(scene)
        cast["late"] = replace(cast["late"], labels={"app": "web"})
        pairs = [pair for pair in permutations(cast, 2) if "late" in pair]
        questions = ruled(scene, documents, cast, pairs=pairs)
        demand_both(questions)
        with answering(scene, ["late"]):
            scene.holds([question for question in questions if question.expected.outcomes != ("answered",)], times=1)
            scene.settle(questions)


@policy("POL-28", f"{RULE}: protocol")
def test_a_protocol_without_a_name_is_matched_by_its_number(scene: Scene) -> None:
    """A rule for protocol 253 lets in packets of protocol 253, and none of 254."""
    with scene.applied(f"{HERE}/protocol-253.yaml"):
        sent = []
        for source, protocol in product(("pod2", "pod3"), (253, 254)):
            smuggler, mark = Smuggler(scene, source), Smuggler.mark()
            packet = protocol_packet(smuggler.address, str(scene.workloads["pod1"].address), protocol, mark, b"x" * 32)
            sent.append(smuggler.sends(f"{protocol} of {source}", packet, mark, is_honest=protocol == 253))
        seen = arrivals(scene, "pod1/eth0", sent)
    assert seen == {"253 of pod2", "253 of pod3"}, f"pod1/eth0: seen {', '.join(sorted(seen))}, wanted 253 alone"


@policy("POL-29", "Calico: Felix deletes connection tracking entries of removed workloads")
def test_whoever_gets_a_pods_address_inherits_none_of_its_connections(scene: Scene) -> None:
    """When a pod is gone, the node that it was on forgets every connection from and to its address within 5 s."""
    with scene.pod("early", "node1") as early, answering(scene, ["early"]):
        address = str(early.address)
        asked = [scene.question(a, b, "tcp", port=80) for a, b in (("pod3", "early"), ("pod2", "early"))]
        scene.settle([*asked, scene.question("early", "pod3"), scene.question("early", "node2")])
        assert _connections(scene, "node1", address), f"node1: follows no connection of {address}"
    scene.eventually(
        lambda: _connections(scene, "node1", address),
        lambda lines: not lines,
        within_s=5.0,
        what=f"node1: forgets the connections of {address}",
    )


def _connections(scene: Scene, node: str, address: str) -> list[str]:
    """What a node follows that this address has a part in."""
    lines = scene.run(node, "conntrack -L 2>/dev/null").out.splitlines()
    return [line for line in lines if f"={address} " in line]
