"""What the system says about itself to whoever restarts it, to whoever watches it, and in its logs."""

import json
import re
from collections.abc import Mapping
from functools import partial

from tunlab.check.requirement import requirement
from tunlab.check.scene import Scene

LABS = ("mixed",)
judged = partial(requirement, level="extended", scene="health", labs=LABS)
HEALTH, METRICS = 9099, 9091
WITHIN_S = 15.0
READY_WITHIN_S = 40.0
SAMPLE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{[^{}]*\})? (-?[0-9.e+-]+|\+Inf|NaN)$")
LEVELS = ("debug", "info", "warning", "error")


def _status(scene: Scene, place: str, url: str) -> str:
    """The HTTP status as text; 000 where nobody answers."""
    argv = ["curl", "-s", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", url]
    return scene.run(place, argv, check=False).out


def _metrics(scene: Scene, place: str, host: str) -> dict[str, float]:
    text = scene.run(place, ["curl", "-sf", "-m", "5", f"http://{host}:{METRICS}/metrics"]).out
    found: dict[str, float] = {}
    for line in text.splitlines():
        if line.startswith("#"):
            assert re.match(r"# (HELP|TYPE) [a-zA-Z_]", line), f"{host}: /metrics: {line!r} is no comment of Prometheus"
            continue
        sample = SAMPLE.match(line)
        assert sample, f"{host}: /metrics: {line!r} is no sample of Prometheus"
        found[sample[1] + (sample[2] or "")] = float(sample[3])
    return found


@judged(
    "OBS-01", modes=("vxlan", "none"), needs=("health",), source="Calico: FelixConfiguration healthEnabled, healthPort"
)
def test_a_node_in_order_is_live_and_ready(scene: Scene) -> None:
    """On a node in order /liveness and /readiness on port 9099 answer 200, and any other path does not."""
    for node in scene.live.node_names():
        for path, wanted in (("liveness", "200"), ("readiness", "200"), ("nonsense", "404")):
            scene.eventually(
                lambda node=node, path=path: _status(scene, node, f"http://localhost:{HEALTH}/{path}"),  # type: ignore[misc]
                lambda status, wanted=wanted: status == wanted,  # type: ignore[misc]
                within_s=WITHIN_S,
                what=f"{node}: /{path} answers {wanted}",
            )


@judged("OBS-02", modes=("vxlan",), needs=("health",), source="Calico: FelixConfiguration healthHost, localhost")
def test_health_is_told_on_the_node_alone(scene: Scene) -> None:
    """The health port answers on the node itself and nobody else, neither another node nor a pod."""
    node = scene.topology.nodes[0]
    url = f"http://{node.address.ip}:{HEALTH}/liveness"
    assert _status(scene, node.name, f"http://localhost:{HEALTH}/liveness") == "200", f"{node.name}: is not live"
    for place in (scene.topology.nodes[1].name, "pod1"):
        status = _status(scene, place, url)
        assert status == "000", f"{place}: {url} answers {status}"


@judged("OBS-03", modes=("vxlan",), needs=("health",), source="Calico: readiness of the data plane")
def test_a_node_without_its_store_is_live_and_not_ready(scene: Scene) -> None:
    """While the store is dead a node is live and not ready, says why, and is ready again by itself afterwards."""
    node, installation = scene.topology.nodes[0].name, scene.live.installation
    base = f"http://localhost:{HEALTH}"
    installation.kill(scene.topology.store.name)
    try:
        scene.eventually(
            lambda: _status(scene, node, f"{base}/readiness"),
            lambda status: status == "503",
            within_s=WITHIN_S,
            what=f"{node}: /readiness answers 503 without a store",
        )
        said = scene.run(node, ["curl", "-s", f"{base}/readiness"]).out
        assert "store" in said and "reporting non-ready" in said, f"{node}: /readiness does not name the store: {said}"
        assert _status(scene, node, f"{base}/liveness") == "200", f"{node}: is not live without a store"
    finally:
        installation.start_store()
    scene.eventually(
        lambda: _status(scene, node, f"{base}/readiness"),
        lambda status: status == "200",
        within_s=READY_WITHIN_S,
        what=f"{node}: /readiness answers 200 again",
    )
    installation.wait_ready(READY_WITHIN_S)


@judged("OBS-04", modes=("vxlan",), needs=("health",), source="Calico: liveness of the main loop")
def test_an_agent_that_hangs_is_not_live(scene: Scene) -> None:
    """An agent that is stopped does not answer /liveness, and answers again when it goes on."""
    node, url = scene.topology.nodes[0].name, f"http://localhost:{HEALTH}/liveness"
    live = scene.live.installation
    live.freeze([node])
    try:
        status = _status(scene, node, url)
        assert status == "000", f"{node}: a stopped agent answers {status}"
    finally:
        live.thaw([node])
    scene.eventually(
        lambda: _status(scene, node, url), lambda s: s == "200", within_s=WITHIN_S, what=f"{node}: is live again"
    )


@judged("OBS-05", modes=("vxlan",), needs=("metrics",), source="Calico: Prometheus metrics of Felix")
def test_metrics_tell_what_is_there(scene: Scene) -> None:
    """Port 9091 tells other hosts in Prometheus' format how many nodes and local pods there are."""
    for node in scene.topology.nodes:
        own = sum(workload.node == node.name for workload in scene.workloads.values())
        wanted = {
            "felix_resync_state": 3.0,
            "felix_cluster_num_hosts": float(len(scene.topology.nodes)),
            "felix_active_local_endpoints": float(own),
        }
        found = scene.eventually(
            lambda node=node: _metrics(scene, scene.topology.store.name, str(node.address.ip)),  # type: ignore[misc]
            lambda found, wanted=wanted: wanted.items() <= found.items(),  # type: ignore[misc]
            within_s=WITHIN_S,
            what=f"{node.name}: /metrics tells {wanted}",
        )
        assert found.get("process_resident_memory_bytes", 0) > 1e6, f"{node.name}: tells no memory"


@judged("OBS-06", modes=("vxlan",), needs=("metrics", "repairs"), source="Calico: Prometheus metrics of Felix")
def test_metrics_follow_what_happens(scene: Scene) -> None:
    """One more pod is one more local endpoint while it is there, and every pass over the node is counted."""
    node = scene.topology.nodes[0]
    name = "felix_active_local_endpoints"
    address = str(node.address.ip)
    before = _metrics(scene, node.name, address)
    with scene.pod("extra", node=node.name):
        scene.eventually(
            lambda: _metrics(scene, node.name, address)[name],
            lambda count: count == before[name] + 1,
            within_s=WITHIN_S,
            what=f"{node.name}: {name} counts one more",
        )
    after = scene.eventually(
        lambda: _metrics(scene, node.name, address),
        lambda found: found[name] == before[name],
        within_s=WITHIN_S,
        what=f"{node.name}: {name} is as before",
    )
    passes = "felix_int_dataplane_apply_time_seconds_count"
    assert after[passes] > before[passes], f"{node.name}: {passes} stays {before[passes]:g}"


@judged("OBS-07", modes=("vxlan", "none"), needs=("json-log",), source="logs are for programs first")
def test_every_line_of_the_log_is_an_object_with_time_level_and_message(scene: Scene) -> None:
    """Every line that an agent logs is a JSON object with time, level and message, of level info or above."""
    for name, path in scene.live.installation.logs().items():
        if not name.endswith("-agent"):
            continue
        lines = path.read_text().splitlines()
        assert lines, f"{name}: logged nothing"
        for line in lines:
            said = _object(line)
            assert {"time", "level", "message"} <= said.keys(), f"{name}: no such object: {line[:120]}"
            assert said["level"] in LEVELS[1:], f"{name}: level {said['level']}: {line[:120]}"


def _object(line: str) -> Mapping[str, object]:
    """The JSON object on a line; an empty one where there is none."""
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
