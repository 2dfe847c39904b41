"""A SpeakerConfig as the file of GoBGP 3 (JSON, which it reads as well as TOML), and what GoBGP cannot be told."""

from __future__ import annotations

import json
from typing import Any

from refnet.calc.speaker import SpeakerConfig, SpeakerPeer
from refnet.model.address import IPNetwork, lies_in

_RETRY_S = 5
_SET, _POLICY = "everybodys", "own-alone"
# How long a GoBGP that starts again waits for all its peers before it tells them anything.
_DEFERRAL_S = 10


def render_gobgp(config: SpeakerConfig) -> str:
    """The whole file. The same configuration gives the same text, so texts can be compared."""
    peers = [peer for peer in config.peers if not unsupported(config, peer)]
    everybodys = [f"{peer.address}/32" for peer in peers if peer.is_everybodys]
    file = {
        "global": _global(config),
        "defined-sets": {"neighbor-sets": [{"neighbor-set-name": _SET, "neighbor-info-list": everybodys}]},
        "policy-definitions": [_own_alone()],
        "neighbors": [_neighbour(config, peer) for peer in peers],
    }
    if not everybodys:  # a set of nobody stands for anybody
        file["policy-definitions"] = [{"name": _POLICY, "statements": []}]
    return json.dumps(file, indent=1) + "\n"


def announced(config: SpeakerConfig) -> frozenset[IPNetwork]:
    """What this node tells of itself: GoBGP is told by command, not in its file."""
    own = (*config.own_blocks, *config.borrowed)
    return frozenset(cidr for cidr in own if not any(lies_in(cidr, pool) for pool in config.unexported_pools))


def unsupported(config: SpeakerConfig, peer: SpeakerPeer) -> str:
    """What a session asks that GoBGP is not told how to do; such a session does not take place. Else empty."""
    if peer.imports or peer.exports:
        return "filters"
    if peer.next_hop_mode != "Auto":
        return "nextHopMode"
    if config.advertised:
        return "prefixAdvertisements"
    if peer.address.version != 4:
        return "IPv6"
    return ""


def _global(config: SpeakerConfig) -> dict[str, Any]:
    settings: dict[str, Any] = {"as": config.as_number, "router-id": str(config.router_id)}
    if config.listen_port:
        settings["port"] = config.listen_port
    exports = {"export-policy-list": [_POLICY], "default-export-policy": "accept-route"}
    return {"config": settings, "apply-policy": {"config": exports}}


def _own_alone() -> dict[str, Any]:
    """Whom every node talks to hears of each block from the block's own node: see render/birdconf.py."""
    to_them = {"match-neighbor-set": {"neighbor-set": _SET}}
    own = {"conditions": {**to_them, "bgp-conditions": {"route-type": "local"}}, "actions": _then("accept")}
    rest = {"conditions": to_them, "actions": _then("reject")}
    return {"name": _POLICY, "statements": [{"name": "own", **own}, {"name": "rest", **rest}]}


def _then(verdict: str) -> dict[str, str]:
    return {"route-disposition": f"{verdict}-route"}


def _neighbour(config: SpeakerConfig, peer: SpeakerPeer) -> dict[str, Any]:
    about: dict[str, Any] = {
        "neighbor-address": str(peer.address), "peer-as": peer.as_number, "description": peer.name,
    }  # fmt: skip
    if peer.local_as:
        about["local-as"] = peer.local_as
    if peer.password:
        about["auth-password"] = peer.password
    transport: dict[str, Any] = {"passive-mode": peer.is_passive}
    if peer.source:
        transport["local-address"] = str(peer.source)
    if peer.port:
        transport["remote-port"] = peer.port
    restart: dict[str, Any] = {
        "enabled": True, "restart-time": peer.restart_time_s or 120, "deferral-time": _DEFERRAL_S,
    }  # fmt: skip
    timers: dict[str, Any] = {"connect-retry": _RETRY_S, "idle-hold-time-after-reset": 1}
    if peer.keepalive_time_s:
        timers |= {"keepalive-interval": peer.keepalive_time_s, "hold-time": 3 * peer.keepalive_time_s}
    found: dict[str, Any] = {
        "config": about,
        "transport": {"config": transport},
        "timers": {"config": timers},
        "graceful-restart": {"config": restart},
        "afi-safis": [
            {"config": {"afi-safi-name": "ipv4-unicast"}, "mp-graceful-restart": {"config": {"enabled": True}}}
        ],
    }
    if peer.cluster_id:
        reflector = {"route-reflector-client": True, "route-reflector-cluster-id": str(peer.cluster_id)}
        found["route-reflector"] = {"config": reflector}
    if peer.as_number != (peer.local_as or config.as_number):
        found["ebgp-multihop"] = {"config": {"enabled": True, "multihop-ttl": 255}}
    if peer.allowed_local_as:
        found["as-path-options"] = {"config": {"allow-own-as": peer.allowed_local_as}}
    return found
