"""Several pools at once, and who gets which address: selectors, lending between nodes, reservations, full pools."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import yaml

from tunlab.check.requirement import requirement
from tunlab.check.scene import Scene, read_documents
from tunlab.live.lab import Workload
from tunlab.oracle.network import Oracle, reaches
from tunlab.runtime.cni import PluginFailed
from tunlab.systems.install import Ipam
from tunlab.systems.resource import resource

MODES, NEEDS = ("vxlan", "none"), ("pools", "ipam-in-etcd", "block-routes", "agent")
MANIFESTS = "fixtures/manifests/pools"
TINY, SECOND = IPv4Network("10.66.0.0/29"), IPv4Network("10.65.0.0/16")
NO_ADDRESS = 101
SETTLED_WITHIN_S = 10.0
GRACE_S = 10.0

judged = partial(requirement, level="extended", scene="pools", labs=("mixed",), modes=("vxlan",), needs=NEEDS)


def _objects(scene: Scene, name: str, **changes: Any) -> list[dict[str, Any]]:
    """The objects of a manifest; its pools are carried as the lab's own, and changed."""
    objects = read_documents(f"{MANIFESTS}/{name}.yaml")
    for one in objects:
        if one["kind"] == "IPPool":
            one["spec"] |= {"vxlanMode": "Always" if scene.mode == "vxlan" else "Never", **changes}
    return objects


def _lab_pool(scene: Scene, **changes: Any) -> dict[str, Any]:
    """The lab's own pool, changed."""
    found: dict[str, Any] = yaml.safe_load(scene.ctl("get", "ippool", scene.topology.pools[0].name, "-o", "yaml").out)
    return {**found, "metadata": {"name": found["metadata"]["name"]}, "spec": {**found["spec"], **changes}}


def _from(*pools: str) -> Mapping[str, Any]:
    """The CNI configuration of a pod that wants one of these pools."""
    return {"ipam": {"type": "calico-ipam", "ipv4_pools": list(pools)}}


@contextmanager
def _pods(scene: Scene, node: str, names: Sequence[str], *pools: str) -> Iterator[list[Workload]]:
    """Pods on a node for the block, from these pools."""
    with ExitStack() as stack:
        config = _from(*pools) if pools else None
        yield [stack.enter_context(scene.pod(name, node, config=config)) for name in names]


def _block_of(pod: Workload, length: int) -> IPv4Network:
    return IPv4Network((int(pod.address), length), strict=False)


def _ipam(scene: Scene) -> Ipam:
    return scene.live.installation.read_ipam()


def _differences(scene: Scene) -> list[str]:
    """Every route that a node has too much or too little; one by one for addresses that are lent to another node."""
    ipam = _ipam(scene)
    workloads = dict(scene.workloads)
    oracle = Oracle(scene.topology, scene.mode, scene.live.installation.recipe.dialect, ipam, workloads)
    found = []
    for node in scene.live.node_names():
        wanted, seen = set(oracle.routes(node)), set(scene.tables(node).routes)
        for pod in workloads.values():
            own = ipam.blocks.get(pod.node, frozenset())
            if pod.node != node and not any(pod.address in block for block in own):
                wanted.add(oracle.block_route(node, pod.node, IPv4Network(int(pod.address))))
        found += [f"{node}: lacks {one}" for one in sorted(map(str, wanted - seen))]
        found += [f"{node}: has {one}, which leads nowhere" for one in sorted(map(str, seen - wanted))]
    return found


def _everybody_reaches(scene: Scene, *targets: str) -> None:
    """All routes are exact, and every pod has an answer from these where the mode carries that far."""
    scene.eventually(
        lambda: _differences(scene), lambda left: not left, within_s=SETTLED_WITHIN_S, what="routes are exact"
    )
    pairs = [(a, b) for a in scene.workloads for b in targets if a != b]
    nodes = {name: pod.node for name, pod in scene.workloads.items()}
    carried = [(a, b) for a, b in pairs if reaches(scene.topology, scene.mode, nodes[a], nodes[b])]
    scene.settle([scene.question(*pair) for pair in carried])


