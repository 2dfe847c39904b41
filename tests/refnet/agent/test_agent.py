"""Agents on real nodes, with a real etcd and real BIRDs: what they bring about, how soon, and what they leave alone."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.refnet.agent.cluster import STATUS_KEY, Cluster, Member
from tests.refnet.apply.sandbox import last_pid
from tests.refnet.calc import situations as s
from tunlab.wait import eventually, steadily

ROUTER_BIRD = """
router id 172.16.0.254;
protocol device { scan time 1; }
protocol direct { ipv4; }
protocol kernel { scan time 1; metric 0; ipv4 { import none; export where source = RTS_BGP; }; }
template bgp node { local as 64512; multihop; passive; ipv4 { import all; export none; gateway recursive; }; }
protocol bgp n1 from node { neighbor 172.16.0.1 as 64512; }
protocol bgp n2 from node { neighbor 172.16.0.2 as 64512; }
protocol bgp n3 from node { neighbor 172.16.1.3 as 64512; }
"""


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    yield cluster
    cluster.close()


@pytest.fixture
def pair(cluster: Cluster) -> tuple[Member, Member]:
    return cluster.member(1), cluster.member(2)


def start(cluster: Cluster, *members: Member, blocks: bool = True) -> None:
    """Claim a block for each (10.65.NUMBER.0/26) and start its agent; wait until all are ready."""
    for member in members:
        if blocks:
            cluster.claim(member.name, f"10.65.{member.name[4:]}.0/26")
        member.start()
    cluster.ready(*members)


def has(member: Member, *routes: str, within_s: float = 10.0) -> None:
    eventually(member.routes, lambda seen: seen >= set(routes), within_s=within_s, every_s=0.01, what=f"{routes}")


def test_two_vxlan_nodes_get_exactly_this_soon_after_their_start(cluster: Cluster, pair: tuple[Member, Member]) -> None:
    cluster.pool(vxlanMode="Always")
    for member in pair:
        cluster.claim(member.name, f"10.65.{member.name[4:]}.0/26")
    for member in pair:
        member.start()
    node1, node2 = pair
    want = {"10.65.2.0/26 via 10.65.2.0 dev vxlan.calico proto 80 onlink", "blackhole 10.65.1.0/26 proto 80"}
    eventually(node1.routes, lambda seen: seen == want, within_s=6, every_s=0.01, what="node1's routes")
    cluster.ready(*pair)
    want = {"10.65.1.0/26 via 10.65.1.0 dev vxlan.calico proto 80 onlink", "blackhole 10.65.2.0/26 proto 80"}
    eventually(node2.routes, lambda seen: seen == want, within_s=6, every_s=0.01, what="node2's routes")
    assert node1.place.must("bridge fdb show dev vxlan.calico").strip() == (
        "66:2d:bf:44:a6:8b dst 172.16.0.2 self permanent"
    )
    assert node1.place.must("ip neigh show dev vxlan.calico").strip() == "10.65.2.0 lladdr 66:2d:bf:44:a6:8b PERMANENT"
    assert node1.place.must("cat /var/lib/calico/mtu /var/lib/calico/nodename") == "1450node1"
    assert node1.place.must("cat /proc/sys/net/ipv4/ip_forward").strip() == "1"
    node = cluster.store.get("/calico/resources/v3/projectcalico.org/nodes/node1")
    assert node["spec"]["bgp"]["ipv4Address"] == "172.16.0.1/24"
    assert node["spec"]["ipv4VXLANTunnelAddr"] == "10.65.1.0"
    assert node1.processes().count("bird") == 0
    assert node1.place.must("ss -Hltn sport = :179") == ""
    stored = eventually(
        lambda: cluster.store.get(STATUS_KEY.format("node1")), lambda r: r and r["ready"], within_s=8, what="status"
    )
    assert (stored["reason"], stored["bgp"], stored["mode"]["vxlan.calico"]) == ("", [], ["default"])


def test_a_block_claimed_later_is_routed_at_once(cluster: Cluster, pair: tuple[Member, Member]) -> None:
    cluster.pool(vxlanMode="Always")
    start(cluster, *pair)
    cluster.claim("node2", "10.65.9.0/26")
    has(pair[0], "10.65.9.0/26 via 10.65.2.0 dev vxlan.calico proto 80 onlink", within_s=3)
    cluster.store.delete("/calico/ipam/v2/host/node2/ipv4/block/10.65.9.0-26")
    eventually(pair[0].routes, lambda seen: len(seen) == 2, within_s=3, what="route gone")


def test_unencapsulated_blocks_are_reached_through_the_peer_or_the_router(cluster: Cluster) -> None:
    cluster.pool()
    near1, near2, far3 = cluster.member(1), cluster.member(2), cluster.member(3, segment=1)
    start(cluster, near1, near2, far3)
    want = {
        "10.65.2.0/26 via 172.16.0.2 dev eth0 proto bird",
        "10.65.3.0/26 via 172.16.0.254 dev eth0 proto bird",
        "blackhole 10.65.1.0/26 proto bird",
    }
    eventually(near1.routes, lambda seen: seen == want, within_s=20, what="node1's routes")
    want = {
        "10.65.1.0/26 via 172.16.1.254 dev eth0 proto bird",
        "10.65.2.0/26 via 172.16.1.254 dev eth0 proto bird",
        "blackhole 10.65.3.0/26 proto bird",
    }
    eventually(far3.routes, lambda seen: seen == want, within_s=20, what="node3's routes")
    sessions = eventually(
        lambda: near1.status()["bgp"], lambda b: [x["info"] for x in b] == ["Established"] * 2, within_s=10, what="bgp"
    )
    assert [(x["peer"], x["type"], x["state"]) for x in sessions] == [
        ("172.16.0.2", "node-to-node mesh", "up"),
        ("172.16.1.3", "node-to-node mesh", "up"),
    ]
    assert "Established" in near1.place.must("birdc show protocols")
    assert near1.place.run(["ip", "link", "show", "vxlan.calico"]).code != 0


def test_two_birds_are_established_and_have_routes_soon(cluster: Cluster, pair: tuple[Member, Member]) -> None:
    cluster.pool()
    for member in pair:
        cluster.claim(member.name, f"10.65.{member.name[4:]}.0/26")
        member.start()
    has(pair[0], "10.65.2.0/26 via 172.16.0.2 dev eth0 proto bird", within_s=8)
    has(pair[1], "10.65.1.0/26 via 172.16.0.1 dev eth0 proto bird", within_s=2)


def test_bird_is_woken_when_a_session_came_up(cluster: Cluster, pair: tuple[Member, Member]) -> None:
    """Left alone, BIRD sends its routes at its next timer, up to 2 s later; asking birdc meanwhile would wake it."""
    cluster.pool()
    start(cluster, *pair)
    route = "10.65.2.0/26 via 172.16.0.2 dev eth0 proto bird"
    has(pair[0], route, within_s=10)
    lags_s = []
    for _ in range(4):  # one lag can be short by luck
        pair[0].place.must("birdc restart Mesh_172_16_0_2")
        eventually(pair[0].routes, lambda seen: route not in seen, within_s=3, every_s=0.005, what="route gone")
        eventually(pair[0].routes, lambda seen: route in seen, within_s=20, every_s=0.005, what="route back")
        lags_s.append(time.time() - up_since(pair[0]))
    assert max(lags_s) < 0.4, lags_s


def up_since(member: Member) -> float:
    """When BIRD's only session came up, in seconds since the epoch; BIRD says local time of day."""
    row = next(line for line in member.place.must("birdc show protocols").splitlines() if " BGP " in line)
    clock, _, fraction = row.split()[4].partition(".")
    today = time.strftime("%Y-%m-%d ") + clock
    return time.mktime(time.strptime(today, "%Y-%m-%d %H:%M:%S")) + float(f"0.{fraction}")


