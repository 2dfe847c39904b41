"""Claims that several suites make about a cell, each raising with one line that names where, seen and wanted."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Network

from tunlab.check.cell import LabCell
from tunlab.check.stimuli import PAIRS
from tunlab.errors import WorldError
from tunlab.node.tables import Link, read_tables
from tunlab.wire.frames import Arp, Frame, Tcp, Udp

NOT_FOUND = 127  # what a shell says of a program that it does not find


def same_set(place: str, what: str, seen: Collection[object], wanted: Collection[object]) -> None:
    """The two sets are equal, or one line says what is missing and what is too much."""
    missing = sorted(str(one) for one in set(wanted) - set(seen))
    extra = sorted(str(one) for one in set(seen) - set(wanted))
    words = [f"missing: {'; '.join(missing)}" if missing else "", f"too much: {'; '.join(extra)}" if extra else ""]
    if missing or extra:
        raise AssertionError(f"{place}: {what}: {', '.join(word for word in words if word)}")


def tunnel_addresses_are_from_own_blocks(cell: LabCell) -> None:
    """Every node's tunnel device has exactly the /32 that the store knows as its tunnel address, from an own block."""
    ipam, device = cell.seen.oracle.ipam, cell.seen.oracle.tunnel_device
    for node, tables in cell.seen.tables.items():
        known = ipam.tunnel_addresses.get(node)
        seen = tables.addresses_on(str(device))
        assert known is not None, f"{node}: the store knows no tunnel address; {device} has {sorted(seen)}"
        assert seen == {f"{known}/32"}, f"{node}: {device}: has {sorted(seen)}, wanted {known}/32 alone"
        own = ipam.blocks.get(node, frozenset())
        assert any(known in block for block in own), f"{node}: {known} is in none of its blocks {sorted(map(str, own))}"


def only_border_crossers_are_encapsulated(cell: LabCell, carriage: str, stack: str) -> None:
    """Pairs on one subnet are bare at every wire tap, the others have `stack`; both kinds were really seen."""
    seen = {"none": 0, carriage: 0}
    for crossing in cell.crossings():
        for passage in crossing.passages():
            wanted = "eth ip icmp" if cell.topology.same_subnet(crossing.source_node, crossing.target_node) else stack
            cell.frames_of(passage).single(f"{crossing.source} → {crossing.target}").each(stack=wanted)
            seen["none" if wanted == "eth ip icmp" else carriage] += 1
    if not all(seen.values()):
        raise WorldError(f"{cell.name}: the lab did not show both kinds of pairs: {seen}")


def nothing_is_bare_on_a_wire(cell: LabCell, carriage: str) -> None:
    """No frame whose outermost IP header has the addresses of two pods that belong into the tunnel is on any wire."""
    window = cell.seen.capture.window(PAIRS)
    for crossing in cell.crossings(carriage):
        source, target = (str(cell.workloads[name].address) for name in (crossing.source, crossing.target))
        for passage in crossing.passages():
            bare = window.on(passage.tap).matching(outer__source=source, outer__destination=target)
            bare.none("a bare pod packet", witness=cell.frames_of(passage))


def said(cell: LabCell, place: str, command: str) -> str:
    """What a command prints in a place. Raises AssertionError where it ends with another code than 0, and WorldError
    where the machine has no such program."""
    done = cell.host(place).run(command)
    if done.rc == NOT_FOUND:
        raise WorldError(f"{place}: {command}: {done.stderr.strip()}", hint="./lab doctor")
    assert done.rc == 0, f"{place}: {command}: exit code {done.rc}: {done.stderr.strip() or done.stdout.strip()}"
    return str(done.stdout)


def sysctl(cell: LabCell, place: str, key: str) -> int:
    """A number that the kernel of a place is set to."""
    return int(said(cell, place, f"cat /proc/sys/{key.replace('.', '/')}"))


def link_in(cell: LabCell, place: str, device: str) -> Link:
    """A device of a place as it is now. Raises AssertionError where there is none of that name."""
    links = read_tables(cell.host(place), place).links
    assert device in links, f"{place}: has no device {device}; it has {', '.join(sorted(links))}"
    return links[device]


def asks_within(frame: Frame, pool: IPv4Network) -> bool:
    """Whether a frame is, or carries in a tunnel, an ARP packet about an address of the pool."""
    if not frame.has(Arp):
        return False
    arp = frame.find(Arp)
    return any(IPv4Address(address) in pool for address in (arp.target_ip, arp.sender_ip))


def uses_port(frame: Frame, port: int) -> bool:
    """Whether the outermost transport header of a frame names this port, at either end."""
    ports = [
        {header.source_port, header.destination_port} for header in frame.headers if isinstance(header, (Udp, Tcp))
    ]
    return bool(ports) and port in ports[0]
