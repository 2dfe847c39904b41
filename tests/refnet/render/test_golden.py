"""Rendered text is what stands in tests/golden/refnet, word for word; BIRD accepts its part of it."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from refnet.calc.changes import Have, changes
from refnet.calc.network import wanted
from refnet.calc.wanted import Wanted
from refnet.calc.world import read_world
from refnet.render.birdconf import render_bird
from refnet.render.iproute import batches
from tests.refnet.calc import situations as s
from tests.refnet.calc.test_changes import have_of

GOLDEN = Path(__file__).parents[2] / "golden/refnet"
BORROWED_HERE = s.NONE.but("node1 uses an address of node2", s.block("node2", "10.65.1.0/26", {7: "node1"}))
MIXED = s.NONE.but(
    "one pool of each mode",
    s.pool("far", "10.66.0.0/16", ipipMode="Always") | s.pool("private", "10.67.0.0/16", disableBGPExport=True),
)


def want_of(situation: s.Situation) -> Wanted:
    return wanted(read_world(situation.store, "node1"), "node1", s.UPLINK)


def golden(name: str) -> str:
    return (GOLDEN / name).read_text()


def commands(have: Have, want: Wanted) -> str:
    """All batches one after the other, each under a heading that is the command to feed it to."""
    return "".join(
        f"# {b.tool} -batch -\n" + "".join(f"{line}\n" for line in b.lines) for b in batches(changes(have, want))
    )


STEPS = {
    "nothing-to-ipip": (s.EMPTY, s.FAR),
    "nothing-to-ipip-crosssubnet": (s.EMPTY, s.IPIP_CROSS),
    "nothing-to-vxlan": (s.EMPTY, s.VXLAN),
    "nothing-to-vxlan-crosssubnet": (s.EMPTY, s.VXLAN_CROSS),
    "ipip-to-vxlan": (s.FAR, s.VXLAN),
    "vxlan-to-ipip": (s.VXLAN, s.FAR),
    "vxlan-to-none": (s.VXLAN, s.NONE),
    "ipip-to-none": (s.FAR, s.NONE),
    "vxlan-to-vxlan-crosssubnet": (s.VXLAN, s.VXLAN_CROSS),
    "vxlan-a-node-without-tunnel-address": (s.VXLAN, s.NO_VTEP),
    "vxlan-a-borrowed-address": (s.VXLAN, s.BORROWED),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_step_from_one_situation_to_another_is_these_commands(step: str) -> None:
    before, after = (want_of(situation) for situation in STEPS[step])
    assert commands(have_of(before), after) == golden(f"{step}.batch")


def test_a_device_of_another_make_is_deleted_before_it_is_made_anew() -> None:
    want = want_of(s.VXLAN)
    device = want.tunnels["vxlan.calico"]
    assert device.vxlan
    have = replace(have_of(want), tunnels={"vxlan.calico": replace(device, vxlan=replace(device.vxlan, vni=7))})
    assert commands(have, want) == golden("vxlan-device-anew.batch")


def test_nothing_to_do_is_no_batch_at_all() -> None:
    want = want_of(s.VXLAN)
    assert batches(changes(have_of(want), want)) == ()


BIRDS = {
    "none": s.NONE,
    "ipip": s.FAR,
    "none-router": s.ROUTER,
    "no-mesh": s.NO_MESH,
    "none-borrowed": BORROWED_HERE,
    "mixed-pools": MIXED,
    "alone": s.EMPTY.but("a pool alone", s.pool()),
}


@pytest.mark.parametrize("name", BIRDS)
def test_birds_configuration_is_this_text(name: str) -> None:
    bird = want_of(BIRDS[name]).bird
    assert bird
    assert render_bird(bird) == golden(f"{name}.bird.conf")


@pytest.mark.parametrize("name", BIRDS)
def test_bird_accepts_the_golden_configuration(name: str) -> None:
    done = subprocess.run(
        ["bird", "-p", "-c", GOLDEN / f"{name}.bird.conf"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