def test_a_router_that_speaks_bgp_learns_every_nodes_blocks(cluster: Cluster) -> None:
    cluster.pool()
    cluster.put(s.resource("BGPPeer", "bgppeers", "router", {"peerIP": "172.16.0.254", "asNumber": 64512}))
    cluster.world.must(f"cat > /run/router.conf <<'END'\n{ROUTER_BIRD}\nEND", "bird -c /run/router.conf -s /run/b.ctl")
    near1, far3 = cluster.member(1), cluster.member(3, segment=1)
    start(cluster, near1, far3)
    eventually(
        lambda: cluster.world.must("ip route show proto bird"),
        lambda seen: "10.65.1.0/26 via 172.16.0.1" in seen and "10.65.3.0/26 via 172.16.1.3" in seen,
        within_s=20,
        what="the router's routes",
    )
    assert {b["type"] for b in near1.status()["bgp"]} == {"global", "node-to-node mesh"}


def test_a_change_of_mode_leaves_nothing_of_the_old_one(cluster: Cluster, pair: tuple[Member, Member]) -> None:
    node1, _ = pair
    bare = {"10.65.2.0/26 via 172.16.0.2 dev eth0 proto bird", "blackhole 10.65.1.0/26 proto bird"}
    tunnelled = {"10.65.2.0/26 via 10.65.2.0 dev vxlan.calico proto 80 onlink", "blackhole 10.65.1.0/26 proto 80"}
    cluster.pool(vxlanMode="Always")
    start(cluster, *pair)
    eventually(node1.routes, lambda seen: seen == tunnelled, within_s=10, what="vxlan")
    cluster.pool()
    eventually(node1.routes, lambda seen: seen == bare, within_s=20, what="none after vxlan")
    eventually(node1.is_ready, bool, within_s=8, what="ready")
    assert node1.place.run(["ip", "link", "show", "vxlan.calico"]).code != 0
    node = cluster.store.get("/calico/resources/v3/projectcalico.org/nodes/node1")
    assert "ipv4VXLANTunnelAddr" not in node["spec"]
    assert cluster.store.get("/calico/ipam/v2/handle/vxlan-tunnel-addr-node1") is None
    cluster.pool(vxlanMode="Always")
    # The address was freed and rests at the end of the queue: the node takes another one.
    eventually(
        node1.routes,
        lambda seen: len(seen) == 2 and any("dev vxlan.calico proto 80 onlink" in r for r in seen),
        within_s=20,
        what="vxlan after none",
    )
    eventually(node1.processes, lambda seen: "bird" not in seen, within_s=8, what="no bird")
    assert node1.place.must("ss -Hltn sport = :179") == ""


