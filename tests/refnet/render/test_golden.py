"""Rendered text is what stands in tests/golden/refnet, word for word; BIRD accepts its part of it."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from refnet.calc.changes import Have, changes
from refnet.calc.network import wanted
from refnet.calc.wanted import Wanted
from refnet.calc.world import read_world
from refnet.model.bgp import SecretKey
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
REFLECTOR = s.NONE.but(
    "node1 reflects routes, on a port of its own, with a password, behind no mesh",
    s.node("node1", "192.0.2.1/24", routeReflectorClusterID="244.0.0.1")
    | s.resource(
        "BGPConfiguration", "bgpconfigurations", "default", {"nodeToNodeMeshEnabled": False, "listenPort": 1790}
    )
    | s.resource(
        "BGPPeer",
        "bgppeers",
        "clients",
        {"node": "node1", "peerSelector": "all()", "password": {"secretKeyRef": {"name": "bgp", "key": "rr"}}},
    ),
)
EVERY_FIELD = s.NONE.but(
    "a peer with every field, communities, filters of every kind, a pool that stays home",
    s.resource(
        "BGPPeer",
        "bgppeers",
        "tor",
        {
            "peerIP": "203.0.113.1:1790",
            "asNumber": 65001,
            "localASNumber": 64999,
            "nextHopMode": "Self",
            "sourceAddress": "None",
            "maxRestartTime": "1m30s",
            "keepaliveTime": "20s",
            "numAllowedLocalASNumbers": 2,
            "ttlSecurity": 3,
            "reachableBy": "192.0.2.254",
            "filters": ["strict"],
        },
    )
    | s.resource(
        "BGPFilter",
        "bgpfilters",
        "strict",
        {
            "exportV4": [
                {"action": "Accept", "matchOperator": "Equal", "cidr": "10.65.0.0/26"},
                {"action": "Reject", "matchOperator": "NotIn", "cidr": "10.65.0.0/16", "interface": "eth*"},
            ],
            "importV4": [
                {
                    "action": "Accept",
                    "matchOperator": "In",
                    "cidr": "10.0.0.0/8",
                    "prefixLength": {"min": 9, "max": 24},
                },
                {"action": "Accept", "matchOperator": "NotEqual", "cidr": "10.66.0.0/16", "source": "RemotePeers"},
                {"action": "Reject"},
            ],
        },
    )
    | s.resource(
        "BGPConfiguration",
        "bgpconfigurations",
        "default",
        {
            "bindMode": "NodeIP",
            "ignoredInterfaces": ["vnic_*"],
            "nodeMeshMaxRestartTime": "200s",
            "communities": [{"name": "rack", "value": "64512:7"}],
            "prefixAdvertisements": [{"cidr": "10.65.0.0/16", "communities": ["rack", "64512:1:2"]}],
        },
    )
    | s.pool("private", "10.67.0.0/16", disableBGPExport=True),
)
SECRETS = {SecretKey("bgp", "rr"): "open sesame"}


def want_of(situation: s.Situation) -> Wanted:
    return wanted(read_world(situation.store, "node1"), "node1", s.UPLINK, secrets=SECRETS)


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
    "reflector": REFLECTOR,
    "every-field": EVERY_FIELD,
    "alone": s.EMPTY.but("a pool alone", s.pool()),
}


@pytest.mark.parametrize("name", BIRDS)
def test_birds_configuration_is_this_text(name: str) -> None:
    bird = want_of(BIRDS[name]).speaker
    assert bird
    assert render_bird(bird) == golden(f"{name}.bird.conf")


@pytest.mark.parametrize("name", BIRDS)
def test_bird_accepts_the_golden_configuration(name: str) -> None:
    done = subprocess.run(
        ["bird", "-p", "-c", GOLDEN / f"{name}.bird.conf"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_bird_is_told_the_gateway_and_keeps_it_for_itself(tmp_path: Path) -> None:
    speaker = want_of(s.NONE).speaker
    assert speaker
    text = render_bird(replace(speaker, gateway=IPv4Address("192.0.2.254")))
    more = [line for line in text.splitlines() if line not in golden("none.bird.conf").splitlines()]
    assert more == ["protocol static onwards {", "  route 0.0.0.0/0 via 192.0.2.254;"]
    assert text.count("  if net.len = 0 then reject;") == 2, "neither the kernel nor a peer hears of it"
    (tmp_path / "bird.conf").write_text(text)
    done = subprocess.run(["bird", "-p", "-c", tmp_path / "bird.conf"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
