"""What the shape of a lab file cannot tell: names, addresses, references, ways. Every check reads past holes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network

from tunlab.lab.mistakes import KeyPath, Mistake, meant, written
from tunlab.lab.model import LabText, PortText, SegmentText

STORE_NAME = "store"
STORE_OFFSET = 250
# The kernel's default gc_thresh3. It counts the entries of all namespaces, and only the initial one may raise it.
NEIGHBOUR_LIMIT = 1024
LINK_LOCAL = IPv4Network("169.254.0.0/16")


def check_lab(lab: LabText) -> Iterator[Mistake]:
    """Every mistake that takes more than one place of the file to see."""
    yield from _check_amounts(lab)
    yield from _check_names(lab)
    yield from _check_references(lab)
    yield from _check_subnets(lab)
    yield from _check_places(lab)
    yield from _check_addresses(lab)
    yield from _check_gateways(lab)
    yield from _check_reach(lab)
    yield from _check_pools(lab)
    yield from _check_pods(lab)
    yield from _check_bgp(lab)
    yield from _check_neighbours(lab)


def segment_at(lab: LabText, name: str | None, address: IPv4Address | None) -> SegmentText | None:
    """The segment that a host's entry means: the one it names, else the one whose subnet holds its address."""
    if name is not None:
        return next((each for each in lab.segments if each.name == name), None)
    return next((each for each in lab.segments if address and each.subnet and address in each.subnet), None)


def gateway_of(segment: SegmentText) -> IPv4Address | None:
    """The gateway written down, else the first address of the subnet."""
    if segment.gateway is not None or segment.subnet is None:
        return segment.gateway
    return segment.subnet.network_address + 1


def store_address(lab: LabText) -> IPv4Address | None:
    """The store's address written down, else .250 of the first segment, else None where there is no such address."""
    if lab.store.address is not None or not lab.segments or (subnet := lab.segments[0].subnet) is None:
        return lab.store.address
    wanted = subnet.network_address + STORE_OFFSET
    return wanted if wanted in subnet and wanted != subnet.broadcast_address else None


def _check_amounts(lab: LabText) -> Iterator[Mistake]:
    counts = {"modes": len(lab.modes), "segments": len(lab.segments), "nodes": len(lab.nodes), "pools": len(lab.pools)}
    for key, count in counts.items():
        if count == 0:
            field = LabText.model_fields[key]
            example = field.examples[0] if field.examples else "…"
            yield Mistake((key,), "an empty list", str(field.description), f"such as {example}")
    for mode, count in Counter(lab.modes).items():
        if mode and count > 1:
            path = ("modes", len(lab.modes) - 1 - lab.modes[::-1].index(mode))
            yield Mistake(path, f"{mode}: written twice", "each mode once", "delete one of them")


def _check_names(lab: LabText) -> Iterator[Mistake]:
    entries: list[tuple[KeyPath, str | None]] = [(("segments", i, "name"), e.name) for i, e in enumerate(lab.segments)]
    entries += [(("routers", i, "name"), router.name) for i, router in enumerate(lab.routers)]
    for i, node in enumerate(lab.nodes):
        entries += [(("nodes", i, "name"), node.name)]
        entries += [(("nodes", i, "aliases", j), alias) for j, alias in enumerate(node.aliases)]
    entries += [(("hosts", i, "name"), host.name) for i, host in enumerate(lab.hosts)]
    entries += [(("pods", i, "name"), pod.name) for i, pod in enumerate(lab.pods)]
    taken: dict[str, str] = {STORE_NAME: "the host that runs etcd"}
    for path, name in entries:
        if name in taken:
            legal = "one name for one thing: segments, routers, nodes, aliases, hosts, pods and store share them"
            yield Mistake(path, f"{name}: already the name of {taken[name]}", legal, "choose another name")
        elif name is not None:
            taken[name] = written(path[: -(len(path) - 2)])


