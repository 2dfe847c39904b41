"""Routes that a speaker has learnt and does not write itself: GoBGP's, which the agent programs like its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from refnet.calc.changes import Have
from refnet.calc.speaker import SpeakerConfig
from refnet.calc.wanted import BLACKHOLE, IPV6_METRIC, PROTO_REFNET, UNICAST, Route, RouteKey, Wanted
from refnet.model.address import IPAddress, IPNetwork, lies_in, single


def with_learned(want: Wanted, learned: Mapping[IPNetwork, IPAddress], have: Have, *, is_settled: bool) -> Wanted:
    """What is wanted, with the routes that peers told and the blackholes of the own blocks that they are told.

    Until the speaker has settled, what the kernel has stays, for it may be what the peers are about to tell.
    """
    if want.speaker is None:
        return want
    halves = [want.speaker, want.speaker.six] if want.speaker.six else [want.speaker]
    routes = {key: route for half in halves for key, route in _routes(half, learned, have)}
    bare = tuple(cidr for half in halves for cidr in half.pools if _is_bare(half, cidr))
    return replace(want, routes={**routes, **want.routes}, unsettled=() if is_settled else bare)


def _routes(
    speaker: SpeakerConfig, learned: Mapping[IPNetwork, IPAddress], have: Have
) -> Iterator[tuple[RouteKey, Route]]:
    """One family's."""
    for cidr, hop in learned.items():
        if cidr.version == speaker.router_id.version and (route := _route(speaker, cidr, hop, have)):
            yield _key(cidr), route
    for cidr in speaker.own_blocks:
        if cidr.prefixlen < cidr.max_prefixlen and _is_bare(speaker, cidr):
            yield _key(cidr), Route(BLACKHOLE, PROTO_REFNET)
    for peer, neighbour in speaker.reachable_by:
        if way := _way(have, neighbour):
            yield _key(single(peer)), Route(UNICAST, PROTO_REFNET, neighbour, way.device)


def _key(cidr: IPNetwork) -> RouteKey:
    return RouteKey(cidr, 0 if cidr.version == 4 else IPV6_METRIC)


def _route(speaker: SpeakerConfig, cidr: IPNetwork, hop: IPAddress, have: Have) -> Route | None:
    """As BIRD would write it: to the next hop itself on our own subnet, else to the router on the way to it."""
    if cidr.prefixlen == 0 or not _is_bare(speaker, cidr):
        return None
    way = _way(have, hop)
    return Route(UNICAST, PROTO_REFNET, way.via or hop, way.device) if way else None


def _way(have: Have, hop: IPAddress) -> Route | None:
    """How to get there. What is on our own subnet the kernel's routes say in IPv4 alone: of IPv6 they were not read."""
    for link in have.links.values():
        if link.is_up and any(hop in one.network for one in link.addresses6):
            return Route(UNICAST, PROTO_REFNET, None, link.name)
    return have.way_to(hop)


def _is_bare(speaker: SpeakerConfig, cidr: IPNetwork) -> bool:
    return not any(lies_in(cidr, pool) for pool in speaker.encapsulated_pools)