def _refused(scene: Scene, name: str, node: str, *pools: str, address: IPv4Address | None = None) -> str:
    """The message with which an ADD is refused for want of an address; it must leave nothing."""
    before = _ipam(scene).allocations, set(scene.tables(node).links)
    try:
        with scene.pod(name, node, config=_from(*pools) if pools else None, address=address) as pod:
            raise AssertionError(f"{node}: {name} got {pod.address}, wanted a refusal")
    except PluginFailed as error:
        code, message = error.code, str(error)
    assert code == NO_ADDRESS, f"{node}: {message}: code {code}, wanted {NO_ADDRESS}"
    after = _ipam(scene).allocations, set(scene.tables(node).links)
    assert after == before, f"{node}: a refused ADD left {after}, before there was {before}"
    return message


@judged("POOL-01", modes=MODES, source="Calico: configure the Calico CNI plugins, ipv4_pools")
def test_a_pod_comes_from_the_pool_that_its_network_names(scene: Scene) -> None:
    """A pod gets its address from the pool that the CNI configuration names (name or CIDR), and is reached at it."""
    with (
        scene.applied(*_objects(scene, "second")),
        _pods(scene, "node1", ["by-name"], "second") as (named,),
        _pods(scene, "node2", ["by-cidr"], str(SECOND)) as (by_cidr,),
        _pods(scene, "node2", ["by-itself"]) as (by_itself,),
    ):
        assert named.address in SECOND, f"by-name: has {named.address}, wanted one of {SECOND}"
        assert by_cidr.address in SECOND, f"by-cidr: has {by_cidr.address}, wanted one of {SECOND}"
        assert by_itself.address not in SECOND, f"by-itself: has {by_itself.address}, of a pool it did not name"
        _everybody_reaches(scene, "by-name", "by-cidr")


@judged("POOL-02", modes=MODES, source="Calico: IPPool.spec.blockSize")
def test_a_pools_blocks_have_its_own_size(scene: Scene) -> None:
    """A block of a second pool has that pool's size, in the store and in every node's routes."""
    with scene.applied(*_objects(scene, "second")), _pods(scene, "node1", ["small"], "second") as (pod,):
        block = _block_of(pod, 28)
        assert block in _ipam(scene).blocks["node1"], (
            f"node1: {_ipam(scene).blocks['node1']}, wanted {block} among them"
        )
        _everybody_reaches(scene, "small")


@judged("POOL-03", source="Calico: IPPool.spec.nodeSelector, assign IP addresses based on topology")
def test_a_pool_serves_the_nodes_that_its_selector_names(scene: Scene) -> None:
    """A node takes addresses from the pools that select it by its labels; one that none selects gets none."""
    labels = {"node1": {"rack": "a"}, "node2": {"rack": "c"}, "node3": {"rack": "b", "broken": ""}}
    nodes = [_labelled(scene, node, wanted) for node, wanted in labels.items()]
    with (
        scene.applied(*nodes, _lab_pool(scene, assignmentMode="Manual"), *_objects(scene, "racks")),
        _pods(scene, "node1", ["in-a"]) as (in_a,),
        _pods(scene, "node2", ["in-c"]) as (in_c,),
    ):
        assert in_a.address in IPv4Network("10.71.0.0/16"), f"in-a: has {in_a.address}, wanted one of rack-a"
        assert in_c.address in IPv4Network("10.72.0.0/16"), f"in-c: has {in_c.address}, wanted one of rack-b"
        _refused(scene, "nowhere", "node3")
        _everybody_reaches(scene, "in-a", "in-c")