def _check_references(lab: LabText) -> Iterator[Mistake]:
    segments = [each.name for each in lab.segments if each.name]
    for path, name, _ in _placed(lab):
        if name is not None and name not in segments and len(segments) == len(lab.segments):
            hint = meant(name, segments, "leave it out to get the segment whose subnet holds the address")
            yield Mistake((*path, "segment"), f"{name}: no such segment", ", ".join(segments) or "none yet", hint)
    names = [each for node in lab.nodes for each in (node.name, *node.aliases)]
    nodes = [each for each in names if each]
    for i, pod in enumerate(lab.pods):
        # Where a name is a hole, it may have been the one that is missed here.
        if pod.node is not None and pod.node not in nodes and len(nodes) == len(names):
            hint = meant(pod.node, nodes, "name one of the lab's nodes, or add this one under nodes")
            yield Mistake(("pods", i, "node"), f"{pod.node}: no such node", ", ".join(nodes) or "none yet", hint)


def _check_subnets(lab: LabText) -> Iterator[Mistake]:
    for i, segment in enumerate(lab.segments):
        if segment.subnet is None:
            continue
        path = ("segments", i, "subnet")
        if segment.subnet.prefixlen > 29:
            hint = "a gateway, a node and the store need an address each"
            yield Mistake(path, f"{segment.subnet}: too small", "a prefix length of at most 29", hint)
        if segment.subnet.is_multicast or segment.subnet.is_loopback or segment.subnet.overlaps(LINK_LOCAL):
            hint = "such as 192.168.1.0/24"
            yield Mistake(path, f"{segment.subnet}: not for hosts", "a unicast network of no special meaning", hint)
        for other in lab.segments[:i]:
            if other.subnet and segment.subnet.overlaps(other.subnet):
                what = f"{segment.subnet}: overlaps {other.subnet} of segment {other.name}"
                yield Mistake(path, what, "a subnet of its own for each segment", "choose another subnet")


def _placed(lab: LabText) -> Iterator[tuple[KeyPath, str | None, IPv4Address | None]]:
    """Each entry that stands on a segment: its path, the segment it names, its address."""
    for i, node in enumerate(lab.nodes):
        yield ("nodes", i), node.segment, node.address
    for i, host in enumerate(lab.hosts):
        yield ("hosts", i), host.segment, host.address
    for i, router in enumerate(lab.routers):
        for j, port in enumerate(router.interfaces):
            yield ("routers", i, "interfaces", j), port.segment, port.address


def _check_places(lab: LabText) -> Iterator[Mistake]:
    for path, name, address in _placed(lab):
        segment = segment_at(lab, name, address)
        if address is not None and name is None and segment is None and all(each.subnet for each in lab.segments):
            subnets = ", ".join(f"{each.subnet} ({each.name})" for each in lab.segments)
            hint = "change the address, or add a segment for it"
            yield Mistake((*path, "address"), f"{address}: on no segment", f"an address of {subnets}", hint)
        elif address is not None and segment is not None and segment.subnet is not None:
            yield from _check_usable((*path, "address"), address, segment)
    for i, router in enumerate(lab.routers):
        seen: dict[str, int] = {}
        if not router.interfaces:
            yield Mistake(
                ("routers", i, "interfaces"), "an empty list", "one leg or more", "such as - address: 192.168.1.1"
            )
        for j, port in enumerate(router.interfaces):
            segment = segment_at(lab, port.segment, port.address)
            if segment is not None and segment.name in seen:
                what = f"a second leg on segment {segment.name}"
                hint = f"the first one is interfaces[{seen[segment.name]}]"
                yield Mistake(("routers", i, "interfaces", j), what, "one leg of a router on each segment", hint)
            elif segment is not None and segment.name:
                seen[segment.name] = j


def _check_usable(path: KeyPath, address: IPv4Address, segment: SegmentText) -> Iterator[Mistake]:
    if (subnet := segment.subnet) is None:
        return
    legal = f"{subnet.network_address + 1} to {subnet.broadcast_address - 1}"
    if address not in subnet:
        hint = f"segment {segment.name} is {subnet}"
        yield Mistake(path, f"{address}: not on segment {segment.name}", legal, hint)
    elif address in (subnet.network_address, subnet.broadcast_address):
        word = "network" if address == subnet.network_address else "broadcast"
        yield Mistake(path, f"{address}: the {word} address of {subnet}", legal, "choose another one")


