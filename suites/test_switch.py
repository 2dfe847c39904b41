"""A pool's mode is changed while the lab runs: no agent is started again, and nothing of the old mode is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import permutations

from tunlab.check.history import pool_in
from tunlab.check.matrix import Question
from tunlab.check.policing import answering
from tunlab.check.requirement import requirement
from tunlab.check.scene import Scene
from tunlab.lab.topology import Mode
from tunlab.oracle.network import Oracle, carriage_between, reaches, tunnel_of
from tunlab.wait import time_factor

# A user-mode kernel has one processor, and a process costs five times as much there.
WITHIN_S: Mapping[str, float] = {"namespaces": 5.0, "uml": 15.0}
CLEAN_WITHIN_S: Mapping[str, float] = {"namespaces": 10.0, "uml": 30.0}
# What a change may cost a steady flow in all, in seconds of it: little where nodes only rewrite their own routes. Where
# BGP's routes come or go, they come after the others have gone.
LOSES_AT_MOST_S: Mapping[str, float] = {"namespaces": 0.5, "uml": 1.5}
LOSES_AT_MOST_WITH_BGP_S: Mapping[str, float] = {"namespaces": 2.0, "uml": 6.0}
EVERY_S, MOST_SLOWNESS = 0.02, 3.0
PORT = 53
NEEDS = ("ipam-in-etcd", "block-routes", "agent", "mode-switch")
STACKS = {"ipip": "eth ip ip icmp", "vxlan": "eth ip udp vxlan eth ip icmp", "none": "eth ip icmp"}
NEAR, FAR = (
    ("pod1", "pod3"),
    ("pod1", "pod4"),
)  # the second pod is on the same subnet's other node, or behind the router


def _questions(scene: Scene, mode: Mode) -> list[Question]:
    """Every pod asks every other, which says whom it saw: it is answered where the mode reaches it."""
    found = []
    for source, target in permutations(scene.workloads.values(), 2):
        expect = None if reaches(scene.topology, mode, source.node, target.node) else scene.silence()
        found.append(scene.question(source.name, target.name, expect=expect))
        found.append(scene.question(source.name, target.name, "udp", port=PORT, expect=expect))
    return found


def _differences(scene: Scene, mode: Mode) -> list[str]:
    """What the nodes and the store have too much or too little for this mode."""
    recipe, ipam = scene.live.installation.recipe, scene.live.installation.read_ipam()
    oracle = Oracle(scene.topology, mode, recipe.dialect, ipam, dict(scene.workloads))
    found = []
    for node, tables in scene.live.tables(scene.live.node_names()).items():
        wanted: set[object] = {*oracle.routes(node), *oracle.addresses(node)}
        seen: set[object] = {*tables.routes, *(one for one in tables.addresses if ":" not in one.address)}
        devices = recipe.dialect.tunnel_devices
        if oracle.tunnel == "vxlan":
            wanted |= {*oracle.vtep_neighbours(node), *oracle.vtep_fdb(node)}
            seen |= {one for one in tables.neighbours if one.device == devices["vxlan"] and one.state == "PERMANENT"}
            seen |= {one for one in tables.fdb if one.device == devices["vxlan"]}
        elif devices["vxlan"] in tables.links:
            found.append(f"{node}: has {devices['vxlan']} still")
        ipip = tables.links.get(devices["ipip"])
        if ipip is not None and ipip.is_up and oracle.tunnel != "ipip":
            found.append(f"{node}: {devices['ipip']} is up still")
        found += [f"{node}: lacks {one}" for one in sorted(map(str, wanted - seen))]
        found += [f"{node}: has {one} still" for one in sorted(map(str, seen - wanted))]
    tunnels = [handle for handle in ipam.allocations.values() if "-tunnel-addr-" in handle]
    found += [f"store: {handle} is given still" for handle in tunnels if not handle.startswith(f"{oracle.tunnel}-")]
    return found + _about_bgp(scene, oracle)


def _about_bgp(scene: Scene, oracle: Oracle) -> list[str]:
    """A node whose pods need no BGP runs no speaker of it, if the system says so; any other listens."""
    found: list[str] = []
    if oracle.tunnel == "vxlan" and "no-bgp-in-vxlan" not in scene.live.installation.recipe.abilities:
        return found
    for node in scene.live.node_names():
        listens = bool(scene.run(node, "ss -Hltn sport = :179").out.strip())
        if listens != (oracle.tunnel != "vxlan"):
            found.append(f"{node}: {'somebody listens' if listens else 'nobody listens'} on port 179")
    return found


@contextmanager
def _in_mode(scene: Scene, mode: Mode) -> Iterator[None]:
    """The lab in another mode for the block, then in its own again; both changes are watched and measured."""
    own, pool = scene.mode, pool_in(scene.topology, mode)
    with ExitStack() as applied, answering(scene, scene.workloads, tcp=(), udp=(PORT,)):
        _follow(scene, own, mode, lambda: applied.enter_context(scene.applied(pool)))
        yield
        _follow(scene, mode, own, applied.close)
    assert not scene.live.installation.dead(), f"{scene.live.installation.dead()}"


def _follow(scene: Scene, old: Mode, new: Mode, change: Callable[[], object]) -> None:
    """The change, until all is as in the new mode; meanwhile a steady flow has no long gap and loses little in all.

    A box that is slow for what else the machine does may lose more, but not much.
    """
    kind, block_protocol = scene.live.box.kind, scene.live.installation.recipe.dialect.block_protocol
    has_bgp = "bird" in (block_protocol.get(tunnel_of(old)), block_protocol.get(tunnel_of(new)))
    before = scene.live.box.slowness()
    with scene.flow(*NEAR, every_s=EVERY_S) as flow:
        change()
        _arrive(scene, new)
    factor = time_factor() * min(max(before, scene.live.box.slowness()), MOST_SLOWNESS)
    told = f"{old} → {new}: {flow}"
    scene.fact(told)
    gap_s, lost_s = WITHIN_S[kind] * factor, (LOSES_AT_MOST_WITH_BGP_S if has_bgp else LOSES_AT_MOST_S)[kind] * factor
    assert flow.longest_gap_s <= gap_s, f"{told}, wanted at most {gap_s:g} s"
    assert flow.lost * EVERY_S <= lost_s, f"{told}, wanted at most {lost_s / EVERY_S:.0f} lost"


def _arrive(scene: Scene, mode: Mode) -> None:
    """New traffic is as the mode says, and soon afterwards nothing of the old one is left."""
    kind = scene.live.box.kind
    scene.settle(_questions(scene, mode), within_s=WITHIN_S[kind])
    scene.eventually(
        lambda: _differences(scene, mode),
        lambda left: not left,
        within_s=CLEAN_WITHIN_S[kind],
        what=f"everything is as in {mode}",
    )


def _travels_as(scene: Scene, mode: Mode) -> None:
    """On the first node's wire a ping looks as the mode says, to the near pod and to the one behind the router."""
    pairs = [pair for pair in (NEAR, FAR) if reaches(scene.topology, mode, *_nodes(scene, pair))]
    with scene.capture("node1/eth0") as seen:
        scene.ask([scene.question(*pair) for pair in pairs]).check()
    for source, target in pairs:
        addresses = str(scene.workloads[source].address), str(scene.workloads[target].address)
        stack = STACKS[carriage_between(scene.topology, mode, *_nodes(scene, (source, target)))]
        asked = seen.frames.on("node1/eth0").going("out").from_to(*addresses).requests()
        asked.some(f"{source} → {target} in {mode}").each(stack=stack)


