"""A BirdConfig as text for BIRD 2.0.12 and later."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from refnet.calc.wanted import BirdConfig, BirdPeer
from refnet.model.address import IPNetwork

# BIRD adds up to a quarter of jitter downwards and takes less than 1 for 1, so a session's first attempt comes
# 0.75 to 1 s after its start, whatever one does; every other wait is as short as that.
_TEMPLATE = """\
template bgp calico {{
  local {router_id} as {as_number};
  multihop;
  connect delay time 1;
  connect retry time 1;
  error wait time 1, 2;
  error forget time 5;
  graceful restart;
  ipv4 {{
    import filter from_peers;
    export filter to_peers;
    gateway recursive;
  }};
}}
"""

_HEAD = """\
# Written by refnet-agent; changes are overwritten.
log stderr all;
router id {router_id};
graceful restart wait 5;
debug protocols {{ states }};
"""

# Without the default route, which only the kernel knows, a peer behind a router has no next hop; without `direct`, a
# peer on our own subnet would be reached through the default gateway, and no ping would tell.
_KERNEL = """\
protocol device {
  scan time 2;
}

protocol direct {
  ipv4;
  interface -"cali*", -"tunl0", -"vxlan.calico", "*";
}

protocol kernel {
  learn;
  persist;
  scan time 2;
  metric 0;
  graceful restart;
  ipv4 {
    import filter from_kernel;
    export filter to_kernel;
  };
}
"""


def render_bird(config: BirdConfig) -> str:
    """The whole bird.conf. The same configuration gives the same text, so texts can be compared."""
    parts = [
        _HEAD.format(router_id=config.router_id),
        "\n".join(_filters(config)) + "\n",
        _KERNEL,
        "\n".join(_static(config)) + "\n",
        _TEMPLATE.format(router_id=config.router_id, as_number=config.as_number),
        *(_peer(peer) for peer in config.peers),
    ]
    return "\n".join(parts)


def _filters(config: BirdConfig) -> Iterator[str]:
    yield from _filter("from_kernel", [*_if_in(_ranges(config.pools), "reject"), "accept;"])
    yield ""
    yield from _filter("from_peers", [*_if_in(_ranges(config.pools), "accept"), "reject;"])
    yield ""
    yield from _filter(
        "to_kernel",
        [
            "if source !~ [ RTS_BGP, RTS_STATIC ] then reject;",
            "if source = RTS_STATIC && net.len = 32 then reject;",
            *_if_in(_ranges(config.kernel_pools), "accept"),
            "reject;",
        ],
    )
    yield ""
    # Static routes are own blocks and borrowed addresses, nothing else. Did the filter name them, BIRD would announce
    # everything anew whenever a block comes or goes.
    unexported = _if_in(_ranges(config.unexported_pools), "reject")
    yield from _filter("to_peers", ["if source != RTS_STATIC then reject;", *unexported, "accept;"])


def _filter(name: str, statements: Iterable[str]) -> Iterator[str]:
    yield f"filter {name} {{"
    for statement in statements:
        yield f"  {statement}"
    yield "}"


def _if_in(prefixes: Iterable[str], verdict: str) -> Iterator[str]:
    """Nothing for no prefixes: BIRD knows no empty set."""
    listed = ", ".join(prefixes)
    if listed:
        yield f"if net ~ [ {listed} ] then {verdict};"


def _ranges(pools: Iterable[IPNetwork]) -> list[str]:
    return [f"{cidr}+" for cidr in pools]


def _static(config: BirdConfig) -> Iterator[str]:
    """Own blocks, so that packets to free addresses die here, and borrowed addresses, whose route the plugin made."""
    yield "protocol static {"
    yield "  ipv4;"
    for cidr in (*config.own_blocks, *config.borrowed):
        yield f"  route {cidr} blackhole;"
    yield "}"


def _peer(peer: BirdPeer) -> str:
    passive = "  passive;\n" if peer.is_passive else ""
    return f"protocol bgp {peer.name} from calico {{\n  neighbor {peer.address} as {peer.as_number};\n{passive}}}\n"
