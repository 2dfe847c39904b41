"""Whether exercises are any: shared by the files that plant them.

One lab for each lab and mode, the exercises in it one after the other; its agents look at everything twice a second, so
that a fault which they would repair does not stay.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tunlab.box.start import fresh_run_dir, start_box
from tunlab.check.convergence import wait_converged
from tunlab.check.stage import choose_box
from tunlab.command.exercise import open_shelf
from tunlab.exercise.exercise import Exercise
from tunlab.exercise.grading import Grade, grade
from tunlab.exercise.planting import plant, run_steps
from tunlab.exercise.record import Record
from tunlab.lab.load import load_lab
from tunlab.lab.topology import Mode
from tunlab.live.lab import LiveLab
from tunlab.mutants.mutant import Step
from tunlab.node.tables import lasting
from tunlab.systems.catalogue import find_system
from tunlab.wait import FACTOR_VARIABLE, eventually

SHELF = open_shelf()
CELLS = sorted({(one.lab, one.mode) for one in SHELF.exercises.values()})
LARGEST = [cell for cell in CELLS if cell == ("mixed", "vxlan")]
OTHERS = [cell for cell in CELLS if cell not in LARGEST]
RESTLESS = """calicoctl apply -f - <<'END'
apiVersion: projectcalico.org/v3
kind: FelixConfiguration
metadata: {name: default}
spec: {routeRefreshInterval: 500ms, iptablesRefreshInterval: 500ms}
END"""
SETTINGS = """grep -rs '' /proc/sys/net/ipv4/conf
iptables-legacy-save | awk '/^[*]/ {table = $1} /^-A/ && !/cali/ {print table, $0}'"""


def expect_all_in_one_lab(lab: str, mode: Mode, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Open a lab and plant all of its exercises, one after the other."""
    live = LiveLab(load_lab(lab), start_box(choose_box("auto", [mode])[0], fresh_run_dir(f"exercises-{lab}-{mode}")))
    try:
        live.build()
        live.install(find_system("refnet", {}), mode)
        live.launch_all()
        wait_converged(live)
        expect_exercises(live, lab, mode, folder, monkeypatch)
    finally:
        live.box.close()


def expect_exercises(live: LiveLab, lab: str, mode: Mode, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other, each leaving the lab as it was."""
    run_steps(live, [Step("node1", RESTLESS)])
    before = state(live)
    exercises = [one for one in SHELF.exercises.values() if (one.lab, one.mode) == (lab, mode)]
    for one in exercises:
        record, shown = plant(live, one)
        assert one.symptom.is_in(shown)
        with monkeypatch.context() as patched:
            patched.setenv(FACTOR_VARIABLE, "0.2")  # who has been silent for two seconds will not speak after ten
            red = judged(live, one, record, folder, patience_s=0.0)
        expect_not_yet(one, red)
        run_steps(live, [Step(*step) for step in record.solution])
        green = judged(live, one, record, folder, patience_s=15.0)
        assert green.works, f"{one.name}: its solution is none: {green}"
        if one.freeze:
            live.installation.thaw(live.node_names())
        run_steps(live, one.clear)
        eventually(
            lambda: left(live, before), lambda lines: not lines, within_s=15.0, what=f"{one.name} leaves nothing"
        )
    if (lab, mode) == ("mixed", "vxlan"):
        expect_all_to_be_asked(live, exercises[-1], record, folder)


def judged(live: LiveLab, one: Exercise, record: Record, folder: Path, *, patience_s: float) -> Grade:
    lab = SHELF.labs[one.lab]
    return grade(live, one, record, SHELF.proofs, folder, lab=lab, besides=False, patience_s=patience_s)


def expect_not_yet(one: Exercise, found: Grade) -> None:
    """All that grades it is red; of its promises some."""
    assert found.symptom, f"{one.name}: its symptom does not stay"
    assert not found.works
    red = {each.id for each in found.red}
    assert set(one.graded_by) <= red, f"{one.name}: {found}"
    assert not one.must or any(id.startswith("MUST-") for id in red), f"{one.name}: {found}"
    assert not found.unknown


def expect_all_to_be_asked(live: LiveLab, one: Exercise, record: Record, folder: Path) -> None:
    """What breaks beside a repair that works is noticed, for the whole core of lab and mode is asked."""
    run_steps(live, [Step("pod2", "sysctl -qw net.ipv4.ip_forward=1")])
    found = grade(live, one, record, SHELF.proofs, folder, lab=SHELF.labs[one.lab])
    assert (found.symptom, found.works) == ("", False)
    assert [each.id for each in found.red] == ["VETH-06"]
    assert {"CONN-01", "CONN-02", "VXLAN-02", "MTU-01", "STATE-02"} <= {each.id for each in found.besides if each.holds}


def left(live: LiveLab, before: dict[str, list[str]]) -> list[str]:
    """What is different from before."""
    now = state(live)
    return [f"{place}: {line}" for place in now for line in sorted(set(now[place]) ^ set(before[place]))]


def state(live: LiveLab) -> dict[str, list[str]]:
    """All that an exercise may have changed, as lines."""
    places = [*live.node_names(), *(router.name for router in live.topology.routers), *live.workloads]
    tables = live.tables(places)
    settings = live.box.gather([(place, ("sh", "-c", SETTINGS)) for place in places], check=False)
    return {done.place: sorted((*done.out.splitlines(), *lasting(tables[done.place]))) for done in settings}
