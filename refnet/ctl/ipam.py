"""`ipam show | check | claim | release | configure`: what is given to whom, and setting it right."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from ipaddress import collapse_addresses
from pathlib import Path
from typing import Any

from refnet.ctl.ipam_books import REPORT_VERSION, Books
from refnet.ctl.tables import box
from refnet.errors import InvalidResource, Mistake, NotFound, StoreConflict
from refnet.ipam import Ipam
from refnet.ipam.removal import release_address
from refnet.ipam.view import View, read_pools, seen_by
from refnet.model.address import IPAddress, IPNetwork, lies_in, read_address, read_network
from refnet.model.block import Block
from refnet.model.ipam import IPAMConfiguration
from refnet.model.keys import IP_RESERVATIONS, IPAM_CONFIG, POOLS, block_key, ipam_configuration_key
from refnet.model.pool import pool_of
from refnet.store.etcd import Etcd, Guard, Put

_HEADER = ("GROUPING", "CIDR", "IPS TOTAL", "IPS IN USE", "IPS RESERVED", "IPS FREE")
_BORROWED_HEADER = ("IP", "BORROWING-NODE", "BLOCK", "BLOCK OWNER", "TYPE", "ALLOCATED-TO")
_ATTEMPTS = 10


def show(store: Etcd, *, blocks: bool) -> str:
    """Usage by pool, and by block if wanted."""
    found, _ = store.snapshot(POOLS, IP_RESERVATIONS)
    reserved = View(found, "").reserved
    known = Books(store).blocks
    rows = []
    for pool in read_pools(found):
        inside = [block for block in known if lies_in(block.cidr, pool.cidr)]
        rows.append(_usage("IP Pool", pool.cidr, inside, reserved))
        if blocks:
            rows += [_usage("Block", block.cidr, [block], reserved) for block in inside]
    return box(_HEADER, rows) + "\n"


def show_address(store: Etcd, text: str) -> str:
    """Whether an address is in use, and by whom. Raises InvalidResource for what is no address."""
    address = _address(text, "ipam show")
    pool = pool_of(read_pools(store.prefix(POOLS)[0]), address)
    if pool is None:
        return f"{address} is not in an active IP pool\n"
    cidr = pool.block_of(address)
    stored = store.get(block_key(cidr))
    owner = Block.from_value(cidr, stored.value).owner_of(address) if stored else None
    if owner is None:
        return f"IP {address} is not assigned\n"
    lines = [f"IP {address} is in use", f"Handle ID: {owner.handle}", "Attributes:"]
    return "\n".join([*lines, *(f"  {key}: {value}" for key, value in owner.attributes)]) + "\n"


def show_borrowed(store: Etcd) -> str:
    """Addresses in use on another node than their block's."""
    rows = []
    books = Books(store)
    for address, given in books.given.items():
        attributes = dict(given.owner.attributes)
        node = attributes.get("node", "")
        if node and node != given.lender:
            kind = attributes.get("type", "") or "pod"
            user = ", ".join(books.users.get(address, [given.owner.handle]))
            rows.append((str(address), node, str(given.block), given.lender or "(nobody)", kind, user))
    return box(_BORROWED_HEADER, rows) + "\n" if rows else "No borrowed IPs found\n"


def show_configuration(store: Etcd) -> str:
    """The settings in force."""
    settings = View(store.snapshot(*seen_by(""))[0], "").settings
    rows = [
        ("StrictAffinity", str(settings.strict_affinity).lower()),
        ("AutoAllocateBlocks", str(settings.auto_allocate_blocks).lower()),
        ("MaxBlocksPerHost", str(settings.max_blocks_per_host)),
    ]
    return box(("PROPERTY", "VALUE"), rows) + "\n"


def claim(store: Etcd, text: str, node: str) -> str:
    """Make a block a node's own (ours, not calicoctl's: labs pin the blocks of a tutorial with it)."""
    try:
        cidr = read_network(text)
    except ValueError as error:
        raise InvalidResource("ipam claim", [Mistake("CIDR", text, "a block such as 10.0.0.0/26")]) from error
    Ipam(store, node).claim_block(cidr)
    return f"Block {cidr} belongs to node {node}\n"


def check(store: Etcd, *, report: str = "", shows_all: bool = False) -> tuple[str, int]:
    """Compare blocks, claims, handles, endpoints and tunnels; the findings, and how many problems there are.

    A report file, where one is named, is what `ipam release --from-report` reads.
    """
    books = Books(store)
    problems = books.problems()
    lines = [f"Checking {len(books.blocks)} block(s) with {len(books.given)} allocated address(es) ..."]
    if shows_all:
        for address, given in books.given.items():
            lines.append(f"{address}: {given.owner.handle}, used by {', '.join(books.users.get(address, ['nobody']))}")
    if report:
        try:
            Path(report).write_text(json.dumps(books.report(), indent=2) + "\n")
        except OSError as error:
            raise InvalidResource("ipam check", [Mistake("-o", error.strerror or str(error), "a file")]) from error
    found = f"Check complete; found {len(problems)} problem(s)."
    return "\n".join([*lines, *problems, found]) + "\n", len(problems)


