"""The tasks that make a standing lab, step by step or in one go, and end it: build, install, launch, up, down."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tunlab.box.box import Completed
from tunlab.box.machine import machine
from tunlab.check.convergence import wait_converged
from tunlab.check.stage import choose_box
from tunlab.command.parts import replaced_by
from tunlab.errors import LabError, TunlabError, WorldError
from tunlab.lab.load import find_lab, load_lab
from tunlab.lab.topology import MODES, Mode, Pod, Topology
from tunlab.live import standing
from tunlab.live.lab import LiveLab
from tunlab.live.standing import StandingLab
from tunlab.runtime.cni import Sandbox
from tunlab.systems.catalogue import find_system
from tunlab.systems.recipe import Recipe, System

_EASIEST: Mode = "vxlan"
# A pod is also a network namespace and part of device names; this is what lab files allow, too.
_POD_NAME = re.compile(r"[a-z]([a-z0-9-]{0,9}[a-z0-9])?")


def build(lab: str, box: str = "auto", show: bool = False) -> None:
    """Build a lab's topology in a fresh box and leave it standing; what stood under its name is ended first."""
    topology = load_lab(lab)
    with standing.locked(topology.name):
        _build(topology, lab, _box_for_any_mode(box), show).keep()
    print(f"next: ./lab install --lab {topology.name} --mode vxlan")


def install(lab: str, system: str, mode: str, show: bool = False, parts: Sequence[str] = ()) -> None:
    """Put a system on every node of a standing lab; `parts` are PART=PATH, other builds of refnet's."""
    stands = standing.find_standing(lab or None)
    replaced = replaced_by(parts)
    chosen, wanted = _choose_system(system, mode, replaced)
    with standing.locked(stands.name):
        _install(stands, chosen, system, wanted, show, replaced)
    print(f"next: ./lab launch --lab {stands.name}")


def launch(lab: str, pod: str = "", node: str = "", show: bool = False) -> None:
    """Launch the lab's pods that are not up yet, or one more of any name on any node."""
    stands = standing.find_standing(lab or None)
    with standing.locked(stands.name):
        if stands.state.system is None:
            raise LabError(f"{stands.name}: no system is installed", hint=f"./lab install --lab {stands.name}")
        if stands.state.doing == "install":
            raise _install_cut_short(stands)
        pods = _pods_to_launch(stands, pod, node)
        if not pods:
            print(f"{stands.name}: all of its pods are up; one more: ./lab launch pod9 --node NODE")
        else:
            _launch(stands, _live(stands, show), pods)


def up(
    lab: str,
    system: str = "refnet",
    mode: str = "ipip",
    box: str = "auto",
    show: bool = False,
    parts: Sequence[str] = (),
    *,
    stays: bool = True,
) -> None:
    """Build, install and launch. A lab that stands already is brought back to its known state by a fresh one.

    What fails half-way still stands, to be looked at, unless nobody would: then it is to go.
    """
    topology = load_lab(lab)
    replaced = replaced_by(parts)
    chosen, wanted = _choose_system(system, mode, replaced)
    with standing.locked(topology.name):
        raise_lab(topology, lab, chosen, system, wanted, choose_box(box, (wanted,)), replaced, show, stays=stays)
    print(f"{topology.name} stands. Try: ./lab shell {topology.nodes[0].name}, ./lab status, ./lab down")


def stand(lab: str) -> None:
    """Bring a lab up with refnet in a mode that every machine can carry, unless it stands already."""
    topology = load_lab(lab)
    if topology.name not in standing.standing_names():
        up(lab, "refnet", _EASIEST if _EASIEST in topology.modes else topology.modes[0])


def raise_lab(
    topology: Topology,
    lab: str,
    chosen: System,
    system: str,
    mode: Mode,
    box: tuple[str, str],
    replaced: Mapping[str, Path],
    show: bool = False,
    *,
    stays: bool = True,
) -> StandingLab:
    """Build, install, launch under the topology's name, whose lock the caller holds; `lab` is whose file it is of."""
    stands = _build(topology, lab, box, show)
    try:
        live = _install(stands, chosen, system, mode, show, replaced)
        _launch(stands, live, topology.pods)
    except BaseException as error:
        if stays and isinstance(error, TunlabError):
            stands.keep()
            error.hint = error.hint or f"it still stands, to be looked at; ./lab down {topology.name} ends it"
        else:
            standing.end(topology.name)
        raise
    stands.keep()
    return stands


