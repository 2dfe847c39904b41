"""ADD, DEL and CHECK of one interface of one pod. An ADD that fails takes back everything it did, in reverse."""

# pathlib costs 8 ms of start-up:
# ruff: noqa: PTH103, PTH120

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Address

from refnet.cni import wiring
from refnet.cni.failure import NOT_AS_PROMISED, CniFailure
from refnet.cni.request import Attachment, Configuration
from refnet.errors import InvalidResource, RefnetError, StoreConflict
from refnet.ipam import Ipam
from refnet.model.address import IPAddress
from refnet.model.block import timestamp
from refnet.model.endpoint import WorkloadEndpoint
from refnet.model.keys import handle_key, workload_endpoint_key
from refnet.model.names import host_veth_name
from refnet.store.etcd import Etcd, Stored

TYPE_CHECKING = False  # typing costs 3 ms of start-up
if TYPE_CHECKING:
    from typing import Any

    Result = dict[str, Any]
    Undo = list[tuple[str, Callable[[], object]]]

LOCK_FILE = "/var/run/calico/ipam.lock"
_LOCK_WAIT_S = 5
_DELETE_ATTEMPTS = 5


def add(pod: Attachment, conf: Configuration) -> Result:
    """Connect the pod; the CNI result. Raises RefnetError, and then nothing of the attempt is left."""
    node, mtu_bytes = conf.node(), conf.mtu_bytes()
    store = Etcd(conf.etcd_endpoints)
    undo: Undo = []
    try:
        return _add(pod, conf, store, node, mtu_bytes, undo)
    except BaseException as error:
        left = _take_back(undo)
        if left and isinstance(error, RefnetError):
            error.hint = "; ".join(filter(None, (error.hint, *left)))
        raise
    finally:
        store.close()


def _add(pod: Attachment, conf: Configuration, store: Etcd, node: str, mtu_bytes: int, undo: Undo) -> Result:
    ipam, handle = Ipam(store, node), handle_of(pod, conf)
    host = _free_host_name(pod, store, node)
    with _host_lock():
        address = _take_address(ipam, handle, pod, conf, node)
    undo.append((f"address {address} stays allocated", lambda: ipam.release_address(address, handle)))
    wiring.create_veth(host, pod.netns, pod.ifname, mtu_bytes)
    undo.append((f"interface {host} stays", lambda: wiring.remove_link(host)))
    wiring.raise_host_end(host, address)
    mac = wiring.raise_pod_end(pod.netns, pod.ifname, address, forward=conf.allow_ip_forwarding)
    endpoint = WorkloadEndpoint(
        name=pod.endpoint_name(node),
        namespace=pod.namespace,
        node=node,
        orchestrator=pod.orchestrator,
        endpoint=pod.ifname,
        container_id=pod.container_id,
        interface=host,
        addresses=(address,),
        mac=mac,
        pod=pod.pod,
        workload="" if pod.pod else pod.container_id,
        profiles=_profiles(pod, conf),
    )
    key = workload_endpoint_key(endpoint.namespace, endpoint.name)
    undo.append((f"{key} stays", lambda: _forget_endpoint(store, key, pod.container_id)))
    store.put(key, endpoint.to_resource())
    return _result(pod, conf, host, mac, mtu_bytes, address)


def delete(pod: Attachment, conf: Configuration) -> None:
    """Disconnect the pod and release its address, whatever of it is there: what is gone already is fine.

    The interface goes even when the store cannot be reached; that error comes afterwards.
    """
    try:
        node = conf.node()
    except CniFailure:
        node = ""  # the agent has never run here, so there is no endpoint either
    store = Etcd(conf.etcd_endpoints)
    trouble: list[RefnetError] = []
    try:
        host = "" if pod.pod else pod.host_veth
        try:
            key = workload_endpoint_key(pod.namespace, pod.endpoint_name(node))
            endpoint = _forget_endpoint(store, key, pod.container_id) if node else None
            host = endpoint.interface if endpoint else host
        except RefnetError as error:
            trouble.append(error)
        try:
            _unplug(pod, host)
        except RefnetError as error:
            trouble.append(error)
        with _host_lock():
            Ipam(store, node).release_handle(handle_of(pod, conf), interface=pod.ifname)
    except RefnetError as error:
        trouble.append(error)
    finally:
        store.close()
    if trouble:
        raise trouble[0]


