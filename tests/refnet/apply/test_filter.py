"""Rules and sets come about in a real kernel, are mended there, and nothing of other people's is touched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from refnet.apply.filter import Filter
from refnet.apply.process import Finished
from refnet.calc.policy.calculate import filtering
from refnet.calc.policy.filtering import Filtering
from refnet.calc.world import read_world
from tests.refnet.apply.sandbox import Place, World
from tests.refnet.calc import policies as p

FOREIGN = (
    "iptables-legacy -N KUBE-FORWARD",
    "iptables-legacy -A KUBE-FORWARD -m comment --comment 'cali: not ours' -j RETURN",
    "iptables-legacy -A FORWARD -j KUBE-FORWARD",
    "iptables-legacy -t nat -A POSTROUTING -s 10.9.0.0/16 -j MASQUERADE",
    "ipset create theirs hash:net",
)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    world = World()
    yield world
    world.close()


@pytest.fixture(scope="module")
def numbers() -> Iterator[int]:
    return iter(range(1, 100))


@pytest.fixture
def node(world: World, numbers: Iterator[int]) -> Place:
    """A node of the test's own."""
    return world.node(next(numbers))


class Watched:
    """Runs commands on a node and remembers those that write."""

    def __init__(self, node: Place) -> None:
        self.node = node
        self.writes: list[str] = []

    def __call__(self, argv: Sequence[str], stdin: str = "") -> Finished:
        if "restore" in " ".join(argv):
            self.writes.append(stdin)
        return self.node.run(argv, stdin)


def want_of(store: Mapping[str, Any], version: int = 4) -> Filtering:
    return filtering(read_world(store, "node1"), "node1", version)


def told(node: Place, command: str) -> str:
    finished = node.run(["sh", "-c", command], "")
    assert finished.code == 0, f"{command}: {finished.err}"
    return finished.out


def state(node: Place) -> tuple[list[str], list[str]]:
    """All rules, and the sets with their members; without counters."""
    rules = [line for line in told(node, "iptables-legacy-save").splitlines() if line[:1] in "*-"]
    return rules, sorted(line.partition(" hashsize")[0] for line in told(node, "ipset save").splitlines())


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("store", p.WORLDS.values(), ids=p.WORLDS.keys())
def test_the_kernel_takes_everything_and_the_second_time_nothing_is_written(
    node: Place, store: Mapping[str, Any], version: int
) -> None:
    run = Watched(node)
    want = want_of(store, version)
    assert Filter(run).bring_about([want], is_stale=True).reason == ""
    assert run.writes
    run.writes.clear()
    keeper = Filter(run)
    for _ in range(2):
        assert keeper.bring_about([want], is_stale=True).reason == ""
    assert run.writes == []


def test_from_any_world_to_any_other_leaves_what_the_other_alone_would(
    node: Place, world: World, numbers: Iterator[int]
) -> None:
    alone = {}
    for name, store in p.WORLDS.items():
        fresh = world.node(next(numbers))
        assert Filter(fresh.run).bring_about([want_of(store)], is_stale=True).reason == ""
        alone[name] = sorted(state(fresh)[0]), state(fresh)[1]
    keeper = Filter(node.run)
    for name in ("hosts", "policed", "nat", "pods", "hosts", "pods"):
        assert keeper.bring_about([want_of(p.WORLDS[name])], is_stale=False).reason == ""
        rules, sets = state(node)
        have = sorted(rule for rule in rules if rule[:1] == "-"), sets
        assert have == ([rule for rule in alone[name][0] if rule[:1] == "-"], alone[name][1]), name