def test_a_bird_pool_beside_a_vxlan_pool_stays_birds(cluster: Cluster, pair: tuple[Member, Member]) -> None:
    cluster.pool(vxlanMode="Always")
    cluster.put(s.pool("bare", "10.66.0.0/16"))
    for member in pair:
        cluster.claim(member.name, f"10.66.{member.name[4:]}.0/26")
    start(cluster, *pair)
    has(
        pair[0],
        "10.65.2.0/26 via 10.65.2.0 dev vxlan.calico proto 80 onlink",
        "10.66.2.0/26 via 172.16.0.2 dev eth0 proto bird",
        "blackhole 10.65.1.0/26 proto 80",
        "blackhole 10.66.1.0/26 proto bird",
    )
    assert len(pair[0].routes()) == 4


DAMAGE = {
    "route": "ip route del 10.65.2.0/26",
    "neighbour": "ip neigh del 10.65.2.0 dev vxlan.calico",
    "fdb": "bridge fdb del 66:2d:bf:44:a6:8b dev vxlan.calico",
    "device-down": "ip link set vxlan.calico down",
    "device-gone": "ip link del vxlan.calico",
    "address": "ip addr flush dev vxlan.calico",
}


def test_whatever_is_damaged_is_back_before_the_next_slow_look(cluster: Cluster, pair: tuple[Member, Member]) -> None:
    cluster.pool(vxlanMode="Always")
    start(cluster, *pair)
    whole = eventually(pair[0].tables, lambda seen: "10.65.2.0/26" in seen, within_s=10, what="whole")
    for name, line in DAMAGE.items():
        pair[0].place.must(line)
        eventually(pair[0].tables, lambda seen: seen == whole, within_s=3, every_s=0.01, what=f"{name} repaired")


