"""The cable between node and pod: a veth pair, its addresses, routes and sysctls, as lines for `ip -batch`."""

from __future__ import annotations

import contextlib
import socket
from ipaddress import IPv4Address

from refnet.cni.kernel import ip_in_pod, ip_on_node, read_sysctl, write_sysctl
from refnet.cni.request import complain_about_netns
from refnet.errors import AlreadyExists, KernelRefused
from refnet.model.address import IPAddress

TYPE_CHECKING = False  # typing costs 3 ms of start-up
if TYPE_CHECKING:
    from typing import Any

HOST_MAC = "ee:ee:ee:ee:ee:ee"
GATEWAY = IPv4Address("169.254.1.1")
"""No device has this address; the node's `proxy_arp` answers for it, and so all pods have the same next hop."""

HOST_SYSCTLS = (("conf/{}/route_localnet", "1"), ("conf/{}/proxy_arp", "1"), ("conf/{}/forwarding", "1"))
"""Below net/ipv4; proxy_delay is set too, but a kernel that has none is forgiven."""


def create_veth(host: str, netns: str, ifname: str, mtu_bytes: int) -> None:
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
        with contextlib.suppress(KernelRefused):  # answers then come up to 0.8 s late, with which Calico puts up too
            write_sysctl(f"net/ipv4/neigh/{host}/proxy_delay", "0")
        for name, value in HOST_SYSCTLS:
            write_sysctl("net/ipv4/" + name.format(host), value)
    except BaseException:
        remove_link(host)
        raise


def raise_host_end(host: str, address: IPAddress) -> None:
    """Bring the node's end up and lead the pod's address into it. Like: ip route add ADDR/32 dev HOST scope link"""
    ip_on_node(f"link set dev {host} up", f"route add {address}/32 dev {host} scope link")


def raise_pod_end(netns: str, ifname: str, address: IPAddress, *, forward: bool) -> str:
    """Bring the pod's end up with its address and routes; its MAC.

    `append`, so that a second interface of the same pod gets its default route behind the first one's.
    """
    shown = ip_in_pod(
        netns,
        f"link set dev {ifname} up",
        f"route append {GATEWAY} dev {ifname} scope link",
        f"route append default via {GATEWAY} dev {ifname}",
        f"address add {address}/32 dev {ifname}",
        f"link show dev {ifname}",
        sysctls={"net/ipv4/ip_forward": "1" if forward else "0"},
    )
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


def faults(host: str, netns: str, ifname: str, mac: str, address: IPAddress) -> list[str]:
    """Everything about the cable that is not as ADD left it; empty if all is well. Changes nothing."""
    links, addresses, routes = ip_in_pod(netns, "link show", "address show", "route show table main")
    link = next((one for one in links if one.get("ifname") == ifname), None)
    if link is None:
        return [f"{ifname}: no such interface in the pod"]
    found = []
    if "UP" not in link.get("flags", ()):
        found.append(f"{ifname}: is down in the pod")
    if mac and link.get("address") != mac:
        found.append(f"{ifname}: has MAC {link.get('address')}, not {mac}")
    has = {(a["local"], a["prefixlen"]) for o in addresses if o.get("ifname") == ifname for a in o["addr_info"]}
    if (str(address), 32) not in has:
        found.append(f"{ifname}: lacks the address {address}/32")
    ours = [route for route in routes if route.get("dev") == ifname]
    if not any(r["dst"] == str(GATEWAY) and "gateway" not in r for r in ours):
        found.append(f"{ifname}: the pod lacks the route to {GATEWAY}")
    if not any(r["dst"] == "default" and r.get("gateway") == str(GATEWAY) for r in ours):
        found.append(f"{ifname}: the pod lacks the default route via {GATEWAY}")
    return found + _host_faults(host, link.get("link_index"), address)


def _host_faults(host: str, index: int | None, address: IPAddress) -> list[str]:
    if not exists(host):
        return [f"{host}: no such interface on the node"]
    link, routes = ip_on_node(f"link show dev {host}", f"route show {address}/32 table main")
    found = []
    if link[0].get("ifindex") != index:
        found.append(f"{host}: is not the other end of the pod's interface")
    if "UP" not in link[0].get("flags", ()):
        found.append(f"{host}: is down")
    if link[0].get("address") != HOST_MAC:
        found.append(f"{host}: has MAC {link[0].get('address')}, not {HOST_MAC}")
    if not any(route.get("dev") == host for route in routes):
        found.append(f"{host}: the node lacks the route to {address}")
    for name, value in HOST_SYSCTLS:
        if read_sysctl("net/ipv4/" + name.format(host)) != value:
            found.append(f"{host}: sysctl net/ipv4/{name.format(host)} is not {value}")
    return found


def _taken(netns: str, ifname: str) -> AlreadyExists:
    return AlreadyExists(f"CNI_IFNAME: {ifname}: exists already in {netns}; it was not touched")
