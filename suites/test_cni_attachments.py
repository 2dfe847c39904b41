"""What becomes of attachments: DEL in every circumstance, failed ADDs, many at once, and again and again."""

from tunlab.check import claims
from tunlab.check.guest import (
    SPEC,
    Guest,
    at_rest,
    document,
    guest,
    is_silent,
    judged,
    nothing_left,
    refused,
    succeeded,
)
from tunlab.check.scene import Scene
from tunlab.node.tables import lasting

CROWD = 12
NEW = "1.1.0"


@judged("CNI-25", source=f"{SPEC} 2, DEL: succeeds where there is nothing")
def test_del_of_what_never_was_succeeds(scene: Scene) -> None:
    """DEL of a container that was never added succeeds, twice, and so does one without the ADD's result."""
    with nothing_left(scene), guest(scene) as one:
        for _ in range(2):
            one.delete()
        one.add()
        one.delete()
        assert "eth0" not in one.tables().links, f"{one.name}: has eth0 after a DEL without prevResult"


@judged("CNI-26", source=f"{SPEC} 2, DEL: even if some resources are missing")
def test_del_cleans_up_where_the_interface_is_gone(scene: Scene) -> None:
    """DEL succeeds where somebody deleted the interface by hand, and takes all the rest away."""
    with nothing_left(scene), guest(scene) as one:
        result = one.add()
        scene.run(one.name, "ip link del eth0")
        one.delete(prevResult=result)


@judged("CNI-27", source=f"{SPEC} 2, DEL: without CNI_NETNS")
def test_del_cleans_up_where_the_namespace_is_gone(scene: Scene) -> None:
    """DEL takes everything away where the namespace is gone, be it named still or not."""
    for netns in ({}, {"CNI_NETNS": ""}):
        with nothing_left(scene), guest(scene) as one:
            result = one.add()
            scene.live.runtime.drop_network(one.name)
            is_silent(one.call("DEL", netns, prevResult=result))


@judged("CNI-28", source=f"{SPEC} 3, Lifecycle: DEL after a failed ADD")
def test_a_failed_add_can_be_deleted(scene: Scene) -> None:
    """ADD into a namespace that is not there fails and leaves nothing, and the DEL that follows succeeds."""
    nowhere = {"CNI_NETNS": "/run/netns/nobody"}
    with nothing_left(scene), guest(scene) as one:
        with nothing_left(scene):
            refused(one.call("ADD", nowhere), "a namespace that is not there")
        is_silent(one.call("DEL", nowhere))


@judged("CNI-29", source=f"{SPEC} 3, Lifecycle: containers are independent")
def test_del_of_one_leaves_the_other(scene: Scene) -> None:
    """DEL of one container leaves another one's interface, routes and connection as they were."""
    with guest(scene, "stays") as stays:
        kept = stays.add()
        at_rest(scene, stays.node)
        before = sorted(lasting(stays.tables()))
        with guest(scene, "goes") as goes:
            goes.delete(prevResult=goes.add())
            claims.same_set(stays.name, "tables after another's DEL", sorted(lasting(stays.tables())), before)
        address = kept["ips"][0]["address"].partition("/")[0]
        pod = next(pod.name for pod in scene.workloads.values() if pod.node == stays.node)
        scene.settle([scene.question(pod, address)])


@judged("CNI-30", source=f"{SPEC} 2, DEL: releases all resources")
def test_again_and_again_leaves_nothing(scene: Scene) -> None:
    """After five ADDs and DELs of one container the node is as it was before the first: nothing piles up."""
    with nothing_left(scene), guest(scene) as one:
        for _ in range(5):
            one.delete(prevResult=one.add())


@judged("CNI-31", source=f"{SPEC} 3, Lifecycle: parallel for different containers")
def test_many_containers_at_once(scene: Scene) -> None:
    """Twelve ADDs at once all succeed with addresses of their own, twelve DELs at once take all of it away."""
    runtime, node = scene.live.runtime, scene.topology.nodes[0].name
    crowd = [Guest(scene, f"crowd{number}", node) for number in range(1, CROWD + 1)]
    with nothing_left(scene):
        for one in crowd:
            runtime.make_network(one.name)
        try:
            calls = [(one.sandbox, one.config) for one in crowd]
            results = [document(succeeded(done)) for done in runtime.call_all("ADD", calls)]
            addresses = [entry["address"] for result in results for entry in result["ips"]]
            twice = sorted({one for one in addresses if addresses.count(one) > 1})
            assert not twice, f"{node}: {CROWD} ADDs at once: given twice: {', '.join(twice)}"
        finally:
            gone = runtime.call_all("DEL", [(one.sandbox, one.config) for one in crowd])
            for one in crowd:
                runtime.drop_network(one.name)
        for done in gone:
            is_silent(done)


@judged("CNI-32", needs=("cni-status", "ipam-in-etcd"), source=f"{SPEC} 2, STATUS; section 5: codes 50 and 51")
def test_status_tells_whether_an_add_could_be_served(scene: Scene) -> None:
    """STATUS needs no container, is silent while ADD works, and is error 50 or 51 while the store is out of reach."""
    store = scene.topology.store.address.ip
    bare = dict.fromkeys(("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS"))
    with nothing_left(scene), guest(scene) as one:
        is_silent(one.call("STATUS", bare, cniVersion=NEW))
        scene.run(one.node, f"ip route add blackhole {store}/32")
        try:
            refused(one.call("STATUS", bare, cniVersion=NEW), "a store out of reach", 50, 51)
        finally:
            scene.run(one.node, f"ip route del blackhole {store}/32")
        is_silent(one.call("STATUS", bare, cniVersion=NEW))
        one.delete(prevResult=one.add())


@judged("CNI-33", needs=("cni-gc",), source=f"{SPEC} 2, GC")
def test_gc_takes_what_the_runtime_has_forgotten(scene: Scene) -> None:
    """GC takes away the attachment that its list does not name, with its address, and leaves those that it names."""
    live = scene.live
    with guest(scene, "known") as known:
        known.add()
        before = sorted(lasting(known.tables()))
        boxes = [known.sandbox, *(pod.sandbox for pod in live.workloads.values() if pod.node == known.node)]
        valid = [{"containerID": box.container_id, "ifname": box.device} for box in boxes]
        at_rest(scene, known.node)
        with guest(scene, "forgotten") as forgotten, nothing_left(scene):
            forgotten.add()
            is_silent(known.call("GC", None, cniVersion=NEW, **{"cni.dev/valid-attachments": valid}))
            assert "eth0" not in forgotten.tables().links, f"{forgotten.name}: has its eth0 after GC"
        claims.same_set(known.name, "tables after GC", sorted(lasting(known.tables())), before)
        pod = next(pod.name for pod in scene.workloads.values() if pod.node == known.node)
        scene.settle([scene.question(known.node, pod)])