def _nodes(scene: Scene, pair: tuple[str, str]) -> tuple[str, str]:
    return scene.workloads[pair[0]].node, scene.workloads[pair[1]].node


def _switches(scene: Scene, mode: Mode) -> None:
    with _in_mode(scene, mode):
        _travels_as(scene, mode)
    _travels_as(scene, scene.mode)


SOURCE = "Calico: change IP pool encapsulation; facts, section 3.5"
LABS = ("mixed",)


@requirement(
    "SWITCH-01", level="extended", scene="switch", labs=LABS, modes=("vxlan",), visits=("none",), needs=NEEDS,
    source=SOURCE,
)  # fmt: skip
def test_vxlan_and_none_follow_each_other(scene: Scene) -> None:
    """An edited pool takes a lab from VXLAN to unencapsulated and back in 5 s, loses little and leaves nothing."""
    _switches(scene, "none")


@requirement(
    "SWITCH-02", level="extended", scene="switch", labs=LABS, modes=("vxlan",), visits=("vxlan-crosssubnet",),
    needs=NEEDS, source=SOURCE,
)  # fmt: skip
def test_vxlan_and_its_crosssubnet_follow_each_other(scene: Scene) -> None:
    """An edited pool takes a lab from VXLAN to VXLAN across subnets alone and back, and loses little."""
    _switches(scene, "vxlan-crosssubnet")


