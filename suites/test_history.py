"""What a lab is must follow from what is stored, not from how it came there."""

from collections.abc import Mapping, Sequence

from tunlab.check.convergence import wait_converged
from tunlab.check.history import carry_out, compared, essence, plan, restoring, seed_of
from tunlab.check.requirement import requirement
from tunlab.check.scene import Scene
from tunlab.lab.topology import Mode

MODES: tuple[Mode, ...] = ("vxlan", "vxlan-crosssubnet", "none")
READY_WITHIN_S: Mapping[str, float] = {"namespaces": 40.0, "uml": 90.0}
CLEAN_WITHIN_S: Mapping[str, float] = {"namespaces": 15.0, "uml": 45.0}


@requirement(
    "HISTORY-01", level="extended", scene="history", labs=("mixed",), modes=("vxlan",), visits=MODES,
    needs=("agent", "mode-switch", "ipam-in-etcd", "block-routes", "repairs"),
    source="level, not edge: the wanted state is a function of the present store",
)  # fmt: skip
def test_the_end_of_a_random_history_equals_a_fresh_build(scene: Scene) -> None:
    """After pods, modes, agents and nodes came and went at random, every node and the store are as freshly built."""
    fresh, within_s = essence(scene), READY_WITHIN_S[scene.live.box.kind]
    seed = seed_of()
    history = plan(seed, scene.topology, scene.mode, MODES)
    rest, pods = restoring(history, scene.topology, scene.mode)
    told = f"seed {seed}: {', '.join(map(str, [*history, *rest, *pods]))}"
    scene.fact(told)
    for operation in [*history, *rest]:
        carry_out(scene, operation, within_s)
    scene.live.installation.wait_ready(within_s)
    wait_converged(scene.live, within_s)
    scene.eventually(lambda: _settings(scene), lambda seen: seen == _of_settings(fresh), within_s=within_s, what=told)
    for operation in pods:
        carry_out(scene, operation, within_s)
    scene.eventually(
        lambda: compared(essence(scene), fresh),
        lambda left: not left,
        within_s=CLEAN_WITHIN_S[scene.live.box.kind],
        what=f"all is as freshly built, after {told}",
    )


def _settings(scene: Scene) -> list[str]:
    return _of_settings(essence(scene))


def _of_settings(state: Mapping[str, Sequence[str]]) -> list[str]:
    """What agents tell plugins: a pod that comes before they have changed their mind gets the MTU of another mode."""
    return [line for lines in state.values() for line in lines if line.startswith("/var/lib/calico/")]
