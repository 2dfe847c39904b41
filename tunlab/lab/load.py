"""labs/NAME.yaml → Topology: every mistake of the file at once, or a lab that can be built."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import TypeVar

from tunlab.errors import Bug
from tunlab.lab.checks import STORE_NAME, check_lab, gateway_of, segment_at, store_address
from tunlab.lab.mistakes import Mistake, meant, refuse, shown
from tunlab.lab.model import HostText, LabText, NodeText, RouterText, read_shape
from tunlab.lab.six import address6_of, check_six, gateway6_of, static_routes6
from tunlab.lab.source import read_text
from tunlab.lab.topology import (
    BgpPeer,
    BgpSpeaker,
    Mode,
    Node,
    Outsider,
    Pod,
    Pool,
    Pool6,
    Router,
    RouterPort,
    Segment,
    StaticRoute,
    Store,
    Topology,
)
from tunlab.paths import ROOT

LABS_DIR = ROOT / "labs"
LABS_VARIABLE = "TUNLAB_LABS"
LAB_NAME = r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$"
FIRST_POOL, FIRST_POOL6 = "default-ipv4-ippool", "default-ipv6-ippool"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LabRow:
    """One line of `./lab labs`."""

    name: str
    nodes: int
    segments: int
    routers: int
    pods: int
    modes: tuple[Mode, ...]
    summary: str


def labs_folder() -> Path:
    """Where the labs are that go by their names: labs/, or what TUNLAB_LABS says (a replay brings its own)."""
    return Path(os.environ.get(LABS_VARIABLE) or LABS_DIR)


def lab_names() -> tuple[str, ...]:
    """The names of the labs in labs/, sorted."""
    return tuple(sorted(path.stem for path in labs_folder().glob("*.yaml")))


def find_lab(name_or_path: str | Path) -> Path:
    """The file of a lab. What has a slash or ends in .yaml is a path, all else a name in labs/. Raises LabError."""
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or "/" in text or text.endswith((".yaml", ".yml")):
        path = Path(name_or_path)
        if path.is_dir():
            raise refuse([_whole_file("is a folder", "a YAML file", "name a file in it").text(_place(path))])
        if not path.is_file():
            hint = "a lab of labs/ goes by its name alone, such as `same-subnet`"
            raise refuse([_whole_file("no such file", "a YAML file", hint).text(_place(path))])
        return path
    if text not in lab_names():
        hint = meant(text, lab_names(), "a lab elsewhere goes by its path, such as ./mine.yaml")
        raise refuse([_whole_file(f"{shown(text)}: no such lab", ", ".join(lab_names()), hint).text("labs")])
    return labs_folder() / f"{text}.yaml"


def load_lab(name_or_path: str | Path) -> Topology:
    """The lab of that name or file. Raises LabError that holds all mistakes, one text each, in the file's order."""
    path = find_lab(name_or_path)
    place = _place(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        mistake = _whole_file(
            f"{reason}", "a YAML file in UTF-8 that you may read", "look at it with `file` and `ls -l`"
        )
        raise refuse([mistake.text(place)]) from error
    return parse_lab(path.stem, text, place=place)


def parse_lab(name: str, text: str, *, place: str) -> Topology:
    """A lab from its text; `place` is what messages call the file. Raises LabError as `load_lab` does."""
    source = read_text(text)
    mistakes = list(source.mistakes)
    if not re.fullmatch(LAB_NAME, name):
        legal = "lower-case letters, digits and dashes; at most 40 characters"
        mistakes.append(_whole_file(f"{shown(name)}: not a name for a lab", legal, "rename the file"))
    lab: LabText | None = None
    if isinstance(source.data, dict):
        lab, shape = read_shape(source.data)
        blamed = {mistake.path for mistake in shape}
        # A default that steps in for a wrong value may be wrong in its turn; one message for one place is enough.
        told = (*check_lab(lab), *check_six(lab))
        mistakes += [*shape, *(each for each in told if each.path not in blamed)]
    elif not source.mistakes:
        what = "an empty file" if source.data is None else f"{shown(source.data)} where a mapping should be"
        legal = f"a mapping with {', '.join(LabText.model_fields)}"
        mistakes.append(_whole_file(what, legal, "begin with a copy of labs/same-subnet.yaml"))
    if mistakes or lab is None:
        mistakes.sort(key=lambda mistake: source.line(mistake.path))
        texts = (
            mistake.text(f"{place}:{source.line(mistake.path)}" if mistake.path or source.mistakes else place)
            for mistake in mistakes
        )
        raise refuse(dict.fromkeys(texts))
    return _compile(name, lab)


def describe_labs() -> list[LabRow]:
    """What `./lab labs` shows: a row per lab. Raises LabError where one of the files is wrong."""
    rows = []
    for name in lab_names():
        lab = load_lab(name)
        summary = re.split(r"(?<=[.!?])\s", " ".join(lab.description.split()), maxsplit=1)[0]
        rows.append(
            LabRow(name, len(lab.nodes), len(lab.segments), len(lab.routers), len(lab.pods), lab.modes, summary)
        )
    return rows


# --- compiling ----------------------------------------------------------------------------------------------------


def _compile(name: str, lab: LabText) -> Topology:
    segments = tuple(
        Segment(
            name=_known(each.name),
            subnet=_known(each.subnet),
            gateway=_known(gateway_of(each)),
            mtu=_known(each.mtu),
            subnet6=each.subnet6,
            gateway6=gateway6_of(lab, each),
        )
        for each in lab.segments
    )
    routers = tuple(_router(lab, each) for each in lab.routers)
    routers = tuple(replace(each, routes=_static_routes(each, routers, segments)) for each in routers)
    routers = tuple(replace(each, routes6=tuple(static_routes6(each, routers, segments))) for each in routers)
    real_name = {alias: _known(node.name) for node in lab.nodes for alias in (node.name, *node.aliases) if alias}
    first = segments[0]
    return Topology(
        name=name,
        description=_known(lab.description),
        segments=segments,
        routers=routers,
        store=Store(
            STORE_NAME, first.name, _on(_known(store_address(lab)), first.subnet), first.gateway, lab.store.proxies
        ),
        nodes=_nodes(lab, segments),
        pods=tuple(
            Pod(
                name=_known(pod.name),
                node=real_name[_known(pod.node)],
                namespace=_known(pod.namespace),
                address=pod.address,
                labels=tuple(_known(pod.labels).items()),
            )
            for pod in lab.pods
        ),
        pools=tuple(
            Pool(pool.name or (FIRST_POOL if i == 0 else f"pool{i + 1}"), _known(pool.cidr), _known(pool.block_size))
            for i, pool in enumerate(lab.pools)
        ),
        bgp_peers=tuple(
            BgpPeer(peer.name or f"peer-{_holder(routers, peer.peer_ip)}", _known(peer.peer_ip), _known(peer.as_number))
            for peer in lab.bgp_peers
        ),
        modes=tuple(_known(mode) for mode in lab.modes),
        pools6=tuple(
            Pool6(
                pool.name or (FIRST_POOL6 if i == 0 else f"pool6-{i + 1}"), _known(pool.cidr), _known(pool.block_size)
            )
            for i, pool in enumerate(lab.pools6)
        ),
        outsiders=tuple(
            Outsider(_known(host.name), segment.name, _on(_known(host.address), segment.subnet), segment.gateway)
            for host in lab.hosts
            for segment in [_segment_of(lab, host, segments)]
        ),
    )


def _nodes(lab: LabText, segments: tuple[Segment, ...]) -> tuple[Node, ...]:
    nodes = []
    for node in lab.nodes:
        segment = _segment_of(lab, node, segments)
        address = _on(_known(node.address), segment.subnet)
        nodes.append(
            Node(
                name=_known(node.name),
                aliases=tuple(_known(alias) for alias in node.aliases),
                segment=segment.name,
                address=address,
                gateway=segment.gateway,
                block=node.block,
                address6=address6_of(lab, node),
                gateway6=segment.gateway6,
                speaker=_known(node.speaker),
            )
        )
    return tuple(nodes)


def _segment_of(lab: LabText, host: NodeText | HostText, segments: tuple[Segment, ...]) -> Segment:
    name = _known(_known(segment_at(lab, host.segment, host.address)).name)
    return next(segment for segment in segments if segment.name == name)


def _router(lab: LabText, router: RouterText) -> Router:
    interfaces = []
    for i, port in enumerate(router.interfaces):
        segment = _known(segment_at(lab, port.segment, port.address))
        address = _on(_known(port.address), _known(segment.subnet))
        interfaces.append(RouterPort(_known(segment.name), f"eth{i}", address, address6_of(lab, port)))
    bgp = BgpSpeaker(_known(router.bgp.as_number), _known(router.bgp.speaker)) if router.bgp else None
    return Router(_known(router.name), tuple(interfaces), (), bgp)


def _static_routes(
    router: Router, routers: tuple[Router, ...], segments: tuple[Segment, ...]
) -> tuple[StaticRoute, ...]:
    """The shortest way to every segment that the router is not on; among equals the file's order decides."""
    first_hop: dict[str, StaticRoute | None] = {each.segment: None for each in router.interfaces}
    subnets = {segment.name: segment.subnet for segment in segments}
    frontier = list(first_hop)
    while frontier:
        ring: list[str] = []
        for here in frontier:
            for other in routers:
                entry = next((each for each in other.interfaces if each.segment == here), None)
                if entry is None:
                    continue
                for far in other.interfaces:
                    if far.segment in first_hop:
                        continue
                    near = first_hop[here] or StaticRoute(subnets[here], entry.address.ip, _device_on(router, here))
                    first_hop[far.segment] = StaticRoute(subnets[far.segment], near.via, near.device)
                    ring.append(far.segment)
        frontier = ring
    return tuple(route for segment in segments if (route := first_hop.get(segment.name)) is not None)


def _device_on(router: Router, segment: str) -> str:
    return next(each.device for each in router.interfaces if each.segment == segment)


def _holder(routers: tuple[Router, ...], address: IPv4Address | None) -> str:
    return next(each.name for each in routers if any(port.address.ip == address for port in each.interfaces))


def _on(address: IPv4Address, subnet: IPv4Network) -> IPv4Interface:
    return IPv4Interface((address, subnet.prefixlen))


def _known(value: T | None) -> T:
    if value is None:
        raise Bug("a hole in a lab file got past the checks")
    return value


def _whole_file(what: str, legal: str, hint: str) -> Mistake:
    return Mistake((), what, legal, hint)


def _place(path: Path) -> str:
    """The file as messages call it: from the current folder where it lies below it."""
    here, there = Path.cwd(), path.absolute()
    return str(there.relative_to(here)) if there.is_relative_to(here) else str(path)
