"""What an ADD promises in its result, and keeps in the kernel; what a CHECK sees of it."""

from ipaddress import IPv4Interface, ip_network
from typing import Any

from tunlab.check import claims
from tunlab.check.guest import (
    SPEC,
    Guest,
    at_rest,
    document,
    guest,
    is_silent,
    judged,
    nothing_left,
    refused,
    succeeded,
)
from tunlab.check.scene import Scene
from tunlab.node.tables import Link, Tables, lasting


@judged("CNI-15", source=f"{SPEC} 5, ADD Success: interfaces")
def test_the_interfaces_of_the_result_are_the_kernels(scene: Scene) -> None:
    """Every interface of ADD's result is there and up with the MAC and MTU told, the container's under CNI_NETNS."""
    with guest(scene) as one:
        result = one.add()
        inside, outside = one.tables(), scene.tables(one.node)
        told = result["interfaces"]
        own = [entry for entry in told if entry["name"] == one.sandbox.device and entry.get("sandbox")]
        assert len(own) == 1, f"{one.node}: ADD: interfaces name {one.sandbox.device} {len(own)} times: {told}"
        for entry in told:
            sandbox = entry.get("sandbox") or ""
            assert sandbox in ("", one.sandbox.netns), f"{one.node}: ADD: {entry}: wanted sandbox {one.sandbox.netns}"
            _is_as_told(one, inside if sandbox else outside, entry)
        new = {link.name for link in outside.links.values() if _is_peer_of(link, inside, one.sandbox.device)}
        listed = {entry["name"] for entry in told if not entry.get("sandbox")}
        assert new <= listed, f"{one.node}: ADD made {sorted(new)}; its result lists {sorted(listed)}"


def _is_as_told(one: Guest, tables: Tables, entry: dict[str, Any]) -> None:
    link = tables.links.get(entry["name"])
    assert link is not None, f"{tables.place}: has no {entry['name']}, which ADD's result lists"
    assert link.is_up, f"{tables.place}: {link.name} is down after ADD"
    for key, seen in (("mac", link.mac), ("mtu", link.mtu_bytes)):
        told = entry.get(key)
        assert told in (None, "", 0, seen), f"{tables.place}: {link.name} has {key} {seen}, ADD's result says {told}"
    assert entry.get("mac") or not entry.get("sandbox"), f"{one.node}: ADD: {entry}: no MAC"


def _is_peer_of(link: Link, inside: Tables, device: str) -> bool:
    """Whether this is the other end of the container's cable, if what it has is a cable."""
    own = inside.links.get(device)
    return own is not None and own.kind == "veth" and own.peer_index == link.index and link.peer_index == own.index


@judged("CNI-16", source=f"{SPEC} 5, ADD Success: ips")
def test_the_addresses_of_the_result_are_configured(scene: Scene) -> None:
    """Every address of ADD's result is on the interface that it points to, with that prefix, and no other is there."""
    with guest(scene) as one:
        result = one.add()
        inside, told = one.tables(), set()
        for entry in result["ips"]:
            index = entry.get("interface")
            known = len(result["interfaces"])
            is_known = isinstance(index, int) and 0 <= index < known
            assert is_known, f"{one.node}: ADD: {entry}: interface is none of the {known} listed"
            link = result["interfaces"][index]
            assert link.get("sandbox"), f"{one.node}: ADD: {entry}: points to {link['name']}, which is no container's"
            told.add((link["name"], str(IPv4Interface(entry["address"]))))
        seen = {(one.device, one.address) for one in inside.addresses if one.device != "lo"}
        claims.same_set(one.name, "addresses", seen, told)


@judged("CNI-17", source=f"{SPEC} 5, ADD Success: routes")
def test_the_routes_of_the_result_are_in_the_container(scene: Scene) -> None:
    """Every route of ADD's result is in the container's table, by the gateway that the result tells."""
    with guest(scene) as one:
        result = one.add()
        assert result.get("routes"), (
            f"{one.node}: ADD: its result lists no route: a container needs one to leave its node"
        )
        seen = {(route.destination, route.gateway) for route in one.tables().routes}
        gateways = {entry.get("gateway") for entry in result["ips"]}
        for route in result["routes"]:
            network = ip_network(route["dst"])
            name = "default" if network.prefixlen == 0 else str(network).removesuffix("/32")
            ways = {route["gw"]} if route.get("gw") else gateways | {None}
            words = f"{route['dst']} via {sorted(map(str, ways))}"
            assert seen & {(name, way) for way in ways}, f"{one.name}: has no route {words}, which ADD's result lists"


