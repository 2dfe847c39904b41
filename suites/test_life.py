"""What lasts while things break: tables are tampered with, agents and stores die, nodes come and go."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from tunlab.check import claims
from tunlab.check.footprint import memory_mib
from tunlab.check.history import like_new
from tunlab.check.matrix import Question
from tunlab.check.requirement import requirement
from tunlab.check.scene import Scene
from tunlab.lab.topology import Pod
from tunlab.node.tables import Tables, lasting
from tunlab.oracle.network import tunnel_of
from tunlab.runtime.cni import PluginFailed, Sandbox

LABS = ("mixed",)
judged = partial(requirement, level="extended", scene="life", labs=LABS)
TUNNELS = ("vxlan", "ipip")
DATAPLANES = ("vxlan", "ipip", "none")
AT_ONCE_S = 5.0
REFRESHED_WITHIN_S = 8.0
STRAYS_GO_WITHIN_S = 20.0
READY_WITHIN_S = 40.0
NEVER, OFTEN = "fixtures/manifests/life/refresh-never.yaml", "fixtures/manifests/life/refresh-often.yaml"
TRY_LATER = 11
MEMORY_MIB = 60.0


def _state(tables: Tables) -> list[str]:
    return sorted(lasting(tables))


def _mended(scene: Scene, node: str, *damages: str) -> None:
    """Each command's effect is gone soon after it."""
    before = _state(scene.tables(node))
    for damage in damages:
        scene.run(node, damage)
        scene.eventually(
            lambda: _state(scene.tables(node)),
            lambda now: now == before,
            within_s=AT_ONCE_S,
            what=f"{node}: `{damage}` is undone",
        )


def _tunnel(scene: Scene) -> str:
    return scene.live.installation.recipe.dialect.tunnel_devices[tunnel_of(scene.mode)]


def _everybody(scene: Scene) -> list[Question]:
    """Every pod that is up asks every other."""
    pods = sorted(scene.workloads)
    return [scene.question(a, b) for a in pods for b in pods if a != b and _reach(scene, a, b)]


def _reach(scene: Scene, a: str, b: str) -> bool:
    """Whether the mode carries between these pods: without a tunnel none crosses a router that knows no pods."""
    if scene.mode != "none":
        return True
    segments = {scene.topology.node(scene.workloads[pod].node).segment for pod in (a, b)}
    return len(segments) == 1


# ---------------------------------------------------------------------- tampering
@judged("LIFE-03", modes=TUNNELS, needs=("repairs-on-event",), source="Calico: resync")
def test_tampered_routes_are_mended_when_the_kernel_tells(scene: Scene) -> None:
    """Routes that somebody deletes, turns elsewhere or adds to the system's own are right again at once."""
    node = scene.topology.nodes[0].name
    tables, device = scene.tables(node), _tunnel(scene)
    remote = min((one for one in tables.routes if one.device == device), key=str)
    own = min((one for one in tables.routes if one.kind == "blackhole"), key=str)
    gateway = scene.topology.nodes[0].gateway
    with scene.applied(NEVER):
        _mended(
            scene,
            node,
            f"ip route del {remote.destination}",
            f"ip route replace {remote.destination} via {gateway}",
            f"ip route del blackhole {own.destination}",
            f"ip route add 10.99.0.0/16 via {gateway} proto {remote.protocol}",
        )


@judged("LIFE-04", modes=("vxlan",), needs=("repairs-on-event", "vxlan"), source="Calico: resync")
def test_tampered_neighbours_and_fdb_entries_are_mended_when_the_kernel_tells(scene: Scene) -> None:
    """Neighbours and FDB entries of the tunnel that somebody deletes, changes or adds are right again at once."""
    node, device = scene.topology.nodes[0].name, _tunnel(scene)
    tables = scene.tables(node)
    neighbour = min(one for one in tables.neighbours if one.device == device)
    entry = min(one for one in tables.fdb if one.device == device)
    wrong = "66:00:00:00:00:01"
    with scene.applied(NEVER):
        _mended(
            scene,
            node,
            f"ip neigh del {neighbour.address} dev {device}",
            f"ip neigh replace {neighbour.address} lladdr {wrong} dev {device} nud permanent",
            f"ip neigh replace {neighbour.address} lladdr {neighbour.mac} dev {device} nud stale",
            f"ip neigh add 10.99.0.1 lladdr {wrong} dev {device} nud permanent",
            f"bridge fdb del {entry.mac} dev {device}",
            f"bridge fdb replace {entry.mac} dev {device} dst 192.0.2.9 self permanent",
            f"bridge fdb add {wrong} dev {device} dst 192.0.2.9 self permanent",
        )


