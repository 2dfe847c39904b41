"""Routes that a speaker has learnt and does not write itself: GoBGP's, which the agent programs like its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from refnet.calc.changes import Have
from refnet.calc.speaker import SpeakerConfig
from refnet.calc.wanted import BLACKHOLE, PROTO_REFNET, UNICAST, Route, RouteKey, Wanted
from refnet.model.address import IPAddress, IPNetwork, lies_in


def with_learned(want: Wanted, learned: Mapping[IPNetwork, IPAddress], have: Have, *, is_settled: bool) -> Wanted:
    """What is wanted, with the routes that peers told and the blackholes of the own blocks that they are told.

    Until the speaker has settled, what the kernel has stays, for it may be what the peers are about to tell.
    """
    speaker = want.speaker
    if speaker is None:
        return want
    routes = {RouteKey(cidr): route for cidr, hop in learned.items() if (route := _route(speaker, cidr, hop, have))}
    for cidr in speaker.own_blocks:
        if cidr.prefixlen < cidr.max_prefixlen and _is_bare(speaker, cidr):
            routes[RouteKey(cidr)] = Route(BLACKHOLE, PROTO_REFNET)
    bare = tuple(cidr for cidr in speaker.pools if _is_bare(speaker, cidr))
    return replace(want, routes={**routes, **want.routes}, unsettled=() if is_settled else bare)


def _route(speaker: SpeakerConfig, cidr: IPNetwork, hop: IPAddress, have: Have) -> Route | None:
    """As BIRD would write it: to the next hop itself on our own subnet, else to the router on the way to it."""
    if cidr.prefixlen == 0 or not _is_bare(speaker, cidr):
        return None
    way = have.way_to(hop)
    return Route(UNICAST, PROTO_REFNET, way.via or hop, way.device) if way else None


def _is_bare(speaker: SpeakerConfig, cidr: IPNetwork) -> bool:
    return not any(lies_in(cidr, pool) for pool in speaker.encapsulated_pools)