def test_nothing_happens_while_nothing_changes(cluster: Cluster, pair: tuple[Member, Member]) -> None:
    cluster.pool(vxlanMode="Always")
    start(cluster, *pair)
    member = pair[0]
    has(member, "10.65.2.0/26 via 10.65.2.0 dev vxlan.calico proto 80 onlink")
    eventually(lambda: ticks(member), lambda now: now == ticks(member), within_s=8, in_a_row=10, what="rest")
    # Ten quiet looks took half a second; the next slow look of the agent is at least 5 s away.
    before = (last_pid(member.place), ticks(member), member.place.must("stat -c %y /run/calico/agent-status.json"))
    steadily(lambda: ticks(member), lambda now: now <= before[1] + 1, for_s=2, every_s=0.5, what="no work")
    after = (last_pid(member.place), ticks(member), member.place.must("stat -c %y /run/calico/agent-status.json"))
    own_looks = last_pid(member.place) - last_pid(member.place)
    assert after[2] == before[2]
    # Between the two counts stand our own processes alone: those of `must` (a shell, its programs), nothing else.
    assert after[0] - before[0] == 2 * -own_looks


def ticks(member: Member) -> int:
    """CPU time that the agent has used, in hundredths of a second."""
    fields = Path(f"/proc/{member.pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_a_lost_store_leaves_the_kernel_as_it_is_and_repairs_go_on(
    cluster: Cluster, pair: tuple[Member, Member]
) -> None:
    cluster.pool(vxlanMode="Always")
    start(cluster, *pair)
    member = pair[0]
    whole = eventually(member.tables, lambda seen: "10.65.2.0/26" in seen, within_s=10, what="whole")
    etcd = cluster.world.processes[0]
    etcd.send_signal(signal.SIGKILL)
    etcd.wait()
    cluster.world.run(["sh", "-c", "kill -9 $(pidof etcd)"])
    status = eventually(member.status, lambda seen: not seen["ready"], within_s=10, what="not ready")
    assert status["reason"].startswith("store: etcd ")
    member.place.must("ip route del 10.65.2.0/26")
    eventually(member.tables, lambda seen: seen == whole, within_s=3, what="repaired without a store")
    cluster.store = cluster.world.etcd()
    eventually(member.is_ready, bool, within_s=20, what="ready again")
    cluster.claim("node2", "10.65.9.0/26")
    has(member, "10.65.9.0/26 via 10.65.2.0 dev vxlan.calico proto 80 onlink", within_s=3)


def test_the_end_of_an_agent_leaves_the_kernel_alone_and_ends_bird(
    cluster: Cluster, pair: tuple[Member, Member]
) -> None:
    cluster.pool()
    start(cluster, *pair)
    has(pair[0], "10.65.2.0/26 via 172.16.0.2 dev eth0 proto bird", within_s=10)
    before = [member.routes() for member in pair]
    began = time.monotonic()
    pair[0].stop()
    assert time.monotonic() - began < 3
    assert "bird" not in pair[0].processes()
    assert pair[0].ask("--ready").out == "the agent does not run\n"
    steadily(lambda: [m.routes() for m in pair], lambda seen: seen == before, for_s=1, what="routes of both nodes stay")
    pair[0].start()
    steadily(lambda: [m.routes() for m in pair], lambda seen: seen == before, for_s=3, what="no gap at the new start")
    cluster.ready(pair[0])


def test_an_agent_that_was_killed_leaves_a_bird_that_the_next_one_retires(
    cluster: Cluster, pair: tuple[Member, Member]
) -> None:
    cluster.pool()
    start(cluster, *pair)
    has(pair[0], "10.65.2.0/26 via 172.16.0.2 dev eth0 proto bird", within_s=10)
    before = [member.routes() for member in pair]
    pair[0].kill()
    pair[0].start()
    steadily(lambda: [m.routes() for m in pair], lambda seen: seen == before, for_s=3, what="routes of both nodes stay")
    cluster.ready(pair[0])
    assert pair[0].processes().count("bird") == 1