@judged("LIFE-05", modes=TUNNELS, needs=("repairs-on-event",), source="Calico: tunnel device check")
def test_a_tampered_tunnel_device_is_mended_when_the_kernel_tells(scene: Scene) -> None:
    """A tunnel device that somebody takes down, resizes or gives another address is right again at once."""
    node, device = scene.topology.nodes[0].name, _tunnel(scene)
    (address,) = scene.tables(node).addresses_on(device)
    with scene.applied(NEVER):
        _mended(
            scene,
            node,
            f"ip link set {device} down",
            f"ip link set {device} mtu 1400",
            f"ip addr del {address} dev {device}",
            f"ip addr add 10.99.0.9/32 dev {device}",
        )


@judged("LIFE-06", modes=("vxlan",), needs=("repairs-on-event", "vxlan"), source="Calico: tunnel device check")
def test_what_a_vxlan_device_was_not_asked_for_is_mended(scene: Scene) -> None:
    """A VXLAN device that is deleted, or made another by its TTL, TOS, DF, ageing or MAC, is right again at once."""
    node, device = scene.topology.nodes[0].name, _tunnel(scene)
    with scene.applied(NEVER):
        _mended(
            scene,
            node,
            f"ip link set {device} type vxlan ttl 5",
            f"ip link set {device} type vxlan tos 4",
            f"ip link set {device} type vxlan df set",
            f"ip link set {device} type vxlan ageing 5",
            f"ip link set {device} type vxlan learning",
            f"ip link set {device} address 66:00:00:00:00:01",
            f"ip link del {device}",
        )


@judged("LIFE-07", modes=("vxlan",), needs=("repairs",), source="Calico: FelixConfiguration routeRefreshInterval")
def test_what_the_kernel_does_not_tell_is_mended_within_the_refresh(scene: Scene) -> None:
    """A node that somebody forbids to forward does so again within the configured refresh interval."""
    node = scene.topology.nodes[0].name

    def forwards() -> bool:
        return scene.run(node, "cat /proc/sys/net/ipv4/ip_forward").out.strip() == "1"

    with scene.applied(OFTEN):
        for _ in range(2):  # the first may be mended because the setting is news; the second has no occasion at all
            scene.run(node, "echo 0 > /proc/sys/net/ipv4/ip_forward")
            scene.eventually(
                forwards, bool, within_s=REFRESHED_WITHIN_S, what=f"{node}: net.ipv4.ip_forward is 1", in_a_row=3
            )


@judged("LIFE-08", modes=TUNNELS, needs=("repairs",), source="Calico: route ownership, facts section 6.3")
def test_what_belongs_to_others_stays(scene: Scene) -> None:
    """Routes, neighbours, addresses and rules of others stay while the system repairs its own."""
    node, gateway, device = scene.topology.nodes[0].name, scene.topology.nodes[0].gateway, _tunnel(scene)
    theirs = (
        f"route add 10.98.0.0/16 via {gateway} proto static",
        f"route add 10.97.0.0/16 via {gateway} metric 7",
        f"neigh add {gateway + 60} lladdr 66:00:00:00:00:02 dev eth0 nud permanent",
        "addr add 10.96.0.1/32 dev lo",
        "rule add to 10.95.0.0/16 lookup main priority 4242",
    )
    remote = min((one for one in scene.tables(node).routes if one.device == device), key=str)
    for line in theirs:
        scene.run(node, f"ip {line}")
    try:
        with_theirs = _state(scene.tables(node))
        with scene.applied(OFTEN):
            _mended(scene, node, f"ip route del {remote.destination}", f"ip link set {device} mtu 1400")
        claims.same_set(node, "tables", _state(scene.tables(node)), with_theirs)
        routes = scene.run(node, "ip route").out
        missing = [prefix for prefix in ("10.98.0.0/16", "10.97.0.0/16") if prefix not in routes]
        assert not missing, f"{node}: routes of others are gone: {', '.join(missing)}"
        assert "4242:" in scene.run(node, "ip rule").out, f"{node}: the rule of priority 4242 is gone"
    finally:
        for line in reversed(theirs):
            scene.run(node, f"ip {line.replace(' add ', ' del ', 1)}", check=False)  # what is gone has been told