def release(store: Etcd, texts: Sequence[str]) -> str:
    """Take addresses back from whoever has them, pods included. Raises NotFound for one that nobody has."""
    said = ""
    for text in texts:
        address = _address(text, "ipam release")
        if not release_address(store, address):
            raise NotFound(f"{said}IP address {address} is not assigned")
        said += f"Successfully released IP address {address}\n"
    return said


def release_reported(store: Etcd, files: Sequence[str]) -> str:
    """Take back what every one of the reports calls leaked, unless it was given anew since, or is used now."""
    reports = [_read_report(file) for file in files]
    leaked = {address: deed for address, deed in reports[0].items() if all(r.get(address) == deed for r in reports)}
    users = Books(store).users
    idle = {address: deed for address, deed in leaked.items() if address not in users}
    released = [release_address(store, a, handle=handle, sequence=number) for a, (handle, number) in idle.items()]
    done = released.count(True)
    kept = len(leaked) - done
    said = f"Released {done} IPs successfully\n"
    return said + (f"Left {kept} IPs alone: released, given anew or in use since the report\n" if kept else "")


def configure(store: Etcd, *, strict_affinity: str, max_blocks_per_host: str) -> str:
    """Change the cluster's IPAM settings, for us and (in its own key) for Calico. Raises InvalidResource."""
    given = {
        "strictAffinity": {"true": True, "false": False}.get(strict_affinity, strict_affinity),
        "maxBlocksPerHost": int(max_blocks_per_host) if max_blocks_per_host.isdecimal() else max_blocks_per_host,
    }
    changes = {field: value for field, value in given.items() if value != ""}
    for _ in range(_ATTEMPTS):
        found, _ = store.snapshot(*seen_by(""))
        resource: dict[str, Any] = View(found, "").settings.to_resource()
        resource["spec"] |= changes
        settings = IPAMConfiguration.from_resource(resource)
        wanted = {ipam_configuration_key(): settings.to_resource(), IPAM_CONFIG: settings.to_config()}
        guards = [Guard(key, found[key].revision if key in found else 0) for key in wanted]
        if store.txn(guards, [Put(key, value) for key, value in wanted.items()]):
            words = {"strictAffinity": "StrictAffinity", "maxBlocksPerHost": "MaxBlocksPerHost"}
            return "".join(f"Successfully set {words[field]} to: {json.dumps(changes[field])}\n" for field in changes)
    raise StoreConflict(f"ipam configure: the settings changed {_ATTEMPTS} times meanwhile")


def _read_report(file: str) -> dict[IPAddress, tuple[str, int]]:
    """The leaked addresses of a report, each with its handle and the number of its allocation."""
    legal = "a report of `ipam check -o FILE`"
    try:
        report = json.loads(Path(file).read_text())
        if report["version"] != REPORT_VERSION:
            raise ValueError(f"version {report['version']!r}")
        return {
            read_address(address): (str(deed["handle"]), int(deed["sequenceNumber"]))
            for address, deeds in report["allocations"].items()
            for deed in deeds
            if not deed["inUse"]
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        raise InvalidResource("ipam release", [Mistake("--from-report", f"{file}: {reason}", legal)]) from error


def _address(text: str, where: str) -> IPAddress:
    try:
        return read_address(text)
    except ValueError as error:
        raise InvalidResource(where, [Mistake("--ip", text, "an address such as 10.0.0.1 or fd00::1")]) from error


def _usage(grouping: str, cidr: IPNetwork, blocks: Iterable[Block], reserved: Sequence[IPNetwork]) -> tuple[str, ...]:
    total = cidr.num_addresses
    used = {block.address(ordinal) for block in blocks for ordinal in block.owners}
    kept = _size_within(reserved, cidr) - sum(any(address in r for r in reserved) for address in used)
    free = total - len(used) - kept
    return grouping, str(cidr), _count(total), _share(len(used), total), _share(kept, total), _share(free, total)


def _size_within(reserved: Sequence[IPNetwork], cidr: IPNetwork) -> int:
    """How many addresses of the network are reserved, each counted once."""
    if any(lies_in(cidr, one) for one in reserved):
        return cidr.num_addresses
    inside: list[Any] = [one for one in reserved if lies_in(one, cidr)]  # of one family: that of the network
    return sum(one.num_addresses for one in collapse_addresses(inside))


def _share(part: int, whole: int) -> str:
    return f"{_count(part)} ({round(100 * part / whole)}%)"


def _count(number: int) -> str:
    """As calicoctl prints it: five digits, and large numbers by their power of ten."""
    return f"{number:.5g}"