@judged("CNI-18", source=f"{SPEC} 5, ADD Success: dns")
def test_the_configured_dns_is_in_the_result(scene: Scene) -> None:
    """The name servers, domain and search list of the configuration are in ADD's result."""
    dns = {"nameservers": ["192.0.2.53"], "domain": "example.org", "search": ["a.example.org", "example.org"]}
    with guest(scene) as one:
        told = one.add(dns=dns).get("dns")
        assert told == dns, f"{one.node}: ADD: its result's dns is {told}, wanted {dns}"


@judged("CNI-19", needs=("two-interfaces",), source=f"{SPEC} 2, ADD: multiple times with different CNI_IFNAME")
def test_a_container_can_have_two_interfaces(scene: Scene) -> None:
    """Two ADDs of one container with different interface names both succeed with own addresses; DEL takes one away."""
    with nothing_left(scene), guest(scene) as one:
        first = one.add()
        second = one.call("ADD", {"CNI_IFNAME": "eth1"})
        try:
            both = first["ips"] + document(succeeded(second))["ips"]
            addresses = [entry["address"] for entry in both]
            assert len(set(addresses)) == len(addresses), f"{one.node}: two interfaces, one address: {addresses}"
            claims.same_set(one.name, "interfaces", {"eth0", "eth1"} - set(one.tables().links), set())
        finally:
            gone = one.call("DEL", {"CNI_IFNAME": "eth1"})
        is_silent(gone)
        links = set(one.tables().links)
        assert ("eth0" in links, "eth1" in links) == (True, False), f"{one.name}: after DEL of eth1 has {sorted(links)}"


@judged("CNI-20", source=f"{SPEC} 2, ADD and DEL: nothing but the container's own")
def test_add_and_del_touch_nobody_else(scene: Scene) -> None:
    """ADD and DEL of a container change nothing in another one, which answers before, between and after."""
    with guest(scene) as one:
        other = next(pod for pod in scene.workloads.values() if pod.node == one.node)
        ask = [scene.question(one.node, other.name)]
        before = sorted(lasting(scene.tables(other.name)))
        scene.settle(ask)
        result = one.add()
        scene.holds(ask)
        claims.same_set(other.name, "tables after a neighbour's ADD", sorted(lasting(scene.tables(other.name))), before)
        one.delete(prevResult=result)
        scene.holds(ask)
        claims.same_set(other.name, "tables after a neighbour's DEL", sorted(lasting(scene.tables(other.name))), before)


@judged("CNI-21", needs=("check",), source=f"{SPEC} 2, CHECK")
def test_check_is_content_and_changes_nothing(scene: Scene) -> None:
    """CHECK after ADD succeeds, prints nothing, and changes nothing on the node and in the container."""
    with guest(scene) as one:
        result = one.add()
        before = sorted(lasting(one.tables()))
        at_rest(scene, one.node)
        with nothing_left(scene):
            for _ in range(2):
                is_silent(one.call("CHECK", prevResult=result))
        claims.same_set(one.name, "tables after CHECK", sorted(lasting(one.tables())), before)


@judged("CNI-22", needs=("check",), source=f"{SPEC} 2, CHECK")
def test_check_misses_a_route_and_an_interface(scene: Scene) -> None:
    """CHECK fails once the container's default route is gone, and once its interface is."""
    with guest(scene) as one:
        result = one.add()
        is_silent(one.call("CHECK", prevResult=result))
        for what, command in (("its default route", "ip route del default"), ("its interface", "ip link del eth0")):
            scene.run(one.name, command)
            refused(one.call("CHECK", prevResult=result), f"{what} taken away")


@judged("CNI-23", needs=("check",), source=f"{SPEC} 2, CHECK: changes by later plugins")
def test_check_accepts_what_a_later_plugin_did(scene: Scene) -> None:
    """CHECK succeeds where a later plugin of the chain changed the MAC and added a route, and its result says so."""
    with guest(scene) as one:
        result = one.add()
        mac = "0a:00:00:00:00:17"
        way = next(route.gateway for route in one.tables().routes if route.destination == "default")
        scene.run(one.name, f"ip link set eth0 address {mac}; ip route add 198.51.100.0/24 via {way} dev eth0")
        links = [entry | ({"mac": mac} if entry.get("sandbox") else {}) for entry in result["interfaces"]]
        routes = [*result["routes"], {"dst": "198.51.100.0/24", "gw": way}]
        is_silent(one.call("CHECK", prevResult={**result, "interfaces": links, "routes": routes}))


@judged("CNI-24", needs=("check",), source=f"{SPEC} 2, CHECK: a prevResult is required")
def test_check_wants_the_result_of_the_add(scene: Scene) -> None:
    """CHECK without the result of the ADD is an error, for there is nothing to compare with."""
    with guest(scene) as one:
        one.add()
        refused(one.call("CHECK"), "no prevResult")
