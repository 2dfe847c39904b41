"""Between many agents and one store stands a tier that watches once for all of them: Typha's place in Calico."""

import re

from tunlab.check.requirement import requirement
from tunlab.check.scene import Scene
from tunlab.errors import WorldError
from tunlab.systems.recipe import STORE_PORT

LABS = ("fan-out",)
WITHIN_S = 15.0
READY_WITHIN_S = 40.0
WATCHERS = re.compile(r"^etcd_debugging_mvcc_watcher_total (\d+)$", re.MULTILINE)
BLOCK = "10.65.200.0/26"


def _watchers(scene: Scene) -> int:
    """Watchers that the store serves, as it counts them."""
    url = f"http://127.0.0.1:{STORE_PORT}/metrics"
    found = WATCHERS.search(scene.run(scene.topology.store.name, ["curl", "-sf", url]).out)
    if found is None:
        raise WorldError(f"{url}: tells no number of watchers")
    return int(found[1])


def _news_reaches_all(scene: Scene, block: str, owner: str) -> None:
    """A block that is claimed is routed on every other node."""
    scene.ctl("ipam", "claim", block, f"--node={owner}")
    others = [node for node in scene.live.node_names() if node != owner]
    scene.eventually(
        lambda: [n for n in others if block not in {one.destination for one in scene.tables(n).routes}],
        lambda left: not left,
        within_s=WITHIN_S,
        what=f"every node has a route to {block}, which {owner} has just claimed",
    )


@requirement(
    "FAN-01",
    level="extended",
    scene="fan-out",
    labs=LABS,
    modes=("vxlan",),
    needs=("fan-out", "agent"),
    source="Calico: Typha, facts section 11",
)
def test_the_store_serves_as_many_watchers_as_there_are_proxies(scene: Scene) -> None:
    """However many agents follow, they cost the store no more watchers than there are proxies."""
    nodes, proxies = scene.live.node_names(), scene.topology.store.proxies
    if not len(nodes) > 2 * proxies > 0:
        raise WorldError(f"{scene.name}: {len(nodes)} nodes and {proxies} proxies are too few to tell")
    for node in nodes:
        scene.kill_agent(node)
    idle = scene.eventually(
        lambda: _watchers(scene), lambda count: count <= 2 * proxies, within_s=WITHIN_S, what="only the proxies watch"
    )
    for node in nodes:
        scene.live.installation.start(node)
    scene.live.installation.wait_ready(READY_WITHIN_S)
    _news_reaches_all(scene, BLOCK, nodes[1])
    busy = scene.eventually(
        lambda: _watchers(scene),
        lambda count: idle < count <= idle + proxies,
        within_s=WITHIN_S,
        what=f"{len(nodes)} agents cost at most {proxies} watchers more than the {idle} of idle proxies",
    )
    scene.fact(f"{len(nodes)} agents through {proxies} proxies: {busy - idle} watchers on the store")


@requirement(
    "FAN-02",
    level="extended",
    scene="fan-out",
    labs=LABS,
    modes=("vxlan",),
    needs=("fan-out",),
    source="Calico: Typha, facts section 11",
)
def test_news_reaches_every_node_through_the_proxies(scene: Scene) -> None:
    """A block that is claimed is routed on every other node, without any agent that watches the store itself."""
    for node in scene.live.node_names():
        connected = scene.run(node, "ss -Htn dport ge :23790").out.split()
        assert connected, f"{node}: its agent is connected to no proxy"
    _news_reaches_all(scene, "10.65.201.0/26", scene.live.node_names()[-1])


@requirement(
    "FAN-03",
    level="extended",
    scene="fan-out",
    labs=LABS,
    modes=("vxlan",),
    needs=("fan-out",),
    source="Calico: Typha's clients connect to another one",
)
def test_agents_of_a_dead_proxy_follow_through_another(scene: Scene) -> None:
    """When a proxy dies its agents go on through another one, and news still reaches every node."""
    installation, store = scene.live.installation, scene.topology.store.name
    killed = min(name for host, name in installation.pids if host == store and "proxy" in name)
    scene.live.box.signal(store, installation.pids[store, killed], "KILL")
    try:
        _news_reaches_all(scene, "10.65.202.0/26", scene.live.node_names()[2])
    finally:
        installation.kill(store)
        installation.start_store()
        installation.start(store)
        installation.wait_ready(READY_WITHIN_S)
    _news_reaches_all(scene, "10.65.203.0/26", scene.live.node_names()[3])
