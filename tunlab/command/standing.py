"""The tasks that make a standing lab, step by step or in one go, and end it: build, install, launch, up, down."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tunlab.box.box import Completed
from tunlab.box.machine import machine
from tunlab.check.convergence import wait_converged
from tunlab.errors import LabError, TunlabError
from tunlab.lab.load import find_lab, load_lab
from tunlab.lab.topology import MODES, Mode, Pod, Topology
from tunlab.live import standing
from tunlab.live.lab import LiveLab
from tunlab.live.standing import StandingLab
from tunlab.systems.catalogue import find_system


def build(lab: str, box: str = "auto", show: bool = False) -> None:
    """Build a lab's topology in a fresh box and leave it standing; what stood under its name is ended first."""
    topology = load_lab(lab)
    with standing.locked(topology.name):
        _build(topology, lab, box, MODES, show)
    print(f"next: ./lab install --lab {topology.name} --mode ipip")


def install(lab: str, system: str, mode: str, show: bool = False) -> None:
    """Put a system on every node of a standing lab."""
    stands = standing.find_standing(lab or None)
    with standing.locked(stands.name):
        _install(stands, system, _legal_mode(mode), show)
    print(f"next: ./lab launch --lab {stands.name}")


def launch(lab: str, pod: str = "", node: str = "", show: bool = False) -> None:
    """Launch the lab's pods that are not up yet, or one more of any name on any node."""
    stands = standing.find_standing(lab or None)
    with standing.locked(stands.name):
        live = _live(stands, show)
        pods = _pods_to_launch(live, pod, node)
        _launch(stands, live, pods)


def up(lab: str, system: str = "refnet", mode: str = "ipip", box: str = "auto", show: bool = False) -> None:
    """Build, install and launch. A lab that stands already is brought back to its known state by a fresh one."""
    topology = load_lab(lab)
    wanted = _legal_mode(mode)
    chosen = find_system(system)
    if wanted not in chosen.modes:
        raise LabError(f"--mode: {mode}: {chosen.name} does not offer it", hint=f"one of: {', '.join(chosen.modes)}")
    with standing.locked(topology.name):
        stands = _build(topology, lab, box, (wanted,), show)
        try:
            live = _install(stands, system, wanted, show)
            _launch(stands, live, topology.pods)
        except TunlabError as error:
            error.hint = error.hint or f"it still stands, to be looked at; ./lab down {topology.name} ends it"
            raise
    print(f"{topology.name} stands. Try: ./lab shell {topology.nodes[0].name}, ./lab status, ./lab down")


def down(lab: str = "", all: bool = False) -> None:
    """End one standing lab, or all of the caller's."""
    if all:
        names = standing.folders()
        for name in names:
            standing.end(name)
            print(f"{name} is gone")
        if not names:
            print("no lab stands")
        return
    name = Path(lab).stem if lab else standing.find_standing(None).name
    if not standing.end(name):
        raise LabError(f"{name}: this lab does not stand", hint=f"standing: {', '.join(standing.folders()) or 'none'}")
    print(f"{name} is gone")


# ------------------------------------------------------------------ steps
def _build(topology: Topology, lab: str, box: str, modes: tuple[Mode, ...], show: bool) -> StandingLab:
    kind, why = _choose_box(box, modes)
    with _step(f"build {topology.name} in {kind} ({why})"):
        stands = standing.start(topology, find_lab(lab).read_text(), kind)
        try:
            _live(stands, show).build()
        except BaseException:
            standing.end(topology.name)
            raise
    return stands


def _install(stands: StandingLab, system: str, mode: Mode, show: bool) -> LiveLab:
    if stands.state.system is not None:
        raise LabError(
            f"{stands.name}: {stands.state.system} is installed already, in mode {stands.state.mode}",
            hint=f"./lab build {stands.name} begins anew",
        )
    live = _live(stands, show)
    chosen = find_system(system)
    with _step(f"install {chosen.name} in mode {mode} on {', '.join(live.node_names())}"):
        stands.save(system=str(Path(system).resolve()) if system.endswith((".yaml", ".yml")) else system, mode=mode)
        live.install(chosen, mode)
    return live


def _launch(stands: StandingLab, live: LiveLab, pods: tuple[Pod, ...]) -> None:
    for pod in pods:
        with _step(f"launch {pod.name} on {pod.node}"):
            workload = live.launch(pod)
            stands.save_pods(live.workloads)
        print(f"  {pod.name} has {workload.address}, behind {workload.node}'s {workload.host_device}")
    with _step("wait until every node has a route to every block"):
        wait_converged(live)


def _pods_to_launch(live: LiveLab, pod: str, node: str) -> tuple[Pod, ...]:
    topology = live.topology
    if not pod:
        return tuple(one for one in topology.pods if one.name not in live.workloads)
    if pod in live.workloads:
        raise LabError(f"{pod}: this pod is up already", hint="choose another name")
    declared = next((one for one in topology.pods if one.name == pod), None)
    if declared is not None and node in ("", declared.node):
        return (declared,)
    if not node:
        raise LabError(
            f"{pod}: the lab has no such pod", hint=f"--node NODE launches one more: ./lab launch {pod} --node node1"
        )
    if not pod.replace("-", "").isalnum() or not pod[0].isalpha() or len(pod) > 11 or pod in _taken(topology):
        raise LabError(
            f"{pod}: no name for a pod",
            hint="lower-case letters, digits and '-', at most 11, and not taken in this lab",
        )
    return (Pod(pod, topology.node(node).name),)


def _taken(topology: Topology) -> set[str]:
    return {host.name for host in topology.hosts} | {segment.name for segment in topology.segments}


def _live(stands: StandingLab, show: bool) -> LiveLab:
    live = stands.live()
    if show:
        live.box.transcript = _show
    return live


def _show(done: Completed) -> None:
    print(f"  {done}")


def _choose_box(box: str, modes: tuple[Mode, ...]) -> tuple[str, str]:
    if box != "auto":
        return box, "as asked"
    found = [machine().choose(mode) for mode in modes]
    kind, verdict = next((one for one in found if one[0] == "uml"), found[0])
    if not verdict.ok:
        raise LabError(f"no box here can carry {', '.join(modes)}: {verdict.why}", hint="./lab doctor")
    return kind, verdict.why


def _legal_mode(mode: str) -> Mode:
    if mode not in MODES:
        raise LabError(f"--mode: {mode}: no such mode", hint=f"one of: {', '.join(MODES)}")
    return mode


@contextmanager
def _step(what: str) -> Iterator[None]:
    """Say a step before it is taken, and how long it took after."""
    print(f"{what} …", flush=True)
    started = time.monotonic()
    yield
    print(f"  done in {time.monotonic() - started:.1f} s", flush=True)