def raise_refnet(name: str, lab: str, mode: Mode, box: str = "auto") -> StandingLab:
    """The lab of that file with refnet in it under another name, whose lock the caller holds; none if that fails."""
    topology = replace(load_lab(lab), name=name)
    chosen, wanted = _choose_system("refnet", mode, {})
    return raise_lab(topology, lab, chosen, "refnet", wanted, choose_box(box, (wanted,)), {}, stays=False)


def down(lab: str = "", all: bool = False) -> None:
    """End one standing lab, or all of the caller's."""
    if lab and all:
        raise LabError(f"down: {lab} or --all: one of them", hint="./lab down [LAB] [--all]")
    names = standing.standing_names()
    if not all:
        names = [standing.lab_name(lab) if lab else standing.only(names)]
        if not standing.folder_of(names[0]).is_dir():
            raise standing.does_not_stand(names[0])
    if not names:
        print("no lab stands")
    refused: list[TunlabError] = []
    for name in names:
        try:
            with standing.locked(name):
                standing.end(name)
            print(f"{name} is gone")
        except TunlabError as error:
            refused.append(error)
    if refused:
        raise LabError(str(refused[0]), mistakes=tuple(map(str, refused)))


# ------------------------------------------------------------------ steps
def _build(topology: Topology, lab: str, box: tuple[str, str], show: bool) -> StandingLab:
    kind, why = box
    with _step(f"build {topology.name} in {kind} ({why})"):
        stands = standing.start(topology, find_lab(lab).read_text(), kind)
        try:
            _live(stands, show).build()
        except BaseException:
            standing.end(topology.name)
            raise
    return stands


def _install(
    stands: StandingLab, chosen: System, system: str, mode: Mode, show: bool, replaced: Mapping[str, Path]
) -> LiveLab:
    state = stands.state
    if state.doing == "install":
        raise _install_cut_short(stands)
    if state.system is not None:
        raise LabError(
            f"{stands.name}: {state.system} is installed already, in mode {state.mode}",
            hint=f"./lab up {stands.name} --mode {mode} begins anew",
        )
    verdict = machine().can(state.box, mode)
    if not verdict.ok:
        raise LabError(
            f"--mode {mode}: not in a box of kind {state.box}: {verdict.why}",
            hint=f"./lab up {stands.name} --mode {mode}",
        )
    live = _live(stands, show)
    recipe = live.choose(chosen, mode).recipe
    with _step(f"install {chosen.name} in mode {mode} on {', '.join(live.node_names())}"):
        written = str(Path(system).resolve()) if system.endswith((".yaml", ".yml")) else system
        environments = {place: dict(env) for place, env in recipe.shell_env.items()}
        paths = {part: str(path) for part, path in replaced.items()}
        stands.save(system=written, mode=mode, environments=environments, replaced=paths, doing="install")
        if show:
            _show_recipe(recipe)
        live.install(chosen, mode)
        stands.save(doing="")
    return live


def _install_cut_short(stands: StandingLab) -> LabError:
    state = stands.state
    return LabError(
        f"{stands.name}: the install of {state.system} in mode {state.mode} was cut short or did not succeed",
        hint=f"./lab up {stands.name} --mode {state.mode} begins anew",
    )


def _launch(stands: StandingLab, live: LiveLab, pods: tuple[Pod, ...]) -> None:
    _sweep_up(stands, live)
    for pod in pods:
        with _step(f"launch {pod.name} on {pod.node}"):
            stands.save(doing=f"launch {pod.name} {pod.node}")
            try:
                workload = live.launch(pod)
            except TunlabError:
                stands.save(doing="")  # a refused ADD has been undone
                raise
            stands.save_pods(live.workloads)
            stands.save(doing="")
        print(f"  {pod.name} has {workload.address}, behind {workload.node}'s {workload.host_device}")
    with _step("wait until every node has a route to every block"):
        wait_converged(live)


