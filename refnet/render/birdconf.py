"""A SpeakerConfig as text for BIRD 2.0.12 and later."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from refnet.calc.speaker import SpeakerConfig, SpeakerPeer
from refnet.model.address import IPNetwork
from refnet.model.bgp_filter import FilterRule

# BIRD adds up to a quarter of jitter downwards and takes less than 1 for 1, so a session's first attempt comes
# 0.75 to 1 s after its start, whatever one does; every other wait is as short as that.
_TEMPLATE = """\
template bgp calico%(suffix)s {
  multihop;
  connect delay time 1;
  connect retry time 1;
  error wait time 1, 2;
  error forget time 5;
  graceful restart;
  %(channel)s {
    import all;
    export filter { to_peers%(suffix)s(); };
    gateway recursive;
  };
}
"""

_HEAD = """\
# Written by refnet-agent; changes are overwritten.
log stderr all;
router id {router_id};
graceful restart wait 5;
debug protocols {{ states }};
"""

# Without the default route a peer behind a router has no next hop. The kernel knows it, and is read a moment too late
# after a restart: routes that came over BGP meanwhile would be written as unreachable. So it is told, too. Without
# `direct`, a peer on our own subnet would be reached through the default gateway, and no ping would tell.
_DEVICES = """\
protocol device {
  scan time 2;
}

"""
_KERNEL = """\
protocol direct%(name)s {
  %(channel)s;
  interface %(ignored)s-"cali*", -"tunl0", %(tunnels)s, "*";
}

protocol kernel%(name)s {
  learn;
  persist;
  scan time 2;
  metric 0;
  graceful restart;
  %(channel)s {
    import filter from_kernel%(suffix)s;
    export filter to_kernel%(suffix)s;
  };
}
"""


@dataclass(frozen=True)
class _Family:
    """What one family's half of the file calls things. BIRD names what has no name itself, once of each kind."""

    channel: str
    suffix: str
    host_bits: int
    tunnels: str
    everything: str

    @property
    def ways(self) -> str:
        """The protocol that holds the routes to peers, which are no pod routes."""
        return f"ways{self.suffix}"

    def named(self, kind: str) -> str:
        """A protocol's kind, and its name where it cannot do without."""
        return f"{kind} {kind}{self.suffix}" if self.suffix else kind

    def words(self) -> dict[str, str]:
        return {"channel": self.channel, "suffix": self.suffix, "tunnels": self.tunnels}


_FOUR = _Family("ipv4", "", 32, '-"vxlan.calico"', "0.0.0.0/0")
_SIX = _Family("ipv6", "6", 128, '-"vxlan.calico", -"vxlan-v6.calico"', "::/0")
# Whom every node talks to, in the mesh or beside it, hears of every block from the block's own node. Towards another AS
# BGP itself would let each node pass the others' routes on, and name itself as the next hop: packets go in circles.
_NOT_FROM_THE_MESH = 'if proto ~ "Mesh_*" then reject;'


def render_bird(config: SpeakerConfig) -> str:
    """The whole bird.conf. The same configuration gives the same text, so texts can be compared."""
    parts = [_HEAD.format(router_id=config.router_id), *_half(config, _FOUR)]
    return "\n".join((*parts, *_half(config.six, _SIX)) if config.six else parts)


def _half(config: SpeakerConfig, family: _Family) -> Iterator[str]:
    """Everything about one family."""
    ignored = "".join(f'-"{name}", ' for name in config.ignored_interfaces)
    kernel = _KERNEL.replace("direct%(name)s", family.named("direct")).replace("kernel%(name)s", family.named("kernel"))
    yield "\n".join(_filters(config, family)) + "\n"
    yield ("" if family.suffix else _DEVICES) + kernel % {**family.words(), "ignored": ignored}
    yield "\n".join(_static(config, family)) + "\n"
    yield _TEMPLATE % family.words()
    yield from ("\n".join(_peer(config, peer, family)) + "\n" for peer in config.peers)


def _filters(config: SpeakerConfig, family: _Family) -> Iterator[str]:
    yield from _block(f"filter from_kernel{family.suffix}", [*_if_in(_ranges(config.pools), "reject"), "accept;"])
    yield ""
    # A default route stays the kernel's own: with a peer's in its place the peer itself might be out of reach.
    yield from _block(
        f"filter to_kernel{family.suffix}",
        [
            *([f'if proto = "{family.ways}" then accept;'] if config.reachable_by else []),
            "if source !~ [ RTS_BGP, RTS_STATIC ] then reject;",
            f"if source = RTS_STATIC && net.len = {family.host_bits} then reject;",
            "if net.len = 0 then reject;",
            *_if_in(_ranges(config.encapsulated_pools), "reject"),
            "accept;",
        ],
    )
    yield ""
    # Static routes are own blocks and borrowed addresses, nothing else. Did the filter name them, BIRD would announce
    # everything anew whenever a block comes or goes. What came over BGP goes on where BGP's own rules let it: from a
    # reflector to its clients, between eBGP and iBGP.
    yield from _block(
        f"function to_peers{family.suffix}()",
        [
            *(["if net.len = 0 then reject;"] if config.gateway else []),
            *_if_in(_ranges(config.unexported_pools), "reject"),
            *([f'if proto = "{family.ways}" then reject;'] if config.reachable_by else []),
            *_communities(config),
            "if source = RTS_STATIC then accept;",
            *_if_in(_ranges(config.pools), "accept", "source = RTS_BGP && "),
            "reject;",
        ],
    )


