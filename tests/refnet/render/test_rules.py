"""Rules and sets are rendered word for word as in tests/golden/refnet, and only what differs is written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from refnet.calc.policy.calculate import filtering
from refnet.calc.policy.filtering import AddressSet, Clause, End
from refnet.calc.world import read_world
from refnet.render.chains import Table, chain_name, fingerprinted, table
from refnet.render.clauses import clause_lines
from refnet.render.ipset import leftover_lines, set_lines
from refnet.render.iptables import tables
from refnet.render.restore import Present, parse_save, restore_text
from tests.refnet.calc import policies as p

GOLDEN = Path(__file__).parents[2] / "golden/refnet"


def rendered(store: Mapping[str, Any]) -> str:
    """What an empty node is given: the sets, then the tables; without the fingerprints, which follow from the rest."""
    want = filtering(read_world(store, "node1"), "node1")
    sets = "".join(f"{line}\n" for line in set_lines(want.sets, {}))
    rules = "".join(restore_text(name, table, Present(), None) for name, table in tables(want).items())
    return sets + re.sub(r'-m comment --comment "cali:[^"]*" ', "", rules)


@pytest.mark.parametrize("name", p.WORLDS)
def test_rules_are_the_golden_ones(name: str) -> None:
    assert rendered(p.WORLDS[name]) == (GOLDEN / f"{name}.rules").read_text()


@pytest.mark.parametrize("name", p.WORLDS)
def test_every_chain_that_a_rule_leads_to_is_there_and_no_name_is_too_long(name: str) -> None:
    for each in tables(filtering(read_world(p.WORLDS[name], "node1"), "node1")).values():
        rules = [
            rule for part in (each.chains, each.inserted, each.appended) for rules in part.values() for rule in rules
        ]
        targets = {found[1] for rule in rules if (found := re.search(r"-[jg] (cali-\S+)", rule))}
        assert targets <= each.chains.keys()
        assert all(len(chain) <= 28 for chain in each.chains)


@pytest.mark.parametrize(
    ("identity", "expected"),
    [
        ("gnp/deny", "cali-pi-gnp/deny"),
        ("gnp/a-name-of-many-characters", "cali-pi-_6cGXCBWqA0JxnJ_KKEu"),
        ("a b\n-F", "cali-pi-_"),
        ("", "cali-pi-_"),
        ("_x", "cali-pi-_"),
    ],
    ids=["short", "long", "hostile", "empty", "like a digest"],
)
def test_a_chains_name_is_its_identity_or_a_digest_of_it(identity: str, expected: str) -> None:
    name = chain_name("cali-pi-", identity)
    assert re.fullmatch(r"cali-pi-[A-Za-z0-9/_=-]{1,20}", name)
    assert name.startswith(expected[:9])
    assert name == expected or len(name) == 28


def test_more_ports_than_one_match_holds_are_alternatives() -> None:
    ports = (*((port, port) for port in range(1, 15)), (100, 200), (300, 300))
    lines = list(clause_lines(Clause("Deny", 6, destination=End(port_ranges=ports, port_sets=("x",)))))
    assert lines == [
        "-p tcp -m multiport --dports 1,2,3,4,5,6,7,8,9,10,11,12,13,14 -j DROP",
        "-p tcp -m multiport --dports 100:200,300 -j DROP",
        "-p tcp -m set --match-set x dst,dst -j DROP",
    ]


def test_a_fingerprint_is_of_all_rules_down_to_its_own() -> None:
    one, two = fingerprinted("c", ["a", "b", "c"]), fingerprinted("c", ["a", "x", "c"])
    assert [rule == other for rule, other in zip(one, two, strict=True)] == [True, False, False]
    assert fingerprinted("d", ["a"]) != one[:1]


WANT = table(
    {"cali-A": ["-j cali-B", "-j DROP"], "cali-B": ["-j RETURN"]}, {"INPUT": ["-j cali-A"]}, {"FORWARD": ["-j ACCEPT"]}
)
RIGHT = {
    "INPUT": (*WANT.inserted["INPUT"], "-j FOREIGN"),
    "FORWARD": ("-j FOREIGN", *WANT.appended["FORWARD"]),
    "FOREIGN": ("-j ACCEPT",),
    **WANT.chains,
}


def work(
    have: Mapping[str, tuple[str, ...]], want: Table = WANT, believed: Mapping[str, tuple[str, ...]] | None = None
) -> list[str]:
    text = restore_text("filter", want, Present(have), believed)
    return [re.sub(r'-m comment --comment "[^"]*" ', "", line) for line in text.splitlines()[1:-1]]


def test_nothing_is_written_where_all_is_right() -> None:
    assert restore_text("filter", WANT, Present(RIGHT), None) == ""
    assert restore_text("filter", WANT, Present(RIGHT), Present(RIGHT).ours()) == ""
    assert restore_text("nat", table({}), Present({"POSTROUTING": ("-j KUBE-POSTROUTING",)}), None) == ""


HEAD, TAIL = WANT.inserted["INPUT"][0], WANT.appended["FORWARD"][0]
DAMAGED: Mapping[str, tuple[dict[str, tuple[str, ...]], list[str]]] = {
    "a rule is gone": (
        {"cali-A": WANT.chains["cali-A"][:1]},
        [":cali-A - [0:0]", "-A cali-A -j cali-B", "-A cali-A -j DROP"],
    ),
    "a rule too many": (
        {"cali-B": ("-j ACCEPT", *WANT.chains["cali-B"])},
        [":cali-B - [0:0]", "-A cali-B -j RETURN"],
    ),
    "the order changed": (
        {"cali-A": WANT.chains["cali-A"][::-1]},
        [":cali-A - [0:0]", "-A cali-A -j cali-B", "-A cali-A -j DROP"],
    ),
    "a hook is gone": ({"INPUT": ("-j FOREIGN",)}, ["-I INPUT 1 -j cali-A"]),
    "somebody came before the hook": (
        {"INPUT": ("-j FOREIGN", HEAD)},
        ["-D INPUT -j cali-A", "-I INPUT 1 -j cali-A"],
    ),
    "a hook stands twice": (
        {"INPUT": (HEAD, HEAD)},
        ["-D INPUT -j cali-A", "-D INPUT -j cali-A", "-I INPUT 1 -j cali-A"],
    ),
    "a tail is gone": ({"FORWARD": ()}, ["-A FORWARD -j ACCEPT"]),
    "a chain nobody wants": ({"cali-old": ("-j DROP",)}, [":cali-old - [0:0]", "-X cali-old"]),
    "a chain nobody wants but somebody uses": (
        {"cali-old": (), "FOREIGN": ("-p tcp -j cali-old",)},
        [":cali-old - [0:0]"],
    ),
    "a hook of an earlier version": (
        {"OUTPUT": ("-j cali-A",)},
        ["-D OUTPUT -j cali-A"],
    ),
}


@pytest.mark.parametrize(("change", "expected"), DAMAGED.values(), ids=DAMAGED.keys())
def test_only_what_differs_is_written(change: dict[str, tuple[str, ...]], expected: list[str]) -> None:
    assert work({**RIGHT, **change}) == expected


def test_a_changed_rule_with_a_copied_fingerprint_is_seen_against_what_the_kernel_showed_before() -> None:
    forged = (WANT.chains["cali-A"][0], WANT.chains["cali-A"][1].replace("DROP", "ACCEPT"))
    assert work({**RIGHT, "cali-A": forged}) == []
    assert work({**RIGHT, "cali-A": forged}, believed=Present(RIGHT).ours())[0] == ":cali-A - [0:0]"


def test_what_iptables_save_says_is_read() -> None:
    saved = (
        "# hello\n*nat\n:OUTPUT ACCEPT [1:2]\n:cali-x - [0:0]\n-A OUTPUT -j cali-x\n-A cali-x -p tcp -j DNAT\nCOMMIT\n"
    )
    assert parse_save(saved) == {"nat": Present({"OUTPUT": ("-j cali-x",), "cali-x": ("-p tcp -j DNAT",)})}


def test_members_come_before_others_go_and_a_set_of_another_kind_is_swapped() -> None:
    want = {"cali40s:a": AddressSet("hash:net", frozenset({"10.0.0.1", "10.0.0.2"}))}
    assert list(set_lines(want, want)) == []
    other = {"cali40s:a": AddressSet("hash:net", frozenset({"10.0.0.1", "10.0.0.3"}))}
    assert list(set_lines(want, other)) == ["add cali40s:a 10.0.0.2", "del cali40s:a 10.0.0.3"]
    kind = {"cali40s:a": AddressSet("hash:ip,port", frozenset()), "cali4t0": AddressSet("hash:net", frozenset())}
    assert list(set_lines(want, kind)) == [
        "destroy cali4t0",
        "create cali4t0 hash:net family inet maxelem 1048576",
        "add cali4t0 10.0.0.1",
        "add cali4t0 10.0.0.2",
        "swap cali4t0 cali40s:a",
        "destroy cali4t0",
    ]
    assert list(leftover_lines({}, {**want, "cali60s:b": want["cali40s:a"]}, 4)) == ["destroy cali40s:a"]