def check(pod: Attachment, conf: Configuration) -> None:
    """Compare pod, node and store with prevResult. Raises CniFailure, code 104, naming every difference."""
    node, previous = conf.node(), conf.previous or {}
    host, mac, addresses = _promised(pod, previous)
    faults: list[str] = []
    store = Etcd(conf.etcd_endpoints)
    try:
        for address in addresses:
            faults += wiring.faults(host, pod.netns, pod.ifname, mac, address)
            faults += _allocation_faults(store, handle_of(pod, conf), address)
        kept = store.get(workload_endpoint_key(pod.namespace, pod.endpoint_name(node)))
    finally:
        store.close()
    endpoint = _endpoint(kept)
    if endpoint is None or endpoint.container_id != pod.container_id or set(endpoint.addresses) != set(addresses):
        faults.append(f"workload endpoint {pod.endpoint_name(node)}: missing, or of another container or address")
    if faults:
        raise CniFailure(NOT_AS_PROMISED, "; ".join(dict.fromkeys(faults)))


def handle_of(pod: Attachment, conf: Configuration) -> str:
    """Under what the addresses of a container are filed; which interface has which, their attributes say."""
    return f"{conf.network}.{pod.container_id}"


def _take_address(ipam: Ipam, handle: str, pod: Attachment, conf: Configuration, node: str) -> IPAddress:
    attributes = {"node": node, "timestamp": timestamp(), "interface": pod.ifname}
    if pod.pod:
        attributes.update(pod=pod.pod, namespace=pod.namespace)
    if pod.wanted_address:
        return ipam.assign(pod.wanted_address, handle, attributes)
    return ipam.auto_assign(handle, attributes, pools=conf.ipv4_pools)


def _free_host_name(pod: Attachment, store: Etcd, node: str) -> str:
    """The name for the node's end, free to use: a leftover of that name goes.

    A pod's second interface would get the name of its first (only pod or container go into it); where the first one
    is there, the second one's name is made of its own name as well.
    """
    host = pod.host_veth
    if not wiring.exists(host):
        return host
    wiring.refuse_if_in_pod(pod.netns, pod.ifname)
    prefix = workload_endpoint_key(pod.namespace, pod.endpoint_name(node).removesuffix(pod.ifname.replace("-", "--")))
    siblings = [e for e in map(_endpoint, store.prefix(prefix)[0].values()) if e and e.endpoint != pod.ifname]
    if any(e.interface == host and e.container_id == pod.container_id for e in siblings):
        host = host_veth_name(pod.namespace, f"{pod.workload}.{pod.ifname}")
    wiring.remove_link(host)
    return host


def _profiles(pod: Attachment, conf: Configuration) -> tuple[str, ...]:
    if conf.policy_type == "k8s":
        return (f"kns.{pod.namespace}", f"ksa.{pod.namespace}.default")
    return (conf.network,)


def _result(pod: Attachment, conf: Configuration, host: str, mac: str, mtu_bytes: int, address: IPAddress) -> Result:
    """The CNI result in the asked version, behind what earlier plugins of the chain have done."""
    previous = conf.previous or {}
    before = list(previous.get("interfaces") or ())
    inside: dict[str, Any] = {"name": pod.ifname, "mac": mac, "sandbox": pod.netns}
    if mtu_bytes:
        inside["mtu"] = mtu_bytes
    given: dict[str, Any] = {"interface": len(before) + 1, "address": f"{address}/32"}
    if conf.version != "1.0.0":
        given["version"] = "4"
    gateway = str(wiring.GATEWAY)
    routes = [{"dst": f"{gateway}/32"}, {"dst": "0.0.0.0/0", "gw": gateway}]
    return {
        "cniVersion": conf.version,
        "interfaces": [*before, {"name": host, "mac": wiring.HOST_MAC}, inside],
        "ips": [*(previous.get("ips") or ()), given],
        "routes": [*(previous.get("routes") or ()), *routes],
        "dns": dict(conf.dns or previous.get("dns") or {}),
    }


