"""Following one real packet through a standing lab: text, JSON and a picture."""

from __future__ import annotations

import contextlib
import ipaddress
import json as json_text
import sys
import tempfile
from pathlib import Path

from tunlab.command.standing import stand
from tunlab.command.targets import target as target_file
from tunlab.errors import LabError
from tunlab.live.lab import LiveLab
from tunlab.live.standing import StandingLab, find_standing
from tunlab.report.table import console_for

_MOST_BYTES = 65000


def trace(
    lab: str,
    a: str,
    b: str,
    proto: str = "icmp",
    size: int = 56,
    port: int = 0,
    df: bool = False,
    json: bool = False,
    svg: str = "",
    w: str = "",
    ipv6: bool = False,
    up: str = "",
) -> int:
    """Send one packet and tell its story. 0 when it was answered (or refused), 2 when it died."""
    from tunlab.trace.picture import draw
    from tunlab.trace.text import as_json, print_trace
    from tunlab.trace.tracing import PORT, PROTOCOLS, Packet
    from tunlab.trace.tracing import trace as follow

    if proto not in PROTOCOLS:
        raise LabError(f"--proto: {proto}: no such protocol\n  legal: {', '.join(PROTOCOLS)}", hint="leave it out")
    if not 1 <= size <= _MOST_BYTES:
        raise LabError(f"--size: {size}: no such size\n  legal: 1 to {_MOST_BYTES} bytes", hint="leave it out")
    if not 0 <= port <= 65535 or (port and proto == "icmp"):
        raise LabError(f"--port: {port}: not with {proto}\n  legal: 1 to 65535, of tcp and udp", hint="leave it out")
    targets = [target_file(*one) if one[1] else None for one in (("--svg", svg, ".svg"), ("-w", w, ".pcapng"))]
    if lab and up and lab != up:
        raise LabError(f"--up: {up}, and --lab: {lab}: one of them", hint="--up LAB alone means that lab")
    if up:
        with contextlib.redirect_stdout(sys.stderr):  # what is printed is the trace
            stand(up)
    stands = find_standing(lab or up or None)
    source, live = _place(stands, a), stands.live()
    target, address = _end(stands, live, b, ipv6)
    with tempfile.TemporaryDirectory() as folder:
        keep = targets[1] or Path(folder, "trace.pcapng")
        told = follow(live, Packet(source, target, address, proto, size, port or PORT, df), keep)
    if json:
        print(json_text.dumps(as_json(told), indent=1))
    else:
        print_trace(told, console_for(sys.stdout, markup=True))
    if targets[0] is not None:
        targets[0].write_text(draw(told))
    for path in filter(None, targets):
        print(f"written: {path}", file=sys.stderr)
    return 0 if told.death is None else 2


def _place(stands: StandingLab, name: str) -> str:
    place = stands.place(name)
    stands.address(name)  # a segment sends nothing
    return place


def _end(stands: StandingLab, live: LiveLab, name: str, ipv6: bool) -> tuple[str, str]:
    """The place that is meant, and its address; an address stands for itself, whatever its family."""
    try:
        return name, str(ipaddress.ip_address(name))
    except ValueError:
        place = stands.place(name)
    if not ipv6:
        return place, stands.address(name)
    found = live.workloads[place].address6 if place in live.workloads else _host_address6(live, place)
    if found is None:
        hint = "a lab that has them: ./lab up dual-stack --mode vxlan"
        raise LabError(f"{stands.name}: {name}: a place without an IPv6 address", hint=hint)
    return place, str(found)


def _host_address6(live: LiveLab, place: str) -> ipaddress.IPv6Address | None:
    ports = [port for host in live.topology.hosts if host.name == place for port in host.attachments]
    return next((port.address6.ip for port in ports if port.address6 is not None), None)