@requirement(
    "SWITCH-03", level="extended", scene="switch-ipip", labs=LABS, modes=("ipip",), visits=("vxlan",), needs=NEEDS,
    source=SOURCE,
)  # fmt: skip
def test_ipip_and_vxlan_follow_each_other(scene: Scene) -> None:
    """An edited pool takes a lab from IPIP to VXLAN and back in 5 s, loses little and leaves nothing."""
    _switches(scene, "vxlan")


@requirement(
    "SWITCH-04", level="extended", scene="switch-ipip", labs=LABS, modes=("ipip",), visits=("none",), needs=NEEDS,
    source=SOURCE,
)  # fmt: skip
def test_ipip_and_none_follow_each_other(scene: Scene) -> None:
    """An edited pool takes a lab from IPIP to unencapsulated and back in 5 s, loses little and leaves nothing."""
    _switches(scene, "none")


@requirement(
    "SWITCH-05", level="extended", scene="switch-ipip", labs=LABS, modes=("ipip",), visits=("ipip-crosssubnet",),
    needs=NEEDS, source=SOURCE,
)  # fmt: skip
def test_ipip_and_its_crosssubnet_follow_each_other(scene: Scene) -> None:
    """An edited pool takes a lab from IPIP to IPIP across subnets alone and back, and loses little."""
    _switches(scene, "ipip-crosssubnet")


@requirement(
    "SWITCH-06", level="extended", scene="switch-crosssubnet", labs=LABS, modes=("vxlan-crosssubnet",),
    visits=("ipip-crosssubnet",), needs=NEEDS, source=SOURCE,
)  # fmt: skip
def test_the_crosssubnet_modes_follow_each_other(scene: Scene) -> None:
    """An edited pool takes a lab from VXLAN to IPIP and back where both cross subnets alone, and loses little."""
    _switches(scene, "ipip-crosssubnet")


def _is_ready(scene: Scene, node: str) -> bool:
    """Whether the system says of this node that it is ready."""
    commands = [command for command in scene.live.installation.recipe.ready if command.host == node]
    return all(scene.run(node, command.argv, check=False).rc == 0 for command in commands)


@requirement(
    "SWITCH-07", level="extended", scene="switch", labs=LABS, modes=("vxlan",), visits=("none",), needs=NEEDS,
    source="Calico: CALICO_NETWORKING_BACKEND=vxlan runs no BGP daemon; facts, section 8.3",
)  # fmt: skip
def test_a_backend_without_bgp_says_so_when_a_pool_needs_it(scene: Scene) -> None:
    """A node whose backend runs no BGP serves VXLAN, and is not ready while a pool is unencapsulated."""
    node = "node2"
    scene.kill_agent(node)
    scene.start_agent(node, env={"CALICO_NETWORKING_BACKEND": "vxlan"})
    with answering(scene, scene.workloads, tcp=(), udp=(PORT,)):
        scene.settle(_questions(scene, scene.mode), within_s=CLEAN_WITHIN_S[scene.live.box.kind])
        with scene.applied(pool_in(scene.topology, "none")):
            scene.eventually(
                lambda: _is_ready(scene, node), lambda yes: not yes, within_s=10, what=f"{node} is not ready"
            )
        scene.eventually(lambda: _is_ready(scene, node), bool, within_s=10, what=f"{node} is ready again")
        scene.restart(node)
        _arrive(scene, scene.mode)
