"""The cable between node and pod: a veth pair, its addresses, routes and sysctls, as lines for `ip -batch`."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address

from refnet.cni.kernel import ip_in_pod, ip_on_node, read_sysctl, write_sysctl
from refnet.cni.request import complain_about_netns
from refnet.errors import AlreadyExists, KernelRefused
from refnet.model.address import IPAddress, single

TYPE_CHECKING = False  # typing costs 3 ms of start-up
if TYPE_CHECKING:
    from typing import Any

HOST_MAC = "ee:ee:ee:ee:ee:ee"
GATEWAY = IPv4Address("169.254.1.1")
"""No device has this address; the node's `proxy_arp` answers for it, and so all pods have the same next hop."""

GATEWAY6 = IPv6Address("fe80::ecee:eeff:feee:eeee")
"""The link-local address that follows from HOST_MAC: the node's end of every cable has it (RFC 4291, appendix A)."""

HOST_SYSCTLS = {
    4: (
        ("net/ipv4/conf/{}/route_localnet", "1"),
        ("net/ipv4/conf/{}/proxy_arp", "1"),
        ("net/ipv4/conf/{}/forwarding", "1"),
    ),
    6: (
        ("net/ipv6/conf/{}/accept_dad", "0"),
        ("net/ipv6/conf/{}/disable_ipv6", "0"),
        ("net/ipv6/conf/{}/proxy_ndp", "1"),
        ("net/ipv6/conf/{}/forwarding", "1"),
    ),
}
"""For the node's end, by family. proxy_delay and accept_ra are set too, but a kernel that has none is forgiven."""
FORGIVEN_SYSCTLS = {4: ("net/ipv4/neigh/{}/proxy_delay", "0"), 6: ("net/ipv6/conf/{}/accept_ra", "0")}
_DEFAULT_METRIC = 1024


def create_veth(host: str, netns: str, ifname: str, mtu_bytes: int, families: Sequence[int] = (4,)) -> None:
    """Make the pair with its far end already in the pod, and prepare the near end. Both are still down.

    Raises AlreadyExists when the pod has an interface of that name: that one is not touched.
    Like: ip link add HOST address ee:… type veth peer name eth0 netns PATH
    """
    mtu = f" mtu {mtu_bytes}" if mtu_bytes else ""
    try:
        ip_on_node(f"link add name {host} address {HOST_MAC}{mtu} type veth peer name {ifname}{mtu} netns {netns}")
    except KernelRefused as error:
        if "File exists" in error.message and not exists(host):
            raise _taken(netns, ifname) from error
        raise
    try:
        for family in families:
            name, value = FORGIVEN_SYSCTLS[family]
            with contextlib.suppress(KernelRefused):  # ARP answers then come up to 0.8 s late: Calico bears it too
                write_sysctl(name.format(host), value)
            for name, value in HOST_SYSCTLS[family]:
                write_sysctl(name.format(host), value)
    except BaseException:
        remove_link(host)
        raise


def raise_host_end(host: str, addresses: Sequence[IPAddress]) -> None:
    """Bring the node's end up and lead the pod's addresses into it. Like: ip route add ADDR/32 dev HOST scope link

    The pod's IPv6 gateway is written down, too: the kernel makes that address by itself only where it is told so.
    """
    lines = [f"link set dev {host} up"]
    for address in addresses:
        if address.version == 4:
            lines.append(f"route add {address}/32 dev {host} scope link")
        else:
            lines += [f"address replace {GATEWAY6}/64 dev {host} nodad", f"route add {address}/128 dev {host}"]
    ip_on_node(*lines)


def raise_pod_end(netns: str, ifname: str, addresses: Sequence[IPAddress], *, forward: bool, rank: int = 0) -> str:
    """Bring the pod's end up with its addresses and routes; its MAC. `rank`: how many interfaces it had before.

    The default route of a second interface comes behind the first one's: IPv4 appends it, while IPv6 would make one
    route with two ways of what is appended, so there the metric says it.
    """
    lines = [f"link set dev {ifname} up"]
    before: dict[str, str] = {}
    after: dict[str, str] = {}
    given = "1" if forward else "0"
    for address in addresses:
        if address.version == 4:
            lines.append(f"route append {GATEWAY} dev {ifname} scope link")
            lines.append(f"route append default via {GATEWAY} dev {ifname}")
            lines.append(f"address add {address}/32 dev {ifname}")
            after["net/ipv4/ip_forward"] = given
        else:
            before |= {f"net/ipv6/conf/{which}/disable_ipv6": "0" for which in ("all", "default", "lo")}
            before[f"net/ipv6/conf/{ifname}/accept_dad"] = "0"
            lines.append(f"route add default via {GATEWAY6} dev {ifname} metric {_DEFAULT_METRIC + rank}")
            lines.append(f"address add {address}/128 dev {ifname} nodad")
            after["net/ipv6/conf/all/forwarding"] = given
    shown = ip_in_pod(netns, *lines, f"link show dev {ifname}", before=before, after=after)
    return str(shown[-1][0]["address"])


