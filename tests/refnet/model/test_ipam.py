"""Reservations and settings of IPAM are read whole, written again as the same, and refused by the name of the field."""

from __future__ import annotations

from typing import Any

import pytest

from refnet.calc.world import read_world
from refnet.errors import InvalidResource
from refnet.model.ipam import IPAMConfiguration, read_settings
from refnet.model.keys import IP_RESERVATIONS, ipam_configuration_key
from refnet.model.kinds import kind_of


def resource(kind: str, name: str = "default", **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": {"name": name}, "spec": spec}


VALID = {
    "reservation": resource("IPReservation", "kept", reservedCIDRs=["10.0.0.0/30", "fd00::1/128"]),
    "settings": resource("IPAMConfiguration", strictAffinity=True, autoAllocateBlocks=False, maxBlocksPerHost=4),
    "controllers": resource("KubeControllersConfiguration", controllers={"node": {"leakGracePeriod": "90s"}}),
}


@pytest.mark.parametrize("written", VALID.values(), ids=VALID.keys())
def test_what_is_understood_reads_again_as_the_same(written: dict[str, Any]) -> None:
    kind = kind_of(written)
    value = kind.read(written)
    assert value.to_resource()["spec"] == written["spec"]
    assert kind.read(value.to_resource()) == value
    assert kind.unknown(written) == ()


NETWORK = "a network such as 192.168.0.0/16 or fd00:10:244::/48"
WRONG: dict[str, tuple[dict[str, Any], list[tuple[str, str, str]]]] = {
    "reserved": (
        resource("IPReservation", "kept", reservedCIDRs=["10.0.0.0/30", "10.0.0.1/24", "x", "fe80::1%$(id)"]),
        [
            ("spec.reservedCIDRs[1]", '"10.0.0.1/24"', NETWORK),
            ("spec.reservedCIDRs[2]", '"x"', NETWORK),
            ("spec.reservedCIDRs[3]", '"fe80::1%$(id)"', NETWORK),
        ],
    ),
    "limit without strictness": (
        resource("IPAMConfiguration", maxBlocksPerHost=4),
        [("spec.maxBlocksPerHost", "4", "0")],
    ),
    "no way to a block": (
        resource("IPAMConfiguration", autoAllocateBlocks=False),
        [("spec.autoAllocateBlocks", "false", "true")],
    ),
    "another name": (resource("IPAMConfiguration", "mine"), [("metadata.name", '"mine"', "default")]),
    "grace": (
        resource("KubeControllersConfiguration", controllers={"node": {"leakGracePeriod": "1s"}}),
        [("spec.controllers.node.leakGracePeriod", '"1s"', "0s (never), or 10s and more")],
    ),
}


@pytest.mark.parametrize(("written", "mistakes"), WRONG.values(), ids=WRONG.keys())
def test_every_mistake_is_named_with_what_is_legal(
    written: dict[str, Any], mistakes: list[tuple[str, str, str]]
) -> None:
    with pytest.raises(InvalidResource) as caught:
        kind_of(written).read(written)
    assert [(m.path, m.given, m.legal) for m in caught.value.mistakes] == mistakes


@pytest.mark.parametrize("key", [IP_RESERVATIONS + "kept", ipam_configuration_key()])
@pytest.mark.parametrize("stored", [None, "x", [1], {"spec": 7}, {"spec": {"reservedCIDRs": {"a": 1}}}], ids=repr)
def test_whatever_is_stored_is_told_by_the_agents_and_hurts_nobody(key: str, stored: Any) -> None:
    assert [invalid.key for invalid in read_world({key: stored}, "node1").invalid] == [key]


@pytest.mark.parametrize(
    ("config", "settings"),
    [
        (None, IPAMConfiguration()),
        ({"strict_affinity": True, "maxBlocksPerHost": 3}, IPAMConfiguration("default", True, True, 3)),
        ({"strict_affinity": "yes", "maxBlocksPerHost": -1}, IPAMConfiguration()),
        (["x"], IPAMConfiguration()),
    ],
    ids=["nothing", "strict", "nonsense", "a list"],
)
def test_calicos_own_key_counts_where_there_is_no_resource(config: Any, settings: IPAMConfiguration) -> None:
    assert read_settings(None, config) == settings
    assert read_settings(resource("IPAMConfiguration"), config) == IPAMConfiguration()
    assert IPAMConfiguration.from_config(settings.to_config()) == settings
