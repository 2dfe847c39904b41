"""What is asked of whom under a policy, and that a set of questions without a witness is refused."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import pytest

from tunlab.check.matrix import Expected, Question
from tunlab.check.policing import DENIED, DENIED_ON_THE_HOST, demand_both, ruled, vouching, with_labels, with_spec
from tunlab.check.scene import Scene
from tunlab.errors import Bug
from tunlab.oracle.policy import Endpoint

DENY = {"kind": "GlobalNetworkPolicy", "metadata": {"name": "deny"}, "spec": {"selector": "app == 'web'"}}
HOST = {
    "kind": "GlobalNetworkPolicy",
    "metadata": {"name": "host"},
    "spec": {"selector": "role == 'host'", "types": ["Egress"]},
}


class PlainScene:
    """Makes questions as a scene does, without a lab."""

    workloads: ClassVar = {name: SimpleNamespace(node="node1") for name in ("web", "shop")}

    def expecting(self, question: Question, expected: Expected) -> Question:
        return replace(question, expected=expected)

    def answer(self) -> Expected:
        return Expected.answer("x")

    def question(
        self, source: str, target: str, protocol: str, *, port: int, expect: Expected | None = None
    ) -> Question:
        expect = expect or Expected.answer(target, saw="192.0.2.1")
        return Question(source, target, target, protocol, 56, expect, f"port {port}", port)


SCENE = cast(Scene, PlainScene())
CAST = {
    "web": Endpoint("web", IPv4Address("10.0.0.1"), labels={"app": "web"}, profiles=("kns.default",)),
    "shop": Endpoint("shop", IPv4Address("10.0.0.2"), profiles=("kns.default",)),
    "node": Endpoint("node", IPv4Address("192.0.2.1"), "host", {"role": "host"}, "", ("kns.default",)),
}


def asked(*documents: dict[str, Any], **more: Any) -> dict[str, bool]:
    questions = ruled(SCENE, documents, CAST, tcp=(80,), udp=(), icmp=False, **more)
    return {f"{q.source} {q.target}": q.expected.outcomes == ("answered",) for q in questions}


def test_every_pair_is_asked_and_the_oracle_says_what_must_come_of_it() -> None:
    assert asked(DENY) == {
        "web shop": True,
        "web node": True,
        "shop web": False,
        "shop node": True,
        "node web": False,
        "node shop": True,
    }


def test_only_the_pairs_that_are_named_are_asked() -> None:
    assert asked(DENY, pairs=[("shop", "web")]) == {"shop web": False}


def test_a_hosts_own_kernel_may_refuse_what_its_policy_denies_and_a_pods_may_not() -> None:
    questions = ruled(SCENE, [DENY, HOST], CAST, pairs=[("node", "shop"), ("shop", "web")], tcp=(80,), udp=())
    assert {q.source: q.expected for q in questions} == {"node": DENIED_ON_THE_HOST, "shop": DENIED}


def test_a_denial_alone_has_no_witness_and_is_refused() -> None:
    with pytest.raises(Bug, match=r"^policy: what is asked: nothing of it must be answered, or all of it$"):
        demand_both(ruled(SCENE, [DENY], CAST, pairs=[("shop", "web")]))


def test_a_changed_endpoint_keeps_what_was_not_changed() -> None:
    endpoint = {"metadata": {"name": "a", "labels": {"app": "web", "env": "prod"}}, "spec": {"pod": "a", "node": "n"}}
    assert with_labels(endpoint, app="db")["metadata"] == {"name": "a", "labels": {"app": "db", "env": "prod"}}
    assert with_spec(endpoint, profiles=["p"])["spec"] == {"pod": "a", "node": "n", "profiles": ["p"]}
    assert endpoint["metadata"]["labels"] == {"app": "web", "env": "prod"}  # type: ignore[index]


def test_whom_nobody_may_reach_its_own_node_vouches_for() -> None:
    questions = ruled(SCENE, [DENY], CAST, tcp=(80,), udp=(53,), icmp=False)
    found = vouching(SCENE, questions)
    assert [(q.source, q.target, q.protocol, q.port) for q in found] == [
        ("node1", "web", "tcp", 80),
        ("node1", "web", "udp", 53),
    ]
    assert {q.expected for q in found} == {Expected.answer("web")}, "from which address it asks is another matter"
    assert vouching(SCENE, ruled(SCENE, [], CAST, tcp=(80,), udp=(), icmp=False)) == []