def test_a_bird_that_dies_is_started_again(cluster: Cluster, pair: tuple[Member, Member]) -> None:
    cluster.pool()
    start(cluster, *pair)
    pair[0].place.must("kill -9 $(pidof bird)")
    eventually(
        pair[0].status,
        lambda seen: not seen["ready"] and "ended with -9" in seen["reason"],
        within_s=8,
        every_s=0.01,
        what="told",
    )
    eventually(pair[0].is_ready, bool, within_s=10, what="ready again")
    has(pair[0], "10.65.2.0/26 via 172.16.0.2 dev eth0 proto bird", within_s=10)


def test_a_stopped_agent_goes_on_where_it_was(cluster: Cluster, pair: tuple[Member, Member]) -> None:
    cluster.pool(vxlanMode="Always")
    start(cluster, *pair)
    whole = eventually(pair[0].tables, lambda seen: "10.65.2.0/26" in seen, within_s=10, what="whole")
    pair[0].signal(signal.SIGSTOP)
    pair[0].place.must("ip route del 10.65.2.0/26")
    cluster.claim("node2", "10.65.9.0/26")
    steadily(pair[0].routes, lambda seen: len(seen) == 1, for_s=0.5, what="nobody repairs")
    pair[0].signal(signal.SIGCONT)
    has(pair[0], "10.65.9.0/26 via 10.65.2.0 dev vxlan.calico proto 80 onlink", within_s=3)
    cluster.store.delete("/calico/ipam/v2/host/node2/ipv4/block/10.65.9.0-26")
    eventually(pair[0].tables, lambda seen: seen == whole, within_s=3, what="whole again")


def test_what_others_wrote_into_our_node_object_stays(cluster: Cluster) -> None:
    cluster.pool(vxlanMode="Always")
    key = "/calico/resources/v3/projectcalico.org/nodes/node1"
    metadata = {"name": "node1", "labels": {"rack": "a"}, "annotations": {"x": "y"}}
    cluster.store.put(key, {"apiVersion": "projectcalico.org/v3", "kind": "Node", "metadata": metadata, "spec": {}})
    start(cluster, cluster.member(1))
    assert cluster.store.get(key)["metadata"] == metadata


def test_an_address_that_no_device_has_is_the_reason_until_one_has_it(cluster: Cluster) -> None:
    cluster.pool(vxlanMode="Always")
    member = cluster.member(1)
    member.start(IP="172.16.0.77/24")
    eventually(
        member.status,
        lambda seen: seen.get("reason") == "no device has the address 172.16.0.77",
        within_s=10,
        what="why",
    )
    assert member.ask("--ready").out == "no device has the address 172.16.0.77\n"
    member.place.must("ip addr add 172.16.0.77/24 dev eth0")
    cluster.ready(member)


def test_a_node_whose_address_another_has_stays_away_until_it_is_free(cluster: Cluster) -> None:
    cluster.pool(vxlanMode="Always")
    rival = "/calico/resources/v3/projectcalico.org/nodes/another"
    cluster.put(s.node("another", "172.16.0.1/24"))
    member = cluster.member(1)
    member.place.must("mkdir -p /var/lib/calico/.mtu.new")  # a file that cannot be written
    member.start(IP="172.16.0.1/24")
    reason = "node another has our address already (172.16.0.1)"
    eventually(member.status, lambda seen: seen.get("reason") == reason, within_s=20, what="why")
    assert cluster.store.get("/calico/resources/v3/projectcalico.org/nodes/node1") is None
    cluster.store.delete(rival)
    reason = "/var/lib/calico/.mtu.new: Is a directory"
    eventually(member.status, lambda seen: seen.get("reason") == reason, within_s=20, what="why")
    member.place.must("rmdir /var/lib/calico/.mtu.new")
    cluster.ready(member)


def test_a_second_agent_on_a_node_refuses(cluster: Cluster) -> None:
    cluster.pool(vxlanMode="Always")
    member = cluster.member(1)
    start(cluster, member)
    done = member.ask(NODENAME="node1", ETCD_ENDPOINTS="http://172.16.0.250:2379")
    assert (done.code, done.err) == (1, "refnet-agent: another agent runs on this node\n")
    assert (member.ask("--ready").code, member.ask("--ready").out) == (0, "ready\n")
