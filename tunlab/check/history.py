"""A random history of a lab, decided by a seed alone, and what of a lab must not depend on its history.

The plan is pure: which operations are possible follows from those before, never from what the system made of them.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any

import yaml

from tunlab.check.guest import RULES, differences
from tunlab.check.scene import Scene
from tunlab.errors import LabError
from tunlab.lab.topology import Mode, Pod, Topology
from tunlab.node.tables import lasting
from tunlab.systems.recipe import STORE_PORT
from tunlab.systems.refnet import ENCAPSULATION
from tunlab.systems.resource import resource

SEED_VARIABLE = "TUNLAB_SEED"
_DEFAULT_SEED = 2  # it kills an agent in one mode and starts it in another
# Each kind as often as it is tried; one that is not possible at its turn is left out.
_KINDS = ("add",) * 5 + ("delete",) * 4 + ("mode",) * 3 + ("kill",) * 2 + ("start",) + ("leave", "join") * 2


def seed_of(environment: Mapping[str, str] = os.environ) -> int:
    """The seed that was asked for; without one always the same one. Raises LabError."""
    text = environment.get(SEED_VARIABLE, str(_DEFAULT_SEED))
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise LabError(f"{SEED_VARIABLE}: {text!r} is no seed", hint="a whole number of at most nine digits")
    return int(text)


# ---------------------------------------------------------------------- what is to be done
@dataclass(frozen=True, slots=True)
class Operation:
    """One thing done to a lab: `add` or `delete` a pod, `kill` or `start` an agent, a node to `leave` or `join`,
    or the pool's `mode`."""

    kind: str
    subject: str
    node: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.subject}" + (f" on {self.node}" if self.kind == "add" else "")


@dataclass
class World:
    """What there is, as far as the plan knows: pods with their nodes, agents that are dead, nodes that have left."""

    pods: dict[str, str]
    mode: Mode
    dead: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    made: int = 0

    @classmethod
    def of(cls, topology: Topology, mode: Mode) -> World:
        """A fresh build."""
        return cls({pod.name: pod.node for pod in topology.pods}, mode)

    def take(self, operation: Operation) -> None:
        """What has become of the world by it."""
        kind, subject = operation.kind, operation.subject
        if kind == "add":
            self.pods[subject] = operation.node
        elif kind == "delete":
            del self.pods[subject]
        elif kind == "mode":
            self.mode = subject  # type: ignore[assignment]
        elif kind in ("kill", "start"):
            (self.dead.add if kind == "kill" else self.dead.discard)(subject)
        else:
            (self.gone.add if kind == "leave" else self.gone.discard)(subject)
            self.dead.discard(subject)


def plan(seed: int, topology: Topology, mode: Mode, modes: Sequence[Mode]) -> list[Operation]:
    """The operations of this seed, then those that bring a fresh build's pods, agents, nodes and mode back."""
    chance, world, planned = random.Random(seed), World.of(topology, mode), list[Operation]()
    kinds = list(_KINDS)
    chance.shuffle(kinds)
    for kind in kinds:
        for operation in _possible(kind, chance, world, topology, modes):
            world.take(operation)
            planned.append(operation)
    return planned


def _possible(
    kind: str, chance: random.Random, world: World, topology: Topology, modes: Sequence[Mode]
) -> Iterator[Operation]:
    """One operation of a kind, with what must come before it; none where it is not possible now."""
    nodes = [node.name for node in topology.nodes]
    here = [node for node in nodes if node not in world.gone]
    if kind == "add":
        world.made += 1
        yield Operation(kind, f"extra{world.made}", chance.choice(here))
    elif kind == "delete" and world.pods:
        yield Operation(kind, chance.choice(sorted(world.pods)))
    elif kind == "mode":
        yield Operation(kind, chance.choice([mode for mode in modes if mode != world.mode]))
    elif kind == "kill" and (living := [node for node in here if node not in world.dead]):
        yield Operation(kind, chance.choice(living))
    elif kind == "start" and world.dead:
        yield Operation(kind, chance.choice(sorted(world.dead)))
    elif kind == "leave" and len(here) > 1:
        node = chance.choice(here)
        yield from [Operation("delete", pod) for pod, place in sorted(world.pods.items()) if place == node]
        yield Operation(kind, node)
    elif kind == "join" and world.gone:
        yield Operation(kind, chance.choice(sorted(world.gone)))


def restoring(planned: Sequence[Operation], topology: Topology, mode: Mode) -> tuple[list[Operation], list[Operation]]:
    """What is to be done after a history: all but pods first, and the pods once that has come about.

    A pod that the history made goes, for it may have got the MTU of another mode; then those of a fresh build come.
    """
    world = World.of(topology, mode)
    for operation in planned:
        world.take(operation)
    rest = [Operation("join", node) for node in sorted(world.gone)]
    rest += [Operation("start", node) for node in sorted(world.dead)]
    rest += [Operation("mode", mode)] if world.mode != mode else []
    made = {operation.subject for operation in planned if operation.kind == "add"}
    rest += [Operation("delete", pod) for pod in sorted(world.pods) if pod in made]
    missing = [pod for pod in topology.pods if pod.name not in world.pods]
    return rest, [Operation("add", pod.name, pod.node) for pod in missing]