def _sweep_up(stands: StandingLab, live: LiveLab) -> None:
    """Undo a launch that was cut short: half a pod may be there. A DEL of what is not there is fine."""
    words = stands.state.doing.split()
    if words[:1] == ["launch"] and len(words) == 3 and words[1] not in live.workloads:
        live.runtime.delete(Sandbox(words[1], words[2]), check=False)
        live.runtime.drop_network(words[1])


def _pods_to_launch(stands: StandingLab, pod: str, node: str) -> tuple[Pod, ...]:
    topology, up_now = stands.topology, stands.state.pod_addresses
    if not pod:
        if node:
            raise LabError(f"launch: --node {node}: of which pod?", hint=f"./lab launch pod9 --node {node}")
        return tuple(one for one in topology.pods if one.name not in up_now)
    if pod in up_now:
        raise LabError(f"{pod}: this pod is up already", hint="choose another name")
    declared = next((one for one in topology.pods if one.name == pod), None)
    if declared is not None:
        if node and topology.node(node).name != declared.node:
            raise LabError(f"{pod}: the lab's file puts it on {declared.node}", hint=f"./lab launch {pod}")
        return (declared,)
    if not _POD_NAME.fullmatch(pod) or pod in (*stands.state.places, "box"):
        taken = ", ".join(stands.state.places)
        raise LabError(
            f"{pod}: no name for a pod\n  legal: lower-case letters, digits and '-', a letter first, at most 11",
            hint=f"taken are {taken}",
        )
    if not node:
        nodes = ", ".join(each.name for each in topology.nodes)
        raise LabError(
            f"{pod}: the lab's file has no such pod; to launch one more, say where\n  legal: --node {nodes}",
            hint=f"./lab launch {pod} --node {topology.nodes[0].name}",
        )
    return (Pod(pod, topology.node(node).name),)


def _live(stands: StandingLab, show: bool) -> LiveLab:
    live = stands.live()
    if show:
        live.box.transcript = _show
    return live


def _show(done: Completed) -> None:
    """A command as one would type it there; a script stands on lines of its own."""
    if done.argv[:2] == ("sh", "-eu") and len(done.argv) == 4:
        print(f"  {done.place}:")
        for line in done.argv[3].strip().splitlines():
            print(f"    {line}")
    else:
        print(f"  {done.place}$ {shlex.join(done.argv)}")


def _show_recipe(recipe: Recipe) -> None:
    """What an install does beside commands that run to their end: files, and programs that stay."""
    for file in recipe.files:
        print(f"  {file.host}: {file.path}" + (f" -> {file.target}" if file.target else " is written"))
    for command in recipe.setup:
        if command.stdin:
            print(
                f"  {command} <<'END'\n" + "".join(f"    {line}\n" for line in command.stdin.splitlines()) + "    END"
            )
    for daemon in (*([recipe.store] if recipe.store else []), *recipe.daemons):
        words = [*(f"{name}={value}" for name, value in daemon.env.items()), *daemon.argv]
        print(f"  {daemon.host}$ {shlex.join(words)} &")


def _box_for_any_mode(box: str) -> tuple[str, str]:
    """The kind of box for a lab that is only built, and may be given any mode later, and why. Raises WorldError."""
    if box != "auto":
        return choose_box(box, ("none",))
    found = [machine().choose(mode) for mode in MODES]
    kind, verdict = next((one for one in found if one[0] == "uml" and one[1].ok), found[0])
    if not verdict.ok:
        raise WorldError(f"no box here can carry {', '.join(MODES)}: {verdict.why}", hint="./lab doctor")
    return kind, verdict.why


def _choose_system(system: str, mode: str, replaced: Mapping[str, Path]) -> tuple[System, Mode]:
    if mode not in MODES:
        raise LabError(f"--mode {mode}: no such mode\n  legal: {', '.join(MODES)}", hint="./lab labs")
    chosen = find_system(system, replaced)
    if mode not in chosen.modes:
        offered = ", ".join(each for each in MODES if each in chosen.modes)
        raise LabError(f"--mode {mode}: {chosen.name} does not offer it\n  legal: {offered}", hint="another mode")
    return chosen, mode


@contextmanager
def _step(what: str) -> Iterator[None]:
    """Say a step before it is taken, and how long it took after."""
    print(f"{what} …", flush=True)
    started = time.monotonic()
    yield
    print(f"  done in {time.monotonic() - started:.1f} s", flush=True)