def _labelled(scene: Scene, node: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """The stored Node with labels."""
    found: dict[str, Any] = yaml.safe_load(scene.ctl("get", "node", node, "-o", "yaml").out)
    return {**found, "metadata": {"name": node, "labels": dict(labels)}}


@judged("POOL-04", source="Calico: IPPool.spec.disabled")
def test_a_disabled_pool_gives_nothing_new_and_keeps_what_it_gave(scene: Scene) -> None:
    """From a disabled pool nobody gets an address, not even by asking; pods that have one are reached as before."""
    with (
        scene.applied(*_objects(scene, "second")),
        _pods(scene, "node1", ["early"], "second") as (early,),
        scene.applied(*_objects(scene, "second", disabled=True)),
    ):
        _refused(scene, "late", "node1", "second")
        _refused(scene, "asking", "node1", address=IPv4Address(int(early.address) ^ 1))
        _everybody_reaches(scene, "early")


@judged(
    "POOL-05",
    modes=MODES,
    needs=(*NEEDS, "fixed-address"),
    source="Calico: IPAM, AssignIP; CNI conventions: CNI_ARGS IP",
)
def test_a_pod_may_ask_for_an_address_of_another_nodes_block(scene: Scene) -> None:
    """A pod that asks for an address of another node's block gets it: each node has a route for it alone, the lender
    keeps its block and blackhole."""
    lender = scene.workloads["pod3"]
    taken = _ipam(scene).allocations
    block = next(block for block in _ipam(scene).blocks["node2"] if lender.address in block)
    wanted = next(address for address in block if address not in taken)
    with scene.pod("guest", "node1", address=wanted) as guest:
        assert guest.address == wanted, f"guest: has {guest.address}, wanted {wanted}"
        assert block in _ipam(scene).blocks["node2"], f"node2: lost its block {block}"
        _everybody_reaches(scene, "guest", "pod3")


@judged("POOL-06", modes=MODES, source="Calico: IPAM, AutoAssign; IPAMConfiguration.spec.strictAffinity")
def test_a_node_without_free_blocks_borrows_from_another(scene: Scene) -> None:
    """When no block is left to claim, a pod gets an address of another node's block, and is reached at it."""
    with (
        scene.applied(*_objects(scene, "tiny")),
        _pods(scene, "node1", ["a1", "a2", "a3", "a4"], "tiny") as own,
        _pods(scene, "node2", ["b1"], "tiny") as (lender,),
        _pods(scene, "node1", ["a5"], "tiny") as (guest,),
    ):
        assert len({_block_of(pod, 30) for pod in own}) == 1, f"node1: {[str(pod.address) for pod in own]}"
        lent = _block_of(lender, 30)
        assert guest.address in lent, f"a5: has {guest.address}, wanted one of node2's {lent}"
        assert lent in _ipam(scene).blocks["node2"], f"node2: lost its block {lent}"
        _everybody_reaches(scene, "a5", "b1")


@judged("POOL-07", source="Calico: IPAMConfiguration.spec.strictAffinity")
def test_strict_affinity_forbids_to_borrow(scene: Scene) -> None:
    """With strictAffinity no node takes an address of another's block, neither by itself nor because a pod asks."""
    with (
        scene.applied(*_objects(scene, "tiny"), *_objects(scene, "strict")),
        _pods(scene, "node1", ["a1", "a2", "a3", "a4"], "tiny"),
        _pods(scene, "node2", ["b1"], "tiny") as (lender,),
    ):
        _refused(scene, "a5", "node1", "tiny")
        free = next(address for address in _block_of(lender, 30) if address not in _ipam(scene).allocations)
        _refused(scene, "asking", "node1", address=free)
        with _pods(scene, "node2", ["b2"], "tiny") as (neighbour,):
            assert neighbour.address in _block_of(lender, 30), f"b2: has {neighbour.address}"


@judged("POOL-08", source="CNI specification 1.0.0 section 5; Calico: IPAM")
def test_a_full_pool_is_a_clear_error_and_leaks_nothing(scene: Scene) -> None:
    """When all addresses of a pool are in use, ADD names the pool and leaves nothing, and works again after a DEL."""
    with (
        scene.applied(*_objects(scene, "tiny")),
        _pods(scene, "node1", ["a1", "a2", "a3", "a4", "a5"], "tiny"),
        _pods(scene, "node2", ["b1", "b2"], "tiny"),
    ):
        with _pods(scene, "node3", ["last"], "tiny") as (last,):
            message = _refused(scene, "too-many", "node2", "tiny")
            assert f"tiny ({TINY})" in message, f"node2: {message}: does not name the pool"
        scene.ctl("ipam", "check")
        with _pods(scene, "node2", ["after"], "tiny") as (after,):
            assert after.address == last.address, f"after: has {after.address}, wanted {last.address}, which was freed"


@judged("POOL-09", needs=(*NEEDS, "fixed-address"), source="Calico: IPReservation")
def test_a_reserved_address_is_not_given(scene: Scene) -> None:
    """An address of an IPReservation is given to nobody by itself; a pod that asks for it by name gets it."""
    with (
        scene.applied(*_objects(scene, "tiny", blockSize=29), *_objects(scene, "reservation")),
        _pods(scene, "node1", ["only"], "tiny") as (only,),
    ):
        assert only.address == IPv4Address("10.66.0.6"), f"only: has {only.address}, wanted the unreserved 10.66.0.6"
        _refused(scene, "late", "node1", "tiny")
        with scene.pod("asking", "node1", address=IPv4Address("10.66.0.7")) as asking:
            assert asking.address == IPv4Address("10.66.0.7"), f"asking: has {asking.address}"


@judged("POOL-10", source="Calico: IPPool, validation")
def test_a_pool_that_makes_no_sense_is_refused(scene: Scene) -> None:
    """A pool that overlaps another, has host bits set, or changes CIDR or block size is refused by name of the field;
    nothing of it is stored."""
    lab = scene.topology.pools[0]
    half = str(next(iter(lab.cidr.subnets(prefixlen_diff=1))))
    wrong = {
        "spec.cidr": [
            _pool("overlapping", half),
            _pool("unmasked", "10.99.0.1/16"),
            _pool("link-local", "169.254.0.0/20"),
            _lab_pool(scene, cidr=half),
        ],
        "spec.blockSize": [_pool("coarse", "10.99.0.0/16", blockSize=19)],
        "spec.vxlanMode": [_pool("both", "10.99.0.0/16", ipipMode="Always", vxlanMode="Always")],
        "blocks /27": [_lab_pool(scene, blockSize=27)],
    }
    before = scene.ctl("get", "ippools", "-o", "yaml").out
    for path, pools in wrong.items():
        for pool in pools:
            done = scene.ctl("apply", "-f", "-", stdin=yaml.safe_dump(pool), check=False)
            said = " ".join(done.err.split())
            assert done.rc != 0, f"apply of {pool['spec']}: accepted"
            assert path in said, f"apply of {pool['spec']}: said {said!r}, wanted {path} in it"
    assert scene.ctl("get", "ippools", "-o", "yaml").out == before, "a refused pool changed what is stored"


def _pool(name: str, cidr: str, **spec: Any) -> dict[str, Any]:
    return resource("IPPool", name, cidr=cidr, **spec)


@judged(
    "POOL-11",
    modes=MODES,
    source="Calico: IPAM, release of blocks in pools that no longer select the node; deletion of an IPPool",
)
def test_empty_blocks_are_given_back(scene: Scene) -> None:
    """A pool that turns away from a node has its empty blocks back with the node's next pod, a deleted pool at once;
    their routes go everywhere."""
    with scene.applied(*_objects(scene, "second", assignmentMode="Automatic")):
        with _pods(scene, "node1", ["passing"], "second") as (pod,):
            block = _block_of(pod, 28)
        with _pods(scene, "node2", ["staying"], "second") as (other,):
            kept = _block_of(other, 28)
        assert block in _ipam(scene).blocks["node1"], f"node1: {block} went with its last pod, it should stay"
        with (
            scene.applied(*_objects(scene, "second", nodeSelector="!all()")),
            _pods(scene, "node1", ["next"]) as (following,),
        ):
            assert following.address not in SECOND, f"next: has {following.address} of a pool that turned away"
            assert block not in _ipam(scene).blocks["node1"], f"node1: keeps {block} of a pool that turned away"
            assert kept in _ipam(scene).blocks["node2"], f"node2: lost {kept} before it gave a pod an address"
            _everybody_reaches(scene, "next")
    left = [str(one) for blocks in _ipam(scene).blocks.values() for one in blocks if one.subnet_of(SECOND)]
    assert not left, f"blocks {left} are left of a deleted pool"
    _everybody_reaches(scene, "pod1")


@judged("POOL-12", source="Calico: KubeControllersConfiguration.spec.controllers.node.leakGracePeriod")
def test_what_lies_about_goes_back_after_the_grace_period(scene: Scene) -> None:
    """After leakGracePeriod an address without an endpoint and a node's spare blocks are given back, and no earlier;
    what is in use stays."""
    with (
        scene.applied(*_objects(scene, "second"), *_objects(scene, "tidy-soon")),
        scene.pod("forgotten", "node1") as forgotten,
    ):
        with _pods(scene, "node2", ["passing"], "second") as (passing,):
            spare = _block_of(passing, 28)
        scene.ctl("delete", "workloadendpoint", next(one for one in _endpoints(scene) if "forgotten" in one))
        before = _ipam(scene)
        assert forgotten.address in before.allocations, f"{forgotten.address}: went at once"
        assert spare in before.blocks["node2"], f"node2: {spare} went at once"
        kept = {pod.address for pod in scene.workloads.values() if pod.name != "forgotten"}
        scene.eventually(
            lambda: _lies_about(scene, forgotten, spare),
            lambda left: not left,
            within_s=GRACE_S + 2 * SETTLED_WITHIN_S,
            what="leaked addresses and spare blocks are given back",
        )
        lost = kept - set(_ipam(scene).allocations)
        assert not lost, f"{sorted(map(str, lost))}: in use and given back"
    _everybody_reaches(scene, "pod1")


def _lies_about(scene: Scene, forgotten: Workload, spare: IPv4Network) -> list[str]:
    now = _ipam(scene)
    found = [str(forgotten.address)] if forgotten.address in now.allocations else []
    return found + ([str(spare)] if spare in now.blocks.get("node2", ()) else [])


@judged("IPAM-04", source="Calico: calicoctl ipam check, calicoctl ipam release")
def test_a_leaked_address_is_found_and_released(scene: Scene) -> None:
    """`ipam check` is content with a lab in order, finds an address that nobody uses, and `ipam release` frees it."""
    scene.ctl("ipam", "check")
    with scene.pod("forgotten", "node1") as pod:
        name = next(one for one in _endpoints(scene) if "forgotten" in one)
        scene.ctl("delete", "workloadendpoint", name)
        done = scene.ctl("ipam", "check", check=False)
        assert done.rc != 0, "ipam check: content with an address that nobody uses"
        assert f"{pod.address}: allocated to" in done.out, f"ipam check: said {done.out}"
        scene.ctl("ipam", "release", f"--ip={pod.address}")
        assert pod.address not in _ipam(scene).allocations, f"{pod.address}: is allocated still"
        scene.ctl("ipam", "check")


@judged("IPAM-05", source="Calico: calicoctl ipam check")
def test_a_double_booked_address_is_found(scene: Scene) -> None:
    """`ipam check` names an address that two endpoints use, and both."""
    victim = scene.workloads["pod3"]
    endpoint = {
        "apiVersion": "projectcalico.org/v3",
        "kind": "WorkloadEndpoint",
        "metadata": {"name": "node9-k8s-twin-eth0", "namespace": "default"},
        "spec": {
            "orchestrator": "k8s",
            "node": "node9",
            "pod": "twin",
            "endpoint": "eth0",
            "containerID": "twin",
            "interfaceName": "cali0123456789a",
            "ipNetworks": [f"{victim.address}/32"],
        },
    }
    with scene.applied(endpoint):
        done = scene.ctl("ipam", "check", check=False)
        assert done.rc != 0, "ipam check: content with an address that two endpoints use"
        line = next((line for line in done.out.splitlines() if line.startswith(f"{victim.address}: booked 2")), "")
        assert "node9-k8s-twin-eth0" in line, f"ipam check: said {done.out}"
        assert "pod3" in line, f"ipam check: said {done.out}"
    scene.ctl("ipam", "check")


def _endpoints(scene: Scene) -> list[str]:
    return scene.ctl("get", "workloadendpoints", "-a", "-o", "name").out.split()


@judged("IPAM-06", source="Calico: calicoctl ipam configure, calicoctl ipam show")
def test_settings_and_borrowed_addresses_are_shown(scene: Scene) -> None:
    """`ipam configure` turns strictAffinity on and off, `ipam show` says so and lists who borrows from whom."""
    lent = _ipam(scene)
    block = next(block for block in lent.blocks["node2"] if scene.workloads["pod3"].address in block)
    wanted = next(address for address in block if address not in lent.allocations)
    scene.ctl("ipam", "configure", "--strictaffinity=true")
    try:
        assert "StrictAffinity     | true" in scene.ctl("ipam", "show", "--show-configuration").out
        _refused(scene, "guest", "node1", address=wanted)
    finally:
        scene.ctl("ipam", "configure", "--strictaffinity=false")
    with scene.pod("guest", "node1", address=wanted):
        shown = scene.ctl("ipam", "show", "--show-borrowed").out
        line = next((line for line in shown.splitlines() if f"| {wanted} " in line), "")
        assert line.split("|")[2:5] == [" node1          ", f" {block} ", " node2       "], f"ipam show: {shown}"