# ---------------------------------------------------------------------- doing it
def pool_in(topology: Topology, mode: Mode) -> dict[str, Any]:
    """The lab's pool with a mode's encapsulation, as a user would edit it."""
    pool = topology.pools[0]
    ipip, vxlan = ENCAPSULATION[mode]
    spec = {"cidr": str(pool.cidr), "blockSize": pool.block_size, "ipipMode": ipip, "vxlanMode": vxlan}
    return resource("IPPool", pool.name, **spec)


def carry_out(scene: Scene, operation: Operation, ready_within_s: float) -> None:
    """Do one operation. Only a node that joins is waited for: nobody gives pods to one that is not ready."""
    live, kind, subject = scene.live, operation.kind, operation.subject
    if kind == "add":
        live.launch(Pod(subject, operation.node))
    elif kind == "delete":
        live.remove(subject)
    elif kind == "mode":
        scene.ctl("apply", "-f", "-", stdin=yaml.safe_dump(pool_in(scene.topology, subject)))  # type: ignore[arg-type]
    elif kind == "kill":
        scene.kill_agent(subject)
    elif kind == "start":
        live.installation.start(subject)
    elif kind == "leave":
        scene.kill_agent(subject)
        scene.run(subject, "pkill -x bird || true")
        other = next(node.name for node in scene.topology.nodes if node.name != subject)
        scene.ctl("delete", "node", subject, node=other)
        like_new(scene, subject)
    else:
        live.installation.start(subject)
        commands = [one.argv for one in live.installation.recipe.ready if one.host == subject]
        scene.eventually(
            lambda: [words for words in commands if scene.run(subject, words, check=False).rc != 0],
            lambda left: not left,
            within_s=ready_within_s,
            what=f"{subject} has joined and is ready",
        )


def like_new(scene: Scene, node: str) -> None:
    """As if the machine had just been installed: no tunnel, no routes, no rules, no files of the system."""
    for line in (
        "ip route flush proto 80; ip route flush proto bird || true",
        "for d in vxlan.calico vxlan-v6.calico; do ip link del $d 2>/dev/null || true; done",
        "ip addr flush dev tunl0 2>/dev/null || true; ip link set tunl0 down 2>/dev/null || true",
        "rm -rf /var/lib/calico /run/calico /var/run/calico",
    ):
        scene.run(node, line)


# ---------------------------------------------------------------------- what must not depend on it
_ADDRESS = re.compile(r"(?<![\d.])\d+\.\d+\.\d+\.\d+(?:/\d+)?(?![\d.])")
_BLOCK_KEY = re.compile(r"(?<=/)([\d.]+)-(\d+)$")  # Calico writes 10.0.0.0-26 in a key
_FILES = "for f in $(find /var/lib/cni /var/lib/calico -type f 2>/dev/null); do echo $f $(cat $f); done"
_SETS = "ipset save 2>/dev/null | sed 's/ \\(hashsize\\|initval\\) [0-9a-fx]*//g'"  # the one grows, the other is chance
_PROGRAMS = "ps -eo comm= | grep -Ev '^(ps|sh|grep|cat|find|sed)$' || :"


def essence(scene: Scene) -> dict[str, list[str]]:
    """Of each node and of the store all that lasts, with names for addresses: which ones were given is chance."""
    found = {}
    for node, tables in scene.live.tables(scene.live.node_names()).items():
        told = scene.run(node, f"{_FILES}; {RULES}; {_SETS}; {_PROGRAMS}").out.splitlines()
        found[node] = [*lasting(tables), *told]
    keys = ["etcdctl", "--endpoints", f"http://127.0.0.1:{STORE_PORT}", "get", "--prefix", "/calico/", "--keys-only"]
    ipam = scene.live.installation.read_ipam()
    given = [f"{address} is given to {handle}" for address, handle in ipam.allocations.items()]
    stored = scene.live.box.run(scene.topology.store.name, keys, env={"ETCDCTL_API": "3"}).out.split()
    found["store"] = [_BLOCK_KEY.sub(r"\1/\2", key) for key in stored] + given
    names = _names(scene)
    return {place: sorted(_ADDRESS.sub(lambda hit: names.get(hit[0], hit[0]), one) for one in lines)
            for place, lines in found.items()}  # fmt: skip


def _names(scene: Scene) -> dict[str, str]:
    ipam, names = scene.live.installation.read_ipam(), dict[str, str]()

    def call(address: IPv4Address, name: str) -> None:
        names.update({str(address): name, f"{address}/32": f"{name}/32"})

    for node, blocks in ipam.blocks.items():
        for number, block in enumerate(sorted(blocks)):
            names[str(block)] = f"{{block {number} of {node}}}"
    for node, address in ipam.tunnel_addresses.items():
        call(address, f"{{tunnel of {node}}}")
    for pod in scene.workloads.values():
        call(pod.address, f"{{{pod.name}}}")
    return names


def compared(now: Mapping[str, Sequence[str]], before: Mapping[str, Sequence[str]]) -> list[str]:
    """What each place lacks of what it had, and has too much."""
    return [f"{place}: {one}" for place in before for one in differences(now[place], before[place])]
