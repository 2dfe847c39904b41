"""BGPPeers and BGPFilters about IPv6: read, written back, and kept apart from IPv4's."""

from __future__ import annotations

from typing import Any

import pytest

from refnet.errors import InvalidResource
from refnet.model.bgp import BGPPeer
from refnet.model.bgp_filter import BGPFilter
from tests.refnet.calc import situations as s
from tests.refnet.calc import six


def resource(kind: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": {"name": "one"}, "spec": spec}


@pytest.mark.parametrize(
    ("written", "address", "port"),
    [
        ("2001:db8::1", "2001:db8::1", None),
        ("[2001:db8::1]:1790", "2001:db8::1", 1790),
        ("192.0.2.1:179", "192.0.2.1", 179),
    ],
    ids=["alone", "with-a-port", "ipv4"],
)
def test_a_peer_may_have_an_ipv6_address_and_behind_brackets_a_port(
    written: str, address: str, port: int | None
) -> None:
    peer = BGPPeer.from_resource(resource("BGPPeer", peerIP=written, asNumber=64512))
    assert (str(peer.peer_ip), peer.port) == (address, port)
    assert peer.to_resource()["spec"]["peerIP"] == written


@pytest.mark.parametrize("wrong", ["2001:db8::1:::", "[2001:db8::g]:179", "fe80::1%eth0", "[2001:db8::1]:70000"])
def test_what_is_no_address_is_told(wrong: str) -> None:
    with pytest.raises(InvalidResource) as caught:
        BGPPeer.from_resource(resource("BGPPeer", peerIP=wrong, asNumber=64512))
    assert {mistake.path for mistake in caught.value.mistakes} == {"spec.peerIP"}


def test_rules_about_ipv6_take_ipv6_networks_and_lengths_up_to_128() -> None:
    rule = {"action": "Reject", "matchOperator": "In", "cidr": "fd00::/16", "prefixLength": {"min": 64, "max": 122}}
    found = BGPFilter.from_resource(resource("BGPFilter", importV6=[rule]))
    assert (found.imports_of(4), found.imports_of(6)[0].lengths) == ((), (64, 122))
    assert found.to_resource()["spec"] == {"importV6": [rule]}
    with pytest.raises(InvalidResource, match="these rules are about IPv6 routes"):
        BGPFilter.from_resource(resource("BGPFilter", importV6=[{**rule, "cidr": "10.0.0.0/8"}]))


def test_a_peer_and_its_filter_count_in_their_own_family_alone() -> None:
    peer = {"peerIP": "2001:db8:1::ff", "asNumber": 64512, "filters": ["strict"]}
    rules = {
        "exportV4": [{"action": "Reject"}],
        "exportV6": [{"action": "Accept", "matchOperator": "Equal", "cidr": "fd00:10::/122"}],
    }
    store = six.store() | s.resource("BGPPeer", "bgppeers", "tor", peer)
    store |= s.resource("BGPFilter", "bgpfilters", "strict", rules)
    speaker = six.want_of(store).speaker
    assert speaker and speaker.six
    assert "Global_2001_db8_1__ff" not in [peer.name for peer in speaker.peers]
    (session,) = [peer for peer in speaker.six.peers if peer.name == "Global_2001_db8_1__ff"]
    assert [str(rule.cidr) for rule in session.exports] == ["fd00:10::/122"]