@judged("LIFE-15", modes=("vxlan",), needs=("repairs",), source="Calico: FelixConfiguration removeExternalRoutes")
def test_a_route_into_a_pods_device_that_no_endpoint_explains_goes(scene: Scene) -> None:
    """A route into a pod's device to an address that is not the pod's is gone within 20 s; the pod's own stays."""
    node = scene.topology.nodes[0].name
    device = min(pod.host_device for pod in scene.workloads.values() if pod.node == node)
    before = _state(scene.tables(node))
    with scene.applied(NEVER), scene.monitor(node, "route") as changes:
        scene.run(node, f"ip route add 10.0.9.9/32 dev {device}; ip route add 10.0.8.0/24 dev {device} proto static")
        assert _state(scene.tables(node)) != before, f"{node}: took no route into {device}"
        scene.eventually(
            lambda: _state(scene.tables(node)),
            lambda now: now == before,
            within_s=STRAYS_GO_WITHIN_S,
            what=f"{node}: strange routes into {device} are gone",
        )
    own = [
        line for line in changes.lines if line.startswith("Deleted") and "10.0.9.9" not in line and "10.0.8" not in line
    ]
    assert not own, f"{node}: also deleted: {own}"


# ---------------------------------------------------------------------- agents and stores that die
@judged(
    "LIFE-09",
    modes=DATAPLANES,
    needs=("agent",),
    source="Calico: restarts do not touch the data plane, facts section 6.5",
)
def test_an_agent_that_is_killed_and_restarted_loses_no_packet(scene: Scene) -> None:
    """An agent that is killed and started again changes no route and loses no packet of a running flow."""
    node = scene.topology.nodes[0].name
    with scene.monitor(node, "route") as changes, scene.flow("pod1", "pod3") as flow:
        scene.kill_agent(node)
        scene.start_agent(node)
        scene.settle(_everybody(scene))
    scene.fact(f"agent killed and restarted on {node}: {flow}")
    assert flow.lost == 0, f"pod1 → pod3 while the agent of {node} was killed and restarted: {flow}"
    assert not changes.lines, f"{node}: routes changed: {'; '.join(changes.lines)}"


@contextmanager
def _store_killed(scene: Scene) -> Iterator[None]:
    installation = scene.live.installation
    installation.kill(scene.topology.store.name)
    try:
        yield
    finally:
        installation.start_store()
        installation.wait_ready(READY_WITHIN_S)


@contextmanager
def _store_cut_off(scene: Scene) -> Iterator[None]:
    """Nothing is refused: packets to the store and from it vanish."""
    scene.run(scene.topology.store.name, "ip link set eth0 down")
    try:
        yield
    finally:
        gateway = scene.topology.store.gateway
        scene.run(scene.topology.store.name, f"ip link set eth0 up; ip route replace default via {gateway}")
        scene.live.installation.wait_ready(READY_WITHIN_S)


def _withstand(scene: Scene, outage: Callable[[Scene], object]) -> None:
    """Traffic goes on, a new pod gets an error that says when to come back, and all is well once the store is back."""
    live, node = scene.live, scene.topology.nodes[0].name
    before = _state(scene.tables(node))
    with scene.flow("pod1", "pod3") as flow:
        with outage(scene):  # type: ignore[attr-defined]
            refusal = _refusal(scene, Sandbox("late", node))
            assert refusal.code == TRY_LATER, f"{node}: ADD without a store: code {refusal.code}, wanted {TRY_LATER}"
            claims.same_set(node, "tables without a store", _state(scene.tables(node)), before)
            scene.holds(_everybody(scene))
            dead = live.installation.dead()
            assert not dead, "; ".join(dead)
        with scene.pod("late", node=node):
            scene.settle([scene.question("late", "pod3"), scene.question("pod4", "late")])
    assert flow.lost == 0, f"pod1 → pod3 while the store was away: {flow}"


def _refusal(scene: Scene, sandbox: Sandbox) -> PluginFailed:
    try:
        scene.live.runtime.attach(sandbox)
    except PluginFailed as error:
        return error
    raise AssertionError(f"{sandbox.node}: ADD succeeds while the store is away")


@judged(
    "LIFE-10",
    modes=TUNNELS,
    needs=("agent", "ipam-in-etcd"),
    source="CNI specification 1.0.0, section 5: code 11, try again later",
)
def test_a_store_that_is_killed_stops_nothing_that_runs(scene: Scene) -> None:
    """With the store dead traffic goes on, a new pod gets code 11, and all recovers by itself when it is back."""
    _withstand(scene, _store_killed)