DAMAGE = {
    "a rule is gone": "iptables-legacy -D cali-FORWARD 2",
    "a rule allows everything": "iptables-legacy -I cali-tw-caliweb -j ACCEPT",
    "a chain is empty": "iptables-legacy -F cali-tw-caliweb",
    "a rule changed under its mark": (
        "iptables-legacy-save -t filter | sed 's/-j DROP/-j ACCEPT/' | iptables-legacy-restore"
    ),
    "somebody came first": "iptables-legacy -I FORWARD -p tcp -j ACCEPT; iptables-legacy -I INPUT -j cali-FORWARD",
    "all tables are empty": "for t in raw filter; do iptables-legacy -t $t -F; iptables-legacy -t $t -X; done",
    "a member is gone": "ipset del cali40all-vxlan-net 192.0.2.2",
    "a member too many": "ipset add cali40all-vxlan-net 203.0.113.9",
    "a set is empty": "for s in $(ipset list -n); do ipset flush $s; done",
    "a set nobody wants": "ipset create cali40s:old hash:net; ipset add cali40s:old 10.0.0.0/8",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_what_somebody_damaged_is_mended_at_the_next_look(node: Place, damage: str) -> None:
    keeper = Filter(node.run)
    want = want_of(p.POLICED)
    assert keeper.bring_about([want], is_stale=True).reason == ""
    right = state(node)
    told(node, damage)
    assert state(node) != right
    assert keeper.bring_about([want], is_stale=False).lines == ()
    assert keeper.bring_about([want], is_stale=True).reason == ""
    rules = [rule for rule in state(node)[0] if rule != "-A FORWARD -p tcp -j ACCEPT"]
    assert (rules, state(node)[1]) == right


def test_of_a_family_that_is_off_nothing_of_ours_stays_not_even_what_an_agent_before_wrote(node: Place) -> None:
    told(node, "ip6tables-legacy -A FORWARD -p tcp -j ACCEPT")
    assert Filter(node.run).bring_about([want_of(p.HOSTS, 6)], is_stale=True).reason == ""
    assert "cali-" in told(node, "ip6tables-legacy-save")
    assert Filter(node.run).bring_about([Filtering(6, is_off=True)], is_stale=False).reason == ""
    left = [line for line in told(node, "ip6tables-legacy-save; ipset list -n").splitlines() if line[:1] not in "#:*"]
    assert [line for line in left if line != "COMMIT"] == ["-A FORWARD -p tcp -j ACCEPT"]


def test_rules_and_sets_of_others_stay(node: Place) -> None:
    for command in FOREIGN:
        told(node, command)
    theirs = state(node)
    keeper = Filter(node.run)
    for store in (p.HOSTS, p.NAT, p.POLICED):
        assert keeper.bring_about([want_of(store)], is_stale=True).reason == ""
        rules, sets = state(node)
        assert [rule for rule in rules if rule in theirs[0]] == theirs[0] or set(theirs[0]) <= set(rules)
        assert set(theirs[1]) <= set(sets)
    assert told(node, "iptables-legacy -S FORWARD").splitlines()[1].endswith("-j cali-FORWARD")


def test_a_kernel_that_refuses_is_the_reason_and_the_old_rules_stay(node: Place) -> None:
    keeper = Filter(node.run)
    assert keeper.bring_about([want_of(p.PODS)], is_stale=True).reason == ""
    before = state(node)[0]

    def refusing(argv: Sequence[str], stdin: str = "") -> Finished:
        return node.run(argv, stdin.replace("-j DROP", "-j NOSUCHTARGET") if "-restore" in argv[0] else stdin)

    keeper = Filter(refusing)
    outcome = keeper.bring_about([want_of(p.POLICED)], is_stale=False)
    assert outcome.reason.startswith("kernel: iptables-legacy-restore --noflush -w 5: iptables-restore")
    assert state(node)[0] == before


def test_a_missing_tool_is_the_reason() -> None:
    def nothing(argv: Sequence[str], _stdin: str = "") -> Finished:
        raise FileNotFoundError(2, "no such file", argv[0])

    reason = Filter(nothing).bring_about([want_of(p.PODS)], is_stale=True).reason
    assert reason == "kernel: ipset: not found on PATH: policy cannot be enforced"
