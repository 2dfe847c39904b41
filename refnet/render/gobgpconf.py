"""A SpeakerConfig as the file of GoBGP 3 (JSON, which it reads as well as TOML), and what GoBGP cannot be told.

GoBGP has one policy for all sessions and none for each (but as a route server): whose rule it is, a set of one
neighbour says. Both families' sessions stand side by side, told apart by their peers' addresses.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from refnet.calc.speaker import SpeakerConfig, SpeakerPeer
from refnet.model.address import FAMILY_WORDS, IPNetwork, lies_in, single
from refnet.model.bgp_filter import FilterRule

_RETRY_S = 5
EXPORTS, _IMPORTS, _EVERYBODY = "exports", "imports", "everybodys"
# How long a GoBGP that starts again waits for all its peers before it tells them anything.
_DEFERRAL_S = 10
_NEXT_HOP_WORDS = {"Self": "self", "Keep": "unchanged"}
# GoBGP has no word for "learnt from anybody".
_FROM_PEERS = ("internal", "external")

Json = dict[str, Any]
# A network, and which lengths of prefixes below it: 26..32.
_Prefixes = tuple[IPNetwork, str]


def render_gobgp(config: SpeakerConfig) -> str:
    """The whole file. The same configuration gives the same text, so texts can be compared."""
    served = [(half, peer) for half in halves(config) for peer in half.peers if not unsupported(peer)]
    peers = [peer for _, peer in served]
    imports = [statement for peer in peers for statement in _rules(peer, "import", peer.imports)]
    exports = [*_next_hops(peers), *(statement for peer in peers for statement in _rules(peer, "export", peer.exports))]
    exports += [*_communities(config), *_own_alone()]
    policies = [{"name": _IMPORTS, "statements": imports}, {"name": EXPORTS, "statements": exports}]
    apply = {"import-policy-list": [_IMPORTS], "export-policy-list": [EXPORTS]}
    defaults = {"default-import-policy": "accept-route", "default-export-policy": "accept-route"}
    file = {
        "global": {"config": _global(config), "apply-policy": {"config": {**apply, **defaults}}},
        "defined-sets": {
            "neighbor-sets": list(_neighbour_sets(config, peers)),
            "prefix-sets": list(_prefix_sets(config, peers)),
        },
        "policy-definitions": policies,
        "neighbors": [_neighbour(half, peer) for half, peer in served],
    }
    return json.dumps(file, indent=1) + "\n"


def halves(config: SpeakerConfig) -> Iterator[SpeakerConfig]:
    """Each family's part."""
    yield config
    if config.six:
        yield config.six


def announced(config: SpeakerConfig) -> frozenset[IPNetwork]:
    """What this node tells of itself: GoBGP is told by command, not in its file."""
    own = (*config.own_blocks, *config.borrowed)
    return frozenset(cidr for cidr in own if not any(lies_in(cidr, pool) for pool in config.unexported_pools))


def unsupported(peer: SpeakerPeer) -> str:
    """What a session asks that GoBGP is not told how to do; such a session does not take place. Else empty."""
    if any(rule.interface for rule in (*peer.imports, *peer.exports)):
        return "filters with an interface"
    if peer.ttl_security is not None:
        return "ttlSecurity"
    return ""


def _global(config: SpeakerConfig) -> Json:
    settings: Json = {"as": config.as_number, "router-id": str(config.router_id)}
    if config.listen_port:
        settings["port"] = config.listen_port
    if config.is_bound:
        settings["local-address-list"] = [str(half.router_id) for half in halves(config)]
    return settings


def _neighbour_sets(config: SpeakerConfig, peers: Iterable[SpeakerPeer]) -> Iterator[Json]:
    """A set of nobody stands for anybody, so that we ourselves are in it."""
    everybodys = [config.router_id, *(peer.address for peer in peers if peer.is_everybodys)]
    yield {"neighbor-set-name": _EVERYBODY, "neighbor-info-list": [str(single(address)) for address in everybodys]}
    for peer in peers:
        if peer.imports or peer.exports or peer.next_hop_mode in _NEXT_HOP_WORDS:
            yield {"neighbor-set-name": peer.name, "neighbor-info-list": [str(single(peer.address))]}


def _prefix_sets(config: SpeakerConfig, peers: Iterable[SpeakerPeer]) -> Iterator[Json]:
    rules = [rule for peer in peers for rule in (*peer.imports, *peer.exports)]
    wanted = [*map(_prefixes_of, rules), *(_below(each.cidr) for each in config.advertised)]
    for name, (cidr, lengths) in sorted({_set_name(one): one for one in wanted if one}.items()):
        prefixes = [{"ip-prefix": str(cidr), "masklength-range": lengths}]
        yield {"prefix-set-name": name, "prefix-list": prefixes}