def _check_addresses(lab: LabText) -> Iterator[Mistake]:
    holders: dict[IPv4Address, str] = {}
    for path, _, address in _placed(lab):
        if address in holders:
            what = f"{address}: already the address of {holders[address]}"
            yield Mistake((*path, "address"), what, "an address of its own for each host", "choose another one")
        elif address is not None:
            holders[address] = written(path)
    store, first = store_address(lab), lab.segments[0] if lab.segments else None
    path = ("store", "address")
    if store is None and first is not None and first.subnet is not None:
        what = f"missing, and {first.subnet} has no .{STORE_OFFSET} to fall back on"
        hint = f"add `store: {{address: {first.subnet.broadcast_address - 1}}}`, or another free one"
        yield Mistake(path, what, f"a free address of {first.subnet}", hint)
    elif store in holders:
        hint = "etcd's host has an address of its own; by default .250 of the first segment"
        what = f"{store}: already the address of {holders[store]}"
        yield Mistake(path, what, "a free address of the first segment", hint)
    elif store is not None and first is not None:
        yield from _check_usable(path, store, first)


def _check_gateways(lab: LabText) -> Iterator[Mistake]:
    ports = [port for router in lab.routers for port in router.interfaces]
    # A leg that is wrong in itself has been told about, and may have been meant for this.
    unclear = [port.address for port in ports if segment_at(lab, port.segment, port.address) is None]
    for i, segment in enumerate(lab.segments):
        gateway = gateway_of(segment)
        legs = [str(port.address) for port in _legs_on(lab, segment)]
        if gateway is None or str(gateway) in legs or gateway in unclear or None in unclear:
            continue
        hint = f"set gateway to {legs[0]}" if legs else f"give a router a leg: - address: {gateway}"
        legal = ", ".join(legs) or "an address that a router holds on this segment"
        yield Mistake(("segments", i, "gateway"), f"{gateway}: no router holds it", legal, hint)


def _legs_on(lab: LabText, segment: SegmentText) -> list[PortText]:
    ports = [port for router in lab.routers for port in router.interfaces]
    return [port for port in ports if port.address and segment_at(lab, port.segment, port.address) is segment]


def _check_reach(lab: LabText) -> Iterator[Mistake]:
    legs = [
        {each.name for port in router.interfaces if (each := segment_at(lab, port.segment, port.address))}
        for router in lab.routers
    ]
    if not lab.segments or any(port.address is None for router in lab.routers for port in router.interfaces):
        return
    first = lab.segments[0].name
    reached = {first}
    # Each round that adds nothing ends it; a lab has far fewer routers than would make this slow.
    while more := {name for names in legs if names & reached for name in names} - reached:
        reached |= more
    for i, segment in enumerate(lab.segments):
        # A segment without any router has been told about already: its gateway is nobody.
        if segment.name not in reached and any(segment.name in names for names in legs):
            what = f"{segment.name}: no way from segment {first}"
            yield Mistake(("segments", i), what, "a router between them", "give one router a leg on both")


def _check_pools(lab: LabText) -> Iterator[Mistake]:
    for i, pool in enumerate(lab.pools):
        path = ("pools", i, "cidr")
        if pool.cidr is None:
            continue
        for segment in lab.segments:
            if segment.subnet and pool.cidr.overlaps(segment.subnet):
                what = f"{pool.cidr}: overlaps {segment.subnet} of segment {segment.name}"
                hint = "such as 10.244.0.0/16; a pod must not look like a host's neighbour"
                yield Mistake(path, what, "a network that no segment touches", hint)
        for j, other in enumerate(lab.pools[:i]):
            if other.cidr and pool.cidr.overlaps(other.cidr):
                yield Mistake(path, f"{pool.cidr}: overlaps pools[{j}]", "pools apart", "choose another network")
            if pool.name and pool.name == other.name:
                what = f"{pool.name}: already the name of pools[{j}]"
                yield Mistake(("pools", i, "name"), what, "a name of its own for each pool", "choose another name")
        if pool.block_size is not None and pool.block_size < pool.cidr.prefixlen:
            what = f"{pool.block_size}: a block would be larger than {pool.cidr}"
            yield Mistake(
                ("pools", i, "block_size"), what, f"{pool.cidr.prefixlen} to 32", "a smaller block, or a larger pool"
            )


