"""Kernel tables as values: from recorded JSON of two kernels, and read through testinfra from real boxes."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.node.world import GOLDEN, PLACE, make
from tunlab.box.box import OwnBox
from tunlab.box.start import KINDS, fresh_run_dir, start_box
from tunlab.errors import WorldError
from tunlab.node.backend import host_in
from tunlab.node.tables import Address, FdbEntry, Neighbour, Route, Tables, parse_tables, read_tables

# Written by hand from what tests/node/world.py asks for; IPIP is only where the kernel has it.
ADDRESSES = {Address("lo", "127.0.0.1/8"), Address("eth0", "192.0.2.1/24"), Address("vxlan.calico", "10.65.0.0/32")}
ROUTES = {
    Route("default", gateway="192.0.2.254", device="eth0"),
    Route("192.0.2.0/24", device="eth0", protocol="kernel", scope="link"),
    Route("10.65.1.0/26", gateway="10.65.1.0", device="vxlan.calico", protocol="80", is_onlink=True),
    Route("10.65.0.0/26", kind="blackhole", protocol="80"),
    Route("10.65.2.0/26", gateway="192.0.2.2", device="eth0", protocol="bird", metric=32),
    Route("10.65.0.7", device="eth0", scope="link"),
    Route("10.99.0.0/16", kind="unreachable", metric=7),
}
NEIGHBOURS = {
    Neighbour("10.65.1.0", "vxlan.calico", "66:00:00:00:00:02", "PERMANENT"),
    Neighbour("192.0.2.9", "eth0", "02:00:00:00:00:09", "STALE"),
}
MAC = "66:00:00:00:00:02"
IPIP_ADDRESS = Address("tunl0", "10.65.0.1/32")
IPIP_ROUTE = Route("10.65.3.0/26", gateway="192.0.2.3", device="tunl0", protocol="80", is_onlink=True)


@pytest.fixture(scope="module", params=KINDS)
def box(request: pytest.FixtureRequest) -> Iterator[OwnBox]:
    box = start_box(request.param, fresh_run_dir("tests-node"))
    try:
        make(box)
        yield box
    finally:
        box.close()


@pytest.fixture(params=["recorded", "read"])
def tables(request: pytest.FixtureRequest, box: OwnBox) -> Tables:
    if request.param == "recorded":
        return parse_tables(PLACE, (GOLDEN / f"{box.kind}.json").read_text())
    return read_tables(host_in(box, PLACE), PLACE)


def test_addresses_and_routes_are_exactly_what_was_set(tables: Tables, box: OwnBox) -> None:
    ipip = box.kind == "uml"
    assert tables.addresses == ADDRESSES | ({IPIP_ADDRESS} if ipip else set())
    assert tables.routes == ROUTES | ({IPIP_ROUTE} if ipip else set())
    assert tables.addresses_on("vxlan.calico") == {"10.65.0.0/32"}
    assert tables.addresses_on("nothing") == frozenset()


def test_neighbours_know_their_state(tables: Tables) -> None:
    assert {entry for entry in tables.neighbours if not entry.address.startswith("224.")} == NEIGHBOURS


def test_the_fdb_entry_of_a_remote_vtep_is_told_from_a_bridges(tables: Tables) -> None:
    assert {entry for entry in tables.fdb if entry.device == "vxlan.calico"} == {
        FdbEntry("66:00:00:00:00:02", "vxlan.calico", "192.0.2.2", is_permanent=True, is_self=True)
    }
    assert FdbEntry("02:00:00:00:00:02", "far", None, is_permanent=True, is_self=False) in tables.fdb


def test_a_vxlan_device_tells_its_attributes(tables: Tables) -> None:
    link = tables.links["vxlan.calico"]
    assert (link.kind, link.mac, link.mtu_bytes, link.is_up) == ("vxlan", "66:00:00:00:00:01", 1450, True)
    wanted = {"id": 4096, "port": 4789, "local": "192.0.2.1", "link": "eth0", "learning": False}
    assert {key: link.attributes[key] for key in wanted} == wanted


def test_an_ipip_device_names_nobody(tables: Tables, box: OwnBox) -> None:
    if box.kind == "uml":
        link = tables.links["tunl0"]
        assert (link.kind, link.mtu_bytes, link.is_up) == ("ipip", 1480, True)
        assert (link.attributes["remote"], link.attributes["local"]) == ("any", "any")
    else:
        assert set(tables.links) - {"tunl0"} == {"lo", "eth0", "far", "br0", "vxlan.calico"}


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (IPIP_ROUTE, "10.65.3.0/26 via 192.0.2.3 dev tunl0 proto 80 onlink"),
        (Route("10.65.0.0/26", kind="blackhole", protocol="80"), "blackhole 10.65.0.0/26 proto 80"),
        (
            Route("10.65.2.0/26", gateway="192.0.2.2", device="eth0", protocol="bird", metric=32),
            "10.65.2.0/26 via 192.0.2.2 dev eth0 proto bird metric 32",
        ),
        (Route("10.65.0.7", device="eth0", scope="link"), "10.65.0.7 dev eth0 scope link"),
        (IPIP_ADDRESS, "10.65.0.1/32 dev tunl0"),
        (Neighbour("10.65.1.0", "v", MAC, "PERMANENT"), f"10.65.1.0 dev v lladdr {MAC} PERMANENT"),
        (FdbEntry(MAC, "v", "192.0.2.2", True, True), f"{MAC} dev v dst 192.0.2.2 self permanent"),
        (FdbEntry(MAC, "v", None, False, False), f"{MAC} dev v dst None learned"),
    ],
    ids=["onlink", "blackhole", "metric", "link-scope", "address", "neighbour", "fdb", "learned"],
)  # fmt: skip
def test_an_entry_reads_as_iproute2_writes_it(entry: object, text: str) -> None:
    assert str(entry) == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", r"0 documents, wanted 5 or 6$"),
        ("[] [] []", r"3 documents, wanted 5 or 6$"),
        ("[] [] [] [] [] [] []", r"7 documents, wanted 5 or 6$"),
        ("[] [] Dump was interrupted", r"not JSON: 'Dump was interrupted'$"),
    ],
    ids=["nothing", "too-few", "too-many", "words"],
)
def test_half_a_reading_is_no_reading(text: str, why: str) -> None:
    with pytest.raises(WorldError, match=rf"^node1: read the kernel's tables: {why}"):
        parse_tables("node1", text)


def test_an_empty_place_has_empty_tables() -> None:
    tables = parse_tables("node1", "[{}] [] [] [] []")
    assert (dict(tables.links), tables.addresses, tables.routes, tables.fdb) == (
        {},
        frozenset(),
        frozenset(),
        frozenset(),
    )


def test_a_learned_fdb_entry_is_not_a_permanent_one() -> None:
    learned = '{"mac": "66:00:00:00:00:02", "ifname": "v", "dst": "192.0.2.2", "flags": ["self"], "state": "reachable"}'
    assert parse_tables("node1", f"[] [] [] [] [{learned}]").fdb == {FdbEntry(MAC, "v", "192.0.2.2", False, True)}


def test_a_tool_that_refuses_is_the_labs_trouble(box: OwnBox) -> None:
    box.put(
        "box", "/run/refusing/ip", "#!/bin/sh\necho 'RTNETLINK answers: No buffer space available' >&2; exit 2\n", 0o755
    )

    class Refusing:
        def run(self, command: str) -> object:
            return host_in(box, PLACE).run(f"PATH=/run/refusing:$PATH; {command}")

    with pytest.raises(WorldError, match=r"^recorded: read the kernel's tables: RTNETLINK answers: No buffer space"):
        read_tables(Refusing(), PLACE)


# ---------------------------------------------------------------------- the testinfra backend
def test_testinfra_reads_a_place_as_sentences(box: OwnBox) -> None:
    host = host_in(box, PLACE)
    assert host.interface("eth0").addresses == ["192.0.2.1"]
    assert host.sysctl("net.ipv6.conf.all.disable_ipv6") == 1
    assert host.check_output("echo %s", "it's quoted") == "it's quoted"
    assert host.file("/etc/os-release").exists
    assert host.run("exit 7").rc == 7
    assert host.run("echo out; echo err >&2").stderr == "err\n"
    assert host.addr("127.0.0.1").is_resolvable
    assert host.backend.get_hostname() == PLACE


def test_testinfra_sees_the_processes_and_sockets_of_one_host_alone(box: OwnBox) -> None:
    for name in ("hosta", "hostb"):
        box.add_network(name, {})
        box.add_host(name)
    pid = box.spawn("hosta", ["sleep", "411"], log="logs/sleep.log")
    script = "ps -e -o pid=,comm= | grep sleep || true"
    assert host_in(box, "hosta").check_output(script).split() == [str(pid), "sleep"]
    assert host_in(box, "hostb").check_output(script) == ""
    assert not host_in(box, "hosta").socket("tcp://0.0.0.0:179").is_listening


def test_ipv6_stands_beside_ipv4_without_what_the_kernel_makes_by_itself() -> None:
    addresses = [
        {"family": "inet", "local": "192.0.2.1", "prefixlen": 24},
        {"family": "inet6", "local": "2001:db8::1", "prefixlen": 64},
        {"family": "inet6", "local": "fe80::1", "prefixlen": 64},
    ]
    neighbours = [
        {"dst": "2001:db8::2", "dev": "eth0", "lladdr": MAC, "state": ["PERMANENT"]},
        {"dst": "fe80::2", "dev": "eth0", "lladdr": MAC, "state": ["STALE"]},
        {"dst": "ff02::1", "dev": "eth0", "lladdr": MAC, "state": ["NOARP"]},
    ]
    routes6 = [
        {"type": "1", "dst": "default", "gateway": "2001:db8::ff", "dev": "eth0", "protocol": "4", "metric": 1024},
        {"type": "6", "dst": "fd00::/122", "dev": "lo", "protocol": "80", "metric": 1024},
        {"type": "1", "dst": "2001:db8::/64", "dev": "eth0", "protocol": "2", "metric": 256},
        {"type": "1", "dst": "fe80::/64", "dev": "eth0", "protocol": "3", "metric": 256},
    ]
    documents: list[object] = [[{}], [{"ifname": "eth0", "addr_info": addresses}], [], neighbours, [], routes6]
    tables = parse_tables("node1", "\n".join(map(json.dumps, documents)))
    assert tables.addresses == {Address("eth0", "192.0.2.1/24")}
    assert not tables.routes and not tables.neighbours
    assert tables.addresses6 == {Address("eth0", "2001:db8::1/64")}
    assert tables.neighbours6 == {Neighbour("2001:db8::2", "eth0", MAC, "PERMANENT")}
    assert tables.routes6 == {
        Route("default", gateway="2001:db8::ff", device="eth0", protocol="static", metric=1024),
        Route("fd00::/122", kind="blackhole", device="lo", protocol="80", metric=1024),
    }