def _block(head: str, statements: Iterable[str]) -> Iterator[str]:
    yield f"{head} {{"
    for statement in statements:
        yield f"  {statement}"
    yield "}"


def _if_in(prefixes: Iterable[str], verdict: str, first: str = "") -> Iterator[str]:
    """Nothing for no prefixes: BIRD knows no empty set."""
    listed = ", ".join(prefixes)
    if listed:
        yield f"if {first}net ~ [ {listed} ] then {verdict};"


def _ranges(pools: Iterable[IPNetwork]) -> list[str]:
    return [f"{cidr}+" for cidr in pools]


def _communities(config: SpeakerConfig) -> Iterator[str]:
    for each in config.advertised:
        for numbers in each.communities:
            attribute = "bgp_community" if len(numbers) == 2 else "bgp_large_community"
            yield f"if net ~ [ {each.cidr}+ ] then {attribute}.add(({', '.join(map(str, numbers))}));"


def _static(config: SpeakerConfig, family: _Family) -> Iterator[str]:
    """Own blocks, so that packets to free addresses die here, and borrowed addresses, whose route the plugin made."""
    routes = [f"route {cidr} blackhole;" for cidr in (*config.own_blocks, *config.borrowed)]
    yield from _block(f"protocol {family.named('static')}", [f"{family.channel};", *routes])
    if config.gateway:
        yield ""
        way = f"route {family.everything} via {config.gateway};"
        yield from _block(f"protocol static onwards{family.suffix}", [f"{family.channel};", way])
    if config.reachable_by:
        yield ""
        ways = [f"route {peer}/{family.host_bits} via {neighbour};" for peer, neighbour in config.reachable_by]
        yield from _block(f"protocol static {family.ways}", [f"{family.channel};", *ways])


def _peer(config: SpeakerConfig, peer: SpeakerPeer, family: _Family) -> Iterator[str]:
    head = f"protocol bgp {peer.name} from calico{family.suffix}"
    yield from _block(head, [*_session(config, peer), *_channel(peer, family)])


def _session(config: SpeakerConfig, peer: SpeakerPeer) -> Iterator[str]:
    source = f" {peer.source}" if peer.source else ""
    listens = f" port {config.listen_port}" if config.listen_port else ""
    yield f"local{source}{listens} as {peer.local_as or config.as_number};"
    yield f"neighbor {peer.address}{f' port {peer.port}' if peer.port else ''} as {peer.as_number};"
    if config.is_bound and peer.source:
        yield "strict bind yes;"
    if peer.is_passive:
        yield "passive;"
    if peer.password:
        yield f'password "{peer.password}";'
    if peer.cluster_id:
        yield "rr client;"
        yield f"rr cluster id {peer.cluster_id};"
    if peer.restart_time_s is not None:
        yield f"graceful restart time {peer.restart_time_s};"
    if peer.keepalive_time_s is not None:
        yield f"keepalive time {peer.keepalive_time_s};"
    if peer.allowed_local_as:
        yield f"allow local as {peer.allowed_local_as};"
    if peer.ttl_security is not None:
        yield f"multihop {peer.ttl_security};"
        yield "ttl security on;"


def _channel(peer: SpeakerPeer, family: _Family) -> Iterator[str]:
    """What this session's routes go through besides what all sessions' do."""
    lines: list[str] = []
    if peer.imports:
        lines.append(f"import filter {{ {' '.join([*map(_rule, peer.imports), 'accept;'])} }};")
    exports = [*map(_rule, peer.exports), *([_NOT_FROM_THE_MESH] if peer.is_everybodys else [])]
    if exports:
        lines.append(f"export filter {{ {' '.join([*exports, f'to_peers{family.suffix}();'])} }};")
    if peer.next_hop_mode != "Auto":
        lines.append(f"next hop {peer.next_hop_mode.lower()};")
    if lines:
        head, *body = _block(family.channel, lines)
        yield from (head, *body[:-1], f"{body[-1]};")


def _rule(rule: FilterRule) -> str:
    verdict = "accept;" if rule.accepts else "reject;"
    conditions = list(_conditions(rule))
    return f"if {' && '.join(conditions)} then {verdict}" if conditions else verdict


def _conditions(rule: FilterRule) -> Iterator[str]:
    if rule.cidr and rule.operator in ("In", "NotIn"):
        lengths = f"{{{rule.lengths[0]},{rule.lengths[1]}}}" if rule.lengths else "+"
        yield f"net {'~' if rule.operator == 'In' else '!~'} [ {rule.cidr}{lengths} ]"
    elif rule.cidr:
        yield f"net {'=' if rule.operator == 'Equal' else '!='} {rule.cidr}"
    if rule.is_from_peer:
        yield "source = RTS_BGP"
    if rule.interface:
        yield f'ifname ~ "{rule.interface}"'