def _check_pods(lab: LabText) -> Iterator[Mistake]:
    pools = [pool for pool in lab.pools if pool.cidr and pool.block_size]
    legal = ", ".join(f"a /{pool.block_size} of {pool.cidr}" for pool in pools)
    blocks: dict[IPv4Network, int] = {}
    for i, node in enumerate(lab.nodes):
        path, block = ("nodes", i, "block"), node.block
        if block is None or len(pools) < len(lab.pools) or not pools:
            continue
        home = next((pool for pool in pools if pool.cidr and block.subnet_of(pool.cidr)), None)
        if home is None:
            yield Mistake(path, f"{block}: in no pool", legal, "change the block, or the pool")
        elif block.prefixlen != home.block_size:
            what = f"{block}: not of the pool's block size"
            yield Mistake(path, what, legal, f"did you mean {block.network_address}/{home.block_size}?")
        if block in blocks:
            what = f"{block}: already the block of nodes[{blocks[block]}]"
            yield Mistake(path, what, "a block of its own for each node", "choose another one")
        blocks.setdefault(block, i)
    yield from _check_pod_addresses(lab)


def _check_pod_addresses(lab: LabText) -> Iterator[Mistake]:
    holders: dict[IPv4Address, int] = {}
    cidrs = [pool.cidr for pool in lab.pools]
    for i, pod in enumerate(lab.pods):
        path, address = ("pods", i, "address"), pod.address
        if address is None:
            continue
        node = next((each for each in lab.nodes if pod.node and pod.node in (each.name, *each.aliases)), None)
        if node is not None and node.block is not None:
            if address not in node.block:
                what = f"{address}: not in the block of {node.name}"
                yield Mistake(path, what, f"an address of {node.block}", "change the address, or nodes[].block")
        elif None not in cidrs and not any(address in cidr for cidr in cidrs if cidr):
            legal = f"an address of {', '.join(map(str, cidrs)) or 'a pool'}"
            yield Mistake(path, f"{address}: in no pool", legal, "change the address, or the pool")
        if address in holders:
            what = f"{address}: already the address of pods[{holders[address]}]"
            yield Mistake(path, what, "an address of its own for each pod", "choose another one")
        holders.setdefault(address, i)


def _check_bgp(lab: LabText) -> Iterator[Mistake]:
    speakers = {
        port.address: router.bgp
        for router in lab.routers
        if router.bgp is not None
        for port in router.interfaces
        if port.address is not None
    }
    seen: dict[IPv4Address, int] = {}
    for i, peer in enumerate(lab.bgp_peers):
        if peer.peer_ip is None:
            continue
        speaker = speakers.get(peer.peer_ip)
        if speaker is None:
            legal = ", ".join(map(str, speakers)) or "none yet: no router speaks BGP"
            hint = meant(str(peer.peer_ip), map(str, speakers), "give the router `bgp: {as_number: 64512}`")
            yield Mistake(("bgp_peers", i, "peer_ip"), f"{peer.peer_ip}: no BGP speaker holds it", legal, hint)
        elif None not in (speaker.as_number, peer.as_number) and speaker.as_number != peer.as_number:
            what = f"{peer.as_number}: the router at {peer.peer_ip} is in AS {speaker.as_number}"
            hint = "a session opens only if both sides name the same number"
            yield Mistake(("bgp_peers", i, "as_number"), what, str(speaker.as_number), hint)
        if peer.peer_ip in seen:
            what = f"{peer.peer_ip}: already bgp_peers[{seen[peer.peer_ip]}]"
            yield Mistake(("bgp_peers", i, "peer_ip"), what, "each peer once", "delete one of them")
        seen.setdefault(peer.peer_ip, i)


def _check_neighbours(lab: LabText) -> Iterator[Mistake]:
    """In a full mesh every node resolves all others on its segment, the gateway and perhaps the store; and back."""
    crowd = Counter(each.name for node in lab.nodes if (each := segment_at(lab, node.segment, node.address)))
    store_on = lab.segments[0].name if lab.segments else None
    entries = sum(count * (count - 1 + 2 + 2 * (name == store_on)) for name, count in crowd.items())
    if entries > NEIGHBOUR_LIMIT:
        what = f"{len(lab.nodes)} nodes make {entries} neighbour entries: their sessions would never settle"
        legal = f"at most {NEIGHBOUR_LIMIT} entries, which the kernel shares out over all namespaces"
        yield Mistake(("nodes",), what, legal, "fewer nodes, or spread them over more segments: entries grow squared")