def _below(cidr: IPNetwork) -> _Prefixes:
    return cidr, f"{cidr.prefixlen}..{cidr.max_prefixlen}"


def _prefixes_of(rule: FilterRule) -> _Prefixes | None:
    """Which prefixes a rule is about: below its network, with lengths in a range, or that network alone."""
    if rule.cidr is None:
        return None
    if rule.operator in ("Equal", "NotEqual"):
        return rule.cidr, f"{rule.cidr.prefixlen}..{rule.cidr.prefixlen}"
    return (rule.cidr, f"{rule.lengths[0]}..{rule.lengths[1]}") if rule.lengths else _below(rule.cidr)


def _set_name(prefixes: _Prefixes) -> str:
    return " ".join(map(str, prefixes))


def _to(name: str) -> Json:
    """The session with a neighbour of that set."""
    return {"match-neighbor-set": {"neighbor-set": name}}


def _is_in(prefixes: _Prefixes, *, inverted: bool = False) -> Json:
    word = "invert" if inverted else "any"
    return {"match-prefix-set": {"prefix-set": _set_name(prefixes), "match-set-options": word}}


def _rules(peer: SpeakerPeer, direction: str, rules: Iterable[FilterRule]) -> Iterator[Json]:
    """A BGPFilter's rules for one session; what none of them matches goes on to the statements behind."""
    for number, rule in enumerate(rules):
        conditions = _to(peer.name)
        if prefixes := _prefixes_of(rule):
            conditions |= _is_in(prefixes, inverted=rule.operator.startswith("Not"))
        # What comes in comes from a peer.
        for origin in _FROM_PEERS if rule.is_from_peer and direction == "export" else ("",):
            about = conditions | ({"bgp-conditions": {"route-type": origin}} if origin else {})
            verdict = _then("accept" if rule.accepts else "reject")
            yield {"name": f"{peer.name} {direction} {number}{origin}", "conditions": about, "actions": verdict}


def _next_hops(peers: Iterable[SpeakerPeer]) -> Iterator[Json]:
    """These decide nothing: the statements behind are asked, too."""
    for peer in peers:
        if word := _NEXT_HOP_WORDS.get(peer.next_hop_mode):
            actions = {"bgp-actions": {"set-next-hop": word}}
            yield {"name": f"{peer.name} next hop", "conditions": _to(peer.name), "actions": actions}


def _communities(config: SpeakerConfig) -> Iterator[Json]:
    for number, each in enumerate(config.advertised):
        for kind, size in (("community", 2), ("large-community", 3)):
            values = [":".join(map(str, numbers)) for numbers in each.communities if len(numbers) == size]
            added = {"options": "add", f"set-{kind}-method": {"communities-list": values}}
            if values:
                actions = {"bgp-actions": {f"set-{kind}": added}}
                yield {"name": f"{kind} {number}", "conditions": _is_in(_below(each.cidr)), "actions": actions}


def _own_alone() -> Iterator[Json]:
    """Whom every node talks to hears of each block from the block's own node: see render/birdconf.py."""
    own = _to(_EVERYBODY) | {"bgp-conditions": {"route-type": "local"}}
    yield {"name": "own", "conditions": own, "actions": _then("accept")}
    yield {"name": "rest", "conditions": _to(_EVERYBODY), "actions": _then("reject")}


def _then(verdict: str) -> dict[str, str]:
    return {"route-disposition": f"{verdict}-route"}


def _neighbour(config: SpeakerConfig, peer: SpeakerPeer) -> Json:
    about: Json = {
        "neighbor-address": str(peer.address), "peer-as": peer.as_number, "description": peer.name,
    }  # fmt: skip
    if peer.local_as:
        about["local-as"] = peer.local_as
    if peer.password:
        about["auth-password"] = peer.password
    transport: Json = {"passive-mode": peer.is_passive}
    if peer.source:
        transport["local-address"] = str(peer.source)
    if peer.port:
        transport["remote-port"] = peer.port
    restart: Json = {
        "enabled": True, "restart-time": peer.restart_time_s or 120, "deferral-time": _DEFERRAL_S,
    }  # fmt: skip
    timers: Json = {"connect-retry": _RETRY_S, "idle-hold-time-after-reset": 1}
    if peer.keepalive_time_s:
        timers |= {"keepalive-interval": peer.keepalive_time_s, "hold-time": 3 * peer.keepalive_time_s}
    family = f"{FAMILY_WORDS[peer.address.version]}-unicast"
    found: Json = {
        "config": about,
        "transport": {"config": transport},
        "timers": {"config": timers},
        "graceful-restart": {"config": restart},
        "afi-safis": [
            {"config": {"afi-safi-name": family}, "mp-graceful-restart": {"config": {"enabled": True}}},
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