def exists(device: str) -> bool:
    """Whether this network namespace has a device of that name; costs no fork."""
    try:
        socket.if_nametoindex(device)
    except OSError:
        return False
    return True


def is_namespace(path: str) -> bool:
    """Whether there is a network namespace at the path, and not this very one."""
    return not complain_about_netns(path)


def remove_link(host: str) -> None:
    """Remove the veth pair with its routes; removing what is not there is fine. Like: ip link del HOST"""
    if not exists(host):
        return
    try:
        ip_on_node(f"link del dev {host}")
    except KernelRefused:
        if exists(host):  # else the pod's namespace died meanwhile and took it along
            raise


def refuse_if_in_pod(netns: str, ifname: str) -> None:
    """Raises AlreadyExists if the pod has an interface of that name."""
    if pod_link(netns, ifname):
        raise _taken(netns, ifname)


def pod_link(netns: str, ifname: str) -> dict[str, Any] | None:
    """The pod's interface as `ip -j link show` prints it; None if there is none."""
    return next((link for link in ip_in_pod(netns, "link show")[0] if link.get("ifname") == ifname), None)


def remove_from_pod(netns: str, ifname: str) -> None:
    """Remove the pod's interface if it is one of ours: a veth whose other end is a `cali…` of this node."""
    link = pod_link(netns, ifname)
    if link is None or "link_index" not in link:
        return
    try:
        host = socket.if_indextoname(link["link_index"])
    except OSError:
        return
    if host.startswith("cali") and "link_netnsid" in link:
        remove_link(host)


def faults(host: str, netns: str, ifname: str, mac: str, promised: Sequence[IPAddress]) -> list[str]:
    """Everything about the cable that is not as ADD left it; empty if all is well. Changes nothing."""
    links, addresses, routes = ip_in_pod(netns, "link show", "address show", "route show table main")
    if any(address.version == 6 for address in promised):
        routes += ip_in_pod(netns, "route show table main", family=6)[0]
    link = next((one for one in links if one.get("ifname") == ifname), None)
    if link is None:
        return [f"{ifname}: no such interface in the pod"]
    found = []
    if "UP" not in link.get("flags", ()):
        found.append(f"{ifname}: is down in the pod")
    if mac and link.get("address") != mac:
        found.append(f"{ifname}: has MAC {link.get('address')}, not {mac}")
    has = {(a["local"], a["prefixlen"]) for o in addresses if o.get("ifname") == ifname for a in o["addr_info"]}
    ours = [route for route in routes if route.get("dev") == ifname]
    for address in promised:
        gateway = GATEWAY if address.version == 4 else GATEWAY6
        if (str(address), address.max_prefixlen) not in has:
            found.append(f"{ifname}: lacks the address {single(address)}")
        if address.version == 4 and not any(r["dst"] == str(gateway) and "gateway" not in r for r in ours):
            found.append(f"{ifname}: the pod lacks the route to {gateway}")
        if not any(r["dst"] == "default" and r.get("gateway") == str(gateway) for r in ours):
            found.append(f"{ifname}: the pod lacks the default route via {gateway}")
    return found + _host_faults(host, link.get("link_index"), promised)


def _host_faults(host: str, index: int | None, promised: Sequence[IPAddress]) -> list[str]:
    if not exists(host):
        return [f"{host}: no such interface on the node"]
    link = ip_on_node(f"link show dev {host}")[0]
    routes = {a: ip_on_node(f"route show {single(a)} table main", family=a.version)[0] for a in promised}
    found = []
    if link[0].get("ifindex") != index:
        found.append(f"{host}: is not the other end of the pod's interface")
    if "UP" not in link[0].get("flags", ()):
        found.append(f"{host}: is down")
    if link[0].get("address") != HOST_MAC:
        found.append(f"{host}: has MAC {link[0].get('address')}, not {HOST_MAC}")
    for address, to_it in routes.items():
        if not any(route.get("dev") == host for route in to_it):
            found.append(f"{host}: the node lacks the route to {address}")
    for family in dict.fromkeys(address.version for address in promised):
        for name, value in HOST_SYSCTLS[family]:
            if read_sysctl(name.format(host)) != value:
                found.append(f"{host}: sysctl {name.format(host)} is not {value}")
    return found


def _taken(netns: str, ifname: str) -> AlreadyExists:
    return AlreadyExists(f"CNI_IFNAME: {ifname}: exists already in {netns}; it was not touched")