def _promised(pod: Attachment, previous: Mapping[str, Any]) -> tuple[str, str, list[IPAddress]]:
    """Host interface, MAC and addresses of this attachment according to prevResult."""
    try:
        interfaces = list(previous["interfaces"])
        own = next(i for i, x in enumerate(interfaces) if x["name"] == pod.ifname and x.get("sandbox"))
        hosts = [x["name"] for x in interfaces if not x.get("sandbox") and str(x["name"]).startswith("cali")]
        ips = [ip["address"] for ip in previous["ips"] if ip.get("interface", own) == own and ":" not in ip["address"]]
        addresses: list[IPAddress] = [IPv4Address(address.partition("/")[0]) for address in ips]
        host = hosts[-1]
    except (KeyError, IndexError, StopIteration, TypeError, ValueError, AttributeError) as error:
        legal = f"a result with interfaces and ips for {pod.ifname}"
        raise CniFailure(7, f"prevResult: does not describe {pod.ifname}; legal: {legal}") from error
    if not addresses:
        raise CniFailure(7, f"prevResult.ips: no IPv4 address for {pod.ifname}")
    return host, str(interfaces[own].get("mac") or ""), addresses


def _allocation_faults(store: Etcd, handle: str, address: IPAddress) -> list[str]:
    """Whether the address is still allocated to the handle, in its block."""
    stored = store.get(handle_key(handle))
    owned = Ipam(store, "").addresses_of(handle) if stored else ()
    return [] if address in owned else [f"{address}: is not allocated to {handle}"]


def _forget_endpoint(store: Etcd, key: str, container_id: str) -> WorkloadEndpoint | None:
    """Delete the endpoint if it is this container's; what it was. A newer container's is left alone."""
    for _ in range(_DELETE_ATTEMPTS):
        kept = store.get(key)
        endpoint = _endpoint(kept)
        if kept is None or endpoint is None or endpoint.container_id != container_id:
            return None
        try:
            store.delete(key, kept.revision)
        except StoreConflict:
            continue
        return endpoint
    raise StoreConflict(f"etcd: delete {key}: changed {_DELETE_ATTEMPTS} times meanwhile")


def _endpoint(kept: Stored | None) -> WorkloadEndpoint | None:
    try:
        return WorkloadEndpoint.from_resource(kept.value) if kept else None
    except InvalidResource:
        return None  # nothing of ours: we would not have written it


def _unplug(pod: Attachment, host: str) -> None:
    """Remove the cable: by the node's end where that is known to be this container's, else by the pod's."""
    if host and wiring.exists(host):
        wiring.remove_link(host)
    elif pod.netns and wiring.is_namespace(pod.netns):
        wiring.remove_from_pod(pod.netns, pod.ifname)


def _take_back(undo: Undo) -> list[str]:
    """Undo in reverse, all of it; what could not be undone, in words."""
    left = []
    for words, step in reversed(undo):
        try:
            step()
        except RefnetError as error:
            left.append(f"{words}: {error.message}")
    return left


@contextlib.contextmanager
def _host_lock() -> Iterator[None]:
    """Line up the plugins of this node, so that they do not race each other in the store. Best effort: correctness
    rests on the store's compare-and-swap alone, so a lock that cannot be had is done without."""
    import fcntl
    import os
    import signal

    def give_up(*_: object) -> None:
        raise TimeoutError

    try:
        os.makedirs(os.path.dirname(LOCK_FILE), exist_ok=True)
        lock = os.open(LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        yield
        return
    try:
        before = signal.signal(signal.SIGALRM, give_up)
        signal.alarm(_LOCK_WAIT_S)
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
            signal.alarm(0)
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        yield
    finally:
        os.close(lock)
