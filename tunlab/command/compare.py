"""`./lab compare`: the modes side by side, measured in turns; a table, compare.json and a picture."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from tunlab.check.stage import choose_box
from tunlab.compare.arena import Arena, chosen_pair
from tunlab.compare.figures import COMPARE, PICTURE, PNG, Comparison, Contender
from tunlab.compare.ground import find_iperf3, ground_of
from tunlab.compare.picture import draw
from tunlab.compare.text import print_comparison
from tunlab.errors import LabError, WorldError
from tunlab.lab.load import load_lab
from tunlab.lab.topology import MODES, Mode, Topology
from tunlab.oracle.network import reaches
from tunlab.paths import CAPTURES, shown
from tunlab.report.results import write_atomically
from tunlab.report.runs import check_out, new_run
from tunlab.report.table import console_for
from tunlab.systems.catalogue import find_system
from tunlab.systems.recipe import System

_USUAL: tuple[Mode, ...] = ("ipip", "vxlan", "none")
_RSVG = "rsvg-convert"


def run(
    *,
    modes: Sequence[str],
    lab: str,
    system: str,
    box: str,
    seconds: int,
    runs: int,
    png: bool,
    out: str,
) -> None:
    """Bring up a lab per mode, measure in turns, write what was seen. Raises LabError, SystemFault or WorldError."""
    topology = load_lab(lab)
    chosen = find_system(system, {})
    wanted = _wanted(modes, topology, chosen)
    kind, why_box = choose_box(box, wanted)
    iperf3 = find_iperf3()
    if png and shutil.which(_RSVG) is None:
        hint = "sudo apt-get install --no-install-recommends librsvg2-bin"
        raise WorldError(f"--png: {_RSVG} is not there (package librsvg2-bin)", hint=hint)
    started = datetime.now(UTC)
    if out:
        check_out(Path(out))  # now, and not after a minute of measuring
    load = os.getloadavg()[0]
    with contextlib.ExitStack() as stack:
        arenas = []
        for mode in wanted:
            _say(f"{topology.name} in {mode} in a box of kind {kind} ({why_box}) …")
            begun = time.monotonic()
            arenas.append(Arena.open(topology, chosen, mode, kind))
            stack.callback(arenas[-1].close)
            _say(f"  up in {time.monotonic() - begun:.1f} s")
        ground = ground_of(arenas, chosen.name, why_box, iperf3, load, seconds, runs)
        rounds = _rounds(arenas, seconds, runs)
        told = Comparison(
            started.isoformat(timespec="seconds"),
            ground,
            tuple(Contender.of(one.mode, one.mtu_bytes, one.headers(), rounds[one.mode]) for one in arenas),
        )
    folder = new_run(CAPTURES / "compare", Path(out) if out else None, started)
    _write(folder, told, png)
    print_comparison(told, console_for(sys.stdout))
    print(f"\nwritten: {shown(folder / COMPARE)}, {PICTURE}{f', {PNG}' if png else ''}")


def _wanted(modes: Sequence[str], topology: Topology, system: System) -> tuple[Mode, ...]:
    asked = [mode for mode in MODES if mode in modes] or [mode for mode in _USUAL if mode in topology.modes]
    if not modes:
        asked = [mode for mode in asked if mode in system.modes]
    source, target = chosen_pair(topology)
    for mode in asked:
        if mode not in topology.modes:
            legal = ", ".join(topology.modes)
            raise LabError(f"--modes: {mode}: not in {topology.name}\n  legal: {legal}", hint="./lab labs")
        if mode not in system.modes:
            offers = f"it offers: {', '.join(sorted(system.modes))}"
            raise LabError(f"--modes: {mode}: {system.name} does not offer it", hint=offers)
        if not reaches(topology, mode, source.node, target.node):
            raise LabError(
                f"--modes: {mode}: in {topology.name} {source.name} does not reach {target.name}",
                hint="leave that mode out, or name a --lab whose nodes share a segment: same-subnet",
            )
    if not asked:
        raise LabError(f"--modes: {topology.name}: none of {', '.join(_USUAL)} is among its modes", hint="name them")
    return tuple(asked)


def _rounds(arenas: Sequence[Arena], seconds: int, runs: int) -> Mapping[Mode, list[Mapping[str, float]]]:
    """Every round measures each mode once; who begins changes from round to round."""
    found: dict[Mode, list[Mapping[str, float]]] = {arena.mode: [] for arena in arenas}
    for number in range(runs):
        begun, shift = time.monotonic(), number % len(arenas)
        for arena in (*arenas[shift:], *arenas[:shift]):
            found[arena.mode].append(arena.round(seconds))
        tcp = ", ".join(f"{mode} {rounds[-1]['tcp_bit_per_s'] / 1e6:,.0f}" for mode, rounds in found.items())
        _say(f"round {number + 1} of {runs}: TCP, Mbit/s: {tcp} ({time.monotonic() - begun:.0f} s)")
    return found


def _write(folder: Path, told: Comparison, png: bool) -> None:
    write_atomically(folder / COMPARE, json.dumps(told.to_json(), indent=1, ensure_ascii=False) + "\n")
    write_atomically(folder / PICTURE, draw(told))
    if png:
        argv = [_RSVG, "--zoom", "2", "--output", str(folder / PNG), str(folder / PICTURE)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode != 0:
            raise WorldError(f"{_RSVG}: {(done.stderr.strip() or 'no picture').splitlines()[-1]}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
