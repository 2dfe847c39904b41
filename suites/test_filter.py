"""The kernel's filter tables: the system's rules are its own, and everybody else's stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tunlab.check.policing import DENIED, answering, policed
from tunlab.check.requirement import requirement
from tunlab.check.scene import Scene

HERE = "fixtures/manifests/policy"
OFTEN = "fixtures/manifests/policy/refresh-often.yaml"  # 2 s
OURS = "cali"  # Calico's documentation: every chain and set of Felix begins so
TABLES = ("raw", "mangle", "nat", "filter")
FOREIGN = """
iptables-legacy -N guest
iptables-legacy -A guest -p tcp --dport 7777 -j DROP
iptables-legacy -I FORWARD 1 -j guest
iptables-legacy -A FORWARD -s 198.51.100.1/32 -j ACCEPT
iptables-legacy -A INPUT -p tcp --dport 7778 -j DROP
iptables-legacy -t nat -A POSTROUTING -s 198.51.100.0/24 -j MASQUERADE
iptables-legacy -t raw -A PREROUTING -p tcp --dport 7779 -j DROP
iptables-legacy -t mangle -A FORWARD -s 198.51.100.2/32 -j MARK --set-xmark 0x1/0x1
ipset create guests hash:ip
ipset add guests 198.51.100.9
"""
AWAY = """
iptables-legacy -D FORWARD -j guest
iptables-legacy -F guest
iptables-legacy -X guest
iptables-legacy -D FORWARD -s 198.51.100.1/32 -j ACCEPT
iptables-legacy -D INPUT -p tcp --dport 7778 -j DROP
iptables-legacy -t nat -D POSTROUTING -s 198.51.100.0/24 -j MASQUERADE
iptables-legacy -t raw -D PREROUTING -p tcp --dport 7779 -j DROP
iptables-legacy -t mangle -D FORWARD -s 198.51.100.2/32 -j MARK --set-xmark 0x1/0x1
ipset destroy guests
"""
Proof = TypeVar("Proof", bound=Callable[..., None])


def filters(id: str, source: str, needs: tuple[str, ...]) -> Callable[[Proof], Proof]:
    """A requirement of this scene."""
    return requirement(
        id,
        level="extended",
        scene="filter",
        labs=("outside",),
        modes=("ipip", "vxlan"),
        needs=("policy", *needs),
        source=source,
    )


def foreign(scene: Scene, node: str) -> list[str]:
    """Every rule, chain, policy and set that is not the system's, in the kernel's order."""
    lines = []
    for table in TABLES:
        for line in scene.run(node, ["iptables-legacy-save", "-t", table]).out.splitlines():
            # A chain's line ends in counters, which move with every packet.
            text = line.partition(" [")[0] if line.startswith(":") else line
            if line.startswith((":", "-")) and OURS not in text:
                lines.append(f"{table} {text}")
    sets = scene.run(node, ["ipset", "save"]).out.splitlines()
    return lines + [line for line in sets if not line.split()[1].startswith(OURS)]


def own(scene: Scene, node: str) -> list[str]:
    """The names of the system's chains and sets."""
    saved = "".join(scene.run(node, ["iptables-legacy-save", "-t", table]).out for table in TABLES)
    chains = [line.split()[0][1:] for line in saved.splitlines() if line.startswith(f":{OURS}")]
    sets = [
        line.split()[1] for line in scene.run(node, ["ipset", "save"]).out.splitlines() if line.startswith("create")
    ]
    return chains + [name for name in sets if name.startswith(OURS)]


@contextmanager
def guests(scene: Scene, node: str) -> Iterator[list[str]]:
    """Rules and a set of somebody else's on a node; what is foreign there then is given. After a failure they stay."""
    scene.run(node, FOREIGN)
    yield foreign(scene, node)
    scene.run(node, AWAY)


def demand_same(scene: Scene, node: str, before: list[str]) -> None:
    """Nothing of others' is gone, new, or in another order."""
    now = foreign(scene, node)
    gone, new = [line for line in before if line not in now], [line for line in now if line not in before]
    moved = "" if gone or new else "their order is another one"
    assert now == before, f"{node}: rules of others: gone {gone}, new {new} {moved}".rstrip()


@filters(
    "FILTER-01",
    "Calico's documentation, Felix: it owns chains and sets whose names begin with cali",
    needs=("iptables-legacy",),
)
def test_foreign_rules_and_sets_stay_as_they_are(scene: Scene) -> None:
    """Rules, chains and sets of others stay as they are, in their order, while policies come and go, agents too."""
    with guests(scene, "node1") as before:
        with policed(scene, f"{HERE}/ingress-allowed.yaml"):
            demand_same(scene, "node1", before)
            assert own(scene, "node1"), "no chain of the system's own: then who enforces this?"
            scene.restart("node1")
            demand_same(scene, "node1", before)
        demand_same(scene, "node1", before)


@filters("FILTER-02", "Calico's documentation, Felix: chains of others", needs=())
def test_what_a_foreign_rule_drops_stays_dropped(scene: Scene) -> None:
    """What somebody else's rule drops on a node stays dropped while policies are in force there, and nothing else."""
    with (
        guests(scene, "node1"),
        answering(scene, ["node1"], (7776, 7778), ()),
        policed(scene, f"{HERE}/ingress-isolated.yaml"),
    ):
        among = [
            scene.question(source, "node1", "tcp", port=port, expect=DENIED if port == 7778 else None)
            for source in ("outside", "node2")
            for port in (7776, 7778)
        ]
        scene.settle(among)


@filters("FILTER-03", "Calico's documentation, Felix: iptablesRefreshInterval", needs=("iptables-legacy", "repairs"))
def test_rules_that_somebody_flushes_come_back(scene: Scene) -> None:
    """When somebody flushes the system's chains they are back, and the policy in force, within the refresh interval."""
    with scene.applied(OFTEN), policed(scene, f"{HERE}/ingress-allowed.yaml") as questions:
        before = own(scene, "node1")
        scene.run("node1", "iptables-legacy -F FORWARD; iptables-legacy -F cali-FORWARD")
        scene.settle(questions, within_s=10.0)
        assert sorted(own(scene, "node1")) == sorted(before)


@requirement(
    "FILTER-04",
    level="extended",
    scene="filter",
    labs=("outside",),
    modes=("vxlan",),
    needs=("policy", "iptables-legacy", "vxlan"),
    source="Calico: Felix, VXLAN without connection tracking",
)
def test_tunnel_packets_between_nodes_are_no_connections(scene: Scene) -> None:
    """What pods on two nodes say to each other their nodes follow as one connection; the VXLAN around it as none."""
    asker, target = scene.workloads["pod1"], scene.workloads["pod3"]
    port = scene.live.installation.recipe.dialect.vxlan_port
    with answering(scene, ["pod3"], (80,), ()):
        for node in (asker.node, target.node):
            scene.run(node, "conntrack -F")
        scene.settle([scene.question("pod1", "pod3", "tcp", port=80), scene.question("pod3", "pod1")])
        for node in (asker.node, target.node):
            followed = scene.run(node, "conntrack -L 2>/dev/null").out.splitlines()
            assert any(f"={asker.address} " in line for line in followed), f"{node}: follows nothing of the pods"
            outer = [line for line in followed if f"dport={port} " in line]
            assert not outer, f"{node}: follows the tunnel: {outer[0]}"