@judged(
    "LIFE-11",
    modes=("vxlan",),
    needs=("agent", "ipam-in-etcd"),
    source="CNI specification 1.0.0, section 5: code 11, try again later",
)
def test_a_store_that_does_not_answer_stops_nothing_that_runs(scene: Scene) -> None:
    """With the store silent traffic goes on, a new pod gets code 11, and all recovers by itself when it is back."""
    _withstand(scene, _store_cut_off)


@judged("LIFE-12", modes=("vxlan",), needs=("repairs-on-event", "agent"), source="Calico: resync needs no datastore")
def test_tables_are_mended_while_the_store_is_away(scene: Scene) -> None:
    """A route that is deleted while the store is dead is back at once: the agent knows what it read."""
    node, device = scene.topology.nodes[0].name, _tunnel(scene)
    remote = min((one for one in scene.tables(node).routes if one.device == device), key=str)
    with scene.applied(NEVER), _store_killed(scene):
        _mended(scene, node, f"ip route del {remote.destination}")


# ---------------------------------------------------------------------- nodes that come and go
@requirement(
    "LIFE-13",
    level="extended",
    scene="comings",
    labs=LABS,
    modes=DATAPLANES,
    needs=("agent", "ipam-in-etcd"),
    source="Calico: calicoctl delete node, facts section 2.10",
)
def test_a_node_leaves_and_another_joins_under_traffic(scene: Scene) -> None:
    """A deleted node leaves nothing anywhere, one that joins is reached by all, and other flows lose no packet."""
    live, gone = scene.live, scene.topology.nodes[-1]
    others = [node for node in live.node_names() if node != gone.name]
    pods = [pod for pod in scene.topology.pods if pod.node == gone.name]
    with scene.flow("pod1", "pod3") as flow:
        for pod in pods:
            live.remove(pod.name)
        scene.kill_agent(gone.name)
        scene.run(gone.name, "pkill -x bird || true")
        before = live.installation.read_ipam()
        scene.ctl("delete", "node", gone.name)
        marks = {str(gone.address.ip), *map(str, before.blocks.get(gone.name, ()))}
        marks |= {str(before.tunnel_addresses[gone.name])} if gone.name in before.tunnel_addresses else set()
        for node in others:
            _forgets(scene, node, marks)
        after = live.installation.read_ipam()
        assert gone.name not in after.blocks, (
            f"store: {gone.name} still owns {sorted(map(str, after.blocks[gone.name]))}"
        )
        assert gone.name not in after.tunnel_addresses, f"store: {gone.name} still has a tunnel address"
        like_new(scene, gone.name)
        scene.start_agent(gone.name)
        for pod in pods:
            live.launch(Pod(pod.name, pod.node, pod.namespace))
        scene.settle(_everybody(scene), within_s=READY_WITHIN_S)
    scene.fact(f"{gone.name} left and joined: {flow}")
    assert flow.lost == 0, f"pod1 → pod3 while {gone.name} left and joined: {flow}"


def _forgets(scene: Scene, node: str, marks: set[str]) -> None:
    """No table of the node and no BGP session of it names what the other had."""

    def seen() -> list[str]:
        lines = _state(scene.tables(node))
        if scene.mode == "none" or scene.mode.startswith("ipip"):
            lines += scene.run(node, "birdc show protocols all || true").out.splitlines()
        return [line for line in lines if marks & set(line.replace("/", " /").split()) or _names(line, marks)]

    scene.eventually(seen, lambda lines: not lines, within_s=AT_ONCE_S, what=f"{node}: nothing names {sorted(marks)}")


def _names(line: str, marks: set[str]) -> bool:
    return any(f" {mark} " in f" {line} " for mark in marks)


# ---------------------------------------------------------------------- what it costs
@judged("LIFE-14", modes=DATAPLANES, needs=("agent",), source="a node's agent and BIRD fit into 60 MiB")
def test_the_programs_of_a_node_are_small(scene: Scene) -> None:
    """The system's programs on a node use less than 60 MiB together, shared pages counted once (Pss)."""
    for node, used in memory_mib(scene).items():
        total = sum(used.values())
        parts = ", ".join(f"{name} {mib:.1f}" for name, mib in sorted(used.items()))
        scene.fact(f"{node}: {total:.1f} MiB: {parts}")
        assert 0 < total < MEMORY_MIB, f"{node}: {total:.1f} MiB of at most {MEMORY_MIB:.0f}: {parts}"
